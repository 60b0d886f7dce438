"""Priors of new arms: the strength against statsmodels, laws, and arms drawn from a known distribution."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.meta_analysis import combine_effects

from engine.beta_binomial import SMALLEST_SHAPE, BetaPosterior
from engine.prior import empirical_bayes, new_arm_prior
from engine.statistics import BinaryCounts

NOTHING = BinaryCounts([], [])
means = st.one_of(st.none(), st.floats(0, 1))


@st.composite
def pasts(draw: st.DrawFn, least: int = 0, most: int = 12, largest: int = 10**6) -> BinaryCounts:
    """Past arms of any size, empty ones and arms at 0 % or 100 % included."""
    n = draw(st.lists(st.sampled_from([0, 1, 7, 100, 5_000, largest]), min_size=least, max_size=most))
    rates = [draw(st.sampled_from([0.0, 0.3, 0.31, 1.0, draw(st.floats(0, 1))])) for _ in n]
    return BinaryCounts(n=n, successes=[round(units * rate) for units, rate in zip(n, rates, strict=True)])


def drawn_arms(rng: np.random.Generator, arms: int, shapes: tuple[float, float], units: int) -> BinaryCounts:
    n = rng.integers(units // 2, 2 * units, arms)
    return BinaryCounts(n=n, successes=rng.binomial(n, rng.beta(*shapes, arms)))


# --- numbers made elsewhere -------------------------------------------------------------------------------


def test_the_strength_of_five_arms_is_that_of_the_formula_by_hand():
    """400 units each at .60 .65 .70 .75 .80: scatter 400 x .025 = 10, less 4 x .21, over 2000 - 400: .005725.

    The strength is .21 / .005725 - 1 = 35.6812.
    """
    found = empirical_bayes(BinaryCounts(n=[400] * 5, successes=[240, 260, 280, 300, 320]))
    assert (found.mean, found.strength) == pytest.approx((0.70, 0.21 / 0.005725 - 1.0), rel=1e-13)
    assert (found.source, found.past_arms) == ("empirical_bayes", 5)


@given(st.lists(st.tuples(st.integers(20, 5_000), st.floats(0.02, 0.98)), min_size=5, max_size=30))
@settings(max_examples=60)
def test_the_variance_between_arms_is_dersimonian_and_lairds(arms):
    """statsmodels' one-step estimator, given the pooled binomial variance of each arm."""
    n = np.array([units for units, _ in arms])
    past = BinaryCounts(n=n, successes=np.rint(n * [rate for _, rate in arms]).astype(int))
    m = past.successes.sum() / n.sum()
    with np.errstate(all="ignore"):  # where arms agree, its other results divide by 0
        between = combine_effects(past.rate, m * (1 - m) / n, method_re="dl").tau2
    assume(abs(between) > 1e-9)
    expected = np.clip(m * (1 - m) / between - 1, 2.0, 200.0) if between > 0 else 200.0
    assert empirical_bayes(past).strength == pytest.approx(expected, rel=1e-8)


# --- laws -------------------------------------------------------------------------------------------------


@given(pasts(), means)
def test_success_and_failure_are_mirror_images(past, parent_mean):
    one = new_arm_prior(past, parent_mean=parent_mean)
    mirrored = new_arm_prior(past.flipped(), parent_mean=None if parent_mean is None else 1.0 - parent_mean)
    assert mirrored.shapes == pytest.approx(one.shapes[::-1], rel=1e-6, abs=1e-12)
    assert (mirrored.source, mirrored.past_arms) == (one.source, one.past_arms)


@given(pasts(), means, st.randoms(use_true_random=False))
def test_neither_the_order_of_past_arms_nor_empty_ones_matter(past, parent_mean, random):
    order = list(range(past.n.size))
    random.shuffle(order)
    moved = BinaryCounts(n=[*past.n[order], 0], successes=[*past.successes[order], 0])
    one, other = (new_arm_prior(counts, parent_mean=parent_mean) for counts in (past, moved))
    assert other.shapes == pytest.approx(one.shapes, rel=1e-6)
    assert (other.source, other.past_arms) == (one.source, one.past_arms)


@given(pasts(), means)
def test_no_prior_is_worth_more_than_200_units_and_every_one_can_be_used(past, parent_mean):
    found = new_arm_prior(past, parent_mean=parent_mean)
    assert 2.0 * (1 - 1e-12) <= found.strength <= 200.0 * (1 + 1e-12)
    assert min(found.shapes) >= SMALLEST_SHAPE
    nothing_seen = BetaPosterior.from_counts(BinaryCounts(n=[0], successes=[0]), prior=found.shapes)
    assert nothing_seen.mean[0] == pytest.approx(found.mean, rel=1e-14)


@given(pasts(), means)
def test_the_mean_is_the_parents_or_the_pooled_rate(past, parent_mean):
    """Within .01 units of the strength, which a shape parameter keeps at the least."""
    found = new_arm_prior(past, parent_mean=parent_mean)
    total = past.n.sum()
    wanted = parent_mean if parent_mean is not None else past.successes.sum() / total if total else 0.5
    assert found.mean == pytest.approx(wanted, abs=SMALLEST_SHAPE / found.strength + 1e-12)


@given(pasts(), st.floats(0, 1))
def test_the_parent_moves_the_mean_and_not_the_strength(past, parent_mean):
    by_past, by_parent = new_arm_prior(past), new_arm_prior(past, parent_mean=parent_mean)
    assert by_parent.strength == pytest.approx(by_past.strength, rel=1e-12)
    assert by_parent.source == by_past.source


