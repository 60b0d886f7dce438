"""Beta posteriors against 30-digit values, exact fractions, closed forms and a textbook rule."""

import json
from fractions import Fraction
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

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
from engine.statistics import BinaryCounts
from tests.engine.beta_posteriors import TINY, posterior_of
from tests.engine.references import cases

HERE = json.loads((Path(__file__).parents[1] / "reference" / "beta_posteriors.json").read_text())


# --- numbers made elsewhere -------------------------------------------------------------------------------


def assert_pair(case):
    """A case is (A, B) with B > A, both tails and both losses to 10 digits, whatever their size."""
    both = posterior_of([case["posterior_a"], case["posterior_b"]])
    digits = {"rel": 1e-11, "abs": TINY}
    better, worse = float(case["p_b_gt_a"]), float(case["p_a_gt_b"])
    loss_a, loss_b = float(case["expected_loss_choose_a"]), float(case["expected_loss_choose_b"])
    assert probability_better(both, control=0)[1] == pytest.approx(better, **digits)
    assert probability_worse(both, control=0)[1] == pytest.approx(worse, **digits)
    assert probability_best(both).tolist() == pytest.approx([worse, better], **digits)
    assert expected_loss(both).tolist() == pytest.approx([loss_a, loss_b], **digits)
    assert expected_loss_against(both, control=0)[1] == pytest.approx(loss_b, **digits)
    assert expected_loss_against(both, control=1)[0] == pytest.approx(loss_a, **digits)


def assert_best_of_k(case):
    arms = posterior_of(case["posteriors"])
    best, loss = [float(x) for x in case["p_best"]], [float(x) for x in case["expected_loss"]]
    assert probability_best(arms).tolist() == pytest.approx(best, rel=1e-11, abs=TINY)
    assert expected_loss(arms).tolist() == pytest.approx(loss, rel=1e-11, abs=TINY)


@pytest.mark.parametrize("case", HERE["pairs"], ids=lambda case: case["id"])
def test_two_arms_agree_with_thirty_digits(case):
    """Source in the file: Arb balls, checked there against the exact Evan Miller sum."""
    assert_pair(case)


@pytest.mark.parametrize("case", HERE["best_of_k"], ids=lambda case: case["id"])
def test_several_arms_agree_with_thirty_digits(case):
    """One arm is empty, three are hopeless (P = 1e-17, 1e-111, 1e-154): all of them keep 10 digits."""
    assert_best_of_k(case)


@pytest.mark.parametrize("case", HERE["fractions"], ids=lambda case: str(case["posteriors"]))
def test_several_arms_agree_with_exact_fractions(case):
    """Polynomials integrated as fractions; see the file."""
    exact = [float(Fraction(p)) for p in case["p_best_fraction"]]
    assert probability_best(posterior_of(case["posteriors"])).tolist() == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("case", cases("high_precision", category="beta_pair"))
def test_two_arms_agree_with_every_reference_pair(case):
    assert_pair(case)


