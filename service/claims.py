"""What the always-valid tests have shown about each variant, by the thresholds of the experiment."""

from collections.abc import Mapping

import numpy as np

from domain.evidence import Evidence
from domain.experiments import Experiment
from engine import claims
from engine.claims import Claims
from engine.metrics import Claim
from service.known import Known
from service.plan import plan_of


def claims_of(known: Known) -> dict[str, Claims]:
    """What is shown, by variant; the control has no entry. What an e-value showed once stays shown."""
    return claims.claims_of(known.observed)


def running_mask(known: Known, shown: Mapping[str, Claims]) -> np.ndarray:
    """Variants that get calls: live, and neither proven worse nor harmful; shape (variant,)."""
    return claims.running_mask(known.observed.plan, shown)


def may_drop(experiment: Experiment, evidence: Mapping[str, Evidence], split: Mapping[str, int]) -> bool:
    """Whether a variant that gets calls may be proven worse or harmful; asks e-values only, so it is cheap.

    A goal or guardrail without an e-value, an amount, always may.
    """
    judged = [m for m in experiment.metrics if m.role == "guardrail" or m.name == experiment.goal]
    if any(metric.kind == "amount" for metric in judged):
        return True
    plan = plan_of(experiment, split)
    for index, variant in enumerate(experiment.variants):
        if variant.is_control or not split.get(variant.key, 0):
            continue
        limits = claims.limits_of(plan, index)
        for metric in judged:
            is_goal = metric.name == experiment.goal
            log_e = _log_e_max(evidence.get(metric.name), variant.key, "worse" if is_goal else "harmed")
            if log_e >= (limits.direction if is_goal else limits.harm):
                return True
    return False


def _log_e_max(evidence: Evidence | None, variant: str, claim: Claim) -> float:
    """Logarithm of the largest e-value of a claim so far; 0 where nothing was read."""
    process = evidence.process(variant, claim) if evidence else None
    return process.log_e_max if process else 0.0
