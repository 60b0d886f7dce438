"""`promptbandit demo`: the main job on real parts, in under a minute."""

import tempfile
from pathlib import Path

import click
import httpx
import msgspec
from rich.console import Console

from cli.demo_calls import FALLBACK, PROMPT, VERSIONS, play_calls, resolved_if_even
from cli.demo_circle import play_circle
from cli.demo_phone import Played, open_phone
from cli.demo_server import DemoServer, ok
from cli.report_table import print_report
from domain.report import Report

EXPERIMENT = "demo"


@click.command()
@click.option(
    "--calls", default=3_000, show_default=True, type=click.IntRange(1, 1_000_000), help="Phone calls."
)
@click.option(
    "--seconds",
    default=25.0,
    show_default=True,
    help="Stop calling after this time at the latest; with --optimizer before and after its run each.",
)
@click.option("--seed", default=1, show_default=True, help="Of the callers' luck.")
@click.option("--keep", is_flag=True, help="Leave the server up until Ctrl-C.")
@click.option(
    "--optimizer", is_flag=True, help="Let the optimizer read failing calls, and follow what it suggests."
)
@click.option("--careless", is_flag=True, help="With --optimizer: its advice hurts. See it stopped.")
def demo(calls: int, seconds: float, seed: int, keep: bool, optimizer: bool, careless: bool) -> None:
    """Three prompt versions, some thousand simulated calls over HTTP, a split that learns, the report.

    The callers' true success rates are those of published agents on the same airline tasks: 0.420,
    0.365 and 0.325. Everything else is real: server, database, client, statistics.

    With --optimizer: two prompts that say nothing about what half of the callers want. `promptbandit optimize`
    reads failing calls, a manager approves what it suggests, the new version becomes an arm of the running
    experiment, and calls decide about it. Callers, agents and the model are simulated; an agent can do
    what its prompt tells it about. It ends when something is recommended, after 3 000 calls or 25 seconds.

    Example: promptbandit demo --optimizer --keep
    """
    if careless and not optimizer:
        raise click.UsageError("--careless goes with --optimizer")
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="promptbandit-demo-") as folder,
        DemoServer(Path(folder)) as server,
    ):
        console.print(f"server {server.url} on {server.database_url}", soft_wrap=True)
        with httpx.Client(base_url=server.url, headers=server.headers, timeout=30.0) as manager:
            if optimizer:
                play_circle(
                    server, manager, console, calls=calls, seconds=seconds, seed=seed, careless=careless
                )
            else:
                _play_versions(server, manager, console, calls=calls, seconds=seconds, seed=seed)
        console.print(server.verify())
        if keep:
            _keep(server, console)


def _play_versions(
    server: DemoServer, manager: httpx.Client, console: Console, *, calls: int, seconds: float, seed: int
) -> None:
    _set_up(manager)
    console.print(f"three versions of prompt {PROMPT}, experiment {EXPERIMENT} under Thompson sampling\n")
    with open_phone(server, manager, EXPERIMENT, fallback=FALLBACK, console=console) as phone:
        played = play_calls(phone, calls=calls, seconds=seconds, seed=seed)
    _tell(manager, played, console)


def _set_up(manager: httpx.Client) -> None:
    variants = []
    for version in VERSIONS:
        body = {"name": PROMPT, "system_prompt": version.text, "metadata": {"idea": version.idea}}
        created = msgspec.json.decode(ok(manager.post("/prompts", json=body)))
        variants.append({"key": version.key, "version_id": created["id"]})
    ok(
        manager.post(
            "/experiments",
            json={
                "key": EXPERIMENT,
                "prompt": PROMPT,
                "variants": variants,
                "control": VERSIONS[0].key,
                # A real shop reallocates every five minutes; a demo has no five minutes.
                "policy": {"name": "thompson", "burn_in": 100, "every_s": 1},
                "min_days": 0,
            },
        )
    )


def _tell(manager: httpx.Client, played: Played, console: Console) -> None:
    answer = ok(manager.get(f"/experiments/{EXPERIMENT}/report"))
    print_report(msgspec.json.decode(answer, type=Report), console)
    even = resolved_if_even(played.calls)
    console.print(
        f"\n{played.calls} calls in {played.seconds:.0f} s, {played.fallbacks} served by the client's fallback, "
        f"{played.resolved} resolved; an even split would have resolved about {even:.0f}",
        soft_wrap=True,
    )


def _keep(server: DemoServer, console: Console) -> None:
    console.print(f"\nThe server stays up. A manager's key:\n  {server.key}\nTry:")
    console.print(
        f'  curl -s -H "Authorization: Bearer {server.key}" {server.url}/experiments/{EXPERIMENT}/report',
        soft_wrap=True,
    )
    console.print("Ctrl-C ends it.")
    try:
        server.wait()
    except KeyboardInterrupt:
        console.print("stopped")
