"""Every variant against the control, on every metric: evidence beside belief."""

from collections.abc import Iterator
from typing import cast

import numpy as np

from domain.experiments import Experiment
from domain.report import BayesSummary, Comparison, Lift, SeedRule, TestSummary
from engine import beta_binomial, normal
from engine.beta_binomial import BetaPosterior
from engine.multiplicity import holm
from engine.normal import NormalPosterior
from engine.proportions import ZTest
from engine.statistics import BinaryCounts
from service.analysis import Analysis, Posterior, number
from service.planning import fixed_sample_test

SEED_ALPHA = 0.05
SEED_RULE_WARNING = (
    "n >= 10 and p < 0.05 at any look calls a winner between two identical prompts in 37 % of experiments; "
    "nothing acts on it"
)


def compare_all(experiment: Experiment, analyses: dict[str, Analysis]) -> Iterator[Comparison]:
    """Comparisons by metric, then by variant; p-values are adjusted within a metric (Holm)."""
    control = next(index for index, variant in enumerate(experiment.variants) if variant.is_control)
    others = [index for index in range(len(experiment.variants)) if index != control]
    for analysis in analyses.values():
        test = fixed_sample_test(analysis.statistics, control=control, level=analysis.confidence_level)
        adjusted = dict(zip(others, holm(test.p_value[others]), strict=True))
        beliefs = _beliefs(analysis, control)
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
                always_valid=None,
                bayes=beliefs[index],
                adaptive=None,
                seed_rule=_seed_rule(analysis, test.p_value[index], index, control),
            )


def in_words(comparison: Comparison, *, alpha: float) -> str | None:
    """What the fixed-sample interval shows, in a sentence; None while there is no interval."""
    test = comparison.z_test or comparison.welch_test
    if test is None or test.estimate is None or test.p_value is None or None in test.interval:
        return None
    lower, upper = test.interval
    verdict = (
        "no difference shown"
        if test.p_value_adjusted is None or test.p_value_adjusted >= alpha
        else "looks different, but only the planned look counts"
    )
    return (
        f"{comparison.variant} against {comparison.control} on {comparison.metric}: {test.estimate:+.4g} "
        f"(interval {lower:+.4g} to {upper:+.4g}, p = {test.p_value:.2g}): {verdict}"
    )


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