@given(pasts(most=4), means)
def test_fewer_than_five_past_arms_with_data_are_worth_ten_units(past, parent_mean):
    assert empirical_bayes(past) is None
    found = new_arm_prior(past, parent_mean=parent_mean)
    assert found.strength == pytest.approx(10.0, rel=1e-14)
    assert (found.source, found.past_arms) == ("weak", np.sum(past.n > 0))


@given(pasts(least=5))
def test_without_a_parent_the_prior_is_the_empirical_bayes_one(past):
    found = empirical_bayes(past)
    if found is None:
        assert np.sum(past.n > 0) < 5
    else:
        assert new_arm_prior(past) == found


def test_past_arms_that_differ_more_are_worth_less():
    strengths = []
    for step in (0.0, 0.01, 0.03, 0.05, 0.1, 0.12):
        rates = 0.5 + step * np.arange(-3, 4)
        past = BinaryCounts(n=[10_000] * 7, successes=np.rint(10_000 * rates).astype(int))
        strengths.append(empirical_bayes(past).strength)
    assert strengths[0] == strengths[1] == pytest.approx(200.0)
    assert strengths[-1] > 2.0
    assert np.all(np.diff(strengths[1:]) < 0)


def test_past_arms_at_both_ends_leave_a_strength_of_two():
    found = empirical_bayes(BinaryCounts(n=[1_000] * 6, successes=[0, 1_000] * 3))
    assert found.shapes == pytest.approx((1.0, 1.0), rel=1e-13)


@pytest.mark.parametrize("successes", [0, 50])
def test_arms_that_never_or_always_succeeded_show_no_spread(successes):
    """Nothing scatters at 0 % and at 100 %, so nothing is known of the strength: the weakest."""
    found = empirical_bayes(BinaryCounts(n=[50] * 6, successes=[successes] * 6))
    end = (SMALLEST_SHAPE, 2.0 - SMALLEST_SHAPE)
    assert found.shapes == pytest.approx(end if successes == 0 else end[::-1], rel=1e-12)


def test_the_parents_counts_are_never_copied():
    """statistics.md 1g: copied counts cost 234 points of regret where ten units cost 131."""
    few, many = BinaryCounts(n=[100], successes=[70]), BinaryCounts(n=[10**6], successes=[700_000])
    assert new_arm_prior(few).shapes == new_arm_prior(many).shapes == pytest.approx((7.0, 3.0))


def test_nothing_known_is_an_even_mean_with_ten_units():
    assert new_arm_prior(NOTHING).shapes == (5.0, 5.0)
    assert new_arm_prior(NOTHING, parent_mean=0.75).shapes == (7.5, 2.5)


# --- frequencies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shapes", "units"), [((14.0, 6.0), 300), ((2.0, 3.0), 60), ((40.0, 10.0), 1_000)])
def test_the_strength_of_the_distribution_that_past_arms_came_from_is_recovered(shapes, units):
    """60 past arms, 200 times: the median is within 10 %, nine of ten within a factor 1.6 (sd 18 % by theory)."""
    rng = np.random.default_rng(20261122)
    found = [empirical_bayes(drawn_arms(rng, 60, shapes, units)) for _ in range(200)]
    ratio = np.array([one.strength for one in found]) / sum(shapes)
    assert np.median(ratio) == pytest.approx(1.0, abs=0.10)
    assert np.mean((ratio > 1 / 1.6) & (ratio < 1.6)) > 0.9
    means_found = np.array([one.mean for one in found])
    error = np.std(means_found) / np.sqrt(means_found.size)
    assert abs(means_found.mean() - shapes[0] / sum(shapes)) < 4 * error


def test_a_new_arm_from_the_same_family_is_known_better_and_covered_as_promised():
    """4 000 new arms with 20 units each, prior from 60 past ones.

    The interval covers 95 % (five standard errors: 1.7 points). The squared error of the posterior mean is, by
    theory, .21/21 x 20/40 = .00500 under the true prior Beta(14, 6), and (20 x .2 + .2) / 22^2 = .00868 under
    Beta(1, 1): a ratio of .576.
    """
    rng = np.random.default_rng(7)
    past = drawn_arms(rng, 60, (14.0, 6.0), 300)
    rate = rng.beta(14.0, 6.0, 4_000)
    units = BinaryCounts(n=np.full(4_000, 20), successes=rng.binomial(20, rate))
    informed = BetaPosterior.from_counts(units, prior=new_arm_prior(past).shapes)
    interval = informed.interval()
    covered = np.mean((interval.lower <= rate) & (rate <= interval.upper))
    assert covered == pytest.approx(0.95, abs=0.017)
    flat = BetaPosterior.from_counts(units)
    ratio = np.mean((informed.mean - rate) ** 2) / np.mean((flat.mean - rate) ** 2)
    assert ratio == pytest.approx(0.576, abs=0.06)


# --- errors -----------------------------------------------------------------------------------------------


def test_a_bad_argument_is_refused_with_the_next_step():
    with pytest.raises(ValueError, match=r"parent_mean == 1.2, must be in \[0, 1\]"):
        new_arm_prior(NOTHING, parent_mean=1.2)
    with pytest.raises(ValueError, match="parent_mean == nan"):
        new_arm_prior(NOTHING, parent_mean=float("nan"))
    with pytest.raises(ValueError, match=r"past has shape \(2, 3\), must be \(arm,\); add up"):
        empirical_bayes(BinaryCounts(n=np.ones((2, 3), int), successes=np.zeros((2, 3), int)))
