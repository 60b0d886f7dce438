"""Servers that are restarted or lose a worker under load lose nothing that they acknowledged."""

import collections
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.outage.judge import (
    check_nothing_is_lost_or_counted_twice,
    check_outcomes_were_acknowledged_or_refused,
)
from tests.outage.load import Load
from tests.running_server import RunningServer
from tests.servers.calls import wait_for
from tests.servers.workers import connect

DRAIN_S = 120.0
PERIOD_S = 0.4  # of an agent: 4 agents ask each server 10 times a second

pytestmark = pytest.mark.timeout(600)  # servers start several times, each in 2 s or, on a busy machine, in 30


def check(pair: list[RunningServer], loads: list[Load]) -> None:
    """Each unit has one variant, whichever server it asked; each outcome is there, and counted once."""
    both = Load(0, "", loads[0].prompt)
    for load in loads:
        check_outcomes_were_acknowledged_or_refused(load, unanswered=True)
        both.asks += load.asks
        both.sent |= load.sent
        both.acknowledged |= load.acknowledged
    # 503: a worker that has just started on a busy machine knows nothing yet, and nobody gave it a fallback.
    assert {ask.status for ask in both.asks} <= {200, 0, 503}, [load.problems[:3] for load in loads]
    given = collections.defaultdict(set)
    for ask in both.asks:
        if ask.status == 200:
            given[ask.unit_id].add((ask.variant, ask.content_hash))
    assert given
    assert [unit for unit, answers in given.items() if len(answers) > 1] == []
    assert both.acknowledged.keys() == both.sent.keys()
    check_nothing_is_lost_or_counted_twice(pair[0].database_url, both)


def asked(load: Load) -> int:
    """How many units this load has an answer for."""
    return sum(ask.status == 200 for ask in load.asks)


def unanswered(load: Load) -> int:
    """How many asks got no answer at all."""
    return sum(ask.status == 0 for ask in load.asks)


def wait_for_more(load: Load, number: int = 15) -> None:
    """Until this server has answered so many more."""
    before = asked(load)
    wait_for("more answers", lambda: asked(load) >= before + number)


@pytest.fixture
def loads(pair: list[RunningServer]) -> Iterator[list[Load]]:
    """Agents at both servers, on one prompt with an experiment."""
    prompt = f"restart-{uuid.uuid4().hex[:8]}"
    pair[0].start_experiment(prompt, prompt)
    with ExitStack() as stack:
        made = [
            stack.enter_context(
                Load(server.port, server.key("agent"), prompt, name=f"{number}-", period_s=PERIOD_S)
            )
            for number, server in enumerate(pair)
        ]
        for load in made:
            wait_for_more(load)
        yield made


def test_a_rolling_restart_loses_nothing(pair: list[RunningServer], loads: list[Load]):
    """One server after the other is stopped and started; the agents of the other one notice nothing."""
    for index, server in enumerate(pair):
        other = loads[1 - index]
        failed = unanswered(other)
        server.stop()
        wait_for_more(other)
        server.start()
        wait_for_more(loads[index])
        assert unanswered(other) == failed
    for load in loads:
        load.drain(DRAIN_S)
    check(pair, loads)


def test_a_killed_worker_is_replaced_and_nothing_that_was_acknowledged_is_lost(
    pair: list[RunningServer], loads: list[Load]
):
    """kill -9 of one of two workers: its supervisor starts another one."""
    server = pair[0]
    before = _workers(server)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    after = _workers(server)
    assert len(after) == 2
    assert victim not in after
    wait_for_more(loads[0])
    for load in loads:
        load.drain(DRAIN_S)
    check(pair, loads)


def _workers(server: RunningServer) -> set[int]:
    """The workers that answer."""
    found = connect(server, server.workers)
    for wire in found.values():
        wire.close()
    return set(found)
