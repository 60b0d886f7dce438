"""`promptbandit demo`: the main job on real parts, in under a minute."""

import tempfile
from pathlib import Path

import click
import httpx
import msgspec
from rich.console import Console

from cli.demo_calls import PROMPT, VERSIONS, Played, play_calls
from cli.demo_server import DemoServer
from cli.report_table import print_report
from domain.report import Report

EXPERIMENT = "demo"


@click.command()
@click.option(
    "--calls", default=3_000, show_default=True, type=click.IntRange(1, 1_000_000), help="Phone calls."
)
@click.option(
    "--seconds", default=25.0, show_default=True, help="Stop calling after this time at the latest."
)
@click.option("--seed", default=1, show_default=True, help="Of the callers' luck.")
@click.option("--keep", is_flag=True, help="Leave the server up until Ctrl-C.")
def demo(calls: int, seconds: float, seed: int, keep: bool) -> None:
    """Three prompt versions, some thousand simulated calls over HTTP, a split that learns, the report.

    The callers' true success rates are those of published agents on the same airline tasks: 0.420,
    0.365 and 0.325. Everything else is real: server, database, client, statistics.

    Example: promptbandit demo --keep
    """
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="promptbandit-demo-") as folder,
        DemoServer(Path(folder)) as server,
    ):
        console.print(f"server {server.url} on {server.database_url}", soft_wrap=True)
        with httpx.Client(base_url=server.url, headers=server.headers, timeout=30.0) as manager:
            _set_up(manager)
            console.print(
                f"three versions of prompt {PROMPT}, experiment {EXPERIMENT} under Thompson sampling\n"
            )
            played = play_calls(
                server, manager, EXPERIMENT, calls=calls, seconds=seconds, seed=seed, console=console
            )
            _tell(manager, played, console)
        console.print(server.verify())
        if keep:
            _keep(server, console)


def _set_up(manager: httpx.Client) -> None:
    variants = []
    for version in VERSIONS:
        body = {"name": PROMPT, "system_prompt": version.text, "metadata": {"idea": version.idea}}
        created = _ok(manager.post("/prompts", json=body))
        variants.append({"key": version.key, "version_id": created["id"]})
    _ok(
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


def _ok(answer: httpx.Response) -> dict[str, int]:
    if answer.is_error:
        raise RuntimeError(f"{answer.request.url}: {answer.status_code} {answer.text}")
    found: dict[str, int] = answer.json()
    return found


def _tell(manager: httpx.Client, played: Played, console: Console) -> None:
    answer = manager.get(f"/experiments/{EXPERIMENT}/report")
    answer.raise_for_status()
    print_report(msgspec.json.decode(answer.content, type=Report), console)
    console.print(
        f"\n{played.calls} calls in {played.seconds:.0f} s, {played.fallbacks} served by the client's fallback, "
        f"{played.resolved} resolved; an even split would have resolved about {played.resolved_if_even:.0f}",
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
