"""Normal posteriors against closed forms, peers, adaptive quadrature and their laws."""

from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from engine import normal_comparison
from engine.normal import (
    NormalPosterior,
    best_arm,
    expected_loss,
    expected_loss_against,
    lift,
    probability_best,
    probability_better,
)
from engine.statistics import Moments
from tests.engine.references import cases


def posterior_of(mean, sd):
    return NormalPosterior(np.array(mean, dtype=float), np.array(sd, dtype=float))


@st.composite
def posteriors(draw, least=2, most=6, points=True):
    k = draw(st.integers(least, most))
    sds = st.one_of(st.floats(1e-4, 1e3), *([st.just(0.0)] if points else []))
    means = st.floats(-100, 100).map(lambda x: round(x, 3))
    return posterior_of([draw(means) for _ in range(k)], [draw(sds) for _ in range(k)])


def textbook(arms):
    """P(best) and the expected maximum by adaptive quadrature of the definition, one arm at a time."""
    low, high = (arms.mean - 9 * arms.sd).min(), (arms.mean + 9 * arms.sd).max()
    breaks = np.unique(np.concatenate([arms.mean + z * arms.sd for z in (-6, -3, -1, 0, 1, 3, 6)]))

    def below(x, skip=None):
        return np.prod(
            [
                special.ndtr((x - m) / s)
                for i, (m, s) in enumerate(zip(arms.mean, arms.sd, strict=True))
                if i != skip
            ]
        )

    def density(x, i):
        return np.exp(-0.5 * ((x - arms.mean[i]) / arms.sd[i]) ** 2) / arms.sd[i] / np.sqrt(2 * np.pi)

    def integral(function):
        ends = [low, *breaks[(breaks > low) & (breaks < high)], high]
        return sum(integrate.quad(function, a, b, epsabs=1e-13)[0] for a, b in pairwise(ends))

    best = [integral(lambda x, i=i: density(x, i) * below(x, i)) for i in range(arms.mean.size)]
    return best, high - integral(below)


