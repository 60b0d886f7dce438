"""What the always-valid tests have shown about each variant, by the thresholds of the experiment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from domain.evidence import Claim, Evidence
from domain.experiments import Experiment, Variant
from domain.metrics import Metric
from engine.adaptive import AipwEstimate, aipw_estimate
from engine.guardrails import (
    GuardrailState,
    SequenceOfOne,
    Thresholds,
    guardrail_status,
    thresholds,
)
from engine.statistics import BinaryCounts, Interval
from service.known import Known
from service.planning import planned_calls
from service.statistics import only, where_served

# A confidence sequence is tuned to some size; without a planned one, to this.
USUAL_CALLS = 5_000


@dataclass(frozen=True, slots=True, eq=False)
class Guardrail:
    """One guardrail of one variant; `e_value` is the largest so far, None for an amount."""

    metric: str
    margin: float
    status: GuardrailState
    e_value: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """What is shown about one variant against the control, on the goal unless said otherwise.

    Nothing is, once outcomes are missing unevenly; but a variant that was `is_out`, proven worse or harmful,
    before does not come back for that. `needed` is the two-sided e-value of a claim.
    """

    better: bool
    worse: bool
    equivalent: bool
    missing_differs: bool
    is_out: bool
    needed: float
    guardrails: tuple[Guardrail, ...]

    @property
    def harmed(self) -> tuple[str, ...]:
        """Guardrails that it makes worse by more than their margin."""
        return tuple(item.metric for item in self.guardrails if item.status == "harmed")


def contrasts_of(experiment: Experiment, variant: Variant) -> int:
    """Among how many comparisons a variant was when it came: later ones do not take back what was shown."""
    return sum(not v.is_control and v.created_at <= variant.created_at for v in experiment.variants)


def claims_of(known: Known) -> dict[str, Claims]:
    """What is shown, by variant; the control has no entry. What an e-value showed once stays shown."""
    estimates = {
        metric.name: estimate(metric, known)
        for metric in known.experiment.metrics
        if metric.role == "guardrail" or metric.name == known.experiment.goal
    }
    return {
        variant.key: _claims(index, variant, known, estimates)
        for index, variant in enumerate(known.experiment.variants)
        if not variant.is_control
    }


def may_drop(experiment: Experiment, evidence: Mapping[str, Evidence], split: Mapping[str, int]) -> bool:
    """Whether a variant that gets calls may be proven worse or harmful; asks e-values only, so it is cheap.

    A goal or guardrail without an e-value, an amount, always may.
    """
    judged = [m for m in experiment.metrics if m.role == "guardrail" or m.name == experiment.goal]
    if any(metric.kind == "amount" for metric in judged):
        return True
    for variant in experiment.variants:
        if variant.is_control or not split.get(variant.key, 0):
            continue
        limits = _limits(experiment, variant)
        for metric in judged:
            is_goal = metric.name == experiment.goal
            log_e = log_e_max(evidence.get(metric.name), variant.key, "worse" if is_goal else "harmed")
            if log_e >= (limits.direction if is_goal else limits.harm):
                return True
    return False


def _limits(experiment: Experiment, variant: Variant) -> Thresholds:
    guardrails = sum(metric.role == "guardrail" for metric in experiment.metrics)
    contrasts = contrasts_of(experiment, variant)
    return thresholds(alpha=experiment.alpha, contrasts=contrasts, guardrails=max(guardrails, 1))


def running_mask(known: Known, claims: dict[str, Claims]) -> np.ndarray:
    """Variants that get calls: live, and neither proven worse nor harmful; shape (variant,)."""
    variants = known.experiment.variants
    out = {key for key, claim in claims.items() if claim.is_out}
    return np.array([variant.live and variant.key not in out for variant in variants])


def estimate(metric: Metric, known: Known) -> AipwEstimate:
    """Differences from the control, in the metric's own unit and direction."""
    return aipw_estimate(
        # Units that had no chance have no weight; the sample ratio says that they are there.
        where_served(known.tally.by_place(metric), known.probability > 0.0),
        known.probability,
        control=known.control,
        in_unit_interval=metric.kind != "amount",
    )


