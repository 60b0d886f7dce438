"""An experiment as the engine takes it: its plan without the outcomes, and the state of its tests."""

from collections.abc import Mapping

import numpy as np

from domain.evidence import Evidence
from domain.experiments import Experiment, Variant
from engine.observed import Plan, Tests, Wealth
from service.planning import planned_calls


def contrasts_of(experiment: Experiment, variant: Variant) -> int:
    """Among how many comparisons a variant was when it came: later ones do not take back what was shown."""
    return sum(not v.is_control and v.created_at <= variant.created_at for v in experiment.variants)


def plan_of(experiment: Experiment, split: Mapping[str, int]) -> Plan:
    """The plan; `split` is the one that serves now, in basis points by variant key."""
    variants = experiment.variants
    return Plan(
        arms=tuple(variant.key for variant in variants),
        control=next(index for index, variant in enumerate(variants) if variant.is_control),
        metrics=tuple(metric.measure for metric in experiment.metrics),
        goal=experiment.goal,
        alpha=experiment.alpha,
        effect=experiment.minimum_detectable_effect,
        planned_calls=planned_calls(experiment),
        contrasts=np.array([contrasts_of(experiment, variant) for variant in variants]),
        live=np.array([variant.live for variant in variants]),
        paused=np.array([variant.live and split.get(variant.key, 0) == 0 for variant in variants]),
        split_moves=experiment.policy.name != "fixed",
    )


def tests_of(evidence: Mapping[str, Evidence]) -> Tests:
    """The always-valid tests after their last pass."""
    return {
        (metric, process.variant, process.claim): Wealth(
            log_wealth=process.log_wealth, log_e_max=process.log_e_max, n=sum(process.n)
        )
        for metric, of_metric in evidence.items()
        for process in of_metric.processes
    }