# --- numbers made elsewhere -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("peer_vectors", category="p_best_gaussian"))
def test_probability_best_agrees_with_growthbook(case):
    best = probability_best(posterior_of(case["inputs"]["means"], case["inputs"]["sds"]))
    assert best.tolist() == pytest.approx(case["expected"], rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("case", cases("peer_vectors", category="expected_loss_gaussian"))
def test_expected_loss_agrees_with_growthbook(case):
    """The effect N(mu, sigma), once all in the treatment and once shared as 3 : 4 : 5."""
    mu, sigma, expected = case["inputs"]["mu"], case["inputs"]["sigma"], case["expected"]
    wanted = [expected["risk_choose_control"], expected["risk_choose_treatment"]]
    for split in ([0.0, 1.0], [0.6, 0.8]):
        arms = posterior_of([0.0, mu], np.array(split) * sigma)
        found = [
            expected_loss(arms).tolist(),
            [expected_loss_against(arms, control=c)[1 - c] for c in (1, 0)],
        ]
        for losses in found:
            assert losses == pytest.approx(wanted, rel=1e-12, abs=case["abs_tolerance"])


FLAT = [
    param
    for param in cases("peer_vectors", category="bayes_gaussian_effect")
    if "N(" not in param.values[0].get("settings", {}).get("prior", "")  # theirs is on the relative effect
]


@pytest.mark.parametrize("case", FLAT)
def test_chance_to_win_agrees_with_growthbook_and_flagsmith(case):
    """They ask it of the relative effect by the delta method; from our means and sds that gives their number.

    1e-3 for proportions, whose variance they divide by n. Ours is exact and differs by up to 0.02.
    """
    arms = [case["inputs"][name] for name in ("control", "treatment")]
    squares = [arm.get("sum_squares", arm["sum"]) for arm in arms]
    moments = Moments(n=[arm["n"] for arm in arms], total=[arm["sum"] for arm in arms], total_sq=squares)
    posterior = NormalPosterior.from_moments(moments)
    (control, treatment), (noise, own) = posterior.mean, posterior.sd
    delta = (treatment / control - 1) / np.hypot(own / control, noise * treatment / control**2)
    near = 1e-3 if case["inputs"]["kind"] == "proportion" else case["abs_tolerance"]
    assert special.ndtr(delta) == pytest.approx(case["expected"]["chance_to_win"], abs=near)
    exact = probability_better(posterior, control=0)[1]
    assert exact == pytest.approx(case["expected"]["chance_to_win"], abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_the_panels_agree_with_adaptive_quadrature(seed):
    draw = np.random.default_rng(seed)
    k = int(draw.integers(2, 7))
    arms = posterior_of(draw.standard_normal(k), 10 ** draw.uniform(-1.5, 0.5, k))
    best, maximum = textbook(arms)
    assert probability_best(arms).tolist() == pytest.approx(best, rel=0.0, abs=1e-10)
    assert (expected_loss(arms) + arms.mean).tolist() == pytest.approx([maximum] * k, rel=0.0, abs=1e-10)


# --- closed forms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [3, 10, 100])
def test_equal_arms_share_and_their_maximum_is_known(k):
    """E[max of 3 standard normals] = 3 / (2 sqrt(pi)); for other k by mpmath."""
    arms = posterior_of([5.0] * k, [2.0] * k)
    with mpmath.workdps(20):
        top = 1.5 / mpmath.sqrt(mpmath.pi)
        if k > 3:
            top = mpmath.quad(
                lambda x: x * k * mpmath.npdf(x) * mpmath.ncdf(x) ** (k - 1),
                np.linspace(-12, 12, 25).tolist(),
            )
    assert probability_best(arms).tolist() == pytest.approx([1 / k] * k, rel=1e-11)
    assert expected_loss(arms).tolist() == pytest.approx([2 * float(top)] * k, rel=1e-11)


@pytest.mark.parametrize("z", [-30.0, -8.0, -1.0, 0.0, 0.5, 5.0, 12.0, 35.0])
def test_two_arms_have_closed_forms_in_both_tails(z):
    """P = Phi(z), loss = s (phi(z) - z Phi(-z)), computed with 60 digits."""
    arms = posterior_of([1.0, 1.0 + 0.5 * z], [0.3, 0.4])
    with mpmath.workdps(60):
        better = mpmath.ncdf(mpmath.mpf(z))
        loss = (mpmath.npdf(mpmath.mpf(z)) - z * mpmath.ncdf(-mpmath.mpf(z))) / 2
    assert probability_better(arms, control=0)[1] == pytest.approx(float(better), rel=1e-12)
    assert probability_best(arms)[1] == pytest.approx(float(better), rel=1e-10)
    assert expected_loss_against(arms, control=0)[1] == pytest.approx(float(loss), rel=1e-11)
    assert expected_loss(arms)[1] == pytest.approx(float(loss), rel=1e-10)


def test_means_far_from_zero_keep_their_digits():
    """A million milliseconds ± 0.001: z = 1 / sqrt(2) to the last digit the inputs carry."""
    arms = posterior_of([2.0**20, 2.0**20 + 2.0**-10], [2.0**-10] * 2)
    assert probability_best(arms)[1] == pytest.approx(float(special.ndtr(np.sqrt(0.5))), rel=1e-13)


# --- points and arms without information ------------------------------------------------------------------


def test_known_means_are_certain_and_share_when_they_tie():
    arms = posterior_of([1.0, 3.0, 3.0], [0.0, 0.0, 0.0])
    assert probability_best(arms).tolist() == [0.0, 0.5, 0.5]
    assert expected_loss(arms).tolist() == [2.0, 0.0, 0.0]
    assert probability_better(arms, control=1).tolist() == [0.0, 0.5, 0.5]
    assert expected_loss_against(arms, control=1).tolist() == [2.0, 0.0, 0.0]


@pytest.mark.parametrize("lead", [-1.5, 0.0, 2.0])
def test_a_point_beside_a_normal_is_a_quantile_of_it(lead):
    """Known means 0, 0 and -9 beside N(lead, 1): P = Phi(lead), E[max] = lead Phi(lead) + phi(lead)."""
    arms = posterior_of([0.0, lead, 0.0, -9.0], [0.0, 1.0, 0.0, 0.0])
    better = float(special.ndtr(lead))
    top = lead * better + np.exp(-0.5 * lead**2) / np.sqrt(2 * np.pi)
    assert probability_best(arms).tolist() == pytest.approx(
        [(1 - better) / 2, better, (1 - better) / 2, 0.0], abs=1e-13
    )
    assert expected_loss(arms).tolist() == pytest.approx([top, top - lead, top, top + 9.0], abs=1e-13)


def test_a_vanishing_sd_approaches_the_point():
    sharp, point = (
        posterior_of([0.0, 0.3, 0.1], [1e-9, 1.0, 0.5]),
        posterior_of([0.0, 0.3, 0.1], [0.0, 1.0, 0.5]),
    )
    assert probability_best(sharp).tolist() == pytest.approx(probability_best(point).tolist(), abs=1e-9)
    assert expected_loss(sharp).tolist() == pytest.approx(expected_loss(point).tolist(), abs=1e-9)


@pytest.mark.parametrize("sd", [1e-3, 1e-7, 1e-12, 1e-17, 1e-300])
def test_two_sharp_arms_below_a_blunt_leader_keep_their_order(sd):
    """Both are best with P(leader < -5), and they share it by Phi(z): their digits lie below the 1e-16 of 5."""
    gap = max(sd, 2.0**-49)  # one sd apart, or as near as two numbers around 5 can be
    arms = posterior_of([0.0, -5.0, -5.0 + gap], [5.0, sd, sd])
    ahead = float(special.ndtr((arms.mean[2] - arms.mean[1]) / (sd * np.sqrt(2))))
    both = float(special.ndtr(-1.0))
    assert probability_best(arms).tolist() == pytest.approx(
        [1 - both, both * (1 - ahead), both * ahead], abs=2 * sd + 1e-12
    )


def test_an_arm_without_information_leaves_every_probability_unknown():
    arms = posterior_of([1.0, np.nan, 2.0], [1.0, np.inf, 1.0])
    for question in (probability_best, expected_loss):
        assert np.isnan(question(arms)).all()
    for question in (probability_better, expected_loss_against):
        assert np.isnan(question(arms, control=0)).all()
    interval, result = arms.interval(), lift(arms, control=0)
    assert (interval.lower[1], interval.upper[1]) == (-np.inf, np.inf)
    assert np.isnan([result.absolute_mean[1], result.absolute_lower[1], result.relative_median[1]]).all()
    assert result.absolute_mean[[0, 2]].tolist() == [0.0, 1.0]


# --- laws -------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(posteriors(most=12))
def test_one_of_the_arms_is_the_best_and_losses_differ_by_the_means(arms):
    best, loss = probability_best(arms), expected_loss(arms)
    assert best.sum() == pytest.approx(1.0, rel=0.0, abs=1e-11)
    assert (loss + arms.mean).tolist() == pytest.approx([loss[0] + arms.mean[0]] * loss.size, abs=1e-10)
    assert np.all(loss >= 0.0)


@settings(max_examples=30)
@given(posteriors(most=8))
def test_the_overlap_and_the_whole_line_agree(arms):
    found = best_arm(arms)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normal_comparison, "HOPELESS", 2.0)  # as if every arm were
        whole = best_arm(arms)
    assert found.probability.tolist() == pytest.approx(whole.probability.tolist(), rel=1e-10, abs=1e-300)
    assert found.expected_loss.tolist() == pytest.approx(whole.expected_loss.tolist(), rel=1e-9, abs=1e-300)


@settings(max_examples=40)
@given(
    posteriors(), st.floats(-50, 50), st.sampled_from([0.125, 3.0, 1000.0]), st.randoms(use_true_random=False)
)
def test_neither_order_nor_unit_nor_origin_matters(arms, shift, unit, random):
    order = list(range(arms.mean.size))
    random.shuffle(order)
    moved = posterior_of((arms.mean[order] + shift) * unit, arms.sd[order] * unit)
    scale = max(1.0, 1.0 / arms.sd[arms.sd > 0].min(initial=np.inf))  # the shift rounds the means to 1e-14
    if len(set(arms.mean[arms.sd == 0])) < np.sum(arms.sd == 0):
        return  # tied points need not stay tied
    assert probability_best(moved).tolist() == pytest.approx(
        probability_best(arms)[order].tolist(), abs=1e-12 * scale
    )
    assert expected_loss(moved).tolist() == pytest.approx(
        (expected_loss(arms)[order] * unit).tolist(), abs=1e-10 * unit
    )


@settings(max_examples=40)
@given(posteriors(most=2), st.sampled_from([0.8, 0.95]))
def test_zero_is_outside_the_interval_exactly_when_the_probability_says_so(arms, level):
    better, result = probability_better(arms, control=0)[1], lift(arms, control=0, confidence_level=level)
    if abs(min(better, 1 - better) - (1 - level) / 2) < 1e-9:
        return
    assert (better > 1 - (1 - level) / 2) == (result.absolute_lower[1] > 0)
    if not np.isnan(result.relative_lower[1]):
        assert (result.absolute_lower[1] > 0) == (result.relative_lower[1] > 0)
        assert (result.absolute_upper[1] < 0) == (result.relative_upper[1] < 0)


@settings(max_examples=30)
@given(posteriors(least=3, points=False))
def test_two_arms_of_many_are_compared_alone(arms):
    for i in range(1, arms.mean.size):
        two = posterior_of(arms.mean[[0, i]], arms.sd[[0, i]])
        assert probability_better(arms, control=0)[i] == pytest.approx(
            probability_best(two)[1], rel=0.0, abs=1e-11
        )


# --- from moments -----------------------------------------------------------------------------------------


def test_a_flat_prior_leaves_the_mean_and_its_standard_error():
    """gbstats: control 10 values, sum 100, sum of squares 1002.25: variance 0.25."""
    arm = NormalPosterior.from_moments(Moments(n=[10], total=[100.0], total_sq=[1002.25]))
    assert (arm.mean[0], arm.sd[0]) == pytest.approx((10.0, np.sqrt(0.25 / 10)), rel=1e-12)


def test_a_prior_weighs_like_its_precision():
    """N(0, 2^2) and a mean of 10 ± 1: precision 1/4 + 1, mean 10 / 1.25."""
    moments = Moments(n=[4], total=[40.0], total_sq=[412.0])
    arm = NormalPosterior.from_moments(moments, prior_sd=2.0)
    assert (arm.mean[0], arm.sd[0]) == pytest.approx((8.0, np.sqrt(0.8)), rel=1e-12)
    empty = NormalPosterior.from_moments(
        Moments(n=[0], total=[0.0], total_sq=[0.0]), prior_mean=3.0, prior_sd=2.0
    )
    assert (empty.mean[0], empty.sd[0]) == (3.0, 2.0)


def test_arms_without_spread_borrow_it_from_the_others():
    """Arms 2 and 3: variances 2 (n = 3) and 0.5 (n = 2), so arms 0 and 1 borrow (2 * 2 + 1 * 0.5 + ...) / df.

    Arm 0 has one value: pooled over df 2 (arm 1, equal values: 0), 2 and 1. Arm 1 pools only 2 and 3.
    """
    moments = Moments(n=[1, 3, 3, 2], total=[5.0, 6.0, 6.0, 3.0], total_sq=[25.0, 12.0, 16.0, 5.0])
    arms = NormalPosterior.from_moments(moments)
    assert arms.sd.tolist() == pytest.approx(
        [np.sqrt(4.5 / 5), np.sqrt(4.5 / 3 / 3), np.sqrt(2 / 3), np.sqrt(0.5 / 2)], rel=1e-12
    )


def test_arms_that_nobody_can_lend_to_are_points_or_unknown():
    equal = NormalPosterior.from_moments(
        Moments(n=[2, 3, 1, 0], total=[2.0, 3.0, 4.0, 0.0], total_sq=[2.0, 3.0, 16.0, 0.0])
    )
    assert equal.sd.tolist() == [0.0, 0.0, 0.0, np.inf]
    assert np.isnan(equal.mean[3])
    single = NormalPosterior.from_moments(Moments(n=[1, 1], total=[2.0, 3.0], total_sq=[4.0, 9.0]))
    assert single.sd.tolist() == [np.inf, np.inf]


# --- relative lift ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "sd"), [([10.0, 11.0], [0.5, 1.0]), ([-300.0, -280.0], [60.0, 9.0]), ([2.0, 0.1], [0.5, 0.5])]
)
def test_the_relative_interval_holds_its_level(mean, sd):
    """P(arm / control - 1 <= end), integrated over the control, is the tail: within the promised 3e-5."""
    arms = posterior_of(mean, sd)
    result, sign = lift(arms, control=0), np.sign(mean[0])

    def share_below(r):
        def at(x):  # (arm - control) / |control| <= r
            shares = special.ndtr((x + r * abs(x) - mean[1]) / sd[1])
            return shares * np.exp(-0.5 * ((x - mean[0]) / sd[0]) ** 2) / sd[0] / np.sqrt(2 * np.pi)

        ends = sorted([mean[0] - 10 * sd[0], mean[0], 0.0, mean[0] + 10 * sd[0]])
        return sum(integrate.quad(at, a, b, epsabs=1e-12)[0] for a, b in pairwise(ends))

    assert share_below(result.relative_lower[1]) == pytest.approx(0.025, abs=4e-5)
    assert share_below(result.relative_upper[1]) == pytest.approx(0.975, abs=4e-5)
    assert share_below(result.relative_median[1]) == pytest.approx(0.5, abs=4e-5)
    assert np.sign(result.relative_median[1]) == np.sign(mean[1] - mean[0])
    assert sign != 0


