"""Sample sizes for a test that is looked at as often as one likes: the paper's half widths, laws, simulated power."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.power import (
    days_needed,
    minimum_detectable_effect,
    power,
    sample_size,
    sample_size_mean,
)
from engine.sequential import confidence_sequence
from tests.engine.references import cases

NORMAL = NormalDist()
rates = st.floats(0.001, 0.999)


ALWAYS = {"design": "always_valid"}
# statistics.md section 2, "Asymptotic CS half widths sd=1 a=.05 t*=5000".
HALF_WIDTHS = [(1_000, 0.106375), (5_000, 0.042924), (10_000, 0.030615), (100_000, 0.010552)]


def factor_of(total, planned):
    """Half width over standard error, from public answers alone: the gap between both designs' quantiles."""
    question = {"baseline": 0.4, "minimum_detectable_effect": 2 / math.sqrt(total), "per_arm": total / 2}
    fixed, sequential = (
        power(**question, formula="unpooled"),
        power(**question, **ALWAYS, planned=planned),
    )
    return NORMAL.inv_cdf(fixed) + NORMAL.inv_cdf(0.975) - NORMAL.inv_cdf(sequential)


@pytest.mark.parametrize(("total", "half_width"), HALF_WIDTHS)
def test_an_effect_as_large_as_the_half_width_is_found_in_half_of_all_cases(total, half_width):
    """The published half widths, sd 1 of the contrast per unit: with two even arms, sd 1/2 within each."""
    plan = sample_size_mean(sd=0.5, minimum_detectable_effect=half_width, power=0.5, planned=5_000, **ALWAYS)
    assert 2 * plan.per_arm == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("case", cases("paper_cases", category="asympcs_tstar1000"))
def test_the_sequence_of_the_plan_is_that_of_the_paper(case):
    """Waudby-Smith et al. (2024), to the 12 digits of the file."""
    for total, half_width in case["half_width"].items():
        plan = sample_size_mean(
            sd=0.5, minimum_detectable_effect=half_width, power=0.5, planned=1_000, **ALWAYS
        )
        assert 2 * plan.per_arm == pytest.approx(int(total), rel=1e-10)


def test_the_price_of_looking_is_that_of_the_report():
    """statistics.md 1f: 1.549 times the z interval at t*, 1.61 at 5 t*, 1.97 at t* / 10."""
    z = NORMAL.inv_cdf(0.975)
    found = [factor_of(total, planned) / z for total, planned in ((999, None), (5_000, 1_000), (500, 5_000))]
    assert [round(ratio, 3) for ratio in found[:1]] == [1.549]
    assert [round(ratio, 2) for ratio in found[1:]] == [1.61, 1.97]


@pytest.mark.parametrize(("target", "times"), [(0.5, 2.398), (0.8, 1.915), (0.9, 1.774), (0.99, 1.565)])
def test_looking_costs_units_by_the_square_of_the_quantiles(target, times):
    """By hand: ((3.0352 + z) / (1.9600 + z))^2. At its own size the sequence has the same factor for any plan:

    with r = -2 ln .05 + ln(-2 ln .05 + 1) = 7.9362 it is sqrt(2 (r + 1) / r ln(sqrt(r + 1) / .05)) = 3.0352.
    """
    question = {"baseline": 0.70, "minimum_detectable_effect": 0.05, "power": target}
    fixed, always = sample_size(**question, formula="unpooled"), sample_size(**question, **ALWAYS)
    assert always.per_arm / fixed.per_arm == pytest.approx(times, abs=6e-4)
    assert (always.design, always.formula) == ("always_valid", "confidence sequence")
    assert (fixed.design, fixed.planned) == ("fixed", None)
    assert always.planned == pytest.approx(2 * always.per_arm, rel=1e-14)


