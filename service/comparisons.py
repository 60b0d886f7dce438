"""Every variant against the control, on every metric: evidence beside belief."""

import math
from collections.abc import Iterator
from typing import cast

import numpy as np
from msgspec.structs import replace

from domain.evidence import Evidence
from domain.report import (
    Adaptive,
    AlwaysValid,
    BayesSummary,
    Comparison,
    Lift,
    Pair,
    SeedRule,
    SegmentAdjusted,
    TestSummary,
)
from engine import beta_binomial, normal
from engine.adaptive import AipwEstimate
from engine.beta_binomial import BetaPosterior
from engine.means import WelchTest, welch_test
from engine.multiplicity import e_benjamini_hochberg, holm
from engine.normal import NormalPosterior
from engine.proportions import ZTest, z_test
from engine.sequential import ENOUGH_OF_EACH, ENOUGH_PER_ARM
from engine.statistics import BinaryCounts
from engine.strata import StratifiedEstimate, stratified_estimate
from service.analysis import Analysis, number, pair
from service.belief import Posterior
from service.claims import Claims, contrasts_of, estimate, log_e_max, sequence_of, sequence_of_one
from service.known import Known
from service.statistics import Statistics

SEED_ALPHA = 0.05
SEED_RULE_WARNING = (
    "n >= 10 and p < 0.05 at any look calls a winner between two identical prompts in 37 % of experiments; "
    "nothing acts on it"
)
LARGEST_LOG = 700.0  # e to this still is a number that JSON can hold


def compare_all(known: Known, analyses: dict[str, Analysis], claims: dict[str, Claims]) -> list[Comparison]:
    """Comparisons by metric, then by variant; tests at one look are adjusted within a metric (Holm).

    The always-valid p-value of the goal is adjusted for the number of variants. Those of all other metrics
    are one family: of those below alpha after adjustment, at most a share alpha is false on average.
    """
    found = list(_compare(known, analyses, claims))
    of_others = [item for item in found if item.role != "goal"]
    e_values = [item.always_valid.e_value for item in of_others]
    adjusted = e_benjamini_hochberg([np.nan if value is None else value for value in e_values])
    family = {id(item): number(p) for item, p in zip(of_others, adjusted, strict=True)}
    return [
        item
        if item.role == "goal"
        else replace(item, always_valid=replace(item.always_valid, p_value_adjusted=family[id(item)]))
        for item in found
    ]


def _compare(known: Known, analyses: dict[str, Analysis], claims: dict[str, Claims]) -> Iterator[Comparison]:
    experiment, control = known.experiment, known.control
    others = [index for index in range(len(experiment.variants)) if index != control]
    for analysis in analyses.values():
        test = fixed_sample_test(analysis.statistics, control=control, level=analysis.confidence_level)
        adjusted = dict(zip(others, holm(test.p_value[others]), strict=True))
        beliefs = _beliefs(analysis, control)
        found = estimate(analysis.metric, known)
        strata = _strata(analysis, known)
        for index in others:
            variant = experiment.variants[index]
            summary = _test(test, index, adjusted[index])
            yield Comparison(
                variant=variant.key,
                control=experiment.control.key,
                metric=analysis.metric.name,
                role=analysis.metric.role,
                n={
                    variant.key: int(analysis.statistics.n[index]),
                    experiment.control.key: int(analysis.statistics.n[control]),
                },
                z_test=summary if isinstance(test, ZTest) else None,
                welch_test=None if isinstance(test, ZTest) else summary,
                always_valid=_always_valid(analysis, known, found, index, claims),
                bayes=beliefs[index],
                adaptive=_adaptive(analysis, found, strata, index),
                seed_rule=_seed_rule(analysis, test.p_value[index], index, control),
            )


def fixed_sample_test(statistics: Statistics, *, control: int, level: float) -> ZTest | WelchTest:
    """The pooled z-test for shares, Welch's test for means."""
    if isinstance(statistics, BinaryCounts):
        return z_test(statistics, control=control, confidence_level=level)
    return welch_test(statistics, control=control, confidence_level=level)


