"""The laws of `domain.outcomes.settle`: telling again changes nothing, a later value wins, counts follow values."""

import datetime as dt
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidValue
from domain.metrics import DEFAULT_METRICS
from domain.outcomes import Delta, NewOutcome, Settled, StoredOutcome, delta_of, settle
from tests.service.world import MINUTE, NOW, outcome

METRICS = {metric.name: metric for metric in DEFAULT_METRICS}
Superseded = dict[str, set[tuple[float, dt.datetime]]]

# Sixteenths: their sums and squares are exact, so counts can be compared with ==.
scores = st.integers(0, 16).map(lambda k: k / 16)
minutes = st.integers(0, 20)


def settled(
    new: NewOutcome,
    stored: dict[str, StoredOutcome] | None = None,
    superseded: Superseded | None = None,
    *,
    assigned: bool = True,
    counted: bool = True,
) -> Settled:
    return settle(
        new,
        stored=stored or {},
        superseded=superseded or {},
        metrics=METRICS if counted else None,
        assigned=assigned,
        counted=counted,
        now=NOW,
    )


def told(value: float, minute: int | None) -> NewOutcome:
    return outcome(
        "call", quality=value, occurred_at=None if minute is None else NOW - (60 - minute) * MINUTE
    )


def tell_all(messages: Sequence[NewOutcome]) -> tuple[dict[str, StoredOutcome], Delta, list[str]]:
    """What is stored, counted and answered after these messages, kept as the service keeps it."""
    stored: dict[str, StoredOutcome] = {}
    superseded: Superseded = {}
    counts, statuses = Delta(), []
    for message in messages:
        result = settled(message, stored, superseded)
        stored |= result.inserted
        for metric, (old, fresh) in result.revised.items():
            superseded.setdefault(metric, set()).add((old.value, old.occurred_at))
            stored[metric] = fresh
        counts = sum(result.deltas.values(), counts)
        statuses.append(result.status)
    return stored, counts, statuses


@given(st.lists(st.tuples(scores, minutes | st.none()), min_size=1, max_size=8))
def test_the_counts_are_always_those_of_the_stored_value(messages):
    stored, counts, _ = tell_all([told(*message) for message in messages])
    assert counts == delta_of(stored["quality"].value)


@given(scores, minutes | st.none())
def test_telling_twice_is_telling_once(value, minute):
    once, _, _ = tell_all([told(value, minute)])
    twice, counts, statuses = tell_all([told(value, minute)] * 2)
    assert (twice, counts.n, statuses) == (once, 1, ["accepted", "unchanged"])


@given(st.lists(st.tuples(scores, minutes), min_size=1, max_size=6, unique_by=lambda item: item[1]))
def test_every_message_may_be_delivered_twice(messages):
    """Dated messages in the order of their times, then all of them again in any order: nothing changes."""
    in_time = [told(*message) for message in sorted(messages, key=lambda item: item[1])]
    stored, counts, _ = tell_all(in_time)
    again, counts_again, statuses = tell_all([*in_time, *reversed(in_time)])
    assert (again, counts_again) == (stored, counts)
    assert set(statuses[len(in_time) :]) == {"unchanged"}


@given(scores, scores, minutes, minutes)
def test_the_later_of_two_values_wins_in_whatever_order_they_arrive(one, other, early, late):
    if early == late:
        late += 1
    first, second = told(one, min(early, late)), told(other, max(early, late))
    assert tell_all([first, second])[0]["quality"].value == other
    assert tell_all([second, first])[0]["quality"].value == other


@given(scores, scores)
def test_a_value_without_a_time_counts_as_told_now_and_corrects_what_stood(one, other):
    stored, _, statuses = tell_all([told(one, None), told(other, None)])
    assert stored["quality"].value == other
    assert statuses == ["accepted", "unchanged" if one == other else "revised"]


def test_each_correction_raises_the_revision_and_keeps_the_value_that_stood():
    first, _, _ = tell_all([told(0.5, 1)])
    result = settled(told(0.75, 2), first)
    old, fresh = result.revised["quality"]
    assert (old.value, old.revision, fresh.value, fresh.revision) == (0.5, 0, 0.75, 1)
    assert result.deltas["quality"] == Delta(n=0, total=0.25, total_sq=0.75**2 - 0.5**2)


def test_a_null_is_missing_and_neither_stored_nor_counted():
    result = settled(outcome("call", resolved=None, quality=0.5))
    assert set(result.inserted) == set(result.deltas) == {"quality"}
    nothing = settled(outcome("call", resolved=None))
    assert (nothing.status, nothing.inserted, nothing.deltas) == ("unchanged", {}, {})


def test_false_is_a_failure_and_counts_as_one():
    assert settled(outcome("call", resolved=False)).deltas["resolved"] == Delta(n=1, total=0.0, total_sq=0.0)


def test_what_nobody_is_assigned_for_is_parked_and_counts_nothing():
    result = settled(outcome("call", resolved=True), assigned=False, counted=False)
    assert (result.status, result.deltas) == ("parked", {})
    assert result.inserted["resolved"].value == 1.0


def test_a_unit_in_no_experiment_has_outcomes_and_no_counts():
    result = settled(outcome("call", resolved=True), counted=False)
    assert (result.status, result.deltas) == ("accepted", {})


@pytest.mark.parametrize("wrong", [{"resolved": 1}, {"quality": 1.5}, {"quality": True}, {"warmth": 0.5}])
def test_one_wrong_metric_spoils_the_whole_outcome(wrong):
    """Nothing is half done: the other metric of the same message is not stored either."""
    with pytest.raises(InvalidValue):
        settled(outcome("call", **({"duration_s": 60.0} | wrong)))
