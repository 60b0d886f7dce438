"""Every arm against the control, on every metric: evidence beside belief."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from engine import beta_binomial, normal
from engine.adaptive import AipwEstimate
from engine.analysis import Analysis
from engine.beta_binomial import BetaPosterior, Lift
from engine.claims import Claims, Estimates
from engine.estimates import Estimated
from engine.means import WelchTest, welch_test
from engine.multiplicity import e_benjamini_hochberg, holm
from engine.normal import NormalPosterior
from engine.observed import Observed
from engine.proportions import ZTest, z_test
from engine.results import (
    Adaptive,
    AlwaysValid,
    BayesSummary,
    Comparison,
    LiftSummary,
    Pair,
    SeedRule,
    SegmentAdjusted,
    TestSummary,
    number,
    numbers,
    pair,
    pairs,
)
from engine.sequential import ENOUGH_OF_EACH, ENOUGH_PER_ARM
from engine.statistics import BinaryCounts, Interval
from engine.strata import StratifiedEstimate, stratified_estimate
from engine.tally import Statistics

SEED_ALPHA = 0.05
SEED_RULE_WARNING = (
    "n >= 10 and p < 0.05 at any look calls a winner between two identical prompts in 37 % of experiments; "
    "nothing acts on it"
)
LARGEST_LOG = 700.0  # e to this still is a number that JSON can hold
NO_BOUND = "an amount has no upper bound to bet against; read the interval"
NO_ORDER = "no e-value: sums do not tell in which order the units came"


def compare_all(
    observed: Observed,
    analyses: Mapping[str, Analysis],
    estimates: Estimates,
    claims: Mapping[str, Claims],
) -> list[Comparison]:
    """Comparisons by metric, then by arm; tests at one look are adjusted within a metric (Holm).

    The always-valid p-value of the goal is adjusted for the number of arms. Those of all other metrics are
    one family: of those below alpha after adjustment, at most a share alpha is false on average.
    """
    found = [
        item
        for analysis in analyses.values()
        for item in _compare(observed, analysis, estimates[analysis.metric.name], claims)
    ]
    of_others = [item for item in found if item.role != "goal"]
    e_values = [item.always_valid.e_value for item in of_others]
    if all(value is None for value in e_values):
        return found
    adjusted = e_benjamini_hochberg([np.nan if value is None else value for value in e_values])
    family = {id(item): number(p) for item, p in zip(of_others, adjusted, strict=True)}
    return [
        item
        if item.role == "goal"
        else replace(item, always_valid=replace(item.always_valid, p_value_adjusted=family[id(item)]))
        for item in found
    ]


def _compare(
    observed: Observed, analysis: Analysis, estimated: Estimated, claims: Mapping[str, Claims]
) -> Iterator[Comparison]:
    plan, statistics = observed.plan, analysis.statistics
    control, others = plan.control, plan.others
    test = fixed_sample_test(statistics, control=control, level=analysis.confidence_level)
    summaries = _tests(test, others)
    beliefs = _beliefs(analysis, control)
    adaptive = _adaptives(analysis, estimated.found, _strata(analysis, observed))
    for index in others:
        arm, summary = plan.arms[index], summaries[index]
        yield Comparison(
            variant=arm,
            control=plan.arms[control],
            metric=analysis.metric.name,
            role=analysis.metric.role,
            n={arm: int(statistics.n[index]), plan.arms[control]: int(statistics.n[control])},
            z_test=summary if isinstance(test, ZTest) else None,
            welch_test=None if isinstance(test, ZTest) else summary,
            always_valid=_always_valid(analysis, observed, estimated, index, claims),
            bayes=beliefs[index],
            adaptive=adaptive[index],
            seed_rule=_seed_rule(analysis, float(test.p_value[index]), index, control),
        )


def fixed_sample_test(statistics: Statistics, *, control: int, level: float) -> ZTest | WelchTest:
    """The pooled z-test for shares, Welch's test for means."""
    if isinstance(statistics, BinaryCounts):
        return z_test(statistics, control=control, confidence_level=level)
    return welch_test(statistics, control=control, confidence_level=level)


def _always_valid(
    analysis: Analysis, observed: Observed, estimated: Estimated, index: int, claims: Mapping[str, Claims]
) -> AlwaysValid:
    metric, plan = analysis.metric, observed.plan
    compared = int(plan.contrasts[index])
    alpha = plan.alpha / (compared if metric.role == "goal" else 1)
    is_readable = estimated.sequence_of_one(index, alpha=alpha).is_readable
    is_sample = not claims[plan.arms[index]].missing_differs
    ends = pair(estimated.sequence(alpha=alpha), index)
    interval: Pair = ends if is_readable and is_sample else (None, None)
    if metric.kind == "amount":
        return AlwaysValid(interval=interval, reason=NO_BOUND)
    why = _why_no_interval(is_readable, is_sample)
    if observed.tests is None:
        return AlwaysValid(interval=interval, reason=f"{NO_ORDER}; {why or 'read the interval'}")
    log_e = two_sided_log_e(observed, metric.name, index)
    shown = [observed.log_e_max(metric.name, index, claim) for claim in ("better", "worse")]
    p_value = min(1.0, math.exp(-(max(shown) - math.log(2.0))))
    return AlwaysValid(
        e_value=capped_e_value(log_e),
        log_e_value=log_e,
        p_value=p_value,
        p_value_adjusted=min(1.0, p_value * compared),
        interval=interval,
        n=observed.units_read(metric.name, index),
        reason=why,
    )


