"""The command `promptbandit` and its subcommands."""

from importlib import import_module

import click

from cli.running import exit_on_errors

# Name of the command: (module, attribute). Loaded when asked for: `keys create` must not wait for scipy.
COMMANDS = {
    "demo": ("cli.demo", "demo"),
    "export": ("cli.export", "export"),
    "forget": ("cli.forget", "forget"),
    "import": ("cli.import_calls", "import_calls"),
    "keys": ("cli.keys", "keys"),
    "migrate": ("cli.migrate", "migrate"),
    "optimize": ("cli.optimize", "optimize_command"),
    "reallocate": ("cli.reallocate", "reallocate"),
    "report": ("cli.report", "report"),
    "serve": ("cli.serve", "serve"),
    "verify": ("cli.verify", "verify"),
}


class Commands(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="promptbandit-service", prog_name="promptbandit")
def promptbandit() -> None:
    """Which prompt answers calls better? Versions, experiments, honest statistics, a split that learns.

    Settings come from PROMPTBANDIT_* variables; docs/settings.md lists them.
    """


def main() -> None:
    """Entry point: an error that the user can mend is one sentence and exit code 1, not a traceback."""
    with exit_on_errors():
        promptbandit()
