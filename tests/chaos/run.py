"""A run: agents at work, one fault after the other, a calm at the end, and what came of it."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.chaos.experiment import EXPERIMENT, manage
from tests.chaos.faults import KINDS
from tests.chaos.ledger import Ledger
from tests.chaos.plan import Planned
from tests.chaos.safety import violated_safety
from tests.chaos.stage import Stage
from tests.chaos.stored import Rows
from tests.chaos.timing import LAG_MS, Fault, quantiles, violated_timing

WARM = 20  # outcomes acknowledged before the first fault
WARM_S = 60.0  # at most; on a slow machine agents need seconds to be there
CALM_S = 60.0  # for everything told to be delivered
RECOVERED_S = 10.0
RECORDED_S = 3.0  # for assignments that servers still hold in memory; what is missing then is judged so
LOOK_EVERY_S = 0.01

Say = Callable[[str], None]


class Outcome(NamedTuple):
    """A finished run: what the agents saw, what is stored, which faults there were, how late the harness was."""

    ledger: Ledger
    rows: Rows
    faults: list[Fault]
    lag_ms: list[float]
    load: tuple[float, float, float]

    @property
    def unsafe(self) -> dict[str, list[str]]:
        return violated_safety(self.ledger, self.rows)

    @property
    def late(self) -> dict[str, str]:
        return violated_timing(self.ledger, self.rows, self.faults)

    @property
    def is_void(self) -> bool:
        """The harness was late itself: its figures say nothing about the product."""
        return self.lag_p99_ms >= LAG_MS

    @property
    def lag_p99_ms(self) -> float:
        calls = (event.late_s * 1000 for event in self.ledger.asked)
        return max(quantiles(calls).p99, quantiles(self.lag_ms).p99)


class LagWatch:
    """How late this process's threads run: by how much a short sleep is longer than asked for."""

    def __init__(self) -> None:
        self.lag_ms: list[float] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "LagWatch":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._done.is_set():
            began_at = time.monotonic()
            time.sleep(LOOK_EVERY_S)
            self.lag_ms.append(1000 * (time.monotonic() - began_at - LOOK_EVERY_S))


def available(stage: Stage, kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds that this machine can have."""
    return tuple(kind for kind in kinds if KINDS[kind].needs not in stage.missing)


def inject(stage: Stage, planned: Sequence[Planned], say: Say) -> list[Fault]:
    """The faults, one after the other, as planned."""
    return [_inject(stage, item, say) for item in planned]


def _inject(stage: Stage, planned: Planned, say: Say) -> Fault:
    kind = KINDS[planned.kind]
    began_at = time.monotonic()
    lasting = kind.fault(stage, planned)
    next(lasting)
    time.sleep(max(0.0, began_at + planned.lasting_s - time.monotonic()))
    for _ in lasting:
        raise RuntimeError(f"{planned.kind} yields twice")
    fault = Fault(planned.kind, began_at, time.monotonic(), kind.cuts)
    say(f"{planned.kind}: {fault.ended_at - fault.began_at:.1f} s")
    time.sleep(planned.rest_s)
    return fault


def conduct(
    stage: Stage, planned: Sequence[Planned], say: Say = lambda _text: None, *, calm_s: float = CALM_S
) -> Outcome:
    """Let the agents go, inject the faults, wait until all is delivered, and read what is stored.

    Parameters
    ----------
    calm_s : how long that delivery may take, at most.
    """
    with LagWatch() as watch:
        stage.crew.go()
        wait_until_acknowledged(stage, WARM)
        faults = inject(stage, planned, say)
        if planned:
            wait_until_durable(stage, faults[-1].ended_at)
        stage.crew.drain(calm_s)
    wait_until_recorded(stage)
    return Outcome(stage.crew.ledger(), stage.rows(), faults, watch.lag_ms, os.getloadavg())


def wait_until_acknowledged(stage: Stage, number: int) -> None:
    """Until so many more outcomes are acknowledged: a fault that nobody meets proves nothing."""
    before, until = len(stage.crew.ledger().acked), time.monotonic() + WARM_S
    while len(stage.crew.ledger().acked) < before + number and time.monotonic() < until:
        time.sleep(0.1)


def wait_until_durable(stage: Stage, since: float) -> None:
    """Until a call that came later is recorded at once, or for some seconds."""
    until = time.monotonic() + RECOVERED_S
    while time.monotonic() < until:
        if any(event.at > since and event.reason == "SPLIT" for event in stage.crew.ledger().asked[-500:]):
            return
        time.sleep(0.1)


def wait_until_recorded(stage: Stage) -> None:
    """Until every assignment that an outcome told the allocation of is stored, or for some seconds."""
    until = time.monotonic() + RECORDED_S
    told = {event.unit for event in stage.crew.ledger().told if event.allocation is not None}
    while time.monotonic() < until:
        if told <= {row.unit for row in stage.rows().assignments}:
            return
        time.sleep(0.2)


def product_sample_ratio(stage: Stage) -> dict[str, Any]:
    """What the product itself says about its split."""
    return dict(manage(stage.service, stage.key, "GET", f"/experiments/{EXPERIMENT}/report")["sample_ratio"])
