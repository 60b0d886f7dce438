"""The rules by which experiments start and change."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain.errors import InvalidValue
from domain.experiments import (
    NewExperiment,
    NewPolicy,
    NewVariant,
    check_bounds,
    check_new_experiment,
    policy_of,
    shares_of,
)
from engine.allocation import largest_remainder, served_split
from engine.power import sample_size


def variants(*shares: float | None) -> list[NewVariant]:
    return [NewVariant(key=chr(97 + n), version_id=n + 1, share=share) for n, share in enumerate(shares)]


def experiment(**fields: Any) -> NewExperiment:
    return NewExperiment(
        **{"key": "e", "prompt": "p", "control": "a", "variants": variants(None, None)} | fields
    )


def test_shares_that_add_up_but_for_rounding_are_taken():
    """adm-09: 0.7 + 0.2 + 0.1 is 0.9999999999999999."""
    assert 0.7 + 0.2 + 0.1 != 1.0
    shares = shares_of(variants(0.7, 0.2, 0.1))
    assert largest_remainder(shares).tolist() == [7000, 2000, 1000]


@pytest.mark.parametrize("shares", [(0.5, 0.4), (0.5, None), (0.0, 0.0), (1.0, 1.0)])
def test_shares_that_do_not_add_up_are_refused(shares: tuple[float | None, ...]):
    with pytest.raises(InvalidValue) as refused:
        check_new_experiment(experiment(variants=variants(*shares)))
    assert refused.value.pointer == "/variants"


@given(st.integers(2, 20))
def test_shares_left_out_are_even(number: int):
    assert shares_of(variants(*[None] * number)) == [1.0 / number] * number


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"control": "z"}, "/control"),
        ({"variants": [NewVariant(key="a", version_id=n) for n in (1, 2)]}, "/variants/1/key"),
        ({"variants": [NewVariant(key=k, version_id=1) for k in "ab"]}, "/variants/1/version_id"),
        ({"baseline": 0.96}, "/minimum_detectable_effect"),
        ({"policy": NewPolicy(name="thompson", floor=0.5, control_floor=0.6)}, "/policy/floor"),
        ({"policy": NewPolicy(name="thompson", cap=0.45)}, "/policy/cap"),
        ({"policy": NewPolicy(name="thompson", control_floor=0.9, cap=0.6)}, "/policy/cap"),
    ],
)
def test_a_broken_rule_is_named_by_its_place(fields: dict[str, Any], pointer: str):
    with pytest.raises(InvalidValue) as refused:
        check_new_experiment(experiment(**fields))
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(("number", "name"), [(2, "fixed"), (3, "top_two"), (20, "top_two")])
def test_a_policy_left_out_fits_the_number_of_variants(number: int, name: str):
    assert policy_of(None, variants=number).name == name


def test_the_floor_of_the_control_is_at_least_the_floor_of_all():
    assert policy_of(NewPolicy(name="thompson", floor=0.2), variants=3).control_floor == 0.2


def test_a_fixed_policy_needs_no_bounds():
    check_bounds(policy_of(NewPolicy(name="fixed", floor=0.5, cap=0.01), variants=20), live=20)


POLICIES = st.builds(
    NewPolicy,
    name=st.sampled_from(["thompson", "top_two"]),
    floor=st.floats(0.0, 0.5) | st.sampled_from([0.07, 0.05, 0.1]),
    control_floor=st.floats(0.0, 0.9) | st.sampled_from([0.09, 0.05, 0.3]),
    cap=st.floats(0.001, 1.0) | st.sampled_from([0.05, 0.5, 1 / 3, 1 / 7]),
)


@settings(max_examples=400)  # five of six are refused
@given(POLICIES, st.integers(2, 20), st.randoms(use_true_random=False))
def test_bounds_that_are_taken_always_leave_a_split(new: NewPolicy, live: int, random: Any):
    """A policy that passes the check at the start never stops a reallocation later."""
    policy = policy_of(new, variants=live)
    try:
        check_bounds(policy, live=live)
    except InvalidValue:
        return  # refused, as most made-up bounds are
    raw = np.array([random.random() ** 20 for _ in range(live)]) + 1e-300
    floors = np.array([policy.control_floor, *[policy.floor] * (live - 1)])
    split = served_split(raw, floor=floors, cap=policy.cap)
    assert split.sum() == 10_000


@given(
    st.floats(1e-6, 0.2), st.floats(1e-4, 0.9999), st.floats(1e-4, 1.0, exclude_max=True), st.integers(1, 19)
)
def test_a_design_that_is_taken_has_a_sample_size(
    alpha: float, baseline: float, effect: float, contrasts: int
):
    """Beyond the bounds of the fields it had none, and then neither report nor stop worked."""
    assume(baseline + effect < 1.0)
    size = sample_size(
        baseline=baseline, minimum_detectable_effect=effect, power=0.8, alpha=alpha / contrasts
    )
    assert 0 < size.per_arm_ceil < 2**53
