"""Simulated phone calls through the real client: callers in threads, and the split as it moves."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import batched
from typing import NamedTuple

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.demo_server import DemoServer
from promptbandit import Client

CALLERS = 6


class Heard(NamedTuple):
    """What became of a call; `is_fallback` where the client's own prompt answered it."""

    resolved: bool
    is_fallback: bool


# One call, by its number.
type Call = Callable[[int], Heard]


@dataclass
class Played:
    """What happened on the phone."""

    calls: int = 0
    fallbacks: int = 0
    resolved: int = 0
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Phone:
    """Where calls come in, and who looks on."""

    client: Client
    manager: httpx.Client
    experiment: str
    console: Console

    def play(
        self,
        call: Call,
        numbers: range,
        *,
        seconds: float,
        every: int,
        is_enough: Callable[[], bool] = lambda: False,
    ) -> Played:
        """Play these calls until all were, `seconds` are over or it is enough; after `every` calls look around."""
        played = Played()
        started = time.monotonic()
        one = partial(_one, call, started + seconds, played)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with (
            Progress(*columns, console=self.console) as progress,
            ThreadPoolExecutor(CALLERS) as callers,
        ):
            task = progress.add_task("calls", total=len(numbers))
            for some in batched(numbers, every):
                for _ in callers.map(one, some):
                    progress.update(task, completed=played.calls)
                progress.console.print(self._split_line(numbers.start + played.calls))
                if time.monotonic() > started + seconds or is_enough():
                    break
        self.client.flush(timeout_s=20.0)
        played.seconds = time.monotonic() - started
        return played

    def _split_line(self, calls: int) -> str:
        split = self.manager.get(f"/experiments/{self.experiment}/allocations").json()[-1]["split"]
        bars = "  ".join(f"{key} {bp / 100:4.1f} % {'█' * round(bp / 1_000):<9}" for key, bp in split.items())
        return f"after {calls:>5} calls: {bars}"


@contextmanager
def open_phone(
    server: DemoServer, manager: httpx.Client, experiment: str, *, fallback: dict[str, str], console: Console
) -> Iterator[Phone]:
    """The client that an agent would have, with the prompt to use while no server answers."""
    with Client(server.url, server.key, fallback) as client:
        yield Phone(client=client, manager=manager, experiment=experiment, console=console)


def _one(call: Call, deadline: float, played: Played, number: int) -> None:
    if time.monotonic() > deadline:
        return
    heard = call(number)
    with played.lock:
        played.calls += 1
        played.resolved += heard.resolved
        played.fallbacks += heard.is_fallback
