"""Welch's t-test against 30-digit references, mpmath, peers and scipy."""

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from engine.means import welch_test
from engine.statistics import Moments
from tests.engine.references import cases

samples = st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 3)), min_size=2, max_size=30)


def moments_of(*groups: list[float]) -> Moments:
    return Moments(
        n=[len(group) for group in groups],
        total=[np.sum(group) for group in groups],
        total_sq=[np.sum(np.square(group)) for group in groups],
    )


def moments_from(*groups: tuple[int, float, float]) -> Moments:
    """From (n, mean, sd) of each arm."""
    n, mean, sd = (np.array(part, dtype=float) for part in zip(*groups, strict=True))
    return Moments(n=n, total=n * mean, total_sq=(n - 1) * sd**2 + n * mean**2)


def two_sided_p(t: float, freedom: float) -> mpmath.mpf:
    v = mpmath.mpf(freedom)
    return mpmath.betainc(v / 2, mpmath.mpf(1) / 2, 0, v / (v + mpmath.mpf(t) ** 2), regularized=True)


def test_student_1908_sleep_data_give_r_s_documented_result():
    """R, ?sleep and example(t.test): t = -1.8608, df = 17.776, p = 0.07939, interval -3.3654832 to 0.2054832."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    test = welch_test(moments_of(second, first), control=0)
    assert round(test.statistic[1], 4) == -1.8608
    assert round(test.degrees_of_freedom[1], 3) == 17.776
    assert round(test.p_value[1], 5) == 0.07939
    assert (round(test.lower[1], 7), round(test.upper[1], 7)) == (-3.3654832, 0.2054832)


@pytest.mark.parametrize("case", cases("high_precision", category="welch"))
def test_welch_agrees_with_thirty_digits(case):
    groups = [(case[f"n{i}"], float(case[f"mean{i}"]), float(case[f"sd{i}"])) for i in (1, 2)]
    test = welch_test(moments_from(*groups), control=0)
    assert test.statistic[1] == pytest.approx(float(case["t"]), rel=1e-12)
    assert test.degrees_of_freedom[1] == pytest.approx(float(case["df"]), rel=1e-12)
    assert test.p_value[1] == pytest.approx(float(case["p_two_sided"]), rel=1e-12)
    np.testing.assert_allclose([test.lower[1], test.upper[1]], [float(x) for x in case["ci95"]], atol=1e-14)


@pytest.mark.parametrize("case", cases("peer_vectors", category="welch_t"))
def test_peers_numbers_are_reproduced(case):
    """GrowthBook's absolute effect and scipy's test; relative effects are not this function's question."""
    sides, expected = case["inputs"], case["expected"]
    if case["settings"].get("difference") == "relative":
        return
    if "t" in expected:
        groups = [tuple(sides[f"{part}_{arm}"] for part in ("n", "mean", "sd")) for arm in "ab"]
        test = welch_test(moments_from(*groups), control=0)
        assert (test.statistic[1], test.p_value[1]) == pytest.approx(
            (expected["t"], expected["p"]), rel=1e-11
        )
        return
    parts = [[sides[arm][part] for arm in ("control", "treatment")] for part in ("n", "sum", "sum_squares")]
    test = welch_test(Moments(*parts), control=0)
    got = [test.estimate[1], test.p_value[1], test.lower[1], test.upper[1]]
    assert got == pytest.approx(
        [expected["expected"], expected["p_value"], *expected["ci"]], abs=case["abs_tolerance"]
    )