@pytest.mark.parametrize("case", cases("high_precision", category="beta_pair"))
def test_lift_intervals_agree_with_every_reference_pair(case):
    """Ends within 1e-12 of the width of the interval; the prototype before this one missed by 1e-2."""
    result = lift(posterior_of([case["posterior_a"], case["posterior_b"]]), control=0)
    assert result.absolute_mean[1] == pytest.approx(float(case["mean_diff"]), rel=1e-14, abs=1e-17)
    if case.get("diff_eti95"):
        low, high = map(float, case["diff_eti95"])
        found = result.absolute_lower[1], result.absolute_upper[1]
        assert found == pytest.approx((low, high), rel=0.0, abs=1e-12 * (high - low))
    if case.get("rel_eti95"):
        low, high = np.log1p([float(end) for end in case["rel_eti95"]])
        found = np.log1p([result.relative_lower[1], result.relative_upper[1]])
        assert found.tolist() == pytest.approx([low, high], rel=0.0, abs=1e-12 * (high - low))
    if float(case["mean_rel"]) == np.inf:
        assert np.isnan(result.relative_mean[1])
    else:
        assert result.relative_mean[1] == pytest.approx(float(case["mean_rel"]), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("case", cases("high_precision", category="best_of_k"))
def test_several_arms_agree_with_every_reference_case(case):
    assert_best_of_k(case)


@pytest.mark.parametrize("case", cases("high_precision", category="beta_single"))
def test_one_arm_agrees_with_every_reference_case(case):
    """The 1 - 1e-10 quantile is asked as an interval: that probability is not a float64."""
    shapes = float(case.get("alpha", 1)), float(case.get("beta", 1))
    if min(shapes) < 0.01:
        with pytest.raises(ValueError, match=r"must be at least 0\.01"):
            posterior_of([shapes])
        return
    arm = posterior_of([shapes])
    assert arm.mean[0] == pytest.approx(float(case["mean"]), rel=1e-15)
    assert arm.sd[0] == pytest.approx(float(case["sd"]), rel=1e-14)
    wanted = {float(p): float(x) for p, x in case["quantiles"].items()}
    for p in (0.025, 0.05, 0.5, 0.95):
        assert arm.quantile(p)[0] == pytest.approx(wanted[p], rel=1e-11)
    for level, low, high in ((0.95, 0.025, 0.975), (0.9, 0.05, 0.95), (1 - 2e-10, 1e-10, 0.9999999999)):
        interval = arm.interval(level)
        # 1 - (1 - 2e-10) carries a rounding of 1e-16, a relative 4e-7 of the tail.
        digits = 1e-11 if level < 0.99 else 1e-5
        assert interval.lower[0] == pytest.approx(wanted[low], rel=digits)
        assert 1.0 - interval.upper[0] == pytest.approx(1.0 - wanted[high], rel=digits, abs=1e-14)


@pytest.mark.parametrize("case", cases("paper_cases", category="pbest_"))
def test_probability_best_agrees_with_the_paper_cases(case):
    if "args" in case:
        shapes = case["args"]
        arms = posterior_of([(shapes["aA"], shapes["bA"]), (shapes["aB"], shapes["bB"])])
        assert probability_best(arms)[1] == pytest.approx(float(case["value"]), rel=1e-12)
        return
    arms = posterior_of(case["posteriors"])
    assert probability_best(arms).tolist() == pytest.approx(case["p_best"], rel=1e-12)
    assert expected_loss(arms).tolist() == pytest.approx(case["expected_loss"], rel=1e-12)


@pytest.mark.parametrize("case", cases("peer_vectors", category="beta_binomial"))
def test_two_arms_agree_with_the_test_suites_of_peers(case):
    """PostHog, Spotify confidence and closed forms; their own tolerance, 1e-9 for the exact formula."""
    control, treatment = case["inputs"]["control"], case["inputs"]["treatment"]
    prior = (0.5, 0.5) if case["settings"]["prior"] == "Beta(0.5,0.5)" else (1.0, 1.0)
    counts = BinaryCounts(
        n=[control["n"], treatment["n"]], successes=[control["successes"], treatment["successes"]]
    )
    both = BetaPosterior.from_counts(counts, prior)
    interval, loss = both.interval(), expected_loss(both)
    found = {
        "p_treatment_gt_control": probability_better(both, control=0)[1],
        "ci_control": [interval.lower[0], interval.upper[0]],
        "ci_treatment": [interval.lower[1], interval.upper[1]],
        "posterior_mean_control": both.mean[0],
        "posterior_mean_treatment": both.mean[1],
        "expected_loss_choose_control": loss[0],
        "expected_loss_choose_treatment": loss[1],
    }
    for name, value in case["expected"].items():
        assert found[name] == pytest.approx(value, rel=0.0, abs=case["abs_tolerance"]), name
    for name, value in case["independent_formula"].items():
        assert found[name] == pytest.approx(value, rel=0.0, abs=1e-9), name


@pytest.mark.parametrize("case", cases("peer_vectors", category="beta_binomial_p_best"))
def test_three_arms_agree_with_the_peer_vector(case):
    arms = case["inputs"]["arms"]
    counts = BinaryCounts(n=[arm["n"] for arm in arms], successes=[arm["successes"] for arm in arms])
    best = probability_best(BetaPosterior.from_counts(counts))
    assert best.tolist() == pytest.approx(case["expected"], rel=0.0, abs=1e-9)


# --- closed forms -----------------------------------------------------------------------------------------


def evan_miller(a, b):
    """P(B > A) for whole shapes, as a fraction: the sum over i < alpha_b of T_i (Miller 2015).

    T_0 = B(alpha_a, beta_a + beta_b) / B(alpha_a, beta_a), and T_(i+1) / T_i is a ratio of whole numbers.
    """
    (alpha_a, beta_a), (alpha_b, beta_b) = a, b
    term, total = Fraction(1), Fraction(0)
    for i in range(alpha_a):
        term *= Fraction(beta_a + i, beta_a + beta_b + i)
    for i in range(alpha_b):
        total += term
        term *= Fraction((alpha_a + i) * (beta_b + i), (alpha_a + beta_a + beta_b + i) * (i + 1))
    return total


def exact_loss(chosen, other):
    """E[(theta_other - theta_chosen)^+] from two such sums."""
    (a, b), (c, d) = chosen, other
    up = Fraction(c, c + d) * evan_miller(chosen, (c + 1, d))
    return up - Fraction(a, a + b) * evan_miller((a + 1, b), other)


shapes = st.integers(1, 60)


@settings(max_examples=20)
@given(a=st.tuples(shapes, shapes), b=st.tuples(shapes, shapes))
def test_two_arms_agree_with_the_sum_of_evan_miller_in_fractions(a, b):
    both = posterior_of([a, b])
    better, worse = float(evan_miller(a, b)), float(evan_miller(b, a))
    assert probability_better(both, control=0)[1] == pytest.approx(better, rel=1e-12)
    assert probability_worse(both, control=0)[1] == pytest.approx(worse, rel=1e-12)
    losses = float(exact_loss(a, b)), float(exact_loss(b, a))
    assert expected_loss(both).tolist() == pytest.approx(losses, rel=1e-11)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((1, 10**8 + 1), (4, 10**8 - 2)),
        ((1, 10**8 + 1), (1, 10**8 + 1)),
        ((3, 10**8), (12, 10**8)),
        ((1, 11), (3, 10**8)),
    ],
)
def test_rare_successes_in_a_hundred_million_are_exact(a, b):
    """0 against 3 of 10^8: scipy's incomplete beta is 1.5e-9 off at whole shapes. Mirrored: all succeed."""
    better, loss = float(evan_miller(a, b)), float(exact_loss(b, a))
    for one, other, probability in ((a, b, probability_better), (a[::-1], b[::-1], probability_worse)):
        both = posterior_of([one, other])
        assert probability(both, control=0)[1] == pytest.approx(better, rel=1e-12)
        chosen = 1 if probability is probability_better else 0
        assert expected_loss(both)[chosen] == pytest.approx(loss, rel=1e-11)


