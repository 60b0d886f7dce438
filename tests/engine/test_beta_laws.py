"""Laws of Beta posteriors, and what happens at their edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import beta_comparison
from engine.beta_binomial import (
    BetaPosterior,
    best_arm,
    expected_loss,
    expected_loss_against,
    lift,
    probability_best,
    probability_better,
    probability_worse,
)
from engine.beta_logit import Sketch, Tables, tabulate
from engine.statistics import BinaryCounts
from tests.engine.beta_posteriors import TINY, posterior_of, posteriors


def missed(alpha: np.ndarray, *_: object) -> tuple[np.ndarray, float]:
    """A sweep that finds nothing."""
    return np.zeros(alpha.size), 0.0


# --- laws -------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(posteriors(most=12))
def test_one_of_the_arms_is_the_best(arms):
    assert probability_best(arms).sum() == pytest.approx(1.0, rel=0.0, abs=1e-11)


@settings(max_examples=10)
@given(posteriors(), st.randoms(use_true_random=False))
def test_the_order_of_the_arms_does_not_matter(arms, random):
    order = list(range(arms.alpha.size))
    random.shuffle(order)
    moved = BetaPosterior(arms.alpha[order], arms.beta[order])
    for question in (probability_best, expected_loss):
        found, wanted = question(moved).tolist(), question(arms)[order].tolist()
        assert found == pytest.approx(wanted, rel=1e-10, abs=TINY)


@settings(max_examples=12)
@given(posteriors(most=2))
def test_success_and_failure_are_mirror_images(arms):
    """With two arms, the one that is better in successes is worse in failures; tiny tails included."""
    mirrored = BetaPosterior(arms.beta, arms.alpha)
    better, worse = probability_better(arms, control=0)[1], probability_worse(mirrored, control=0)[1]
    assert better == pytest.approx(worse, rel=1e-10, abs=TINY)
    loss, mirror = expected_loss_against(arms, control=0)[1], expected_loss_against(mirrored, control=1)[0]
    assert loss == pytest.approx(mirror, rel=1e-9, abs=TINY)


@settings(max_examples=5)
@given(posteriors(least=3, most=5))
def test_the_worst_arm_is_the_best_of_the_mirrored_arms(arms):
    """P(minimum of theta) = P(maximum of 1 - theta), by inclusion and exclusion over P(best) of subsets."""
    k = arms.alpha.size
    worst = np.zeros(k)
    for mask in range(1, 2**k):
        members = [i for i in range(k) if mask >> i & 1]
        share = probability_best(BetaPosterior(arms.alpha[members], arms.beta[members]))
        worst[members] += (-1) ** (len(members) + 1) * share
    # P(i is below all others) = sum over subsets S with i of (-1)^(|S| - 1) P(i is best in S).
    mirrored = probability_best(BetaPosterior(arms.beta, arms.alpha))
    assert worst.tolist() == pytest.approx(mirrored.tolist(), rel=0.0, abs=1e-10)


@settings(max_examples=15)
@given(posteriors(most=8))
def test_losses_differ_by_the_means(arms):
    """loss_i - loss_j = mean_j - mean_i, and no loss is negative or above 1 - mean_i."""
    loss = expected_loss(arms)
    assert (loss + arms.mean).tolist() == pytest.approx([loss[0] + arms.mean[0]] * loss.size, abs=1e-14)
    assert np.all(loss >= 0.0)
    assert np.all(loss <= 1.0 - arms.mean + 1e-12)


@settings(max_examples=10)
@given(posteriors(most=6))
def test_the_loss_of_the_leader_lies_between_its_pairs(arms):
    """The largest of the pairwise losses <= E[max] - max mean <= their sum (Bonferroni), however tiny."""
    leader = int(np.argmax(arms.mean))
    pairs = [
        expected_loss_against(BetaPosterior(arms.alpha[[i, leader]], arms.beta[[i, leader]]), control=0)[1]
        for i in range(arms.alpha.size)
        if i != leader
    ]
    loss = expected_loss(arms)[leader]
    assert max(pairs) * (1 - 1e-10) - TINY <= loss <= sum(pairs) * (1 + 1e-10) + TINY


@settings(max_examples=10)
@given(posteriors(most=5), st.integers(0, 4))
def test_one_more_success_helps_its_arm_and_nobody_else(arms, position):
    lucky = position % arms.alpha.size
    more = np.array(arms.alpha)
    more[lucky] += 1.0
    change = probability_best(BetaPosterior(more, arms.beta)) - probability_best(arms)
    assert change[lucky] >= -1e-11
    assert np.all(np.delete(change, lucky) <= 1e-11)


@settings(max_examples=6)
@given(posteriors(most=2), st.sampled_from([0.8, 0.95, 0.999]))
def test_zero_is_outside_the_interval_exactly_when_the_probability_says_so(arms, level):
    """P(B > A) >= 1 - alpha / 2 <=> the interval lies above 0, for the absolute and the relative lift."""
    better, worse = probability_better(arms, control=0)[1], probability_worse(arms, control=0)[1]
    result, tail = lift(arms, control=0, confidence_level=level), (1 - level) / 2
    if abs(min(better, worse) - tail) < 1e-9:
        return
    assert (worse < tail) == (result.absolute_lower[1] > 0.0) == (result.relative_lower[1] > 0.0)
    assert (better < tail) == (result.absolute_upper[1] < 0.0) == (result.relative_upper[1] < 0.0)


@settings(max_examples=6)
@given(posteriors(most=2).filter(lambda arms: min(arms.alpha.min(), arms.beta.min()) >= 0.1))
def test_the_interval_that_touches_zero_has_the_probability_as_its_tail(arms):
    """Two routes to one number: the quantile at level P(B < A) of the difference, and of the ratio, is 0."""
    better, worse = probability_better(arms, control=0)[1], probability_worse(arms, control=0)[1]
    tail = min(better, worse)
    if not 1e-6 < tail < 0.499:
        return
    result, sd = lift(arms, control=0, confidence_level=1 - 2 * tail), float(np.sqrt((arms.sd**2).sum()))
    ends = (
        (result.absolute_lower, result.relative_lower)
        if worse < better
        else (result.absolute_upper, result.relative_upper)
    )
    assert ends[0][1] == pytest.approx(0.0, abs=1e-8 * sd)
    assert ends[1][1] == pytest.approx(0.0, abs=1e-8 * sd / arms.mean[0])


@settings(max_examples=4)
@given(posteriors(most=2))
def test_swapping_arm_and_control_mirrors_the_lift(arms):
    there, back = lift(arms, control=0), lift(arms, control=1)
    scale = float(np.sqrt((arms.sd**2).sum()))
    assert there.absolute_lower[1] == pytest.approx(-back.absolute_upper[0], abs=1e-9 * scale)
    assert there.absolute_upper[1] == pytest.approx(-back.absolute_lower[0], abs=1e-9 * scale)


def test_updating_twice_is_updating_with_the_sum():
    first, second = BinaryCounts(n=[10, 20], successes=[3, 4]), BinaryCounts(n=[5, 6], successes=[5, 0])
    once = BetaPosterior.from_counts(first + second, prior=(0.5, 2.0))
    step = BetaPosterior.from_counts(first, prior=(0.5, 2.0))
    twice = BetaPosterior.from_counts(second, prior=(step.alpha, step.beta))
    assert once.alpha.tolist() == twice.alpha.tolist() == [8.5, 4.5]
    assert once.beta.tolist() == twice.beta.tolist() == [9.0, 24.0]


def test_the_same_counts_give_the_same_bits():
    arms = posterior_of([(5, 7), (9, 3), (100, 80)])
    assert probability_best(arms).tobytes() == probability_best(arms).tobytes()


# --- edges ------------------------------------------------------------------------------------------------


def test_a_single_arm_is_the_best_at_no_cost():
    alone = posterior_of([(3, 4)])
    assert (probability_best(alone).tolist(), expected_loss(alone).tolist()) == ([1.0], [0.0])
    assert (
        probability_better(alone, control=0).tolist(),
        expected_loss_against(alone, control=0).tolist(),
    ) == ([0.5], [0.0])


def test_the_control_is_not_compared_with_itself():
    arms = posterior_of([(3, 4), (30, 40), (5, 1)])
    result = lift(arms, control=1)
    rows = [getattr(result, name)[1] for name in result.__slots__]
    assert rows == [0.0] * len(rows)
    assert probability_better(arms, control=1)[1] == probability_worse(arms, control=1)[1] == 0.5
    assert expected_loss_against(arms, control=1)[1] == 0.0


def test_the_pairs_of_a_hundred_arms_are_those_of_two():
    """Eight arms share a table; the ninth must not notice."""
    draw = np.random.default_rng(5)
    arms = posterior_of(zip(draw.integers(1, 300, 100), draw.integers(1, 300, 100), strict=True))
    better, loss = probability_better(arms, control=37), expected_loss_against(arms, control=37)
    for i in (0, 8, 36, 38, 99):
        two = BetaPosterior(arms.alpha[[37, i]], arms.beta[[37, i]])
        assert better[i] == pytest.approx(probability_better(two, control=0)[1], rel=1e-11, abs=TINY)
        assert loss[i] == pytest.approx(expected_loss_against(two, control=0)[1], rel=1e-11, abs=TINY)


def test_the_relative_mean_is_unknown_when_the_control_may_be_zero():
    """E[1 / theta] is infinite for alpha <= 1."""
    assert np.isnan(lift(posterior_of([(1, 11), (2, 10)]), control=0).relative_mean[1])
    assert lift(posterior_of([(1.5, 11), (2, 10)]), control=0).relative_mean[1] > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: BetaPosterior(np.array([1.0, 0.001]), np.ones(2)),
            r"alpha\[1\] == 0\.001, must be at least 0\.01",
        ),
        (lambda: BetaPosterior(np.ones(2), np.array([np.nan, 1.0])), r"beta\[0\] == nan, must be finite"),
        (
            lambda: BetaPosterior.from_counts(BinaryCounts(n=[1], successes=[1]), prior=([1.0, 2.0], 1.0)),
            r"prior\[0\] has 2 entries, must have 1 or 1",
        ),
        (lambda: BetaPosterior(np.ones(0), np.ones(0)), r"at least one arm"),
        (
            lambda: BetaPosterior.from_counts(BinaryCounts(n=[1], successes=[1]), prior=(0.0, 1.0)),
            r"prior\[0\]",
        ),
        (lambda: posterior_of([(1, 1)]).interval(95.0), r"confidence_level == 95.0, .* write 0\.95 for 95 %"),
        (lambda: posterior_of([(1, 1)]).quantile(1.5), r"probability == 1\.5"),
        (lambda: probability_better(posterior_of([(1, 1)]), control=1), r"control == 1, must be in 0\.\.0"),
        (lambda: lift(posterior_of([(1, 1)]), control=-1), r"control == -1"),
    ],
)
def test_a_bad_argument_is_named_with_its_value_and_bound(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_shapes_of_different_lengths_are_refused():
    """By the constructor; under test the type checker gets there first."""
    with pytest.raises((ValueError, TypeError), match="beta"):
        BetaPosterior(np.ones(2), np.ones(3))


def test_a_table_that_misses_a_sum_of_one_is_refined_and_then_refused(monkeypatch):
    """The check that stands behind every probability: a wrong first table is repaired, a wrong last one refused."""
    arms = posterior_of([(30, 10), (28, 12)])
    arms.__dict__["lattice"] = None  # leave P(better) to the tables
    right = probability_best(arms)
    monkeypatch.setattr(beta_comparison, "solve_overlap", missed)

    def spoil(least):
        def spoiled(alpha, beta, integrands, *, fineness=1.0):
            table = tabulate(alpha, beta, integrands, fineness=fineness)
            factor = 1.0 + 1e-9 * (fineness < least)
            return Tables(table.weight * factor, table.dx, table.density, table.below, table.above)

        return spoiled

    monkeypatch.setattr(beta_comparison, "tabulate", spoil(2.0))
    assert probability_best(arms).tolist() == pytest.approx(right.tolist(), rel=1e-12)
    monkeypatch.setattr(beta_comparison, "tabulate", spoil(np.inf))
    with pytest.raises(
        ArithmeticError, match=r"miss a sum of 1 by 1\.0e-09, must be at most 1e-10; report alpha"
    ):
        probability_best(arms)
    with pytest.raises(ArithmeticError, match="miss a sum of 1"):
        probability_better(arms, control=0)


def test_a_sweep_that_misses_a_sum_of_one_is_replaced_by_the_whole_table(monkeypatch):
    arms = posterior_of([(30, 10), (28, 12), (2, 9)])
    right = best_arm(arms)
    monkeypatch.setattr(beta_comparison, "solve_overlap", lambda *_: (right.probability * (1.0 + 1e-9), 0.5))
    repaired = best_arm(arms)
    assert repaired.probability.tolist() == pytest.approx(right.probability.tolist(), rel=1e-11)
    assert repaired.expected_loss.tolist() == pytest.approx(right.expected_loss.tolist(), rel=1e-11)


@settings(max_examples=40)
@given(posteriors(most=8))
def test_the_sweep_and_the_whole_table_agree(arms):
    """Two ways to the same integrals: F summed up along the sweep, F from the incomplete beta function per panel."""
    found = best_arm(arms)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beta_comparison, "solve_overlap", missed)
        whole = best_arm(arms)
    assert found.probability.tolist() == pytest.approx(whole.probability.tolist(), rel=1e-10, abs=TINY)
    assert found.expected_loss.tolist() == pytest.approx(whole.expected_loss.tolist(), rel=1e-9, abs=TINY)


def test_the_density_of_every_arm_integrates_to_one():
    """Its normalisation is computed, not fitted: the peak in saddle-point form, 1e-12 up to 10^8 trials."""
    for shapes in [(0.01, 0.01), (0.1, 7.0), (1.0, 1.0), (821.0, 181.0), (5e7, 5e7), (1.0, 1e8), (3e7, 7e7)]:

        def density(arms: Sketch):
            return arms.log_density

        table = tabulate(np.array([shapes[0]]), np.array([shapes[1]]), density)
        assert float(table.density[0] @ table.weight) == pytest.approx(1.0, rel=1e-12), shapes