@given(samples, samples)
def test_welch_agrees_with_scipy_on_raw_values(control, arm):
    assume(np.std(control) > 1e-2 and np.std(arm) > 1e-2)
    test = welch_test(moments_of(control, arm), control=0)
    expected = ttest_ind(arm, control, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert test.statistic[1] == pytest.approx(expected.statistic, rel=1e-6, abs=1e-9)
    assert test.degrees_of_freedom[1] == pytest.approx(expected.df, rel=1e-6)
    assert test.p_value[1] == pytest.approx(expected.pvalue, rel=1e-5)
    width = interval.high - interval.low
    assert (test.lower[1], test.upper[1]) == pytest.approx((interval.low, interval.high), abs=1e-6 * width)


@given(samples, samples, st.integers(-20, 20))
def test_another_unit_scales_the_interval_and_leaves_p(control, arm, exponent):
    """Powers of two scale floats exactly."""
    scale = 2.0**exponent
    one = welch_test(moments_of(control, arm), control=0)
    other = welch_test(moments_of([x * scale for x in control], [x * scale for x in arm]), control=0)
    for name in ("estimate", "lower", "upper"):
        np.testing.assert_allclose(getattr(other, name)[1], getattr(one, name)[1] * scale, rtol=1e-12)
    np.testing.assert_array_equal(one.p_value, other.p_value)
    np.testing.assert_array_equal(one.degrees_of_freedom, other.degrees_of_freedom)


@given(samples, samples)
def test_swapping_the_arms_or_the_sign_turns_the_sign(control, arm):
    one = welch_test(moments_of(control, arm), control=0)
    for other in (
        welch_test(moments_of(arm, control), control=0),
        welch_test(moments_of(control, arm).flipped(), control=0),
    ):
        np.testing.assert_array_equal(other.estimate[1], -one.estimate[1])
        np.testing.assert_allclose(other.p_value[1], one.p_value[1], rtol=1e-12)
        np.testing.assert_allclose(other.lower[1], -one.upper[1], rtol=1e-12, atol=1e-12)


@given(samples, samples, st.sampled_from([0.8, 0.95, 0.99]))
def test_p_is_below_alpha_exactly_when_zero_lies_outside_the_interval(control, arm, level):
    test = welch_test(moments_of(control, arm), control=0, confidence_level=level)
    assume(abs(test.p_value[1] - (1 - level)) > 1e-9)
    assert (test.p_value[1] < 1 - level) == (test.lower[1] > 0 or test.upper[1] < 0)


@pytest.mark.parametrize("n", [2, 3, 40, 1_000, 100_000])
@pytest.mark.parametrize("effect", [1e-6, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("ratio", [1.0, 7.3])
def test_p_and_interval_agree_with_mpmath_from_two_values_on(n, effect, ratio):
    test = welch_test(moments_from((n, 0.0, 1.0), (n, effect, ratio)), control=0)
    with mpmath.workdps(40):
        t, freedom = float(test.statistic[1]), float(test.degrees_of_freedom[1])
        expected = two_sided_p(t, freedom)
        assert test.log10_p[1] == pytest.approx(float(mpmath.log10(expected)), rel=1e-11, abs=1e-15)
        if expected > 1e-300:
            assert test.p_value[1] == pytest.approx(float(expected), rel=1e-11)
        reach = (test.upper[1] - test.estimate[1]) / (test.estimate[1] / t)
        # Around 1e-6 the subtraction above leaves 9 digits.
        assert float(two_sided_p(reach, freedom)) == pytest.approx(0.05, rel=1e-8)


@pytest.mark.parametrize("n", [10**6, 10**8])
def test_the_logarithm_of_p_stays_finite_where_p_underflows(n):
    """Oracle: for v near 2e6 and more the tail by quadrature of the density with 40 digits."""
    test = welch_test(moments_from((n, 0.0, 1.0), (n, 0.1, 1.0)), control=0)
    assert test.p_value[1] == 0.0
    with mpmath.workdps(40):
        t, v = mpmath.mpf(float(test.statistic[1])), mpmath.mpf(float(test.degrees_of_freedom[1]))
        log_density = mpmath.loggamma((v + 1) / 2) - mpmath.loggamma(v / 2) - mpmath.log(v * mpmath.pi) / 2
        log_density -= (v + 1) / 2 * mpmath.log1p(t * t / v)
        # Relative to the density at t, in steps of 1/t.
        tail = mpmath.quad(
            lambda s: mpmath.exp(
                -(v + 1) / 2 * (mpmath.log1p((t + s / t) ** 2 / v) - mpmath.log1p(t * t / v))
            ),
            [0, 1, 5, 20, 60, 120],
        )
        expected = float((mpmath.log(2) + log_density + mpmath.log(tail / t)) / mpmath.log(10))
    assert test.log10_p[1] == pytest.approx(expected, rel=1e-12)


def test_false_alarms_are_five_percent_when_variances_differ():
    """20 000 experiments, 20 against 60 normal values, sd 3 against 1; five standard errors are 0.0077."""
    rng = np.random.default_rng(20261122)
    groups = [rng.normal(5.0, 3.0, (20_000, 20)), rng.normal(5.0, 1.0, (20_000, 60))]
    moments = Moments(
        n=np.broadcast_to([20, 60], (20_000, 2)),
        total=np.stack([group.sum(axis=1) for group in groups], axis=1),
        total_sq=np.stack([(group**2).sum(axis=1) for group in groups], axis=1),
    )
    assert np.mean(welch_test(moments, control=0).p_value[:, 1] < 0.05) == pytest.approx(0.05, abs=0.0077)


def test_fewer_than_two_values_are_no_test():
    test = welch_test(moments_of([1.0, 2.0], [], [3.0], [2.0, 4.0]), control=0)
    for row in (
        test.estimate,
        test.lower,
        test.statistic,
        test.degrees_of_freedom,
        test.p_value,
        test.log10_p,
    ):
        assert np.isnan(row[1:3]).all()
        assert np.isfinite(row[3])
    assert np.isnan(welch_test(moments_of([1.0], [2.0, 3.0]), control=0).p_value).all()


def test_the_controls_own_row_has_no_interval():
    test = welch_test(moments_of([1.0, 2.0], [2.0, 4.0]), control=1)
    assert (test.estimate[1], test.statistic[1], test.p_value[1], test.log10_p[1]) == (0, 0, 1, 0)
    assert np.isnan([test.lower[1], test.upper[1], test.degrees_of_freedom[1]]).all()


def test_constant_and_equal_arms_are_no_evidence():
    """Sums of 0.1 differ in the last digits between 1 000 and 999 values; that is no difference."""
    test = welch_test(moments_of([0.1] * 1_000, [0.1] * 999), control=0)
    assert (test.statistic[1], test.p_value[1], test.log10_p[1]) == (0, 1, 0)
    assert test.lower[1] == test.upper[1] == test.estimate[1] == pytest.approx(0, abs=1e-12)


def test_constant_and_different_arms_differ_for_certain():
    test = welch_test(moments_of([1.0, 1.0], [2.0, 2.0], [0.5, 0.5]), control=0)
    assert test.statistic[1:].tolist() == [np.inf, -np.inf]
    assert test.p_value[1:].tolist() == [0, 0]
    assert test.log10_p[1:].tolist() == [-np.inf, -np.inf]
    assert test.lower[1:].tolist() == test.upper[1:].tolist() == [1.0, -0.5]


def test_one_constant_arm_leaves_the_other_ones_degrees_of_freedom():
    test = welch_test(moments_of([1.0] * 5, [1.0, 2.0, 3.0, 4.0]), control=0)
    assert test.degrees_of_freedom[1] == 3.0


def test_a_bad_confidence_level_or_control_is_refused():
    moments = moments_of([1.0, 2.0], [2.0, 4.0])
    with pytest.raises(ValueError, match=r"confidence_level == 1.5, must be in \(0, 1\)"):
        welch_test(moments, control=0, confidence_level=1.5)
    with pytest.raises(ValueError, match=r"control == -1, must be in 0..1"):
        welch_test(moments, control=-1)