def test_a_probability_of_1e_300_keeps_ten_digits():
    """P(Beta(1, n) > Beta(m, 1)) = 1 / C(m + n, m), here 1 / C(1000, 500) = 3.7e-300."""
    both = posterior_of([(1, 500), (500, 1)])
    assert probability_worse(both, control=0)[1] == pytest.approx(1 / comb(1000, 500), rel=1e-10)
    assert probability_best(both).tolist() == pytest.approx([1 / comb(1000, 500), 1.0], rel=1e-10)


def test_arms_that_never_meet_are_certain():
    """10 % against 90 % of 10^4 meet with probability 1e-3199 (reference: certain_1000_9000)."""
    apart = posterior_of([(1001, 9001), (9001, 1001), (1, 10**8)])
    assert probability_best(apart).tolist() == [0.0, 1.0, 0.0]
    assert probability_better(apart, control=0).tolist()[1:] == [1.0, 0.0]
    assert expected_loss(apart)[1] == 0.0
    assert expected_loss(apart)[0] == pytest.approx(8000 / 10002, rel=1e-14)


@pytest.mark.parametrize(
    "shapes", [(0.1, 0.1), (0.01, 0.01), (0.01, 5.0), (1.0, 10**8 + 1.0), (51.0, 51.0), (5e7, 5e7)]
)
@pytest.mark.parametrize("k", [2, 7, 100])
def test_equal_arms_are_equally_likely_the_best(shapes, k):
    assert probability_best(posterior_of([shapes] * k)).tolist() == pytest.approx([1 / k] * k, rel=1e-11)


@pytest.mark.parametrize(("k", "loss"), [(2, 0.00961235553073875), (20, 0.155328983627661)])
def test_almost_empty_priors_reach_far_out_and_still_sum_to_one(k, loss):
    """Losses by mpmath's quadrature of F - F^k for Beta(0.01, 1.01), whose density reaches to 1e-2600."""
    best = best_arm(posterior_of([(0.01, 1.01)] * k))
    assert best.probability.tolist() == pytest.approx([1 / k] * k, rel=1e-12)
    assert best.expected_loss.tolist() == pytest.approx([loss] * k, rel=1e-12)


