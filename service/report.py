"""The report: belief and evidence about an experiment, computed from its counts."""

import asyncio
import datetime as dt

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.experiments import Variant
from domain.fields import BASIS_POINTS
from domain.metrics import Metric
from domain.report import (
    AlwaysValid,
    CallsSummary,
    Comparison,
    EvidenceReport,
    GuardrailReport,
    RecommendationReport,
    Report,
    SampleRatio,
    VariantReport,
)
from engine.decision import THRESHOLD_OF_CARING, Contrast, Progress, recommend
from engine.sample_ratio import SampleRatioTest, sample_ratio_test
from service.analysis import Analysis, analyse, number
from service.claims import Claims, claims_of, running_mask
from service.comparisons import compare_all
from service.find import experiment_of
from service.known import Known, read_known
from service.planning import POWER, days_left, planned, planned_calls


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
    claims = claims_of(known)
    running = running_mask(known, claims)
    analyses = {metric.name: analyse(metric, known, running) for metric in experiment.metrics}
    comparisons = tuple(compare_all(known, analyses, claims))
    ratio = sample_ratio_test(known.tally.units, known.probability)
    return Report(
        experiment=experiment.key,
        prompt=experiment.prompt,
        status=experiment.status,
        as_of=now,
        policy=experiment.policy.name,
        goal=experiment.goal,
        planned=planned(experiment),
        variants=tuple(
            _variant(known, variant, index, analyses, claims)
            for index, variant in enumerate(experiment.variants)
        ),
        comparisons=comparisons,
        sample_ratio=_sample_ratio(known, ratio),
        evidence=_evidence(known),
        guardrails=tuple(_guardrails(claims)),
        calls={variant.key: _calls(known, index) for index, variant in enumerate(experiment.variants)},
        recommendation=_recommendation(known, analyses, comparisons, claims, ratio, now=now),
    )


def _variant(
    known: Known, variant: Variant, index: int, analyses: dict[str, Analysis], claims: dict[str, Claims]
) -> VariantReport:
    experiment = known.experiment
    goal = analyses[experiment.goal]
    matured = int(known.tally.units[:, index].sum())
    share_bp = known.current.split.get(variant.key, 0) if experiment.status == "running" else 0
    claim = claims.get(variant.key)
    return VariantReport(
        key=variant.key,
        version_id=variant.version_id,
        live=variant.live,
        is_control=variant.is_control,
        assigned=int(known.told.units[:, index].sum()),
        share=share_bp / BASIS_POINTS,
        missing=1.0 - int(goal.statistics.n[index]) / matured if matured else None,
        missing_differs=claim is not None and claim.missing_differs,
        paused=variant.live and claim is not None and claim.is_out,
        prior=_prior(known, variant),
        metrics={name: analysis.summary(index) for name, analysis in analyses.items()},
        probability_best=number(goal.probability_best[index]),
        expected_loss=number(goal.expected_loss[index]),
    )


def _prior(known: Known, variant: Variant) -> tuple[float, float] | None:
    if known.experiment.goal_metric.kind != "binary":
        return None
    prior = known.priors.get(variant.key)
    return prior.shapes if prior else (1.0, 1.0)


def _sample_ratio(known: Known, test: SampleRatioTest) -> SampleRatio:
    expected = zip(known.experiment.variants, test.expected, strict=True)
    return SampleRatio(
        e_value=number(test.e_value),
        p_value=test.p_value,
        fixed_p_value=number(test.fixed_p_value),
        mismatch=test.mismatch,
        expected={variant.key: float(units) for variant, units in expected},
    )


def _evidence(known: Known) -> EvidenceReport:
    goal = known.evidence.get(known.experiment.goal)
    if goal is None:
        return EvidenceReport(units=0, missing=0, read_until=None)
    return EvidenceReport(units=goal.units, missing=goal.missing, read_until=goal.read_until)


