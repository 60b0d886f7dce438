"""What must hold when servers are restarted, or lose a worker, under load."""

import collections

from tests.outage.judge import (
    check_nothing_is_lost_or_counted_twice,
    check_outcomes_were_acknowledged_or_refused,
)
from tests.outage.load import Load
from tests.running_server import RunningServer
from tests.servers.calls import wait_for

DRAIN_S = 120.0


def check(pair: list[RunningServer], loads: list[Load]) -> None:
    """Each unit has one variant, whichever server it asked; each outcome is there, and counted once."""
    both = Load(0, "", loads[0].prompt)
    for load in loads:
        load.drain(DRAIN_S)
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


def unanswered(load: Load) -> int:
    """How many asks got no answer at all."""
    return sum(ask.status == 0 for ask in load.asks)


def wait_for_more(load: Load, number: int = 15) -> None:
    """Until this server has answered so many more."""
    before = _asked(load)
    wait_for("more answers", lambda: _asked(load) >= before + number)


def _asked(load: Load) -> int:
    """How many asks got an answer."""
    return sum(ask.status == 200 for ask in load.asks)
