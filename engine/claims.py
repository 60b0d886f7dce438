"""What the always-valid tests have shown about each arm, by the thresholds of the experiment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from engine.estimates import Estimated, estimates_of
from engine.guardrails import GuardrailState, Thresholds, guardrail_status, thresholds
from engine.metrics import Claim, Metric
from engine.observed import Observed, Plan

Estimates = Mapping[str, Estimated]


@dataclass(frozen=True, slots=True, eq=False)
class Guardrail:
    """One guardrail of one arm; `e_value` is the largest so far, None where the sequence judges."""

    metric: str
    margin: float
    status: GuardrailState
    e_value: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """What is shown about one arm against the control, on the goal unless said otherwise.

    Nothing is, once outcomes are missing unevenly; but an arm that was `is_out`, proven worse or harmful,
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


def claims_of(observed: Observed, estimates: Estimates | None = None) -> dict[str, Claims]:
    """What is shown, by arm; the control has no entry. What an e-value showed once stays shown.

    Parameters
    ----------
    estimates : Of the goal and the guardrails at least, where they are known already.
    """
    plan = observed.plan
    found = estimates or estimates_of(
        [metric for metric in plan.metrics if metric.role == "guardrail" or metric.name == plan.goal],
        observed,
    )
    return {plan.arms[index]: _claims(index, observed, found) for index in plan.others}


def limits_of(plan: Plan, arm: int) -> Thresholds:
    """Thresholds for the claims about one arm."""
    guardrails = sum(metric.role == "guardrail" for metric in plan.metrics)
    return thresholds(alpha=plan.alpha, contrasts=int(plan.contrasts[arm]), guardrails=max(guardrails, 1))


def running_mask(plan: Plan, claims: Mapping[str, Claims]) -> np.ndarray:
    """Arms that get units: live, and neither proven worse nor harmful; shape (arm,)."""
    out = [arm in claims and claims[arm].is_out for arm in plan.arms]
    return np.asarray(plan.live & ~np.array(out))


def _claims(index: int, observed: Observed, estimates: Estimates) -> Claims:
    plan, goal = observed.plan, observed.plan.goal_metric
    limits = limits_of(plan, index)
    better, worse, equivalent = _shown_on_goal(index, observed, limits, estimates[goal.name])
    guardrails = tuple(
        _guardrail(metric, index, observed, limits, estimates[metric.name])
        for metric in plan.metrics
        if metric.role == "guardrail"
    )
    is_fair = not observed.log_e_max(goal.name, index, "missing") >= limits.missing
    is_bad = (worse and not better) or any(item.status == "harmed" for item in guardrails)
    return Claims(
        # Under a drifting difference both may be shown one after the other: then neither speaks.
        better=better and not worse and is_fair,
        worse=worse and not better and is_fair,
        equivalent=equivalent and is_fair,
        missing_differs=not is_fair,
        is_out=is_bad and (is_fair or bool(plan.paused[index])),
        needed=0.5 * math.exp(limits.direction),
        guardrails=guardrails if is_fair else tuple(replace(item, status="unknown") for item in guardrails),
    )


def _shown_on_goal(
    index: int, observed: Observed, limits: Thresholds, found: Estimated
) -> tuple[bool, bool, bool]:
    """Whether the arm is better, worse, equivalent: by e-values, else by the confidence sequence."""
    plan, goal = observed.plan, observed.plan.goal_metric

    def shown(claim: Claim, limit: float) -> bool:
        return bool(observed.log_e_max(goal.name, index, claim) >= limit)

    if goal.kind != "amount" and observed.tests is not None:
        equivalent = shown("not_above", limits.equivalence) and shown("not_below", limits.equivalence)
        return shown("better", limits.direction), shown("worse", limits.direction), equivalent
    alpha = plan.alpha / int(plan.contrasts[index])
    one = found.sequence_of_one(index, alpha=alpha)
    # The region of equivalence is planned in points of a share or score; an amount has none.
    is_within = goal.kind != "amount" and -plan.effect < one.lower and one.upper < plan.effect
    return (
        one.is_readable and one.lower > 0.0,
        one.is_readable and one.upper < 0.0,
        one.is_readable and is_within,
    )


def _guardrail(
    metric: Metric, index: int, observed: Observed, limits: Thresholds, found: Estimated
) -> Guardrail:
    margin = metric.margin or 0.0
    log_e = None
    if metric.kind != "amount" and margin < 1.0 and observed.tests is not None:
        log_e = observed.log_e_max(metric.name, index, "harmed")
    status = guardrail_status(
        margin=margin,
        sequence=found.sequence_of_one(index, alpha=2.0 * math.exp(-limits.harm)),
        log_e_max=log_e,
        harm_threshold=limits.harm,
    )
    if observed.log_e_max(metric.name, index, "missing") >= limits.missing:
        status = "unknown"  # told more often for one arm than for the other: no fair sample
    return Guardrail(
        metric=metric.name,
        margin=margin,
        status=status,
        e_value=None if log_e is None else math.exp(min(log_e, 700.0)),
    )