@given(
    baseline=rates,
    other=rates,
    target=st.floats(0.3, 0.999),
    alpha=st.floats(0.001, 0.2),
    ratio=st.floats(0.2, 5),
    planned=st.one_of(st.none(), st.floats(100, 1e6)),
)
@settings(max_examples=40)
def test_always_valid_power_and_smallest_effect_invert_the_sample_size(
    baseline, other, target, alpha, ratio, planned
):
    effect = other - baseline
    assume(abs(effect) > 1e-3)
    question = {"baseline": baseline, "ratio": ratio, "alpha": alpha, "planned": planned, **ALWAYS}
    plan = sample_size(minimum_detectable_effect=effect, power=target, **question)
    assume(plan.per_arm > 5)
    found = power(minimum_detectable_effect=effect, per_arm=plan.per_arm, **question)
    assert found == pytest.approx(target, abs=1e-9)
    assert found == pytest.approx(
        power(
            minimum_detectable_effect=effect, per_arm=plan.per_arm, **(question | {"planned": plan.planned})
        ),
        abs=1e-9,
    )
    direction = "increase" if effect > 0 else "decrease"
    smallest = minimum_detectable_effect(per_arm=plan.per_arm, power=target, direction=direction, **question)
    back = sample_size(minimum_detectable_effect=smallest, power=target, **question).per_arm
    assert back == pytest.approx(plan.per_arm, rel=1e-9)


@given(
    sd=st.floats(0.1, 1e3),
    target=st.floats(0.3, 0.999),
    ratio=st.floats(0.2, 5),
    times=st.sampled_from([0.125, 4.0, 60.0]),
)
@settings(max_examples=40)
def test_a_mean_needs_as_many_units_as_a_rate_of_the_same_spread_in_any_unit(sd, target, ratio, times):
    """Two rates p and 1 - p have the same variance, so their plan is that of a mean with that sd."""
    p = 0.3
    of_rates = sample_size(baseline=p, minimum_detectable_effect=0.4, power=target, ratio=ratio, **ALWAYS)
    scale = sd / math.sqrt(p * (1 - p))
    for unit in (1.0, times, -times):
        of_means = sample_size_mean(
            sd=sd * abs(unit),
            minimum_detectable_effect=0.4 * scale * unit,
            power=target,
            ratio=ratio,
            **ALWAYS,
        )
        assert of_means.per_arm == pytest.approx(of_rates.per_arm, rel=1e-11)


@given(baseline=rates, other=rates, planned=st.one_of(st.none(), st.floats(100, 1e6)))
@settings(max_examples=50)
def test_counting_failures_needs_as_many_always_valid_units(baseline, other, planned):
    effect = other - baseline
    assume(abs(effect) > 1e-3)
    one = sample_size(baseline=baseline, minimum_detectable_effect=effect, planned=planned, **ALWAYS)
    mirrored = sample_size(
        baseline=1 - baseline, minimum_detectable_effect=-effect, planned=planned, **ALWAYS
    )
    assert mirrored.per_arm == pytest.approx(one.per_arm, rel=1e-9)


@given(
    baseline=st.floats(0.05, 0.6),
    effect=st.floats(0.01, 0.3),
    per_arm=st.floats(100, 1e5),
    planned=st.one_of(st.none(), st.floats(100, 1e6)),
    more=st.floats(1.01, 3),
)
@settings(max_examples=40)
def test_more_units_larger_effects_and_looser_alphas_are_found_more_often(
    baseline, effect, per_arm, planned, more
):
    question = {"baseline": baseline, "minimum_detectable_effect": effect, "per_arm": per_arm, "alpha": 0.05}
    question |= {"planned": planned, **ALWAYS}
    found = power(**question)
    assume(found > 0.05)
    assert power(**(question | {"per_arm": per_arm * more})) >= found
    assert power(**(question | {"alpha": 0.05 * more})) >= found
    assert power(**(question | {"alpha": 0.05 / 4})) <= found  # four contrasts, one alpha
    if more * effect + baseline < 0.7:  # where the variance does not grow faster than the effect
        assert power(**(question | {"minimum_detectable_effect": effect * more})) >= found
    single = {key: question[key] for key in ("baseline", "minimum_detectable_effect", "per_arm", "alpha")}
    assert found < power(**single, formula="unpooled") or found > 1 - 1e-9


