"""The command `promptbandit` and its subcommands."""

import click

from cli.demo import demo
from cli.export import export
from cli.import_calls import import_calls
from cli.keys import keys
from cli.migrate import migrate
from cli.reallocate import reallocate
from cli.report import report
from cli.running import exit_on_errors
from cli.serve import serve
from cli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="promptbandit-service", prog_name="promptbandit")
def promptbandit() -> None:
    """Which prompt answers calls better? Versions, experiments, honest statistics, a split that learns.

    Settings come from PROMPTBANDIT_* variables; docs/settings.md lists them.
    """


for command in (demo, export, import_calls, keys, migrate, reallocate, report, serve, verify):
    promptbandit.add_command(command)


def main() -> None:
    """Entry point: an error that the user can mend is one sentence and exit code 1, not a traceback."""
    with exit_on_errors():
        promptbandit()
