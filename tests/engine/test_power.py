"""Sample sizes against R, 30-digit references, statsmodels, papers, and the simulated power of the real test.

Of peer_vectors.json, `sample_size_two_proportions` applies. `power` and `mde` (GrowthBook) do not: they plan tests
of the *relative* effect by the delta method, with both tails and a variance per metric; ours plan the absolute
difference of two rates. `power_sequential` and the group-sequential categories are other tests altogether.
"""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.power import NormalIndPower, TTestIndPower
from statsmodels.stats.proportion import proportion_effectsize

from engine.power import (
    days_needed,
    minimum_detectable_effect,
    power,
    sample_size,
    sample_size_mean,
)
from engine.proportions import z_test
from engine.statistics import BinaryCounts
from tests.engine.references import cases

FORMULAS = ["pooled", "unpooled", "arcsine", "pooled_continuity"]
FIELD_OF = {
    "pooled": "n_pooled_fleiss_R_power.prop.test",
    "unpooled": "n_unpooled_wald",
    "arcsine": "n_arcsine_both_tails_statsmodels_NormalIndPower",
    "pooled_continuity": "n_fleiss_continuity",
}
rates = st.floats(0.001, 0.999)


def test_r_documented_examples_are_reproduced():
    """R, ?power.prop.test: n = 50 per group for .50 v .75 has power 0.740; power .90 needs n = 76.7."""
    assert round(power(baseline=0.5, minimum_detectable_effect=0.25, per_arm=50), 3) == 0.740
    assert round(sample_size(baseline=0.5, minimum_detectable_effect=0.25, power=0.9).per_arm, 1) == 76.7


def test_r_documented_minimum_detectable_effect_is_reproduced():
    """R, ?power.prop.test: power .90 and n = 50 per group with p1 = .50 detect p2 = 0.8026."""
    assert round(0.5 + minimum_detectable_effect(baseline=0.5, per_arm=50, power=0.9), 4) == 0.8026


@pytest.mark.parametrize(
    ("baseline", "other", "alpha", "target", "units"),
    [
        # statistics.md 5.4, columns pooled, unpooled, arcsine, with continuity correction; rounded to .01 and .1
        (0.8, 0.85, 0.05, 0.8, (905.37, 902.62, 902.34, 944.9)),
        (0.1, 0.11, 0.05, 0.8, (14750.79, 14748.05, 14744.10, 14950.1)),
        (0.01, 0.012, 0.05, 0.8, (42692.80, 42690.06, 42606.13, 43687.1)),
        (0.001, 0.0015, 0.05, 0.9, (104940.81, 104937.63, 103883.59, 108904.1)),
        (0.95, 0.99, 0.05, 0.8, (284.32, 281.58, 249.78, 332.4)),
        (0.33, 0.31, 0.05, 0.8, (8538.40, 8535.66, 8537.67, 8638.1)),
    ],
)
def test_the_published_table_of_four_formulas_is_reproduced(baseline, other, alpha, target, units):
    for formula, expected in zip(FORMULAS, units, strict=True):
        plan = sample_size(
            baseline=baseline,
            minimum_detectable_effect=other - baseline,
            power=target,
            alpha=alpha,
            formula=formula,
        )
        assert plan.per_arm == pytest.approx(
            expected, abs=0.051 if formula == "pooled_continuity" else 0.0051
        )
        assert (plan.formula, plan.baseline, plan.power, plan.alpha) == (formula, baseline, target, alpha)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("case", cases("high_precision", category="sample_size"))
def test_sample_sizes_agree_with_thirty_digits(case, formula):
    p1, p2 = float(case["p1"]), float(case["p2"])
    question = {key: case[key] for key in ("power", "alpha", "ratio", "sides")}
    plan = sample_size(baseline=p1, minimum_detectable_effect=p2 - p1, formula=formula, **question)
    assert plan.per_arm == pytest.approx(float(case[FIELD_OF[formula]]), rel=1e-13)
    name = {"pooled": "fleiss", "pooled_continuity": "fleiss_cc"}.get(formula, formula)
    assert plan.per_arm_ceil == case["n_ceil"][name]


@pytest.mark.parametrize("case", cases("high_precision", category="power"))
def test_power_agrees_with_thirty_digits(case):
    p1, p2 = float(case["p1"]), float(case["p2"])
    got = power(
        baseline=p1, minimum_detectable_effect=p2 - p1, per_arm=case["n_per_arm"], alpha=float(case["alpha"])
    )
    assert got == pytest.approx(float(case["power_R_power.prop.test_strict_FALSE"]), rel=1e-13)


