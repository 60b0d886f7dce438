"""Each property of the judge finds what it is for, and finds nothing in a run without a fault."""

import pytest

from tests.chaos import safety
from tests.chaos.ledger import Refused
from tests.chaos.small import (
    LEDGER,
    ROWS,
    acked,
    asked,
    fallback,
    ledger,
    row,
    rows,
    stored,
    told,
)
from tests.chaos.stored import StoredOutcome, Sum

LATE = "2026-01-01 lies in the future (server time 2025-12-31); check the agent's clock"
OTHER_TEXT = "Unit 'one' is recorded with content_hash hash-a, not own: its call got another text."


@pytest.mark.parametrize("name", list(safety.SAFETY))
def test_a_run_without_a_fault_violates_nothing(name):
    assert safety.SAFETY[name](LEDGER, ROWS) == []


def test_an_acknowledged_outcome_without_its_row_is_lost():
    left = rows(outcomes=[o for o in ROWS.outcomes if o[:2] != ("two", "resolved")])
    assert safety.lost(LEDGER, left) == ["two resolved"]


def test_an_outcome_that_was_refused_cannot_be_lost():
    left = rows(outcomes=[o for o in ROWS.outcomes if o.unit != "two"])
    refused = ledger(acked=[acked("one"), acked("two", "rejected"), acked("three")])
    assert safety.lost(refused, left) == []


@pytest.mark.parametrize("status", ["accepted", "unchanged", "parked", "revised"])
def test_every_kind_of_acknowledgement_must_be_kept(status):
    heard = ledger(acked=[acked("one", status)])
    assert safety.lost(heard, rows(outcomes=[])) == ["one resolved", "one duration_s"]


def test_counted_once_more_than_stored_is_twice_and_drift():
    key = (1, "a", "", "resolved")
    counts = {**ROWS.counts, key: Sum(3, 3.0, 3.0)}
    assert safety.twice(LEDGER, rows(counts=counts)) == [f"{key}: 3 counted, 2 stored"]
    assert len(safety.drift(LEDGER, rows(counts=counts))) == 1


def test_counted_once_less_than_stored_is_drift_only():
    counts = {key: value for key, value in ROWS.counts.items() if key != (1, "b", "", "resolved")}
    assert safety.twice(LEDGER, rows(counts=counts)) == []
    assert len(safety.drift(LEDGER, rows(counts=counts))) == 1


def test_a_sum_that_is_wrong_while_the_number_is_right_is_drift():
    key = (1, "b", "", "duration_s")
    for wrong in (Sum(1, 40.5, 40.5), Sum(1, 41.0, 40.5**2)):
        assert len(safety.drift(LEDGER, rows(counts={**ROWS.counts, key: wrong}))) == 1


def test_sums_that_differ_by_rounding_are_no_drift():
    key = (1, "b", "", "duration_s")
    near = Sum(1, 40.5 * (1 + 1e-12), 40.5**2)
    assert safety.drift(LEDGER, rows(counts={**ROWS.counts, key: near})) == []


def test_a_second_row_of_an_outcome_is_twice():
    assert safety.twice(LEDGER, rows(outcomes=[*ROWS.outcomes, ROWS.outcomes[0]])) == ["1 double rows"]


def test_outcomes_of_units_in_no_experiment_are_not_counted():
    loose = stored([row("one", None, allocation=None)], [StoredOutcome("one", "resolved", 1.0, 0)])
    assert loose.counts == {}
    assert safety.drift(LEDGER, loose) == []


def test_rows_that_nobody_asked_or_told_are_phantoms():
    extra = rows(
        assignments=[*ROWS.assignments, row("four")],
        outcomes=[*ROWS.outcomes, StoredOutcome("one", "quality", 0.5, 0)],
    )
    assert safety.phantom(LEDGER, extra) == ["assignment four", "outcome one quality"]


@pytest.mark.parametrize(
    "bad", [StoredOutcome("one", "resolved", 0.0, 0), StoredOutcome("one", "resolved", 1.0, 1)]
)
def test_another_value_or_a_correction_that_nobody_made_is_wrong(bad):
    changed = [bad if o[:2] == bad[:2] else o for o in ROWS.outcomes]
    assert len(safety.wrong(LEDGER, rows(outcomes=changed))) == 1


