"""The pooled z-test and its intervals against papers, 30-digit references, a textbook version and statsmodels."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint, proportions_ztest

from engine.proportions import newcombe_interval, wilson_interval, z_test
from engine.statistics import BinaryCounts
from tests.engine.references import cases

levels = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.999])


@st.composite
def pairs(draw: st.DrawFn, largest: int = 10**8) -> tuple[tuple[int, int], tuple[int, int]]:
    """(successes, units) of the control and of the arm, with the corners 0/n and n/n drawn often."""
    sides = []
    for _ in range(2):
        n = draw(st.one_of(st.integers(1, 30), st.integers(1, largest)))
        corner = st.sampled_from([0, 1, n // 2, n - 1, n])
        sides.append((draw(st.one_of(corner, st.integers(0, n))), n))
    return sides[0], sides[1]


def counts_of(*sides: tuple[int, int]) -> BinaryCounts:
    return BinaryCounts(n=[n for _, n in sides], successes=[x for x, _ in sides])


# Newcombe (1998), Statist. Med. 17, 873-890, Table II, contrasts (a), (c)-(h), method 10; as commonly reprinted.
NEWCOMBE_TABLE_2 = [
    ((48, 80), (56, 70), 0.0524, 0.3339),
    ((3, 10), (9, 10), 0.1705, 0.8090),
    ((2, 7), (6, 7), 0.0582, 0.8062),
    ((0, 29), (5, 56), -0.0381, 0.1926),
    ((0, 20), (0, 10), -0.1611, 0.2775),
    ((0, 10), (0, 10), -0.2775, 0.2775),
    ((0, 20), (10, 10), 0.6791, 1.0000),
    ((0, 10), (10, 10), 0.6075, 1.0000),
]


@pytest.mark.parametrize(("control", "arm", "lower", "upper"), NEWCOMBE_TABLE_2)
def test_newcombe_interval_agrees_with_the_paper(control, arm, lower, upper):
    interval = newcombe_interval(counts_of(control, arm), control=0)
    assert (round(interval.lower[1], 4), round(interval.upper[1], 4)) == (lower, upper)


def test_mee_interval_agrees_with_the_paper():
    """Newcombe (1998), Table II, contrast (a), method 7: 56/70 against 48/80 gives 0.0533 to 0.3377."""
    test = z_test(counts_of((48, 80), (56, 70)), control=0)
    assert (round(test.lower[1], 4), round(test.upper[1], 4)) == (0.0533, 0.3377)


@pytest.mark.parametrize("n", [1, 10, 10_000, 10**8])
def test_no_success_in_either_arm_is_no_evidence_but_has_an_interval(n):
    """By hand: at 0/n the constrained maximum stays at 0 until the limit is Wilson's, z^2 / (n + z^2)."""
    test = z_test(counts_of((0, n), (0, n)), control=0)
    z = 1.959963984540054
    assert (test.estimate[1], test.statistic[1], test.p_value[1], test.log10_p[1]) == (0, 0, 1, 0)
    assert test.upper[1] == pytest.approx(z**2 / (n + z**2), rel=1e-13)
    assert test.lower[1] == -test.upper[1]


@pytest.mark.parametrize("case", cases("high_precision", category="two_proportions"))
def test_the_test_and_all_intervals_agree_with_thirty_digits(case):
    counts = counts_of((case["x1"], case["n1"]), (case["x2"], case["n2"]))
    test, newcombe, wilson = (
        z_test(counts, control=0),
        newcombe_interval(counts, control=0),
        wilson_interval(counts),
    )
    got = {"newcombe95": (newcombe.lower[1], newcombe.upper[1]), "mee95": (test.lower[1], test.upper[1])}
    got |= {f"wilson95_{arm + 1}": (wilson.lower[arm], wilson.upper[arm]) for arm in (0, 1)}
    for name, limits in got.items():
        if case.get(name):  # at 1e9 units Mee's limits were not computed
            np.testing.assert_allclose(limits, [float(limit) for limit in case[name]], atol=5e-16, rtol=0)
    if case["z_pooled"] is not None:
        assert test.statistic[1] == pytest.approx(float(case["z_pooled"]), rel=1e-14)
        assert test.p_value[1] == pytest.approx(float(case["p_pooled"]), rel=1e-13)


