"""Every kind of fault once, under a little load: what must hold on any machine, however slow.

How fast it is held is not asked here: that is for `make chaos` on a quiet machine.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.chaos.faults import KINDS
from tests.chaos.ledger import SETTLED
from tests.chaos.plan import plan
from tests.chaos.report import lines
from tests.chaos.run import Outcome, available, conduct
from tests.chaos.safety import SAFETY
from tests.chaos.skipping import skipping
from tests.chaos.stage import Stage

SEED = 20_261_126
RATE = 25.0
PATIENCE_S = 240.0

pytestmark = pytest.mark.timeout(900)  # it takes 90 s; a machine that is ten times slower passes, too


class Smoke(NamedTuple):
    """The run, and what this machine does not have, with the reason."""

    run: Outcome
    missing: dict[str, str]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")  # pytest shows it when a test fails, or with -s


@pytest.fixture(scope="module")
def smoke() -> Iterator[Smoke]:
    with skipping(), Stage(seed=SEED, rate=RATE, processes=1) as stage:
        kinds = available(stage, list(KINDS))
        planned = plan(SEED, kinds, faults=len(kinds), lasting_s=(0.5, 1.0), rest_s=(0.2, 0.4))
        run = conduct(stage, planned, _say, calm_s=PATIENCE_S)
        missing = stage.missing
    _say("\n".join(["", *lines(run)]))
    yield Smoke(run, missing)
    stage.forget()


@pytest.mark.parametrize("name", list(SAFETY))
def test_nothing_is_violated_by_any_kind_of_fault(smoke: Smoke, name: str):
    assert SAFETY[name](smoke.run.ledger, smoke.run.rows) == []


def test_every_call_ended_with_an_outcome_that_was_answered(smoke: Smoke):
    """Nothing is left of a run that nobody looked at: calls, outcomes and acknowledgements there were."""
    ledger = smoke.run.ledger
    calls = {event.unit for event in ledger.asked if event.first}
    assert calls == {event.unit for event in ledger.told}
    assert calls == {event.unit for event in ledger.acked}
    assert {event.unit for event in ledger.acked if event.status in SETTLED}


def test_the_load_included_copies_and_calls_that_asked_again(smoke: Smoke):
    assert any(event.copy for event in smoke.run.ledger.acked)
    assert any(not event.first for event in smoke.run.ledger.asked)


@pytest.mark.parametrize("need", ["", "disk", "clock"])
def test_every_kind_of_fault_was_there(smoke: Smoke, need: str):
    if need in smoke.missing:
        pytest.skip(f"no {need} to tamper with: {smoke.missing[need]}")
    expected = {name for name, kind in KINDS.items() if kind.needs == need}
    assert expected <= {fault.kind for fault in smoke.run.faults}