@pytest.mark.parametrize("case", cases("peer_vectors", category="sample_size_two_proportions"))
def test_statsmodels_recorded_sample_sizes_are_reproduced(case):
    given_, expected = case["inputs"], case["expected"]
    question = {
        "baseline": given_["p_control"],
        "minimum_detectable_effect": given_["p_treatment"] - given_["p_control"],
        "power": given_["power"],
        "alpha": given_["alpha"],
    }
    # Its solver stops at a relative 1e-8, so not at the 1e-6 units that the file asks for.
    arcsine = sample_size(formula="arcsine", **question).per_arm
    assert arcsine == pytest.approx(expected["n_per_arm_arcsine"], abs=case["abs_tolerance"], rel=3e-9)
    unpooled = sample_size(formula="unpooled", **question).per_arm
    assert unpooled == pytest.approx(expected["n_per_arm_unpooled_normal"], abs=case["abs_tolerance"])


@pytest.mark.parametrize("case", cases("paper_cases", category="power_scott"))
def test_scotts_sample_size_agrees_with_the_reference(case):
    plan = sample_size(baseline=0.04, minimum_detectable_effect=0.01, power=0.95)
    assert plan.per_arm == pytest.approx(case["value"], abs=case["tol"])


def test_scotts_223_days_are_reproduced():
    """Scott, Google Analytics help: .04 v .05, power .95, 100 visits a day: 22 330 visits, 223 days."""
    plan = sample_size(baseline=0.04, minimum_detectable_effect=0.01, power=0.95)
    assert plan.total == pytest.approx(22_330, abs=5)
    assert round(days_needed(plan, calls_per_day=100)) == 223


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("ratio", [0.25, 1, 3.0])
def test_arcsine_with_unequal_groups_agrees_with_statsmodels(ratio, sides):
    effect = proportion_effectsize(0.75, 0.7)
    alternative = {1: "larger", 2: "two-sided"}[sides]
    expected = NormalIndPower().solve_power(
        effect, power=0.8, alpha=0.05, ratio=ratio, alternative=alternative
    )
    plan = sample_size(
        baseline=0.7, minimum_detectable_effect=0.05, ratio=ratio, sides=sides, formula="arcsine"
    )
    assert plan.per_arm == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("formula", FORMULAS)
@given(
    baseline=rates,
    other=rates,
    target=st.floats(0.3, 0.999),
    ratio=st.floats(0.5, 2),
    sides=st.sampled_from([1, 2]),
)
@settings(max_examples=50)
def test_power_and_smallest_effect_invert_the_sample_size(formula, baseline, other, target, ratio, sides):
    effect = other - baseline
    assume(abs(effect) > 1e-3)
    question = {"baseline": baseline, "ratio": ratio, "sides": sides, "formula": formula}
    units = sample_size(minimum_detectable_effect=effect, power=target, **question).per_arm
    assume(units > 5)  # below, the normal approximation is not even monotone in the effect
    assert power(minimum_detectable_effect=effect, per_arm=units, **question) == pytest.approx(
        target, abs=1e-9
    )
    direction = "increase" if effect > 0 else "decrease"
    found = minimum_detectable_effect(per_arm=units, power=target, direction=direction, **question)
    back = sample_size(minimum_detectable_effect=found, power=target, **question).per_arm
    assert back == pytest.approx(units, rel=1e-9)


@pytest.mark.parametrize("formula", FORMULAS)
@given(baseline=rates, other=rates)
@settings(max_examples=50)
def test_counting_failures_instead_of_successes_needs_as_many_units(formula, baseline, other):
    effect = other - baseline
    assume(abs(effect) > 1e-3)
    one = sample_size(baseline=baseline, minimum_detectable_effect=effect, formula=formula)
    other_way = sample_size(baseline=1 - baseline, minimum_detectable_effect=-effect, formula=formula)
    assert one.per_arm == pytest.approx(other_way.per_arm, rel=1e-9)


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_the_planned_test_finds_the_effect_as_often_as_planned(ratio):
    """20 000 experiments of the planned size, power .8: five standard errors are .0141."""
    plan = sample_size(baseline=0.70, minimum_detectable_effect=0.05, ratio=ratio)
    n = [plan.per_arm_ceil, plan.total - plan.per_arm_ceil]
    rng = np.random.default_rng(20261122)
    successes = rng.binomial(n, [0.70, 0.75], size=(20_000, 2))
    test = z_test(BinaryCounts(n=np.broadcast_to(n, (20_000, 2)), successes=successes), control=0)
    assert np.mean(test.p_value[:, 1] < 0.05) == pytest.approx(0.8, abs=0.0141)


