"""Laws that hold across the engine: mirrored, permuted, rescaled and merged inputs, and answers that must agree.

Only what the tests of the single modules do not hold already. Where the others stand:

- p < alpha exactly when 0 lies outside the interval: `test_proportions` (Mee), `test_means` (Welch);
  P(B > A) beyond 1 - alpha / 2 exactly when 0 does, absolute and relative: `test_beta_binomial`, `test_normal`.
- 0/n against 0/n is p = 1: `test_proportions`; an empty arm keeps its prior: `test_beta_binomial`.
- P(best) sums to 1, losses differ by the means: `test_beta_binomial`, `test_normal`.
- Mirror: Mee's and Newcombe's limits, P(best) of the worst arm, both tails of two Beta arms, Welch's
  estimate, sample sizes (both designs), off-policy estimates, priors: in the test of each module.
- Order of the arms: Beta's and the normal's P(best) and losses, `served_split`, p adjustments, priors,
  off-policy estimates. Unit of the metric: Welch, the normal's P(best) and losses, sample sizes of means.
- Merging: counts and moments themselves, and integer columns that do not wrap: `test_statistics`.
"""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from engine import beta_binomial, normal
from engine.allocation import served_split
from engine.beta_binomial import BetaPosterior
from engine.means import welch_test
from engine.normal import NormalPosterior
from engine.prior import new_arm_prior
from engine.proportions import newcombe_interval, wilson_interval, z_test
from engine.statistics import BinaryCounts, Moments
from engine.thompson import thompson_split, top_two_split

levels = st.sampled_from([0.8, 0.95, 0.99])
orders = st.randoms(use_true_random=False)
SWAPPED = {"lower": "upper", "upper": "lower"}
SAME_WHEN_MIRRORED = {"p_value", "log10_p", "small_counts", "degrees_of_freedom"}


@st.composite
def counts(draw: st.DrawFn, least: int = 2, most: int = 5, largest: int = 100_000) -> BinaryCounts:
    """Arms of unlike sizes, empty ones and 0/n and n/n included."""
    n = draw(st.lists(st.sampled_from([0, 1, 12, 300, largest]), min_size=least, max_size=most))
    successes = [draw(st.one_of(st.sampled_from([0, units]), st.integers(0, units))) for units in n]
    return BinaryCounts(n=n, successes=successes)


@st.composite
def moments(draw: st.DrawFn, least: int = 2, most: int = 4) -> Moments:
    """Sums of whole numbers, which floats add exactly; arms without and with one value included."""
    groups = [
        np.array(draw(st.lists(st.integers(-500, 500), min_size=0, max_size=12)), dtype=float)
        for _ in range(draw(st.integers(least, most)))
    ]
    return moments_of(groups)


def moments_of(groups: list[np.ndarray]) -> Moments:
    return Moments(
        n=[group.size for group in groups],
        total=[group.sum() for group in groups],
        total_sq=[(group**2).sum() for group in groups],
    )


@st.composite
def normals(draw: st.DrawFn, least: int = 2, most: int = 4) -> NormalPosterior:
    k = draw(st.integers(least, most))
    mean = draw(st.lists(st.integers(-50, 50), min_size=k, max_size=k))
    sd = draw(st.lists(st.sampled_from([0.5, 1.0, 3.0, 20.0]), min_size=k, max_size=k))
    return NormalPosterior(np.array(mean, dtype=float), np.array(sd))


def betas(least: int = 2, most: int = 4):
    prior = st.sampled_from([0.5, 1.0, 3.0])
    return st.builds(lambda c, p: BetaPosterior.from_counts(c, (p, p)), counts(least, most, 5_000), prior)


def shuffled(random, arms: int, control: int) -> tuple[list[int], int]:
    """A new order of the arms, and where the control has gone."""
    order = list(range(arms))
    random.shuffle(order)
    return order, order.index(control)


def permuted(statistics, order):
    parts = [np.asarray(getattr(statistics, field.name))[order] for field in fields(statistics)]
    return type(statistics)(*parts)


def arrays_of(result) -> dict[str, np.ndarray]:
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def assert_same(found, wanted, *, order=slice(None), rtol=1e-12, atol=0.0) -> None:
    """Every array of one result is the other's, its arms in the given order."""
    for name, value in arrays_of(wanted).items():
        np.testing.assert_allclose(arrays_of(found)[name], value[order], rtol=rtol, atol=atol, err_msg=name)


