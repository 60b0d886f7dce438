"""The planned sample size, and the one look at it.

The fixed-sample test is valid at one look. So the look is taken once, at the first pass after every live
variant has its planned outcomes and the minimum duration is over, and is kept; reports show it for ever.
"""

import datetime as dt
from collections.abc import Sequence

import numpy as np

from domain.allocations import Allocation
from domain.experiments import Experiment, PlannedLook, Variant
from domain.metrics import Metric
from domain.report import Planned
from engine.means import WelchTest, welch_test
from engine.multiplicity import holm
from engine.power import sample_size, sample_size_mean
from engine.proportions import ZTest, z_test
from engine.statistics import BinaryCounts
from service.evidence import Statistics, higher_is_better, statistics_of
from service.split import live_variants
from storage.counts import CountRow

POWER = 0.8
WORST_SD_OF_A_SCORE = 0.5  # no value in [0, 1] spreads more (Popoviciu 1935)


def planned(experiment: Experiment) -> Planned:
    """What was planned at the start: the sample size per variant for alpha / (number of contrasts)."""
    contrasts = max(len(live_variants(experiment)) - 1, 1)
    alpha = experiment.alpha / contrasts
    per_variant, formula = _sample_size(experiment, alpha)
    return Planned(
        sample_size_per_variant=per_variant,
        alpha=experiment.alpha,
        alpha_per_comparison=alpha,
        power=POWER,
        baseline=experiment.baseline,
        minimum_detectable_effect=experiment.minimum_detectable_effect,
        min_days=experiment.min_days,
        formula=formula,
    )


def _sample_size(experiment: Experiment, alpha: float) -> tuple[int | None, str]:
    effect = experiment.minimum_detectable_effect
    kind, direction = experiment.goal_metric.kind, experiment.goal_metric.direction
    if kind == "binary":
        # Turned so that higher is better: from 10 % transferred to 5 % is from 90 % to 95 % not transferred.
        rate = experiment.baseline if direction == "increase" else 1.0 - experiment.baseline
        size = sample_size(baseline=rate, minimum_detectable_effect=effect, power=POWER, alpha=alpha)
        return size.per_arm_ceil, size.formula
    if kind == "score":
        size = sample_size_mean(
            sd=WORST_SD_OF_A_SCORE, minimum_detectable_effect=effect, power=POWER, alpha=alpha
        )
        return size.per_arm_ceil, f"{size.formula}, sd {WORST_SD_OF_A_SCORE}"
    return None, "none: the spread of an amount is not known beforehand"


def days_left(experiment: Experiment, *, now: dt.datetime) -> float:
    """What is missing of the minimum duration, in days."""
    age = (experiment.stopped_at or now) - experiment.started_at
    return max(experiment.min_days - age.total_seconds() / 86_400, 0.0)


def smallest_goal_n(experiment: Experiment, rows: Sequence[CountRow]) -> int:
    """The goal outcomes of the live variant that has the fewest."""
    return int(statistics_of(experiment.goal_metric, live_variants(experiment), rows).n.min())


def is_look_due(
    experiment: Experiment, current: Allocation, rows: Sequence[CountRow], *, now: dt.datetime
) -> bool:
    """Whether this pass has to take the planned look; never under a split that has moved."""
    size = planned(experiment).sample_size_per_variant
    return (
        experiment.planned_look is None
        and size is not None
        and split_stood_still(experiment, current)
        and smallest_goal_n(experiment, rows) >= size
        and days_left(experiment, now=now) <= 0.0
    )


def split_stood_still(experiment: Experiment, current: Allocation) -> bool:
    """Whether every unit so far was randomised by one and the same split that no outcome moves."""
    return experiment.policy.name == "fixed" and current.number == 1


def take_planned_look(experiment: Experiment, rows: Sequence[CountRow], *, now: dt.datetime) -> PlannedLook:
    """Test every live variant against the control, adjusted for their number (Holm), and the guardrails."""
    live = live_variants(experiment)
    control = next(index for index, variant in enumerate(live) if variant.is_control)
    statistics = statistics_of(experiment.goal_metric, live, rows)
    test = fixed_sample_test(
        higher_is_better(experiment.goal_metric, statistics), control=control, level=1.0 - experiment.alpha
    )
    others = [index for index in range(len(live)) if index != control]
    adjusted = holm(test.p_value[others])
    return PlannedLook(
        at=now,
        n={variant.key: int(n) for variant, n in zip(live, statistics.n, strict=True)},
        estimates={live[index].key: float(test.estimate[index]) for index in others},
        p_values_adjusted={live[index].key: float(p) for index, p in zip(others, adjusted, strict=True)},
        harmed={live[index].key: _harmed(experiment, live, rows, index, control) for index in others},
    )


def fixed_sample_test(statistics: Statistics, *, control: int, level: float) -> ZTest | WelchTest:
    """The pooled z-test for shares, Welch's test for means."""
    if isinstance(statistics, BinaryCounts):
        return z_test(statistics, control=control, confidence_level=level)
    return welch_test(statistics, control=control, confidence_level=level)


def _harmed(
    experiment: Experiment, live: list[Variant], rows: Sequence[CountRow], arm: int, control: int
) -> list[str]:
    return [
        metric.name
        for metric in experiment.metrics
        if metric.role == "guardrail" and _is_worse(experiment, metric, live, rows, arm, control)
    ]


def _is_worse(
    experiment: Experiment,
    metric: Metric,
    live: list[Variant],
    rows: Sequence[CountRow],
    arm: int,
    control: int,
) -> bool:
    better = higher_is_better(metric, statistics_of(metric, live, rows))
    # One-sided at alpha: the upper end of the two-sided interval at 1 - 2 alpha.
    test = fixed_sample_test(better, control=control, level=1.0 - 2.0 * experiment.alpha)
    return bool(np.nan_to_num(test.upper[arm], nan=0.0) < -(metric.margin or 0.0))