@pytest.mark.parametrize("case", cases("peer_vectors", category="two_proportion_z"))
def test_peers_numbers_are_reproduced(case):
    """Spotify's interval is Wald's and left out; its p is the pooled one."""
    sides, expected = case["inputs"], case["expected"]
    counts = counts_of(*((sides[arm]["successes"], sides[arm]["n"]) for arm in ("control", "treatment")))
    test, tolerance = z_test(counts, control=0), case["abs_tolerance"]
    assert test.p_value[1] == pytest.approx(expected.get("p_pooled", expected.get("p_value")), abs=tolerance)
    if "z_pooled" in expected:
        newcombe, wilson = newcombe_interval(counts, control=0), wilson_interval(counts)
        assert test.statistic[1] == pytest.approx(expected["z_pooled"], abs=tolerance)
        assert [newcombe.lower[1], newcombe.upper[1]] == pytest.approx(expected["newcombe_ci"], abs=tolerance)
        assert [wilson.lower[1], wilson.upper[1]] == pytest.approx(
            expected["wilson_treatment"], abs=tolerance
        )


@given(pairs(), levels)
@settings(max_examples=150)
def test_p_is_below_alpha_exactly_when_zero_lies_outside_the_interval(pair, level):
    test = z_test(counts_of(*pair), control=0, confidence_level=level)
    alpha = 1 - level
    assume(abs(test.p_value[1] - alpha) > 1e-9)
    assert (test.p_value[1] < alpha) == (test.lower[1] > 0 or test.upper[1] < 0)


@given(pairs(), levels)
def test_swapping_the_arms_turns_the_sign(pair, level):
    one = z_test(counts_of(*pair), control=0, confidence_level=level)
    other = z_test(counts_of(*pair[::-1]), control=0, confidence_level=level)
    assert one.estimate[1] == -other.estimate[1]
    assert one.p_value[1] == other.p_value[1]
    assert one.lower[1] == pytest.approx(-other.upper[1], abs=1e-15)
    assert one.upper[1] == pytest.approx(-other.lower[1], abs=1e-15)


@given(pairs(), levels)
def test_counting_failures_instead_of_successes_turns_the_sign(pair, level):
    counts = counts_of(*pair)
    for compare in (z_test, newcombe_interval):
        one = compare(counts, control=0, confidence_level=level)
        other = compare(counts.flipped(), control=0, confidence_level=level)
        assert one.lower[1] == pytest.approx(-other.upper[1], abs=1e-15)
        assert one.upper[1] == pytest.approx(-other.lower[1], abs=1e-15)


@given(pairs(), levels)
def test_intervals_hold_the_estimate_and_stay_between_minus_one_and_one(pair, level):
    counts = counts_of(*pair)
    test = z_test(counts, control=0, confidence_level=level)
    for interval in (test, newcombe_interval(counts, control=0, confidence_level=level)):
        assert -1 <= interval.lower[1] <= test.estimate[1] <= interval.upper[1] <= 1
    wilson = wilson_interval(counts, confidence_level=level)
    assert (wilson.lower >= 0).all()
    assert (wilson.upper <= 1).all()
    assert ((wilson.lower <= counts.rate) & (counts.rate <= wilson.upper)).all()


def score_statistic(control: tuple[int, int], arm: tuple[int, int], d: float) -> float:
    """Textbook version: z of "arm - control = d" at the constrained maximum, found by its score's sign."""
    (x0, n0), (x1, n1), d = control, arm, float(d)

    def score(p):
        parts = [(x0, p), (x0 - n0, 1 - p), (x1, p + d), (x1 - n1, 1 - p - d)]
        return sum(count / at if at > 0 else math.copysign(math.inf, count) for count, at in parts if count)

    low, high = max(0.0, -d), min(1.0, 1.0 - d)
    inner_low, inner_high = low + 1e-13 * (high - low), high - 1e-13 * (high - low)
    if score(inner_low) <= 0:
        p = low
    elif score(inner_high) >= 0:
        p = high
    else:
        p = brentq(score, inner_low, inner_high, xtol=1e-16)
    variance = p * (1 - p) / n0 + (p + d) * (1 - p - d) / n1
    return (x1 / n1 - x0 / n0 - d) / math.sqrt(variance)


