"""The report: belief and evidence about an experiment, computed from its counts.

All numbers are the engine's (`engine.conclusion`); here they are joined with what is stored besides.
"""

import asyncio
import datetime as dt
from collections.abc import Mapping

from msgspec import convert
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.experiments import Variant
from domain.fields import BASIS_POINTS
from domain.report import (
    CallsSummary,
    Comparison,
    EvidenceReport,
    GuardrailReport,
    MetricSummary,
    RecommendationReport,
    Report,
    SampleRatio,
    VariantReport,
)
from engine import results
from engine.conclusion import Conclusion, conclude
from engine.results import number
from service.find import experiment_of
from service.known import Known, read_known
from service.planning import days_left, planned


async def report(connection: AsyncConnection, key: str, *, now: dt.datetime) -> Report:
    """What is known at `now`; ExperimentNotFound for an unknown key.

    Its cost depends on the number of variants, metrics and allocations, not on the number of calls.
    """
    known = await read_known(connection, await experiment_of(connection, key), now=now)
    # In a thread: exact intervals of nearly empty variants take up to 0.3 s, and calls wait for the loop.
    return await asyncio.to_thread(build_report, known, now=now)


def build_report(known: Known, *, now: dt.datetime) -> Report:
    """The report as a pure function of what was stored."""
    experiment = known.experiment
    found = conclusion_of(known, now=now)
    by_metric = {name: analysis.summaries() for name, analysis in found.analyses.items()}
    return Report(
        experiment=experiment.key,
        prompt=experiment.prompt,
        status=experiment.status,
        as_of=now,
        policy=experiment.policy.name,
        goal=experiment.goal,
        planned=planned(experiment),
        variants=tuple(
            _variant(known, variant, index, found, {name: items[index] for name, items in by_metric.items()})
            for index, variant in enumerate(experiment.variants)
        ),
        comparisons=_as(tuple[Comparison, ...], found.comparisons),
        sample_ratio=_as(SampleRatio, found.sample_ratio),
        evidence=_evidence(known),
        guardrails=_as(tuple[GuardrailReport, ...], found.guardrails),
        calls={variant.key: _calls(known, index) for index, variant in enumerate(experiment.variants)},
        recommendation=_as(RecommendationReport, found.recommendation),
    )


def conclusion_of(known: Known, *, now: dt.datetime) -> Conclusion:
    """What the engine concludes from what was stored."""
    experiment = known.experiment
    left = days_left(experiment, now=now)
    return conclude(known.observed, days_left=left, ended=experiment.status == "stopped")


def _as[T](record: type[T], found: object) -> T:
    """The engine's result as the record that HTTP answers with: the same fields."""
    return convert(found, record, from_attributes=True)


def _variant(
    known: Known,
    variant: Variant,
    index: int,
    found: Conclusion,
    metrics: Mapping[str, results.MetricSummary],
) -> VariantReport:
    experiment = known.experiment
    share_bp = known.current.split.get(variant.key, 0) if experiment.status == "running" else 0
    claim = found.claims.get(variant.key)
    goal = metrics[experiment.goal]
    return VariantReport(
        key=variant.key,
        version_id=variant.version_id,
        live=variant.live,
        is_control=variant.is_control,
        assigned=int(known.told.units[:, index].sum()),
        share=share_bp / BASIS_POINTS,
        missing=goal.missing,
        missing_differs=claim is not None and claim.missing_differs,
        paused=variant.live and claim is not None and claim.is_out,
        prior=_prior(known, variant),
        metrics=_as(dict[str, MetricSummary], metrics),
        probability_best=goal.probability_best,
        expected_loss=goal.expected_loss,
    )


def _prior(known: Known, variant: Variant) -> tuple[float, float] | None:
    if known.experiment.goal_metric.kind != "binary":
        return None
    prior = known.priors.get(variant.key)
    return prior.shapes if prior else (1.0, 1.0)


def _evidence(known: Known) -> EvidenceReport:
    goal = known.evidence.get(known.experiment.goal)
    if goal is None:
        return EvidenceReport(units=0, missing=0, read_until=None)
    return EvidenceReport(units=goal.units, missing=goal.missing, read_until=goal.read_until)


def _calls(known: Known, index: int) -> CallsSummary:
    def mean_of(name: str) -> float | None:
        metric = next((item for item in known.experiment.metrics if item.name == name), None)
        if metric is None:
            return None
        return number(known.told.whole(metric.measure).as_moments().mean[index])

    return CallsSummary(
        resolved_share=mean_of("resolved"),
        quality_mean=mean_of("quality"),
        duration_mean_s=mean_of("duration_s"),
    )