def test_sample_sizes_of_the_seed_report_are_reproduced():
    """statistics.md section 4, unpooled, per arm: .70 to .75 1 248; to .72 8 077; to .80 291; .80 to .85 903."""
    for baseline, other, units in [(0.7, 0.75, 1_248), (0.7, 0.72, 8_077), (0.7, 0.8, 291), (0.8, 0.85, 903)]:
        plan = sample_size(baseline=baseline, minimum_detectable_effect=other - baseline, formula="unpooled")
        assert plan.per_arm_ceil == units


def test_without_an_effect_the_pooled_power_is_half_of_alpha():
    """R's power.prop.test(strict = FALSE) counts one tail."""
    assert power(baseline=0.1, minimum_detectable_effect=0.0, per_arm=20) == pytest.approx(0.025, rel=1e-13)


@pytest.mark.parametrize("sides", [1, 2])
def test_the_sample_size_of_a_mean_is_that_of_the_t_test_but_for_a_unit(sides):
    """statsmodels' exact t-test needs at most z^2/4 + 1 units more."""
    plan = sample_size_mean(sd=60.0, minimum_detectable_effect=10.0, ratio=1.5, sides=sides)
    alternative = {1: "larger", 2: "two-sided"}[sides]
    exact = TTestIndPower().solve_power(10 / 60, power=0.8, alpha=0.05, ratio=1.5, alternative=alternative)
    assert plan.per_arm < exact < plan.per_arm + 1.97
    assert plan.total == plan.per_arm_ceil + math.ceil(1.5 * plan.per_arm)


def test_days_count_every_variant():
    """By hand: 1 251 units for each of 4 variants at 278 calls a day are 18 days."""
    plan = sample_size(baseline=0.70, minimum_detectable_effect=0.05)
    assert plan.per_arm_ceil == 1_251
    assert days_needed(plan, calls_per_day=278, variants=4) == 18.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": 1.0}, r"baseline == 1.0, must be in \(0, 1\); write 0.7 for 70 %"),
        ({"baseline": 70.0}, r"baseline == 70.0, must be in \(0, 1\)"),
        ({"minimum_detectable_effect": 0.3}, r"minimum_detectable_effect == 0.3, must be in \(-0.7, 0.3\)"),
        ({"minimum_detectable_effect": -0.7}, r"must be in \(-0.7, 0.3\) at baseline 0.7"),
        ({"minimum_detectable_effect": 0.0}, r"minimum_detectable_effect == 0, must not be 0"),
        ({"power": 0.05}, r"power == 0.05, must be above alpha == 0.05"),
        ({"power": 1.0}, r"power == 1.0, must be in \(0, 1\)"),
        ({"power": float("nan")}, r"power == nan, must be in \(0, 1\)"),
        ({"alpha": 0.0}, r"alpha == 0.0, must be in \(0, 1\)"),
        ({"ratio": 0.0}, r"ratio == 0.0, must be finite and greater than 0"),
        ({"sides": 3}, r"sides == 3, must be 1 or 2"),
        (
            {"baseline": 0.5, "minimum_detectable_effect": 0.49, "ratio": 100.0, "power": 0.2},
            r"power == 0.2, must be larger",
        ),
    ],
)
def test_a_question_without_an_answer_is_refused(change, message):
    question = {"baseline": 0.7, "minimum_detectable_effect": 0.05} | change
    with pytest.raises(ValueError, match=message):
        sample_size(**question)


def test_too_few_units_detect_nothing_and_say_so():
    with pytest.raises(
        ValueError, match=r"per_arm == 2, must be larger; no increase from 0.7 can be detected"
    ):
        minimum_detectable_effect(baseline=0.7, per_arm=2)
    with pytest.raises(ValueError, match=r"per_arm == 0, must be finite and greater than 0"):
        power(baseline=0.7, minimum_detectable_effect=0.05, per_arm=0)
    plan = sample_size(baseline=0.7, minimum_detectable_effect=0.05)
    with pytest.raises(ValueError, match=r"variants == 1, must be at least 2"):
        days_needed(plan, calls_per_day=10, variants=1)
