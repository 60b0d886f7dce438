"""The report: everything known about an experiment, computed from a few rows of counts."""

import asyncio
import datetime as dt
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.allocations import Allocation
from domain.experiments import Experiment, Variant
from domain.fields import BASIS_POINTS
from domain.report import CallsSummary, Comparison, RecommendationReport, Report, VariantReport
from engine.decision import Contrast, Progress, recommend
from service.analysis import Analysis, analyse, number
from service.comparisons import compare_all, in_words
from service.evidence import assigned_units
from service.find import allocation_now, experiment_of
from service.planning import days_left, planned, smallest_goal_n, split_stood_still
from storage.counts import CountRow, counts_by_variant


async def report(connection: AsyncConnection, key: str, *, now: dt.datetime) -> Report:
    """What is known at `now`; ExperimentNotFound for an unknown key.

    Its cost depends on the number of variants and metrics, not on the number of calls.
    """
    experiment = await experiment_of(connection, key)
    current = await allocation_now(connection, experiment)
    rows = await counts_by_variant(connection, experiment.id)
    # In a thread: exact intervals of nearly empty variants take up to 0.3 s, and calls wait for the loop.
    return await asyncio.to_thread(build_report, experiment, current, rows, now=now)


def build_report(
    experiment: Experiment, current: Allocation, rows: Sequence[CountRow], *, now: dt.datetime
) -> Report:
    """The report as a pure function of what was stored."""
    variants = list(experiment.variants)
    analyses = {metric.name: analyse(metric, variants, rows, experiment) for metric in experiment.metrics}
    goal = analyses[experiment.goal]
    comparisons = tuple(compare_all(experiment, analyses))
    described = tuple(
        _variant(experiment, current, variant, index, assigned, analyses)
        for index, (variant, assigned) in enumerate(
            zip(variants, assigned_units(variants, rows), strict=True)
        )
    )
    return Report(
        experiment=experiment.key,
        prompt=experiment.prompt,
        status=experiment.status,
        as_of=now,
        policy=experiment.policy.name,
        goal=experiment.goal,
        planned=planned(experiment),
        variants=described,
        comparisons=comparisons,
        sample_ratio=None,
        guardrails=tuple(_guardrails(experiment)),
        calls={variant.key: _calls(analyses, index) for index, variant in enumerate(variants)},
        recommendation=_recommendation(experiment, current, goal, rows, comparisons, now=now),
    )


def _variant(
    experiment: Experiment,
    current: Allocation,
    variant: Variant,
    index: int,
    assigned: int,
    analyses: dict[str, Analysis],
) -> VariantReport:
    goal = analyses[experiment.goal]
    told = int(goal.statistics.n[index])
    share_bp = current.split.get(variant.key, 0) if experiment.status == "running" else 0
    return VariantReport(
        key=variant.key,
        version_id=variant.version_id,
        live=variant.live,
        is_control=variant.is_control,
        assigned=assigned,
        share=share_bp / BASIS_POINTS,
        missing=1.0 - told / assigned if assigned else None,
        metrics={name: analysis.summary(index) for name, analysis in analyses.items()},
        probability_best=number(goal.probability_best[index]) if variant.live else None,
        expected_loss=number(goal.expected_loss[index]) if variant.live else None,
    )


def _guardrails(experiment: Experiment) -> list[dict[str, object]]:
    look = experiment.planned_look
    return [
        {
            "metric": metric.name,
            "margin": metric.margin,
            "harmed": sorted(key for key, names in look.harmed.items() if metric.name in names)
            if look
            else None,
        }
        for metric in experiment.metrics
        if metric.role == "guardrail"
    ]


def _calls(analyses: dict[str, Analysis], index: int) -> CallsSummary:
    def mean_of(name: str) -> float | None:
        return analyses[name].summary(index).mean if name in analyses else None

    return CallsSummary(
        resolved_share=mean_of("resolved"),
        quality_mean=mean_of("quality"),
        duration_mean_s=mean_of("duration_s"),
    )


def _recommendation(
    experiment: Experiment,
    current: Allocation,
    goal: Analysis,
    rows: Sequence[CountRow],
    comparisons: Sequence[Comparison],
    *,
    now: dt.datetime,
) -> RecommendationReport:
    progress = Progress(
        smallest_n=smallest_goal_n(experiment, rows),
        planned=planned(experiment).sample_size_per_variant,
        days_left=days_left(experiment, now=now),
        split_stood_still=split_stood_still(experiment, current),
        ended=experiment.status == "stopped",
    )
    recommended = recommend(
        progress,
        _contrasts(experiment, goal),
        control=experiment.control.key,
        alpha=experiment.alpha,
    )
    return RecommendationReport(
        action=recommended.action,
        variant=recommended.variant,
        because=recommended.because + _seen_so_far(experiment, progress, comparisons),
        still_needed=recommended.still_needed,
    )


def _seen_so_far(
    experiment: Experiment, progress: Progress, comparisons: Sequence[Comparison]
) -> tuple[str, ...]:
    """What the goal's intervals show where no look has decided yet; they mean nothing under a moving split."""
    if experiment.planned_look is not None or not progress.split_stood_still:
        return ()
    return tuple(
        sentence
        for item in comparisons
        if item.role == "goal" and (sentence := in_words(item, alpha=experiment.alpha))
    )


def _contrasts(experiment: Experiment, goal: Analysis) -> list[Contrast] | None:
    look = experiment.planned_look
    if look is None:
        return None
    positions = {variant.key: index for index, variant in enumerate(experiment.variants) if variant.live}
    if not set(look.estimates) & set(positions):
        return None  # the variants it looked at are retired: it says nothing about those that came later
    return [
        Contrast(
            name=key,
            estimate=estimate,
            p_value=look.p_values_adjusted[key],
            expected_loss=float(goal.expected_loss[positions[key]]),
            harmed=tuple(look.harmed.get(key, ())),
        )
        for key, estimate in look.estimates.items()
        if key in positions
    ]
