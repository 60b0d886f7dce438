"""The figures of a run: each bound is violated by a run that breaks it, and by that alone."""

import math

import pytest

from tests.chaos.ledger import Sums
from tests.chaos.small import LEDGER, ROWS, acked, asked, fallback, ledger, row, rows, told
from tests.chaos.timing import (
    Fault,
    ack_ms,
    attempts,
    fallback_share,
    inside,
    prompt_ms,
    quantiles,
    recoveries,
    split_p,
    violated_timing,
)

CUT = Fault("freeze_server", 10.0, 12.0, cut=True)
AWAY = Fault("kill_postgres", 10.0, 12.0, cut=False)


def test_a_run_without_a_fault_is_in_time():
    assert violated_timing(LEDGER, ROWS, []) == {}


def test_quantiles_of_a_hundred_numbers():
    assert quantiles(range(1, 101)) == (50.5, 100, 100)
    assert quantiles(range(1, 1001)) == (500.5, 991, 1000)


def test_no_numbers_have_no_quantiles():
    assert all(math.isnan(value) for value in quantiles([]))


def test_the_slowest_prompt_counts():
    slow = ledger(asked=[*LEDGER.asked, asked("four", seconds=0.4)])
    assert prompt_ms(slow.asked).largest == pytest.approx(400)
    assert set(violated_timing(slow, ROWS, [])) == {"prompt in time"}


def test_only_what_was_asked_meanwhile_is_inside_a_fault():
    events = [asked("before", at=9.9), asked("in", at=11.0), asked("after", at=12.1)]
    assert [event.unit for event in inside(events, [AWAY])] == ["in"]


def test_recovery_lasts_until_a_new_call_is_recorded_at_once():
    events = [
        asked("early", at=11.0),
        asked("memory", at=12.1, reason="STALE"),
        asked("again", at=12.2, first=False),
        asked("late", at=12.9, seconds=0.2),
        asked("later", at=12.95, seconds=0.01),
    ]
    assert recoveries(events, [AWAY]) == {"kill_postgres": [pytest.approx(0.96)]}


def test_a_service_that_never_comes_back_is_found():
    gone = ledger(asked=[asked("one", at=1.0), fallback("two", at=13.0)])
    assert recoveries(gone.asked, [CUT]) == {"freeze_server": [math.inf]}
    assert "recovery" in violated_timing(gone, ROWS, [CUT])


def test_fallbacks_count_while_a_server_can_be_reached():
    events = [asked(f"{n}", at=5.0) for n in range(9)] + [fallback("x", at=11.0)]
    assert fallback_share(events, [AWAY]) == pytest.approx(0.1)
    assert fallback_share(events, [CUT]) == 0.0
    assert set(violated_timing(ledger(asked=events), ROWS, [])) == {"fallback share"}


def test_calls_under_way_when_a_cut_began_count_as_cut():
    events = [asked("one", at=5.0), fallback("x", at=9.8, seconds=0.3)]
    assert fallback_share(events, [CUT]) == 0.0


def test_attempts_are_outcomes_sent_by_outcomes_recorded():
    sums = [
        Sums(at=1.0, recorded=10, sent=10, dropped=0, waiting=0, attempts=4, items=14),
        Sums(at=1.0, recorded=10, sent=10, dropped=0, waiting=0, attempts=9, items=31),
    ]
    assert attempts(ledger(sums=sums)) == pytest.approx(2.25)
    assert set(violated_timing(ledger(sums=sums), ROWS, [])) == {"attempts"}


def test_acknowledgements_between_faults_and_overall():
    told_three = [told("one", at=1.0), told("two", at=9.5), told("three", at=20.0)]
    acked_three = [acked("one", at=1.1), acked("two", at=12.5), acked("three", at=20.2)]
    calm, overall = ack_ms(ledger(told=told_three, acked=acked_three), [AWAY])
    assert calm.largest == pytest.approx(200)
    assert overall.largest == pytest.approx(3000)


def even(a: int, b: int, allocation: int = 1) -> list:
    return [row(f"{allocation}-a-{n}", "a", allocation=allocation) for n in range(a)] + [
        row(f"{allocation}-b-{n}", "b", allocation=allocation) for n in range(b)
    ]


def test_the_split_is_compared_by_pearsons_chi_squared():
    """(60 - 50)² / 50 twice is 4, one degree of freedom: p = 0.0455 in every table."""
    assert split_p(rows(assignments=even(60, 40))) == pytest.approx(0.0455, abs=1e-4)


def test_each_allocation_is_compared_with_its_own_split():
    """90 to 10 fits the second allocation exactly, and adds a degree of freedom: chi² 4 on 2 is e^-2."""
    both = even(60, 40) + even(90, 10, allocation=2)
    assert split_p(rows(assignments=both)) == pytest.approx(math.exp(-2))


def test_a_split_that_is_not_the_one_to_serve_is_found():
    skewed = rows(assignments=even(300, 200))
    assert set(violated_timing(LEDGER, skewed, [])) == {"split"}


def test_a_call_of_a_variant_without_a_share_is_found():
    none_for_b = rows(assignments=even(50, 1), splits={1: {"a": 10_000, "b": 0}})
    assert split_p(none_for_b) == 0.0


def test_few_calls_say_nothing_about_a_split():
    assert split_p(rows(assignments=even(3, 0))) == 1.0