# --- the minimum of x is the maximum of 1 - x -------------------------------------------------------------


@given(counts(), levels, st.integers(0, 9))
def test_every_field_of_the_z_test_is_mirrored(drawn, level, position):
    control = position % drawn.n.size
    one = z_test(drawn, control=control, confidence_level=level)
    other = z_test(drawn.flipped(), control=control, confidence_level=level)
    for name, value in arrays_of(one).items():
        sign = 1.0 if name in SAME_WHEN_MIRRORED else -1.0
        mirrored = getattr(other, SWAPPED.get(name, name)).astype(float)
        np.testing.assert_allclose(mirrored, sign * value.astype(float), atol=1e-15, rtol=0, err_msg=name)


@given(counts(), levels)
def test_wilsons_limits_are_mirrored(drawn, level):
    one = wilson_interval(drawn, confidence_level=level)
    other = wilson_interval(drawn.flipped(), confidence_level=level)
    np.testing.assert_allclose(other.lower, 1.0 - one.upper, atol=4e-16, rtol=0)
    np.testing.assert_allclose(other.upper, 1.0 - one.lower, atol=4e-16, rtol=0)


@given(moments(), levels, st.integers(0, 9))
def test_every_field_of_welchs_test_is_mirrored(drawn, level, position):
    control = position % drawn.n.size
    one = welch_test(drawn, control=control, confidence_level=level)
    other = welch_test(drawn.flipped(), control=control, confidence_level=level)
    for name, value in arrays_of(one).items():
        sign = 1.0 if name in SAME_WHEN_MIRRORED else -1.0
        np.testing.assert_array_equal(getattr(other, SWAPPED.get(name, name)), sign * value, err_msg=name)


@given(betas(), levels, st.sampled_from([1e-10, 0.025, 0.5, 0.9]))
@settings(max_examples=40)
def test_one_beta_arm_and_its_failures_are_mirror_images(arms, level, probability):
    mirrored = BetaPosterior(arms.beta, arms.alpha)
    np.testing.assert_allclose(mirrored.mean, 1.0 - arms.mean, atol=4e-16, rtol=0)
    np.testing.assert_allclose(mirrored.sd, arms.sd, rtol=1e-14)
    np.testing.assert_allclose(mirrored.interval(level).lower, 1.0 - arms.interval(level).upper, atol=1e-13)
    # 1 - 1e-10 is no float64: its rounding of 1e-17 is a relative 1e-7 of the tail.
    near = 1e-6 * arms.quantile(probability) + 1e-12
    difference = arms.quantile(probability) - (1.0 - mirrored.quantile(1.0 - probability))
    assert np.all(np.abs(difference) <= near)


@given(betas(most=3), levels, st.integers(0, 9))
@settings(max_examples=4)
def test_beta_arms_against_a_control_are_mirrored_by_their_failures(arms, level, position):
    control = position % arms.alpha.size
    mirrored = BetaPosterior(arms.beta, arms.alpha)
    better, worse = beta_binomial.probability_better, beta_binomial.probability_worse
    np.testing.assert_allclose(
        better(mirrored, control=control), worse(arms, control=control), rtol=1e-9, atol=1e-300
    )
    one = beta_binomial.lift(arms, control=control, confidence_level=level)
    other = beta_binomial.lift(mirrored, control=control, confidence_level=level)
    width = float(np.sqrt(2.0) * arms.sd.max())
    np.testing.assert_allclose(other.absolute_mean, -one.absolute_mean, atol=1e-14)
    np.testing.assert_allclose(other.absolute_lower, -one.absolute_upper, atol=1e-9 * width)
    np.testing.assert_allclose(other.absolute_upper, -one.absolute_lower, atol=1e-9 * width)


@given(normals(), levels, st.integers(0, 9))
@settings(max_examples=60)
def test_normal_arms_against_a_control_are_mirrored_by_their_negatives(arms, level, position):
    """The relative lift as well: it is over the size of the control, so a cost reads like a gain."""
    control = position % arms.mean.size
    mirrored = NormalPosterior(-arms.mean, arms.sd)
    np.testing.assert_allclose(mirrored.interval(level).lower, -arms.interval(level).upper, rtol=1e-14)
    better = normal.probability_better(arms, control=control)
    np.testing.assert_allclose(normal.probability_better(mirrored, control=control), 1.0 - better, atol=1e-15)
    one = normal.lift(arms, control=control, confidence_level=level)
    other = normal.lift(mirrored, control=control, confidence_level=level)
    for name, opposite in (
        ("absolute_mean", "absolute_mean"),
        ("absolute_lower", "absolute_upper"),
        ("absolute_upper", "absolute_lower"),
        ("relative_median", "relative_median"),
        ("relative_lower", "relative_upper"),
        ("relative_upper", "relative_lower"),
    ):
        np.testing.assert_allclose(getattr(other, name), -getattr(one, opposite), rtol=1e-12, atol=1e-12)