def test_the_relative_lift_is_unknown_when_the_control_is_near_zero():
    """At 3.9 sd from zero, or when the interval asks for more sd than there are."""
    near = lift(posterior_of([3.9, 5.0], [1.0, 1.0]), control=0)
    assert np.isnan([near.relative_median[1], near.relative_lower[1], near.relative_upper[1]]).all()
    wide = lift(posterior_of([4.1, 5.0], [1.0, 1.0]), control=0, confidence_level=0.99999)
    assert np.isnan(wide.relative_lower[1])
    assert wide.absolute_mean[1] == pytest.approx(0.9)


def test_the_control_is_not_compared_with_itself():
    result = lift(posterior_of([0.0, 1.0], [1.0, 1.0]), control=0)
    assert [getattr(result, name)[0] for name in result.__slots__] == [0.0] * 7


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: posterior_of([0.0, 1.0], [1.0, -1.0]), r"sd\[1\] == -1\.0, must be at least 0; use inf"),
        (lambda: posterior_of([np.nan, 1.0], [1.0, 1.0]), r"mean\[0\] == nan, must be finite; use sd = inf"),
        (lambda: posterior_of([], []), r"one entry per arm"),
        (lambda: posterior_of([1.0], [1.0]).interval(1.0), r"confidence_level == 1\.0"),
        (
            lambda: probability_better(posterior_of([1.0], [1.0]), control=2),
            r"control == 2, must be in 0\.\.0",
        ),
        (
            lambda: NormalPosterior.from_moments(Moments(n=[1], total=[1.0], total_sq=[1.0]), prior_sd=0.0),
            r"prior_sd == 0\.0",
        ),
        (
            lambda: NormalPosterior.from_moments(
                Moments(n=[1], total=[1.0], total_sq=[1.0]), prior_mean=np.inf
            ),
            r"prior_mean == inf",
        ),
    ],
)
def test_a_bad_argument_is_named_with_its_value_and_bound(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_probabilities_that_miss_a_sum_of_one_are_refused(monkeypatch):
    monkeypatch.setattr(normal_comparison, "sum_of_others", np.zeros_like)
    with pytest.raises(
        ArithmeticError, match=r"miss a sum of 1 by 1\.0e\+00, must be at most 1e-10; report mean"
    ):
        probability_best(posterior_of([0.0, 0.1], [1.0, 1.0]))