def test_an_outcome_without_an_answer_is_undelivered():
    assert safety.undelivered(ledger(acked=[acked("one"), acked("two")]), ROWS) == ["three"]


def test_a_copy_that_was_not_answered_is_undelivered():
    twice = ledger(told=[*LEDGER.told, told("one", copy=True)])
    assert safety.undelivered(twice, ROWS) == ["one"]


def test_an_outcome_that_a_client_gave_up_is_undelivered():
    sums = [type(LEDGER.sums[0])(at=4.0, recorded=3, sent=2, dropped=1, waiting=0, attempts=2, items=3)]
    assert safety.undelivered(ledger(sums=sums), ROWS) == ["1 dropped by the clients"]


@pytest.mark.parametrize("status", ["rejected", "revised", "no such word"])
def test_the_same_values_told_again_must_not_be_refused(status):
    heard = ledger(acked=[*LEDGER.acked, acked("one", status, copy=True)])
    assert safety.refused(heard, ROWS) == [f"one {status}: "]


def test_a_refusal_for_the_clock_is_told_apart():
    heard = ledger(acked=[acked("one", "rejected")], refused=[Refused(at=3.0, unit="one", why=LATE)])
    assert safety.clock_refused(heard) == ["one"]
    assert safety.refused(heard, ROWS) == []


def test_a_refusal_because_the_answer_came_too_late_is_told_apart():
    late = ledger(
        asked=[fallback("one")],
        acked=[acked("one", "rejected")],
        refused=[Refused(at=3.0, unit="one", why=OTHER_TEXT)],
    )
    assert safety.late_answers(late, rows(assignments=[row("one")])) == ["one"]
    assert safety.refused(late, rows(assignments=[row("one")])) == []


def test_an_outcome_counted_for_a_text_that_was_not_spoken_is_found():
    spoke = ledger(asked=[fallback("one"), *LEDGER.asked[1:]])
    assert safety.other_text(spoke, ROWS) == ["one"]


def test_two_recorded_answers_that_differ_are_unsticky():
    again = ledger(asked=[*LEDGER.asked, asked("one", "b", first=False)])
    assert safety.unsticky(again, ROWS) == ["one"]


def test_a_row_that_is_not_what_was_served_is_unsticky():
    other = rows(assignments=[row("one", "b"), *ROWS.assignments[1:]])
    assert safety.unsticky(LEDGER, other) == ["one"]


def test_an_answer_said_to_be_recorded_without_a_row_is_unsticky():
    assert safety.unsticky(LEDGER, rows(assignments=ROWS.assignments[1:])) == ["one"]


def test_an_answer_from_memory_may_be_without_a_row():
    """Its server was killed before it could record it, and no outcome was told yet."""
    stale = ledger(asked=[asked("one", reason="STALE"), *LEDGER.asked[1:]])
    assert safety.unsticky(stale, rows(assignments=ROWS.assignments[1:])) == []


def test_two_answers_from_memory_under_one_split_must_agree():
    pair = ledger(asked=[asked("one", reason="STALE"), asked("one", "b", reason="STALE", first=False)])
    assert safety.unsticky(pair, rows(assignments=[])) == ["one"]


def test_an_answer_from_memory_under_a_split_that_has_moved_is_told_apart():
    moved = ledger(asked=[asked("one"), asked("one", "b", reason="STALE", allocation=2, first=False)])
    assert safety.unsticky(moved, ROWS) == []
    assert safety.moved(moved, ROWS) == ["one"]


def test_two_recorded_answers_under_two_splits_are_not_excused():
    broken = ledger(asked=[asked("one"), asked("one", "b", allocation=2, first=False)])
    assert safety.unsticky(broken, ROWS) == ["one"]
    assert safety.moved(broken, ROWS) == []


def test_a_call_without_a_prompt_is_found():
    bare = ledger(asked=[asked("one", None, source="", problem="NoPromptAvailable: away")])
    assert safety.unanswered(bare, ROWS) == ["one: NoPromptAvailable: away"]


def test_only_what_does_not_hold_is_named():
    assert safety.violated_safety(LEDGER, ROWS) == {}
    assert set(safety.violated_safety(LEDGER, rows(outcomes=[]))) == {"lost", "drift", "counted twice"}