def worst_and_smallest(posterior, question) -> tuple[np.ndarray, float]:
    """P(each arm is the worst) and E[min], by inclusion and exclusion over the best of every subset.

    P(i is worst) = sum over subsets S with i of (-1)^(|S| - 1) P(i is best in S), E[min] likewise from E[max].
    """
    arms = posterior.mean.size
    worst, smallest = np.zeros(arms), 0.0
    for mask in range(1, 2**arms):
        members = [i for i in range(arms) if mask >> i & 1]
        part, sign = permuted(posterior, members), (-1.0) ** (len(members) + 1)
        worst[members] += sign * question.probability_best(part)
        smallest += sign * float(question.expected_loss(part)[0] + part.mean[0])
    return worst, smallest


@given(normals(3, 4))
@settings(max_examples=8)
def test_the_worst_normal_arm_is_the_best_of_the_negatives(arms):
    """And what choosing it costs is its lead over the smallest: E[max(-theta)] + mean = mean - E[min]."""
    mirrored = NormalPosterior(-arms.mean, arms.sd)
    worst, smallest = worst_and_smallest(arms, normal)
    np.testing.assert_allclose(normal.probability_best(mirrored), worst, atol=1e-9)
    np.testing.assert_allclose(normal.expected_loss(mirrored), arms.mean - smallest, atol=1e-8)


@given(betas(3, 4))
@settings(max_examples=6)
def test_choosing_the_fewest_failures_costs_what_choosing_the_most_successes_does(arms):
    mirrored = BetaPosterior(arms.beta, arms.alpha)
    _, smallest = worst_and_smallest(arms, beta_binomial)
    np.testing.assert_allclose(beta_binomial.expected_loss(mirrored), arms.mean - smallest, atol=1e-10)


@pytest.mark.parametrize("split", [thompson_split, top_two_split])
@given(rates=st.lists(st.floats(0.35, 0.65), min_size=3, max_size=4), n=st.integers(10, 150))
@settings(max_examples=6)
def test_where_lower_is_better_the_traffic_goes_to_the_lowest(split, rates, n):
    """From counts to served basis points; a peer has sent 98.8 % of the traffic to the two worst arms.

    By inclusion and exclusion on the counts as they are, against the flipped counts: the same but for rounding.
    """
    drawn = BinaryCounts(n=[n] * len(rates), successes=[round(n * rate) for rate in rates])
    worst, _ = worst_and_smallest(BetaPosterior.from_counts(drawn), beta_binomial)
    assume(worst.min() > 1e-6)  # exact to 1e-12, and top-two serves the hopeless by their ratio
    wanted = served_split(split(worst), floor=0.05, cap=0.9)
    found = served_split(
        split(beta_binomial.probability_best(BetaPosterior.from_counts(drawn.flipped()))), floor=0.05, cap=0.9
    )
    assert np.abs(found - wanted).max() <= 1


# --- the order of the arms --------------------------------------------------------------------------------


@given(counts(), levels, st.integers(0, 9), orders)
@settings(max_examples=60)
def test_tests_of_rates_do_not_know_the_order_of_the_arms(drawn, level, position, random):
    control = position % drawn.n.size
    order, moved_control = shuffled(random, drawn.n.size, control)
    moved = permuted(drawn, order)
    for compare in (z_test, newcombe_interval):
        wanted = compare(drawn, control=control, confidence_level=level)
        found = compare(moved, control=moved_control, confidence_level=level)
        assert_same(found, wanted, order=order)
    assert_same(wilson_interval(moved), wilson_interval(drawn), order=order)


@given(moments(), levels, st.integers(0, 9), orders)
@settings(max_examples=60)
def test_tests_and_posteriors_of_means_do_not_know_the_order_of_the_arms(drawn, level, position, random):
    """An arm with too few values borrows its variance from the others: from all of them alike."""
    control = position % drawn.n.size
    order, moved_control = shuffled(random, drawn.n.size, control)
    moved = permuted(drawn, order)
    wanted = welch_test(drawn, control=control, confidence_level=level)
    assert_same(welch_test(moved, control=moved_control, confidence_level=level), wanted, order=order)
    wanted, found = (NormalPosterior.from_moments(x, prior_sd=100.0) for x in (drawn, moved))
    assert_same(found, wanted, order=order)


