"""How many calls an experiment needs, for one look and for as many as one likes."""

import datetime as dt

from domain.experiments import Experiment
from domain.report import Planned
from engine.power import sample_size, sample_size_mean
from engine.power_formulas import Looks
from service.split import live_variants

POWER = 0.8
WORST_SD_OF_A_SCORE = 0.5  # no value in [0, 1] spreads more (Popoviciu 1935)


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
    return None if per_variant is None else per_variant * max(len(live_variants(experiment)), 2)


def days_left(experiment: Experiment, *, now: dt.datetime) -> float:
    """What is missing of the minimum duration, in days."""
    age = (experiment.stopped_at or now) - experiment.started_at
    return max(experiment.min_days - age.total_seconds() / 86_400, 0.0)


def _contrasts(experiment: Experiment) -> int:
    return max(len(experiment.variants) - 1, 1)


def _per_variant(experiment: Experiment, alpha: float, looks: Looks) -> tuple[int | None, str]:
    effect = experiment.minimum_detectable_effect
    kind, direction = experiment.goal_metric.kind, experiment.goal_metric.direction
    if kind == "binary":
        # Turned so that higher is better: from 10 % transferred to 5 % is from 90 % to 95 % not transferred.
        rate = experiment.baseline if direction == "increase" else 1.0 - experiment.baseline
        size = sample_size(
            baseline=rate, minimum_detectable_effect=effect, power=POWER, alpha=alpha, design=looks
        )
        return size.per_arm_ceil, size.formula
    if kind == "score":
        size = sample_size_mean(
            sd=WORST_SD_OF_A_SCORE,
            minimum_detectable_effect=effect,
            power=POWER,
            alpha=alpha,
            design=looks,
        )
        return size.per_arm_ceil, f"{size.formula}, sd {WORST_SD_OF_A_SCORE}"
    return None, "none: the spread of an amount is not known beforehand"
