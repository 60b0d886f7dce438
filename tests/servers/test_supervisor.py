"""The supervisor of several workers, at the moment in which one dies."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.serve import FROZEN_S
from tests.running_server import RunningServer
from tests.servers.workers import children

ASKED_S = 2.0  # the supervisor asks every half second
SOON_S = FROZEN_S - ASKED_S - 8.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with RunningServer(f"sqlite:///{tmp_path / 'test.db'}", tmp_path, workers=2) as running:
        yield running


def workers_of(server: RunningServer) -> set[int]:
    """The children that serve; the other one is Python's own, which watches semaphores."""
    found = set()
    for pid in children(server.pid):
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
            found.add(pid)
    return found


def test_a_worker_that_dies_while_it_is_asked_is_replaced_at_once(server: RunningServer):
    """uvicorn 0.54 alone waits for its answer until the patience with frozen workers ends, 30 s."""
    before = workers_of(server)
    assert len(before) == 2
    victim = min(before)
    os.kill(victim, signal.SIGSTOP)
    time.sleep(ASKED_S)  # by now the supervisor waits for its answer
    os.kill(victim, signal.SIGKILL)
    until = time.monotonic() + SOON_S
    while len(workers_of(server) - {victim}) < 2:
        assert time.monotonic() < until, "the supervisor still waits for a dead worker"
        time.sleep(0.05)
