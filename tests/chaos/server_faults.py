"""Faults of the server: its workers and their parent are killed, frozen, stopped, replaced."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

from tests.chaos.plan import Planned
from tests.chaos.stage import Stage

SETTLING_S = 30.0  # for the workers of a restarted server; the next fault comes all the same


def kill_worker(stage: Stage, planned: Planned) -> Iterator[None]:
    """kill -9 of one worker; its parent starts another."""
    workers = stage.service.worker_pids()
    _signal(workers[int(planned.luck * len(workers))], signal.SIGKILL)
    yield
    _wait_for_workers(stage)


def kill_workers(stage: Stage, planned: Planned) -> Iterator[None]:
    """kill -9 of all workers at once."""
    del planned
    for pid in stage.service.worker_pids():
        _signal(pid, signal.SIGKILL)
    yield
    stage.service.wait_until_up()


def kill_server(stage: Stage, planned: Planned) -> Iterator[None]:
    """kill -9 of parent and workers."""
    del planned
    number = stage.service.running().number
    stage.service.signal_group(signal.SIGKILL)
    yield
    stage.service.wait_until_up(number=number + 1)


def kill_parent(stage: Stage, planned: Planned) -> Iterator[None]:
    """kill -9 of the parent alone; the supervisor ends the orphans and starts anew."""
    del planned
    pid, number = stage.service.running()
    _signal(pid, signal.SIGKILL)
    yield
    stage.service.wait_until_up(number=number + 1)


def freeze_worker(stage: Stage, planned: Planned) -> Iterator[None]:
    """SIGSTOP of one worker: connections stay open, and nobody answers on them."""
    workers = stage.service.worker_pids()
    pid = workers[int(planned.luck * len(workers))]
    _signal(pid, signal.SIGSTOP)
    yield
    _signal(pid, signal.SIGCONT)


def freeze_server(stage: Stage, planned: Planned) -> Iterator[None]:
    """SIGSTOP of all: a virtual machine that pauses."""
    del planned
    stage.service.signal_group(signal.SIGSTOP)
    yield
    stage.service.signal_group(signal.SIGCONT)


def stop_worker(stage: Stage, planned: Planned) -> Iterator[None]:
    """SIGTERM to one worker: it finishes what it began, its parent starts another."""
    workers = stage.service.worker_pids()
    _signal(workers[int(planned.luck * len(workers))], signal.SIGTERM)
    yield
    _wait_for_workers(stage)


def rolling_restart(stage: Stage, planned: Planned) -> Iterator[None]:
    """SIGHUP to the parent: one worker after the other is replaced, as a new version is brought out."""
    del planned
    old, given_up = set(stage.service.worker_pids()), stage.service.log_count("aborting the restart")
    _signal(stage.service.running().pid, signal.SIGHUP)
    yield
    # A worker that is not there within five seconds is given up, and the old ones stay.
    _wait(
        lambda: (
            not old & set(stage.service.worker_pids())
            or stage.service.log_count("aborting the restart") > given_up
        )
    )
    _wait_for_workers(stage)


def restart_server(stage: Stage, planned: Planned) -> Iterator[None]:
    """SIGTERM to the parent under load."""
    del planned
    pid, number = stage.service.running()
    _signal(pid, signal.SIGTERM)
    yield
    stage.service.wait_until_up(number=number + 1)


def _signal(pid: int, number: signal.Signals) -> None:

    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SETTLING_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)


def _wait_for_workers(stage: Stage) -> None:
    _wait(lambda: len(stage.service.worker_pids()) >= stage.service.workers)
    stage.service.wait_until_up()