def _why_no_interval(is_readable: bool, is_sample: bool) -> str | None:
    if not is_sample:
        return "outcomes are missing unevenly, so what arrived is no fair sample"
    if not is_readable:
        return (
            f"the interval needs {ENOUGH_PER_ARM} outcomes of both variants, "
            f"and of a share {ENOUGH_OF_EACH} of each kind"
        )
    return None


def capped_e_value(log_e: float) -> float:
    """The e-value of its logarithm; beyond e^700 it is e^700."""
    return math.exp(min(log_e, LARGEST_LOG))


def two_sided_log_e(observed: Observed, metric: str, index: int) -> float:
    """Logarithm of the evidence now that an arm differs: half of the wealth bets on better, half on worse."""
    logs = []
    for claim in ("better", "worse"):
        wealth = observed.log_wealth(metric, index, claim)
        logs.append(float(np.logaddexp.reduce(wealth) - math.log(len(wealth))))
    return float(np.logaddexp(logs[0], logs[1]) - math.log(2.0))


def _adaptives(analysis: Analysis, found: AipwEstimate, strata: StratifiedEstimate | None) -> list[Adaptive]:
    """By arm; what concerns the control itself is None throughout."""
    adjusted: list[SegmentAdjusted | None] = [None] * len(found.estimate)
    if strata is not None:
        adjusted = [*_adjusted(strata, analysis.confidence_level)]
    columns = zip(
        numbers(found.estimate),
        numbers(found.standard_error),
        pairs(found.interval(analysis.confidence_level)),
        found.n.astype(np.int64).tolist(),
        adjusted,
        strict=True,
    )
    return [Adaptive(*row) for row in columns]


def _adjusted(strata: StratifiedEstimate, level: float) -> list[SegmentAdjusted]:
    columns = zip(
        numbers(strata.estimate),
        numbers(strata.standard_error),
        pairs(strata.interval(level)),
        numbers(strata.variance_explained),
        numbers(strata.gain),
        strict=True,
    )
    return [SegmentAdjusted(*row) for row in columns]


def _strata(analysis: Analysis, observed: Observed) -> StratifiedEstimate | None:
    """Adjusted for the segment, where units have more than one."""
    if observed.strata is None:
        return None
    return stratified_estimate(
        observed.strata.by_place(analysis.metric),
        control=observed.plan.control,
        period=observed.stratum_period,
    )


def _tests(test: ZTest | WelchTest, others: list[int]) -> dict[int, TestSummary]:
    """By arm, without the control."""
    small = test.small_counts[others].tolist() if isinstance(test, ZTest) else [False] * len(others)
    columns = zip(
        numbers(test.estimate[others]),
        pairs(Interval(test.lower[others], test.upper[others])),
        numbers(test.statistic[others]),
        numbers(test.p_value[others]),
        numbers(holm(test.p_value[others])),
        numbers(test.log10_p[others]),
        [test.method] * len(others),
        small,
        strict=True,
    )
    return {index: TestSummary(*row) for index, row in zip(others, columns, strict=True)}


def _beliefs(analysis: Analysis, control: int) -> list[BayesSummary]:
    better, loss = _against(analysis, control)
    lift = _lift(analysis, control)
    absolute = zip(
        numbers(lift.absolute_mean),
        pairs(Interval(lift.absolute_lower, lift.absolute_upper)),
        strict=True,
    )
    relative = zip(
        numbers(lift.relative_mean),
        pairs(Interval(lift.relative_lower, lift.relative_upper)),
        numbers(lift.relative_median),
        strict=True,
    )
    columns = zip(numbers(better), absolute, relative, numbers(loss), strict=True)
    return [
        BayesSummary(chance, LiftSummary(*difference), LiftSummary(*ratio), cost)
        for chance, difference, ratio, cost in columns
    ]


def _against(analysis: Analysis, control: int) -> tuple[np.ndarray, np.ndarray]:
    """P(better than the control), and the expected loss of taking the arm instead."""
    posterior = analysis.better_posterior
    if isinstance(posterior, BetaPosterior):
        found = beta_binomial.against(posterior, control=control)
        return found.better, found.loss
    return (
        normal.probability_better(posterior, control=control),
        normal.expected_loss_against(posterior, control=control),
    )


def _lift(analysis: Analysis, control: int) -> Lift:
    posterior, level = analysis.posterior, analysis.confidence_level
    if isinstance(posterior, NormalPosterior):
        return normal.lift(posterior, control=control, confidence_level=level)
    return beta_binomial.lift(posterior, control=control, confidence_level=level)


def _seed_rule(analysis: Analysis, p_value: float, index: int, control: int) -> SeedRule | None:
    if analysis.metric.role != "goal" or not isinstance(analysis.statistics, BinaryCounts):
        return None
    enough = bool(analysis.statistics.n[[index, control]].min() >= 10)
    return SeedRule(declares_winner=enough and bool(p_value < SEED_ALPHA), warning=SEED_RULE_WARNING)