@given(pairs(largest=100_000), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=100)
def test_at_mees_limits_the_textbook_score_statistic_is_the_critical_value(pair, level):
    test = z_test(counts_of(*pair), control=0, confidence_level=level)
    z = -mpmath.sqrt(2) * mpmath.erfinv(-level)
    for limit, sign in ((test.lower[1], 1), (test.upper[1], -1)):
        if abs(limit) < 1 - 1e-9:
            assert score_statistic(*pair, limit) == pytest.approx(sign * float(z), rel=1e-6)


@given(pairs(largest=10_000))
@settings(max_examples=50)
def test_z_newcombe_and_wilson_agree_with_statsmodels(pair):
    (x0, n0), (x1, n1) = pair
    counts = counts_of(*pair)
    newcombe = newcombe_interval(counts, control=0)
    expected = confint_proportions_2indep(x1, n1, x0, n0, method="newcomb", compare="diff")
    np.testing.assert_allclose([newcombe.lower[1], newcombe.upper[1]], expected, atol=1e-12)
    wilson = wilson_interval(counts)
    expected = proportion_confint(x1, n1, method="wilson")
    np.testing.assert_allclose([wilson.lower[1], wilson.upper[1]], expected, atol=1e-14)
    if 0 < x0 + x1 < n0 + n1:  # statsmodels gives nan otherwise
        test = z_test(counts, control=0)
        z, p = proportions_ztest([x1, x0], [n1, n0])
        assert test.statistic[1] == pytest.approx(z, rel=1e-9, abs=1e-12)
        assert test.p_value[1] == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize(
    ("control", "arm"),
    [
        ((1_000, 10_000), (9_000, 10_000)),
        ((0, 10**8), (10**8, 10**8)),
        ((300_000_000, 10**9), (310_000_000, 10**9)),
    ],
)
def test_the_logarithm_of_p_stays_exact_where_p_underflows(control, arm):
    """Oracle: the complementary error function of mpmath with 30 digits."""
    test = z_test(counts_of(control, arm), control=0)
    assert test.p_value[1] == 0.0
    with mpmath.workdps(30):
        (x0, n0), (x1, n1) = control, arm
        pooled = mpmath.mpf(x0 + x1) / (n0 + n1)
        error = mpmath.sqrt(pooled * (1 - pooled) * (mpmath.mpf(1) / n0 + mpmath.mpf(1) / n1))
        z = (mpmath.mpf(x1) / n1 - mpmath.mpf(x0) / n0) / error
        expected = float(mpmath.log10(mpmath.erfc(z / mpmath.sqrt(2))))
    assert test.log10_p[1] == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("n", [10**8, 10**12, 10**15])
def test_limits_of_huge_arms_keep_their_digits(n):
    """For large n the limits approach Wald's, to about 1/n relative to the width."""
    x0, x1 = 3 * n // 10, 3 * n // 10 + round(2 * math.sqrt(n))
    test = z_test(counts_of((x0, n), (x1, n)), control=0)
    d = (x1 - x0) / n
    half = 1.959963984540054 * math.sqrt((x0 / n * (1 - x0 / n) + x1 / n * (1 - x1 / n)) / n)
    assert test.estimate[1] == d
    assert test.lower[1] == pytest.approx(d - half, abs=20 / n)
    assert test.upper[1] == pytest.approx(d + half, abs=20 / n)


# high_precision.json "power": exact rejection probability of the pooled test at equal rates, 50 digits.
EXACT_SIZES = [
    (20, 0.1, 0.0386696766),
    (50, 0.02, 0.0129810150),
    (100, 0.5, 0.0559657604),
    (200, 0.95, 0.0481265391),
]


@pytest.mark.parametrize(("n", "rate", "size"), EXACT_SIZES)
def test_the_size_of_the_test_is_the_exactly_enumerated_one(n, rate, size):
    outcomes = np.arange(n + 1)
    successes = np.stack(np.meshgrid(outcomes, outcomes), axis=-1)
    rejected = (
        z_test(BinaryCounts(n=np.full(successes.shape, n), successes=successes), control=0).p_value[..., 1]
        < 0.05
    )
    weight = binom.pmf(outcomes, n, rate)
    assert weight @ rejected @ weight == pytest.approx(size, abs=1e-9)


