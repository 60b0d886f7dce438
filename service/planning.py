"""How many calls an experiment needs, for one look and for as many as one likes."""

import datetime as dt

from domain.experiments import Experiment
from domain.report import Planned
from engine.planning import POWER, units_per_arm
from engine.power_formulas import Looks


def planned(experiment: Experiment) -> Planned:
    """What was planned at the start: sizes per variant for alpha / (number of contrasts)."""
    alpha = experiment.alpha / _contrasts(experiment)
    fixed, formula = _per_variant(experiment, alpha, "fixed")
    always, _ = _per_variant(experiment, alpha, "always_valid")
    return Planned(
        sample_size_per_variant=fixed,
        always_valid_per_variant=always,
        calls=planned_calls(experiment),
        alpha=experiment.alpha,
        alpha_per_comparison=alpha,
        power=POWER,
        baseline=experiment.baseline,
        minimum_detectable_effect=experiment.minimum_detectable_effect,
        min_days=experiment.min_days,
        formula=formula,
    )


def planned_calls(experiment: Experiment) -> int | None:
    """Calls of all variants, evenly split, after which the always-valid test has the planned power."""
    alpha = experiment.alpha / _contrasts(experiment)
    per_variant, _ = _per_variant(experiment, alpha, "always_valid")
    return (
        None
        if per_variant is None
        else per_variant * max(sum(variant.live for variant in experiment.variants), 2)
    )


def days_left(experiment: Experiment, *, now: dt.datetime) -> float:
    """What is missing of the minimum duration, in days."""
    age = (experiment.stopped_at or now) - experiment.started_at
    return max(experiment.min_days - age.total_seconds() / 86_400, 0.0)


def _contrasts(experiment: Experiment) -> int:
    return max(len(experiment.variants) - 1, 1)


def _per_variant(experiment: Experiment, alpha: float, looks: Looks) -> tuple[int | None, str]:
    return units_per_arm(
        experiment.goal_metric.measure,
        baseline=experiment.baseline,
        effect=experiment.minimum_detectable_effect,
        alpha=alpha,
        looks=looks,
    )