def sequence_of(found: AipwEstimate, known: Known, *, alpha: float) -> Interval:
    """The confidence sequence that is narrowest at the planned number of calls."""
    planned = planned_calls(known.experiment) or USUAL_CALLS
    return found.sequence(planned=float(planned), confidence_level=1.0 - alpha)


def log_e_max(evidence: Evidence | None, variant: str, claim: Claim) -> float:
    """Logarithm of the largest e-value of a claim so far; 0 where nothing was read."""
    process = evidence.process(variant, claim) if evidence else None
    return process.log_e_max if process else 0.0


def _claims(index: int, variant: Variant, known: Known, estimates: dict[str, AipwEstimate]) -> Claims:
    experiment, goal = known.experiment, known.experiment.goal_metric
    limits = _limits(experiment, variant)
    evidence = known.evidence.get(goal.name)

    def shown(claim: Claim, limit: float) -> bool:
        return log_e_max(evidence, variant.key, claim) >= limit

    if goal.kind == "amount":
        alpha = experiment.alpha / contrasts_of(experiment, variant)
        one = sequence_of_one(goal, known, estimates[goal.name], index, alpha=alpha)
        better, worse = one.is_readable and one.lower > 0.0, one.is_readable and one.upper < 0.0
        equivalent = False
    else:
        better, worse = shown("better", limits.direction), shown("worse", limits.direction)
        equivalent = shown("not_above", limits.equivalence) and shown("not_below", limits.equivalence)
    guardrails = tuple(
        _guardrail(metric, index, variant, known, limits, estimates[metric.name])
        for metric in experiment.metrics
        if metric.role == "guardrail"
    )
    is_fair = not shown("missing", limits.missing)
    is_bad = (worse and not better) or any(item.status == "harmed" for item in guardrails)
    is_paused = variant.live and known.current.split.get(variant.key, 0) == 0
    return Claims(
        # Under a drifting difference both may be shown one after the other: then neither speaks.
        better=better and not worse and is_fair,
        worse=worse and not better and is_fair,
        equivalent=equivalent and is_fair,
        missing_differs=not is_fair,
        is_out=is_bad and (is_fair or is_paused),
        needed=0.5 * math.exp(limits.direction),
        guardrails=guardrails if is_fair else tuple(replace(item, status="unknown") for item in guardrails),
    )


def _guardrail(
    metric: Metric, index: int, variant: Variant, known: Known, limits: Thresholds, found: AipwEstimate
) -> Guardrail:
    margin = metric.margin or 0.0
    evidence = known.evidence.get(metric.name)
    log_e = None
    if metric.kind != "amount" and margin < 1.0:
        log_e = log_e_max(evidence, variant.key, "harmed")
    status = guardrail_status(
        margin=margin,
        sequence=sequence_of_one(metric, known, found, index, alpha=2.0 * math.exp(-limits.harm)),
        log_e_max=log_e,
        harm_threshold=limits.harm,
    )
    if log_e_max(evidence, variant.key, "missing") >= limits.missing:
        status = "unknown"  # told more often for one variant than for the other: no fair sample
    return Guardrail(
        metric=metric.name,
        margin=margin,
        status=status,
        e_value=None if log_e is None else math.exp(min(log_e, 700.0)),
    )


def sequence_of_one(
    metric: Metric, known: Known, found: AipwEstimate, index: int, *, alpha: float
) -> SequenceOfOne:
    """The confidence sequence of one variant against the control, higher is better."""
    both = sequence_of(found, known, alpha=alpha)
    lower, upper = sorted((metric.sign * float(both.lower[index]), metric.sign * float(both.upper[index])))
    pair = np.array([index, known.control])
    together = (known.probability[:, pair] > 0.0).all(axis=1, keepdims=True)
    statistics = where_served(only(known.tally.by_place(metric), pair), together)
    rarest = None
    if isinstance(statistics, BinaryCounts):
        good = statistics.successes.sum(axis=0)
        rarest = int(min(good.min(), (statistics.n.sum(axis=0) - good).min()))
    return SequenceOfOne(
        lower=lower, upper=upper, smaller_n=int(statistics.n.sum(axis=0).min()), rarest=rarest
    )