@pytest.mark.parametrize("k", [2, 5, 100])
def test_the_best_of_k_uniform_arms_is_known(k):
    """E[max] of k uniforms is k / (k + 1)."""
    loss = expected_loss(posterior_of([(1, 1)] * k))
    assert loss.tolist() == pytest.approx([k / (k + 1) - 0.5] * k, rel=1e-13)


def test_two_empty_arms_cost_what_their_prior_says():
    """1/6 under a uniform prior, 2/pi^2 under Jeffreys."""
    assert expected_loss(posterior_of([(1, 1)] * 2)).tolist() == pytest.approx([1 / 6] * 2, rel=1e-13)
    assert expected_loss(posterior_of([(0.5, 0.5)] * 2)).tolist() == pytest.approx(
        [2 / np.pi**2] * 2, rel=1e-13
    )


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.9999])
def test_lift_of_two_uniform_arms_has_a_closed_form(level):
    """B - A is triangular, P(B / A <= r) = r / 2 for r <= 1."""
    result, tail = lift(posterior_of([(1, 1)] * 2), control=0, confidence_level=level), (1 - level) / 2
    end = 1 - np.sqrt(2 * tail)
    found = result.absolute_lower[1], result.absolute_upper[1]
    assert found == pytest.approx((-end, end), rel=1e-12)
    ends = result.relative_lower[1] + 1, result.relative_upper[1] + 1, result.relative_median[1]
    assert ends == pytest.approx((2 * tail, 0.5 / tail, 0.0), rel=1e-11, abs=1e-13)


@pytest.mark.parametrize("prior", [0.01, 0.1])
def test_lift_of_two_nearly_empty_arms_has_a_closed_form(prior):
    """P(B <= r A) = r^alpha E[A^alpha] / (alpha B(alpha, beta)) up to a relative r, and r is below 1e-11 here."""
    result = lift(posterior_of([(prior, 5.0)] * 2), control=0)
    moment = special.betaln(2 * prior, 5.0) - 2 * special.betaln(prior, 5.0) - np.log(prior)
    log_lower = (np.log(0.025) - moment) / prior
    assert np.log1p(result.relative_upper[1]) == pytest.approx(-log_lower, rel=1e-11)
    assert result.relative_median[1] == pytest.approx(0.0, abs=1e-12)


# --- the textbook -----------------------------------------------------------------------------------------


def textbook(arms):
    """P(best) and expected loss by the trapezoid rule on logit(theta): one grid for all arms, statistics.md 5.1."""
    alpha, beta = arms.alpha[:, None], arms.beta[:, None]
    sd, peak = np.sqrt(1 / alpha + 1 / beta), np.log(alpha / beta)
    step = min(float(sd.min()) / 4, 0.15)
    t = np.arange((peak - 12 * sd - 40 / alpha).min(), (peak + 12 * sd + 40 / beta).max(), step)
    x, delta = special.expit(t), t - peak
    log_density = alpha * -np.log1p(
        special.expit(-peak) * np.expm1(-np.clip(delta, -700, 700))
    ) - beta * np.log1p(special.expit(peak) * np.expm1(np.clip(delta, -700, 700)))
    density = np.exp(log_density)
    density /= density.sum(axis=1, keepdims=True)
    below = np.where(
        t <= 0, special.betainc(alpha, beta, x), special.betaincc(beta, alpha, special.expit(-t))
    )
    others = np.array([np.delete(below, i, axis=0).prod(axis=0) for i in range(alpha.size)])
    loss = (below * (1 - others)) @ (x * special.expit(-t)) * step
    return (density * others).sum(axis=1), loss


@pytest.mark.parametrize("seed", range(12))
def test_the_panels_agree_with_the_textbook_trapezoid(seed):
    """Random arms, k up to 100, up to 10^4 trials; the textbook's own error is 1e-12."""
    draw = np.random.default_rng(seed)
    k = int([2, 3, 5, 10, 30, 100][seed % 6])
    n = np.floor(10 ** draw.uniform(0, 3 if k > 30 else 4, k))
    good = draw.binomial(
        n.astype(int), np.clip(draw.uniform(0.1, 0.9) + 0.05 * draw.standard_normal(k), 0, 1)
    )
    prior = draw.choice([0.5, 1.0, 2.5])
    arms = posterior_of(zip(good + prior, n - good + prior, strict=True))
    best, loss = textbook(arms)
    assert probability_best(arms).tolist() == pytest.approx(best.tolist(), rel=0.0, abs=1e-11)
    assert expected_loss(arms).tolist() == pytest.approx(loss.tolist(), rel=0.0, abs=1e-11)