def _guardrails(claims: dict[str, Claims]) -> list[GuardrailReport]:
    return [
        GuardrailReport(
            metric=item.metric, variant=key, margin=item.margin, status=item.status, e_value=item.e_value
        )
        for key, claim in claims.items()
        for item in claim.guardrails
    ]


def _calls(known: Known, index: int) -> CallsSummary:
    def mean_of(name: str) -> float | None:
        metric = next((item for item in known.experiment.metrics if item.name == name), None)
        if metric is None:
            return None
        return number(known.told.whole(metric).as_moments().mean[index])

    return CallsSummary(
        resolved_share=mean_of("resolved"),
        quality_mean=mean_of("quality"),
        duration_mean_s=mean_of("duration_s"),
    )


def _recommendation(
    known: Known,
    analyses: dict[str, Analysis],
    comparisons: tuple[Comparison, ...],
    claims: dict[str, Claims],
    ratio: SampleRatioTest,
    *,
    now: dt.datetime,
) -> RecommendationReport:
    experiment = known.experiment
    goal = analyses[experiment.goal]
    live = np.array([variant.live for variant in experiment.variants])
    progress = Progress(
        calls=int(goal.statistics.n[live].sum()),
        planned_calls=planned_calls(experiment),
        effect=_effect(known),
        days_left=days_left(experiment, now=now),
        ended=experiment.status == "stopped",
        sample_ratio_mismatch=ratio.mismatch,
        missing_differs=[key for key, claim in claims.items() if claim.missing_differs],
    )
    of_goal = {item.variant: item for item in comparisons if item.metric == experiment.goal}
    contrasts = [
        _contrast(known, of_goal[variant.key], claims[variant.key], goal, index)
        for index, variant in enumerate(experiment.variants)
        if variant.live and not variant.is_control
    ]
    found = recommend(
        progress,
        contrasts,
        control=experiment.control.key,
        threshold_of_caring=_caring(goal, known.control),
    )
    return RecommendationReport(
        action=found.action,
        variant=found.variant,
        because=found.because,
        still_needed=found.still_needed,
    )


def _caring(goal: Analysis, control: int) -> float:
    """The expected loss that nobody minds: half a point of a share or score, half a percent of an amount."""
    mean = number(goal.posterior.mean[control])
    if goal.metric.kind != "amount" or mean is None:
        return THRESHOLD_OF_CARING
    return THRESHOLD_OF_CARING * abs(mean)


def _contrast(known: Known, item: Comparison, claim: Claims, goal: Analysis, index: int) -> Contrast:
    found = item.adaptive.estimate
    return Contrast(
        name=item.variant,
        better=claim.better,
        worse=claim.worse,
        equivalent=claim.equivalent,
        evidence=_in_words(known, goal.metric, item.always_valid, claim),
        estimate=None if found is None else goal.metric.sign * found,
        expected_loss=number(goal.expected_loss[index]),
        harmed=claim.harmed,
    )


def _in_words(known: Known, metric: Metric, test: AlwaysValid, claim: Claims) -> str:
    """The evidence so far, higher is better; the largest e-value counts, because it was allowed to look then."""
    ends = [metric.sign * end for end in test.interval if end is not None]
    interval = f"difference between {min(ends):+.3g} and {max(ends):+.3g}" if ends else ""
    if claim.equivalent:
        region = known.experiment.minimum_detectable_effect
        return f"differs by less than {region:g}" + (f", {interval}" if interval else "")
    if test.p_value is None:
        return interval
    e_value = f"e-value {1.0 / test.p_value:.3g}" if test.p_value > 0.0 else "e-value above 1e300"
    needed = f"{e_value} (a claim needs {claim.needed:.3g})"
    return f"{needed}, {interval}" if interval else needed


def _effect(known: Known) -> str:
    experiment = known.experiment
    effect = experiment.minimum_detectable_effect
    size = f"a difference of {100 * effect:g} points" if experiment.goal_metric.kind != "amount" else "it"
    found = f"{size} with {100 * POWER:g} % chance"
    return (
        found
        if experiment.policy.name == "fixed"
        else f"{found} under an even split, more under one that moves"
    )