@given(st.one_of(betas(most=3), normals()), st.integers(0, 9), orders)
@settings(max_examples=6)
def test_comparisons_of_posteriors_do_not_know_the_order_of_the_arms(arms, position, random):
    module = beta_binomial if isinstance(arms, BetaPosterior) else normal
    control = position % arms.mean.size
    order, moved_control = shuffled(random, arms.mean.size, control)
    moved = permuted(arms, order)
    for question in (module.probability_better, module.expected_loss_against):
        found, wanted = question(moved, control=moved_control), question(arms, control=control)
        np.testing.assert_allclose(found, wanted[order], rtol=1e-9, atol=1e-300)
    found, wanted = module.lift(moved, control=moved_control), module.lift(arms, control=control)
    assert_same(found, wanted, order=order, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("split", [thompson_split, top_two_split])
@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=12).filter(any), orders)
def test_splits_do_not_know_the_order_of_the_arms(split, parts, random):
    p = np.array(parts) / sum(parts)
    order, _ = shuffled(random, p.size, 0)
    np.testing.assert_allclose(split(p[order]), split(p)[order], rtol=0, atol=1e-15)


# --- the unit of the metric -------------------------------------------------------------------------------


@given(moments(), st.integers(-12, 12), levels, st.integers(0, 9))
@settings(max_examples=60)
def test_posteriors_of_means_follow_the_unit_of_the_metric(drawn, exponent, level, position):
    """Seconds or milliseconds: absolute answers scale, relative ones and probabilities stay.

    By powers of two, which floats multiply exactly.
    """
    unit, control = 2.0**exponent, position % drawn.n.size
    scaled = Moments(n=drawn.n, total=drawn.total * unit, total_sq=drawn.total_sq * unit**2)
    one = NormalPosterior.from_moments(drawn, prior_mean=3.0, prior_sd=40.0)
    other = NormalPosterior.from_moments(scaled, prior_mean=3.0 * unit, prior_sd=40.0 * unit)
    np.testing.assert_allclose(other.mean, one.mean * unit, rtol=1e-13)
    np.testing.assert_allclose(other.sd, one.sd * unit, rtol=1e-13)
    np.testing.assert_allclose(
        normal.probability_better(other, control=control),
        normal.probability_better(one, control=control),
        rtol=1e-10,
    )
    np.testing.assert_allclose(
        normal.expected_loss_against(other, control=control),
        normal.expected_loss_against(one, control=control) * unit,
        rtol=1e-10,
        atol=1e-290,
    )
    lifts = [normal.lift(arms, control=control, confidence_level=level) for arms in (one, other)]
    for name, value in arrays_of(lifts[0]).items():
        times = unit if name.startswith("absolute") else 1.0
        wanted, found = value * times, getattr(lifts[1], name)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12 * times, err_msg=name)


# --- counts split into parts and added --------------------------------------------------------------------


def in_parts(total: np.ndarray, seed: int) -> list[np.ndarray]:
    """Three parts of whole numbers that sum to the total."""
    rng = np.random.default_rng(seed)
    first = rng.binomial(total, 0.5)
    second = rng.binomial(total - first, 0.5)
    return [first, second, total - first - second]


@given(counts(2, 7), st.integers(0, 2**31), levels)
@settings(max_examples=60)
def test_merged_days_answer_like_the_whole_week(drawn, seed, level):
    """Successes and failures are dealt to three days each; every answer is the same to the last bit."""
    good, bad = in_parts(drawn.successes, seed), in_parts(drawn.n - drawn.successes, seed + 1)
    days = [BinaryCounts(n=g + b, successes=g) for g, b in zip(good, bad, strict=True)]
    merged = days[2] + (days[0] + days[1])
    for question in (
        lambda c: z_test(c, control=0, confidence_level=level),
        lambda c: newcombe_interval(c, control=0, confidence_level=level),
        lambda c: wilson_interval(c, confidence_level=level),
        lambda c: welch_test(c.as_moments(), control=0, confidence_level=level),
        lambda c: BetaPosterior.from_counts(c, (0.5, 2.0)),
    ):
        assert_same(question(merged), question(drawn), rtol=0.0)
    assert new_arm_prior(merged) == new_arm_prior(drawn)
    posterior = BetaPosterior.from_counts(BinaryCounts(n=drawn.n * 0, successes=drawn.n * 0), (0.5, 2.0))
    for day in days:
        posterior = BetaPosterior.from_counts(day, (posterior.alpha, posterior.beta))
    assert_same(posterior, BetaPosterior.from_counts(drawn, (0.5, 2.0)), rtol=0.0)


