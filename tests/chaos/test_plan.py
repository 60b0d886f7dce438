"""The plan of a run follows from its seed."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.faults import KINDS
from tests.chaos.plan import plan

kinds = st.lists(st.sampled_from(list(KINDS)), min_size=1, unique=True)


@given(st.integers(0, 10**9), kinds, st.integers(0, 200))
def test_the_same_seed_gives_the_same_faults(seed, kinds, faults):
    assert plan(seed, kinds, faults=faults) == plan(seed, kinds, faults=faults)


@given(st.integers(0, 10**9), kinds, st.integers(0, 200))
def test_every_kind_comes_as_often_as_any_other(seed, kinds, faults):
    planned = plan(seed, kinds, faults=faults)
    often = Counter(item.kind for item in planned)
    assert len(planned) == faults
    assert max(often.values(), default=0) - min((often[kind] for kind in kinds), default=0) <= 1


@given(st.integers(0, 10**9))
def test_faults_and_rests_last_as_long_as_was_asked_for(seed):
    planned = plan(seed, ["kill_worker"], faults=20, lasting_s=(2.0, 4.0), rest_s=(1.0, 1.6))
    assert all(2.0 <= item.lasting_s <= 4.0 and 1.0 <= item.rest_s <= 1.6 for item in planned)


def test_seeds_differ_in_the_order():
    orders = {tuple(item.kind for item in plan(seed, list(KINDS), faults=len(KINDS))) for seed in range(20)}
    assert len(orders) == 20


def test_there_are_at_least_eighteen_kinds_and_most_need_nothing_special():
    assert len(KINDS) >= 18
    assert {kind.needs for kind in KINDS.values()} == {"", "disk", "clock"}
