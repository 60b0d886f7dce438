"""Simulated phone calls through the real client: callers in threads, outcomes by luck."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import httpx
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.demo_server import DemoServer
from promptbandit import Client

PROMPT = "support"
CALLERS = 6


@dataclass(frozen=True, slots=True)
class DemoVersion:
    """A version and what its callers experience: success rate, mean quality, mean duration in seconds."""

    key: str
    idea: str
    text: str
    resolved: float
    quality: float
    duration_s: float


# Success rates of three strategies of one agent on the airline tasks of tau-bench (Sierra Research,
# leaderboard in the repository's README): Act .365, tool calling .420, ReAct .325.
VERSIONS = (
    DemoVersion("v1", "act", "You are the support agent of an airline. Act at once.", 0.365, 0.55, 210.0),
    DemoVersion(
        "v2", "tools", "You are the support agent of an airline. Look things up.", 0.420, 0.60, 195.0
    ),
    DemoVersion(
        "v3", "think aloud", "You are the support agent of an airline. Think aloud.", 0.325, 0.52, 240.0
    ),
)
_BY_KEY = {version.key: version for version in VERSIONS}


@dataclass
class Played:
    """What happened on the phone."""

    calls: int = 0
    fallbacks: int = 0
    resolved: int = 0
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def resolved_if_even(self) -> float:
        """The expected number of resolved calls had each version had its third."""
        return self.calls * sum(version.resolved for version in VERSIONS) / len(VERSIONS)


def play_calls(
    server: DemoServer,
    manager: httpx.Client,
    experiment: str,
    *,
    calls: int,
    seconds: float,
    seed: int,
    console: Console,
) -> Played:
    """Play calls until there were `calls` of them or `seconds` are over; shows the split as it moves."""
    played = Played()
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    fallback = {PROMPT: VERSIONS[0].text}
    with (
        Client(server.url, server.key, fallback) as client,
        Progress(*columns, console=console) as progress,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        task = progress.add_task("calls", total=calls)
        step = max(calls // 6, 1)
        call = partial(_call, client, seed=seed, deadline=started + seconds, played=played)
        while played.calls < calls and time.monotonic() < started + seconds:
            for _ in callers.map(call, range(played.calls, min(played.calls + step, calls))):
                progress.update(task, completed=played.calls)
            progress.console.print(_split_line(manager, experiment, played.calls))
        client.flush(timeout_s=20.0)
    played.seconds = time.monotonic() - started
    return played


def _call(client: Client, number: int, *, seed: int, deadline: float, played: Played) -> None:
    if time.monotonic() > deadline:
        return
    unit_id = f"demo-{seed}-{number}"
    assignment = client.assign(PROMPT, unit_id)
    version = _BY_KEY.get(assignment.variant or "", VERSIONS[0])
    luck = np.random.default_rng([seed, number])
    resolved = bool(luck.random() < version.resolved)
    quality = float(luck.beta(8 * version.quality, 8 * (1 - version.quality)))
    duration_s = float(luck.gamma(4.0, version.duration_s / 4.0))
    client.record(
        PROMPT,
        unit_id,
        {"resolved": resolved, "quality": round(quality, 3), "duration_s": round(duration_s, 1)},
    )
    with played.lock:
        played.calls += 1
        played.resolved += resolved
        played.fallbacks += assignment.source == "fallback"


def _split_line(manager: httpx.Client, experiment: str, calls: int) -> str:
    split = manager.get(f"/experiments/{experiment}/allocations").json()[-1]["split"]
    bars = "  ".join(f"{key} {bp / 100:4.1f} % {'█' * round(bp / 1_000):<9}" for key, bp in split.items())
    return f"after {calls:>5} calls: {bars}"