def _always_valid(
    analysis: Analysis, known: Known, found: AipwEstimate, index: int, claims: dict[str, Claims]
) -> AlwaysValid:
    metric = analysis.metric
    variant = known.experiment.variants[index].key
    variants_compared = contrasts_of(known.experiment, known.experiment.variants[index])
    alpha = known.experiment.alpha / (variants_compared if metric.role == "goal" else 1)
    is_readable = sequence_of_one(metric, known, found, index, alpha=alpha).is_readable
    is_sample = not claims[variant].missing_differs
    ends = pair(sequence_of(found, known, alpha=alpha), index)
    interval: Pair = ends if is_readable and is_sample else (None, None)
    evidence = known.evidence.get(metric.name)
    if metric.kind == "amount":
        return AlwaysValid(
            interval=interval, reason="an amount has no upper bound to bet against; read the interval"
        )
    log_e = _two_sided_log_e(evidence, variant)
    largest = max(log_e_max(evidence, variant, claim) for claim in ("better", "worse")) - math.log(2.0)
    p_value = min(1.0, math.exp(-largest))
    return AlwaysValid(
        e_value=math.exp(min(log_e, LARGEST_LOG)),
        log_e_value=log_e,
        p_value=p_value,
        p_value_adjusted=min(1.0, p_value * variants_compared),
        interval=interval,
        n=_read(evidence, variant),
        reason=_why_no_interval(is_readable, is_sample),
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


def _two_sided_log_e(evidence: Evidence | None, variant: str) -> float:
    """Half of the wealth bets on better, half on worse."""
    logs = []
    for claim in ("better", "worse"):
        process = evidence.process(variant, claim) if evidence else None
        wealth = np.array(process.log_wealth) if process else np.zeros(1)
        logs.append(float(np.logaddexp.reduce(wealth) - math.log(len(wealth))))
    return float(np.logaddexp(logs[0], logs[1]) - math.log(2.0))


def _read(evidence: Evidence | None, variant: str) -> int:
    process = evidence.process(variant, "better") if evidence else None
    return round(sum(process.n)) if process else 0


def _adaptive(
    analysis: Analysis, found: AipwEstimate, strata: StratifiedEstimate | None, index: int
) -> Adaptive:
    return Adaptive(
        estimate=number(found.estimate[index]),
        standard_error=number(found.standard_error[index]),
        interval=pair(found.interval(analysis.confidence_level), index),
        n=int(found.n[index]),
        segment_adjusted=None
        if strata is None
        else SegmentAdjusted(
            estimate=number(strata.estimate[index]),
            standard_error=number(strata.standard_error[index]),
            interval=pair(strata.interval(analysis.confidence_level), index),
            variance_explained=number(strata.variance_explained[index]),
            gain=number(strata.gain[index]),
        ),
    )


def _strata(analysis: Analysis, known: Known) -> StratifiedEstimate | None:
    """Adjusted for the segment, where calls have more than one."""
    if len({row.segment for row in known.cells}) < 2:
        return None
    tally, period = known.strata
    return stratified_estimate(tally.by_place(analysis.metric), control=known.control, period=period)


def _test(test: object, index: int, adjusted: float) -> TestSummary:
    found = cast("ZTest", test)  # Welch's test has the same fields
    return TestSummary(
        estimate=number(found.estimate[index]),
        interval=(number(found.lower[index]), number(found.upper[index])),
        statistic=number(found.statistic[index]),
        p_value=number(found.p_value[index]),
        p_value_adjusted=number(adjusted),
        log10_p=number(found.log10_p[index]),
        method=found.method,
        small_counts=bool(found.small_counts[index]) if isinstance(test, ZTest) else False,
    )


def _beliefs(analysis: Analysis, control: int) -> list[BayesSummary]:
    better = _better(analysis.better_posterior, control)
    loss = _loss(analysis.better_posterior, control)
    lift = _lift(analysis.posterior, control, analysis.confidence_level)
    return [
        BayesSummary(
            probability_better=number(better[index]),
            lift=Lift(
                mean=number(lift.absolute_mean[index]),
                interval=(number(lift.absolute_lower[index]), number(lift.absolute_upper[index])),
            ),
            relative_lift=Lift(
                mean=number(lift.relative_mean[index]),
                median=number(lift.relative_median[index]),
                interval=(number(lift.relative_lower[index]), number(lift.relative_upper[index])),
            ),
            expected_loss=number(loss[index]),
        )
        for index in range(len(better))
    ]


def _better(posterior: Posterior, control: int) -> np.ndarray:
    if isinstance(posterior, BetaPosterior):
        return beta_binomial.probability_better(posterior, control=control)
    return normal.probability_better(posterior, control=control)


def _loss(posterior: Posterior, control: int) -> np.ndarray:
    if isinstance(posterior, BetaPosterior):
        return beta_binomial.expected_loss_against(posterior, control=control)
    return normal.expected_loss_against(posterior, control=control)


def _lift(posterior: Posterior, control: int, level: float) -> "beta_binomial.Lift":
    if isinstance(posterior, NormalPosterior):
        return normal.lift(posterior, control=control, confidence_level=level)
    return beta_binomial.lift(posterior, control=control, confidence_level=level)


def _seed_rule(analysis: Analysis, p_value: float, index: int, control: int) -> SeedRule | None:
    if analysis.metric.role != "goal" or not isinstance(analysis.statistics, BinaryCounts):
        return None
    enough = bool(analysis.statistics.n[[index, control]].min() >= 10)
    return SeedRule(declares_winner=enough and bool(p_value < SEED_ALPHA), warning=SEED_RULE_WARNING)