@given(
    st.lists(st.lists(st.integers(-500, 500), max_size=12), min_size=2, max_size=4),
    st.integers(0, 12),
)
@settings(max_examples=60)
def test_merged_halves_of_a_metric_answer_like_the_whole(groups, cut):
    whole = moments_of([np.array(group, dtype=float) for group in groups])
    halves = [
        moments_of([np.array(group[part], dtype=float) for group in groups])
        for part in (slice(None, cut), slice(cut, None))
    ]
    merged = halves[1] + halves[0]
    assert_same(welch_test(merged, control=0), welch_test(whole, control=0), rtol=0.0)
    assert_same(NormalPosterior.from_moments(merged), NormalPosterior.from_moments(whole), rtol=0.0)


# --- answers that must agree ------------------------------------------------------------------------------


@given(st.one_of(betas(), normals()), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=15)
def test_what_two_arms_cost_each_other_differs_by_their_means(arms, one, other):
    """E[(c - a)^+] - E[(a - c)^+] = mean_c - mean_a, and P(a > c) asked from either side is one number."""
    module = beta_binomial if isinstance(arms, BetaPosterior) else normal
    a, c = one % arms.mean.size, other % arms.mean.size
    there = module.expected_loss_against(arms, control=c)[a]
    back = module.expected_loss_against(arms, control=a)[c]
    assert there - back == pytest.approx(arms.mean[c] - arms.mean[a], rel=1e-10, abs=1e-12)
    better = module.probability_better(arms, control=c)[a], module.probability_better(arms, control=a)[c]
    assert sum(better) == pytest.approx(1.0, abs=1e-12)


@given(betas(most=3), st.integers(0, 9))
@settings(max_examples=4)
def test_a_relative_lift_has_a_median_and_an_interval_and_a_mean_only_where_it_exists(arms, position):
    """The mean of arm / control is infinite when the control's alpha is at most 1: nan, while the rest is told."""
    control = position % arms.alpha.size
    result = beta_binomial.lift(arms, control=control)
    others = np.arange(arms.alpha.size) != control
    assert np.all(np.isnan(result.relative_mean[others]) == (arms.alpha[control] <= 1.0))
    assert np.all(np.isfinite(result.relative_median))
    assert np.all(result.relative_lower <= result.relative_median)
    assert np.all(result.relative_median <= result.relative_upper)
    assert np.all(result.relative_lower >= -1.0)
    assert np.all(result.absolute_lower <= result.absolute_mean)
    assert np.all(result.absolute_mean <= result.absolute_upper)


@given(
    rate=st.floats(0.1, 0.9),
    z=st.floats(-4, 4),
    n=st.lists(st.integers(20_000, 10**7), min_size=2, max_size=2),
)
@settings(max_examples=15)
def test_with_many_units_belief_and_evidence_agree(rate, z, n):
    """P(B > A) under Beta(1, 1) and under the normal is Phi(z) of the pooled test, within 2 points from 20 000 on.

    The prior moves a rate of .1 by .8 / n, .02 of its standard error at 20 000, and the skewness is below .003.
    """
    error = np.sqrt(rate * (1 - rate) * (1 / n[0] + 1 / n[1]))
    successes = [round(n[0] * rate), round(n[1] * (rate + z * error))]
    drawn = BinaryCounts(n=n, successes=successes)
    test = z_test(drawn, control=0)
    belief = beta_binomial.probability_better(BetaPosterior.from_counts(drawn), control=0)[1]
    of_means = normal.probability_better(NormalPosterior.from_moments(drawn.as_moments()), control=0)[1]
    assert belief == pytest.approx(float(ndtr(test.statistic[1])), abs=0.02)
    assert of_means == pytest.approx(float(ndtr(test.statistic[1])), abs=0.02)
    welch = welch_test(drawn.as_moments(), control=0)
    assert 2 * min(of_means, 1 - of_means) == pytest.approx(welch.p_value[1], abs=1e-3)