@pytest.mark.parametrize("times", [0.1, 0.3, 3.0, 10.0])
def test_a_sequence_that_is_narrowest_elsewhere_needs_more_units(times):
    best = sample_size(baseline=0.70, minimum_detectable_effect=0.05, **ALWAYS)
    other = sample_size(baseline=0.70, minimum_detectable_effect=0.05, planned=times * best.planned, **ALWAYS)
    assert other.per_arm > 1.005 * best.per_arm
    assert other.planned == times * best.planned


@pytest.mark.parametrize(("p0", "p1", "ratio"), [(0.70, 0.75, 1.0), (0.30, 0.22, 2.0)])
def test_looking_every_fifty_units_finds_the_effect_as_often_as_planned(p0, p1, ratio):
    """4 000 experiments, the sequence looked at every 50 units from 100 an arm on: a lower bound of .8.

    At the planned size itself it is .8, within five standard errors, .032; equal arms raise at most .05.
    """
    plan = sample_size(baseline=p0, minimum_detectable_effect=p1 - p0, ratio=ratio, **ALWAYS)
    rng = np.random.default_rng(20261122)
    looks = np.arange(50, plan.total + 50, 50)
    looks[-1] = plan.total
    n1 = np.rint(looks * ratio / (1 + ratio)).astype(int)
    n = np.stack([looks - n1, n1], axis=-1)

    def found(rates_of_arms):
        steps = np.diff(n, axis=0, prepend=0)
        rate = rng.binomial(steps, rates_of_arms, (4_000, *n.shape)).cumsum(axis=1) / n
        error = np.sqrt((rate * (1 - rate) / n).sum(axis=-1))
        interval = confidence_sequence(
            rate[..., 1] - rate[..., 0], error, n=looks.astype(float), planned=float(plan.planned)
        )
        return ((interval.lower > 0) | (interval.upper < 0))[:, n.min(axis=1) >= 100]

    effect = found([p0, p1])
    assert effect[:, -1].mean() == pytest.approx(0.80, abs=0.032)
    assert effect.any(axis=1).mean() > 0.80
    assert found([p0, p0]).any(axis=1).mean() < 0.05


def test_days_of_an_always_valid_plan_count_its_own_units():
    """2 390 units for each of 2 variants, 500 calls a day."""
    plan = sample_size(baseline=0.70, minimum_detectable_effect=0.05, **ALWAYS)
    assert days_needed(plan, calls_per_day=500) == pytest.approx(2 * 2_390 / 500)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sides": 1, **ALWAYS}, r"sides == 1, must be 2 with design='always_valid'"),
        ({"planned": 5_000}, r"planned == 5000, must be None for a single look; write design='always_valid'"),
        ({"planned": 0.0, **ALWAYS}, r"planned == 0.0, must be finite and greater than 0"),
        ({"power": 0.04, **ALWAYS}, r"power == 0.04, must be above alpha == 0.05"),
        ({"alpha": 0.0, **ALWAYS}, r"alpha == 0.0, must be in \(0, 1\)"),
    ],
)
def test_an_always_valid_question_without_an_answer_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        sample_size(**({"baseline": 0.7, "minimum_detectable_effect": 0.05} | change))
    with pytest.raises(ValueError, match=message):
        sample_size_mean(**({"sd": 0.4, "minimum_detectable_effect": 0.05} | change))


def test_an_unknown_design_is_refused_by_name():
    """By the function; under test the type checker gets there first."""
    with pytest.raises((ValueError, TypeError), match=r"design"):
        sample_size(baseline=0.7, minimum_detectable_effect=0.05, design="bayes")