def test_false_alarms_at_a_thousand_units_are_five_percent():
    """20 000 experiments without a difference; five standard errors of the share are 0.0077."""
    rng = np.random.default_rng(20261122)
    successes = rng.binomial(1_000, 0.7, size=(20_000, 2))
    test = z_test(BinaryCounts(n=np.full((20_000, 2), 1_000), successes=successes), control=0)
    assert np.mean(test.p_value[:, 1] < 0.05) == pytest.approx(0.05, abs=0.0077)


@pytest.mark.parametrize("compare", [z_test, newcombe_interval])
@pytest.mark.parametrize(("p0", "p1"), [(0.7, 0.8), (0.5, 0.5), (0.9, 0.85), (0.2, 0.6)])
def test_intervals_cover_the_true_difference_in_about_95_percent(compare, p0, p1):
    """Every outcome of 40 and 60 units, weighted by its probability; the two score methods stay within 93.5..97 %."""
    x0, x1 = np.meshgrid(np.arange(41), np.arange(61), indexing="ij")
    counts = BinaryCounts(n=np.broadcast_to([40, 60], (41, 61, 2)), successes=np.stack([x0, x1], axis=-1))
    interval = compare(counts, control=0)
    covered = (interval.lower[..., 1] <= p1 - p0) & (p1 - p0 <= interval.upper[..., 1])
    assert 0.935 < binom.pmf(np.arange(41), 40, p0) @ covered @ binom.pmf(np.arange(61), 60, p1) < 0.97


def test_the_controls_own_row_has_no_interval():
    counts = counts_of((5, 10), (6, 10), (7, 10))
    test = z_test(counts, control=1)
    assert (test.estimate[1], test.statistic[1], test.p_value[1], test.log10_p[1]) == (0, 0, 1, 0)
    assert np.isnan([test.lower[1], test.upper[1], newcombe_interval(counts, control=1).lower[1]]).all()
    assert not test.small_counts[1]


def test_an_arm_without_units_is_unknown_and_harms_no_other():
    counts = counts_of((5, 10), (0, 0), (7, 10))
    test, newcombe, wilson = (
        z_test(counts, control=0),
        newcombe_interval(counts, control=0),
        wilson_interval(counts),
    )
    for row in (
        test.estimate,
        test.lower,
        test.statistic,
        test.p_value,
        test.log10_p,
        newcombe.upper,
        wilson.lower,
    ):
        assert np.isnan(row[1])
        assert np.isfinite(row[2])
    assert np.isnan(z_test(counts, control=1).p_value).all()
    assert test.small_counts[1]


@pytest.mark.parametrize(
    ("control", "arm", "small"),
    [
        ((1, 2), (3, 200), True),
        ((5, 10), (5, 10), False),
        ((4, 10), (5, 10), True),
        ((0, 1000), (9, 1000), True),
    ],
)
def test_an_expected_count_below_five_is_flagged(control, arm, small):
    """Expected under pooling, by hand: 10 x 9/20 = 4.5 in the third pair, 1000 x 9/2000 = 4.5 in the fourth."""
    assert z_test(counts_of(control, arm), control=0).small_counts[1] == small


def test_a_hundred_arms_are_compared_like_each_one_alone():
    rng = np.random.default_rng(1)
    n = rng.integers(1, 1_000, 100)
    successes = rng.binomial(n, 0.3)
    test = z_test(BinaryCounts(n=n, successes=successes), control=17)
    for arm in (0, 50, 99):
        alone = z_test(BinaryCounts(n=n[[17, arm]], successes=successes[[17, arm]]), control=0)
        assert (alone.lower[1], alone.upper[1]) == pytest.approx(
            (test.lower[arm], test.upper[arm]), abs=1e-15
        )


def test_bad_arguments_are_refused_with_the_next_step():
    counts = counts_of((5, 10), (6, 10))
    with pytest.raises(
        ValueError, match=r"confidence_level == 95.0, must be in \(0, 1\); write 0.95 for 95 %"
    ):
        z_test(counts, control=0, confidence_level=95.0)
    with pytest.raises(ValueError, match=r"control == 2, must be in 0..1"):
        newcombe_interval(counts, control=2)


def test_a_level_of_almost_nothing_has_an_interval_of_almost_nothing():
    """z is 0 in float64, and the limits are the estimate."""
    test = z_test(BinaryCounts(n=[10, 12], successes=[3, 0]), control=0, confidence_level=1e-17)
    assert (test.lower[1], test.upper[1]) == pytest.approx((-0.3, -0.3), rel=1e-12)
