"""Counts and moments: values that add, and refuse what no data can produce."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.statistics import BinaryCounts, Moments

values = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=0, max_size=30)


@st.composite
def binary_counts(draw: st.DrawFn, arms: int = 3, largest: int = 2**60) -> BinaryCounts:
    n = draw(st.lists(st.integers(0, largest), min_size=arms, max_size=arms))
    return BinaryCounts(n=n, successes=[draw(st.integers(0, units)) for units in n])


def same(a: BinaryCounts, b: BinaryCounts) -> bool:
    return np.array_equal(a.n, b.n) and np.array_equal(a.successes, b.successes)


def moments_of(sample: list[float]) -> Moments:
    return Moments(n=[len(sample)], total=[np.sum(sample)], total_sq=[np.sum(np.square(sample))])


@given(binary_counts(), binary_counts(), binary_counts())
def test_counts_merge_in_any_order_and_grouping(first, second, third):
    assert same(first + second, second + first)
    assert same((first + second) + third, first + (second + third))


@given(binary_counts())
def test_no_counts_change_nothing_when_merged(counts):
    assert same(counts + BinaryCounts(n=[0, 0, 0], successes=[0, 0, 0]), counts)


@given(binary_counts())
def test_flipping_twice_gives_the_same_counts(counts):
    assert same(counts.flipped().flipped(), counts)
    assert np.array_equal(counts.flipped().successes + counts.successes, counts.n)


@given(binary_counts(largest=10_000), binary_counts(largest=10_000))
def test_merging_commutes_with_turning_counts_into_moments(first, second):
    merged, summed = (first + second).as_moments(), first.as_moments() + second.as_moments()
    for part in ("n", "total", "total_sq"):
        assert np.array_equal(getattr(merged, part), getattr(summed, part))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint64, np.float32])
def test_narrow_columns_do_not_wrap_when_they_are_merged(dtype):
    """statistics.md 5.2: a peer sums int8 columns and stores 300 as 44."""
    total = BinaryCounts(n=np.array([100], dtype), successes=np.array([100], dtype))
    assert (total + total + total).successes.tolist() == [300]
    assert (total + total + total).n.dtype == np.int64


def test_a_sum_beyond_int64_is_refused_and_not_wrapped():
    half = BinaryCounts(n=[2**62], successes=[0])
    with pytest.raises(ValueError, match=r"n\[0\] == 4611686018427387904, .* would pass 2\^63 - 1"):
        _ = half + half


def test_the_rate_of_an_empty_arm_is_unknown():
    assert np.isnan(BinaryCounts(n=[0], successes=[0]).rate).all()


def test_leading_axes_are_kept():
    counts = BinaryCounts(n=np.full((2, 4, 3), 10), successes=np.full((2, 4, 3), 5))
    assert counts.rate.shape == (2, 4, 3)
    assert counts.as_moments().variance.shape == (2, 4, 3)


def test_a_single_number_becomes_one_arm():
    assert BinaryCounts(n=10, successes=5).n.shape == (1,)
    assert Moments(n=2, total=1.0, total_sq=1.0).mean.shape == (1,)


@pytest.mark.parametrize(
    ("n", "successes", "message"),
    [
        ([10, 10], [3, 11], r"successes\[1\] == 11, must be at most n == 10"),
        ([[10, 10], [5, 5]], [[1, 1], [6, 1]], r"successes\[1, 0\] == 6, must be at most n == 5"),
        ([-1], [0], r"n\[0\] == -1, must not be negative"),
        ([1.5], [1], r"n\[0\] == 1.5, must be a whole number"),
        ([np.nan], [1], r"n\[0\] == nan, must be a whole number"),
        ([2.0**63], [1], r"must be below 2\^63"),
        ([np.uint64(2**63)], [1], r"must be below 2\^63"),
        ([1, 2], [1], r"successes has shape \(1,\), must be \(2,\)"),
        (["ten"], [1], r"n has dtype"),
    ],
)
def test_impossible_counts_are_refused_by_position_value_and_bound(n, successes, message):
    with pytest.raises(ValueError, match=message):
        BinaryCounts(n=n, successes=successes)


def test_counts_do_not_change_with_the_array_they_came_from():
    n, total = np.array([10]), np.array([5.0])
    counts, moments = BinaryCounts(n=n, successes=[5]), Moments(n=n, total=total, total_sq=[5.0])
    n[0], total[0] = 0, 99.0
    assert counts.n.tolist() == [10]
    assert moments.total.tolist() == [5.0]
    with pytest.raises(AttributeError):
        counts.n = n


def test_counts_and_moments_survive_a_worker_process():
    counts = BinaryCounts(n=[10, 20], successes=[5, 6])
    assert same(pickle.loads(pickle.dumps(counts)), counts)
    assert pickle.loads(pickle.dumps(counts.as_moments())).mean.tolist() == [0.5, 0.3]


@given(values.filter(lambda sample: len(sample) >= 2))
def test_mean_and_variance_are_those_of_the_values(sample):
    moments = moments_of(sample)
    scale = max(np.max(np.abs(sample)), 1e-100)
    assert moments.mean[0] == pytest.approx(np.mean(sample), abs=1e-12 * scale)
    # Two sums instead of the values: the error is relative to the squares, not to the variance.
    assert moments.variance[0] == pytest.approx(np.var(sample, ddof=1), abs=1e-12 * scale**2)


@given(values, values)
def test_moments_of_two_samples_merge_to_those_of_both(first, second):
    merged, both = moments_of(first) + moments_of(second), moments_of(first + second)
    assert merged.n[0] == both.n[0]
    assert merged.total[0] == pytest.approx(both.total[0], abs=1e-6)
    assert merged.total_sq[0] == pytest.approx(both.total_sq[0], rel=1e-12, abs=1e-6)


@given(values)
def test_flipped_moments_have_the_negative_mean_and_the_same_variance(sample):
    moments = moments_of(sample)
    np.testing.assert_array_equal(moments.flipped().mean, -moments.mean)
    np.testing.assert_array_equal(moments.flipped().variance, moments.variance)


def test_mean_needs_one_value_and_variance_two():
    moments = Moments(n=[0, 1, 2], total=[0.0, 3.0, 3.0], total_sq=[0.0, 9.0, 5.0])
    np.testing.assert_array_equal(moments.mean, [np.nan, 3.0, 1.5])
    np.testing.assert_array_equal(moments.variance, [np.nan, np.nan, 0.5])


def test_a_constant_metric_has_variance_zero_and_not_rounding_noise():
    for n in (3, 7, 1_000, 99_999):
        constant = moments_of([0.1] * n)
        assert constant.variance[0] == 0.0


@pytest.mark.parametrize(
    ("n", "total", "total_sq", "message"),
    [
        ([2], [3.0], [4.0], r"total\[0\] == 3.0, must be within ±2.82843"),
        ([0], [0.0], [1.0], r"total_sq\[0\] == 1.0, must be 0 where n == 0"),
        ([0], [1.0], [0.0], r"total\[0\] == 1.0, must be within ±0"),
        ([1], [np.nan], [1.0], r"total\[0\] == nan, must be finite"),
        ([1], [1.0], [np.inf], r"total_sq\[0\] == inf, must be finite"),
        ([1], [0.0], [-1.0], r"total_sq\[0\] == -1.0, must be at least 0"),
    ],
)
def test_impossible_moments_are_refused_by_position_value_and_bound(n, total, total_sq, message):
    with pytest.raises(ValueError, match=message):
        Moments(n=n, total=total, total_sq=total_sq)


@given(st.lists(st.floats(-1e150, 1e150), min_size=1, max_size=50))
def test_moments_of_any_real_numbers_are_accepted(sample):
    """Subnormal squares, rounding of the sums and totals near the overflow included."""
    assert np.isfinite(moments_of(sample).mean[0])


def test_sums_that_overflow_are_refused_without_a_warning():
    large = Moments(n=[1], total=[1.3e154], total_sq=[1.7e308])
    with pytest.raises(ValueError, match=r"total_sq\[0\] == inf, must be finite"):
        _ = large + large
