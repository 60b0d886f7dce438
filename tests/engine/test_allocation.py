"""Splits that can be served: bounds hold and the sum is exact, in whole basis points."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from engine.allocation import largest_remainder, project_kl, served_split
from tests.engine.references import cases

weights = st.lists(
    st.one_of(st.just(0.0), st.floats(0, 1), st.floats(0, 1e-300), st.integers(1, 9).map(float)),
    min_size=1,
    max_size=100,
).filter(lambda w: max(w) > 0)


@st.composite
def bounded_weights(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    raw = np.array(draw(weights))
    shares = st.lists(st.floats(0, 1), min_size=raw.size, max_size=raw.size)
    floor = np.array(draw(shares)) * draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])) / raw.size
    cap = np.minimum(floor + np.array(draw(shares)) * draw(st.sampled_from([0.5, 1.0, 4.0])), 1.0)
    assume(floor.sum() <= 1 <= cap.sum() and (floor <= 1).all())
    return raw, floor, cap


@pytest.mark.parametrize("case", cases("paper_cases", category="simplex_bounds"))
def test_the_projection_and_its_buckets_agree_with_the_reference(case):
    w = np.array(case["w"], dtype=float)
    lower, upper = np.full(w.size, float(case["lo"])), np.full(w.size, float(case["hi"]))
    np.testing.assert_allclose(project_kl(w, lower=lower, upper=upper), case["kl"], atol=case["tol"], rtol=0)
    assert served_split(w, floor=case["lo"], cap=case["hi"]).tolist() == case["buckets_kl"]


def test_the_leader_keeps_its_cap_and_the_ratio_of_the_others():
    """By hand: 0.8 is capped, two arms sit on the floor of 0.05, the second takes the rest."""
    assert served_split([0.96, 0.03, 0.009, 0.001], floor=0.05, cap=0.8).tolist() == [8_000, 1_000, 500, 500]


@given(bounded_weights())
@settings(max_examples=300)
def test_a_served_split_sums_to_ten_thousand_within_its_bounds(drawn):
    raw, floor, cap = drawn
    split = served_split(raw, floor=floor, cap=cap)
    assert split.sum() == 10_000
    assert (split >= np.floor(floor * 10_000)).all()
    assert (split <= np.ceil(cap * 10_000)).all()
    if np.ceil(floor * 10_000).sum() <= 10_000 and (np.ceil(floor * 10_000) <= np.floor(cap * 10_000)).all():
        assert (split >= floor * 10_000 - 1e-6).all()
    if np.floor(cap * 10_000).sum() >= 10_000 and (np.ceil(floor * 10_000) <= np.floor(cap * 10_000)).all():
        assert (split <= cap * 10_000 + 1e-6).all()


@given(bounded_weights())
@settings(max_examples=200)
def test_the_projection_is_the_clipped_multiple_of_the_weights(drawn):
    """Textbook version: find c with sum of clip(c w, floor, cap) = 1 by a root search."""
    raw, floor, cap = drawn
    x = project_kl(raw, lower=floor, upper=cap)
    assert x.sum() == pytest.approx(1.0, abs=1e-12)
    assert ((floor <= x) & (x <= cap)).all()
    wanted = raw > 1e-250
    reachable = cap[wanted].sum() + floor[~wanted].sum()
    if reachable < 1 + 1e-9 or (raw[~wanted] > 0).any() or floor.sum() > 1 - 1e-9:
        return
    log_w = np.log(raw[wanted])

    def textbook(log_c):
        return np.clip(np.exp(np.minimum(log_c + log_w, 1.0)), floor[wanted], cap[wanted])

    log_c = brentq(lambda t: textbook(t).sum() + floor[~wanted].sum() - 1.0, -60.0, 700.0, xtol=1e-14)
    np.testing.assert_allclose(x[wanted], textbook(log_c), atol=1e-9)


@given(bounded_weights(), st.randoms(use_true_random=False))
def test_the_order_of_the_arms_moves_a_share_by_one_basis_point_at_most(drawn, random):
    raw, floor, cap = drawn
    order = list(range(raw.size))
    random.shuffle(order)
    shuffled = served_split(raw[order], floor=floor[order], cap=cap[order])
    assert np.abs(shuffled - served_split(raw, floor=floor, cap=cap)[order]).max() <= 1


@given(weights, st.floats(1e-6, 1e6))
def test_the_scale_of_the_weights_does_not_matter(raw, scale):
    assume(min(w for w in raw if w > 0) > 1e-290)
    difference = served_split(raw) - served_split(np.array(raw) * scale)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("arms", [1, 2, 3, 7, 9, 64, 100])
def test_a_floor_of_one_kth_is_an_even_split(arms):
    """k floors of 1/k leave no room: 1/3 would round up to 3 334 three times, so it rounds down."""
    split = served_split(np.arange(arms) + 1.0, floor=1 / arms)
    assert split.sum() == 10_000
    assert split.max() - split.min() <= 1


def test_a_floor_and_a_cap_that_are_no_whole_basis_points_hold_nevertheless():
    split = served_split([1.0, 1e-9, 1e-9], floor=0.050_01, cap=0.899_99)
    assert split.tolist() == [8_998, 501, 501]


def test_an_arm_without_weight_gets_its_floor_and_no_more():
    assert served_split([1, 0, 0], floor=0.02).tolist() == [9_600, 200, 200]
    assert served_split([3, 1, 0], floor=[0.0, 0.0, 0.0]).tolist() == [7_500, 2_500, 0]


def test_what_a_capped_leader_cannot_take_is_spread_over_the_arms_without_weight():
    assert served_split([1, 0, 0], cap=0.9).tolist() == [9_000, 500, 500]


def test_weights_down_to_the_smallest_double_find_their_place():
    assert served_split([1.0, 1e-300, 5e-324], floor=0.05, cap=0.9).tolist() == [9_000, 500, 500]
    assert served_split([1e-300, 3e-300]).tolist() == [2_500, 7_500]
    assert served_split([1e308, 1e308]).tolist() == [5_000, 5_000]


def test_a_hundred_arms_at_a_floor_of_one_percent_are_even():
    assert served_split(np.r_[1.0, np.zeros(99)], floor=0.01).tolist() == [100] * 100


def test_floors_of_their_own_hold_for_each_arm():
    """The control keeps 10 %, the others 5 % (statistics.md 1c)."""
    assert served_split([0.0, 1.0, 0.0], floor=[0.10, 0.05, 0.05]).tolist() == [1_000, 8_500, 500]


@pytest.mark.parametrize(
    ("raw", "bounds", "message"),
    [
        ([1, 1, 1], {"floor": 0.4}, r"floor sums to 1.2 over 3 arms, must be at most 1"),
        ([1], {"cap": 0.9}, r"cap sums to 0.9 over 1 arms, must be at least 1"),
        ([1, 1], {"floor": 0.3, "cap": 0.2}, r"floor\[0\] == 0.3, must be at most the cap 0.2"),
        ([0, 0], {}, r"raw is all 0"),
        ([1, -1], {}, r"raw\[1\] == -1.0, must not be negative"),
        ([1, np.nan], {}, r"raw\[1\] == nan, must be finite"),
        ([1, np.inf], {}, r"raw\[1\] == inf, must be finite"),
        ([], {}, r"raw has shape \(0,\)"),
        ([[1, 1]], {}, r"raw has shape \(1, 2\)"),
        ([1, 1], {"floor": 5}, r"floor == 5.0, must be in \[0, 1\]"),
        ([1, 1], {"cap": [1, 1, 1]}, r"cap has shape \(3,\), must be one number or \(2,\)"),
    ],
)
def test_a_split_that_cannot_exist_is_refused(raw, bounds, message):
    with pytest.raises(ValueError, match=message):
        served_split(raw, **bounds)


@given(weights, st.integers(0, 20_000))
def test_each_share_is_its_quota_rounded_down_or_up(shares, total):
    parts = largest_remainder(shares, total)
    quota = np.array(shares) / max(shares)
    quota = quota / quota.sum() * total
    assert parts.sum() == total
    assert (np.abs(parts - quota) < 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.7, 0.2, 0.1], [7_000, 2_000, 1_000]),  # in floats they sum to 0.9999999999999999
        ([1, 1, 1], [3_334, 3_333, 3_333]),
        ([0.1] * 6, [1_667, 1_667, 1_667, 1_667, 1_666, 1_666]),
        ([0.5, 0.5], [5_000, 5_000]),
        ([0.00005, 0.99995], [1, 9_999]),  # a tie at half a basis point: the lower position
    ],
)
def test_user_splits_are_served_as_written_and_ties_go_to_the_lower_position(shares, expected):
    assert largest_remainder(shares).tolist() == expected


def test_hamiltons_method_seats_the_textbook_parliament():
    """Largest remainder, 10 seats for 47 000, 16 000, 15 900, 12 000, 6 000, 3 100 votes: 5, 2, 1, 1, 1, 0."""
    assert largest_remainder([47_000, 16_000, 15_900, 12_000, 6_000, 3_100], 10).tolist() == [
        5,
        2,
        1,
        1,
        1,
        0,
    ]


def test_a_negative_total_is_refused():
    with pytest.raises(ValueError, match=r"total == -1, must not be negative"):
        largest_remainder([1.0], -1)
