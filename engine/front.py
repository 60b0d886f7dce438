"""The front that a data scientist imports: `compare` counts, or `Study` any frame of units.

import engine as ab
ab.compare({"v1": (820, 1000), "v2": (860, 1000)}, control="v1")["v2"].lift.absolute
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.checks import check_confidence_level
from engine.counts import Counts, Splits
from engine.evidence import Reading, readings_of
from engine.findings import Findings, MetricFindings, findings_of
from engine.metrics import ASSIGNED, Binary, Direction, Metric
from engine.observed import Plan
from engine.planning import units_per_arm

type CountsByArm = Mapping[str, Sequence[Any]]


def compare(
    counts: CountsByArm,
    *,
    control: str,
    split: Mapping[str, float] | None = None,
    better: Direction = "increase",
    alpha: float = 0.05,
    minimum_detectable_effect: float = 0.05,
    baseline: float = 0.5,
) -> MetricFindings:
    """Everything about two or more success rates, from their counts.

    Parameters
    ----------
    counts : (successes, trials) by arm.
    control : The arm that the others are compared with.
    split : The shares that were promised; with them the sample ratio is tested.
    better, alpha, minimum_detectable_effect, baseline : As for `Study`.

    Raises
    ------
    ValueError
        An unknown control, fewer than two arms, more successes than trials.

    Examples
    --------
    >>> found = compare({"v1": (820, 1000), "v2": (860, 1000)}, control="v1")
    >>> v2 = found["v2"]
    >>> v2.rate, round(v2.lift.absolute, 4), round(v2.probability_best, 4), round(v2.z_test.p_value, 4)
    (0.86, 0.0399, 0.9926, 0.0147)
    """
    metric = Binary("success", better=better, goal=True)
    study = Study(
        arm="arm",
        control=control,
        metrics=(metric,),
        alpha=alpha,
        minimum_detectable_effect=minimum_detectable_effect,
        baseline=baseline,
    )
    by_metric: dict[str, Any] = {metric.name: counts}
    if split is not None:
        by_metric[ASSIGNED] = {arm: pair[1] for arm, pair in counts.items()}
    return study.analyze(by_metric, splits=None if split is None else {0: split})[metric.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What an experiment compares, and in which columns a frame tells it.

    Attributes
    ----------
    arm : Column of the variant that a unit was given.
    control : The arm that the others are compared with.
    metrics : What is measured: `Binary`, `Score`, `Amount`, each with a column of its name. One is the goal; the
        first one, if none says so.
    segment : Column of something that is known about a unit and that its variant cannot change.
    allocation : Column that numbers the splits in the order of time, where the split moved.
    probability : Column with the probability of what the unit was given.
    unit : Column of the unit's id; naming it costs a second look at the frame, for units that stand there twice.
    time : Column of the time at which the unit was given its variant, for `in_order`.
    alpha : Chance of a false alarm; intervals have level 1 - alpha.
    minimum_detectable_effect : The difference that matters, in points of a share or score.
    baseline : The control's expected rate, for planning.
    arms : All arms in their order; those with units in the order of their names, if not given.

    Examples
    --------
    >>> study = Study(arm="variant", control="v1", metrics=[Binary("resolved", goal=True)])
    >>> found = study.analyze({"resolved": {"v1": (820, 1000), "v2": (860, 1000)}})
    >>> round(found["resolved"]["v2"].probability_better, 4)
    0.9926
    """

    arm: str
    control: str
    metrics: Sequence[Metric]
    segment: str | None = None
    allocation: str | None = None
    probability: str | None = None
    unit: str | None = None
    time: str | None = None
    alpha: float = 0.05
    minimum_detectable_effect: float = 0.05
    baseline: float = 0.5
    arms: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        check_confidence_level(self.alpha, name="alpha")
        object.__setattr__(self, "metrics", _with_goal(self.metrics))
        object.__setattr__(self, "control", str(self.control))
        object.__setattr__(self, "arms", tuple(str(arm) for arm in self.arms))

    @property
    def goal(self) -> Metric:
        """The metric that decides."""
        return next(metric for metric in self.metrics if metric.role == "goal")

    def count(self, data: Any, *, splits: Splits | None = None) -> Counts:
        """Counts of a frame, in one pass; they add, so parts may be counted where they lie.

        Parameters
        ----------
        data : A frame with a row per unit, or counts by metric and arm: (successes, trials) of a binary metric,
            (n, total, total_sq) of another, and `assigned` for all units, with an outcome or without.
        splits : The share of each arm, by allocation, where no column tells it.
        """
        if isinstance(data, Counts):
            return data if splits is None else Counts(data.cells, splits)
        if isinstance(data, Mapping):
            return _told(data, tuple(self.metrics), splits)
        from engine.frames import counts_of_frame

        return counts_of_frame(data, self._columns(), splits=splits)

    def analyze(
        self,
        data: Any,
        *,
        splits: Splits | None = None,
        in_order: bool = False,
        days_left: float = 0.0,
        ended: bool = False,
    ) -> Findings:
        """Everything that a frame or counts say.

        Parameters
        ----------
        data, splits : As for `count`.
        in_order : Read the units of a frame a second time, in the order of `time`, for e-values; a unit without an
            outcome then counts as one that will have none.
        days_left : What is missing of the minimum duration; before it is over nothing is recommended for good.
        ended : No more outcomes will come.

        Raises
        ------
        ValueError
            Columns, values, arms or splits that cannot be; the message says which, and what to do.
        """
        counts = self.count(data, splits=splits)
        plan = self.plan(counts)
        readings = self._readings(data, plan, counts) if in_order else ()
        return findings_of(plan, counts, readings=readings, days_left=float(days_left), ended=ended)

    def plan(self, counts: Counts) -> Plan:
        """Arms and levels of the experiment that these counts are of."""
        counted = counts.arms
        arms = tuple(self.arms or counted)
        _check_arms(arms, counted, self.control)
        others = len(arms) - 1
        per_arm, _ = units_per_arm(
            self.goal,
            baseline=self.baseline,
            effect=self.minimum_detectable_effect,
            alpha=self.alpha / others,
            looks="always_valid",
        )
        return Plan(
            arms=arms,
            control=arms.index(self.control),
            metrics=tuple(self.metrics),
            goal=self.goal.name,
            alpha=self.alpha,
            effect=self.minimum_detectable_effect,
            planned_calls=None if per_arm is None else per_arm * len(arms),
            contrasts=np.full(len(arms), others),
            live=np.ones(len(arms), dtype=bool),
            paused=np.zeros(len(arms), dtype=bool),
            split_moves=len(counts.allocations) > 1,
        )

    def _columns(self) -> Any:
        from engine.frames import Columns

        return Columns(
            arm=self.arm,
            metrics=tuple(self.metrics),
            segment=self.segment,
            allocation=self.allocation,
            probability=self.probability,
            unit=self.unit,
            time=self.time,
        )

    def _readings(self, data: Any, plan: Plan, counts: Counts) -> tuple[Reading, ...]:
        if isinstance(data, Counts | Mapping):
            raise ValueError(
                "in_order needs a frame with a row per unit; sums do not tell in which order they came"
            )
        from engine.ordered import blocks_of_frame

        return readings_of(plan, blocks_of_frame(data, self._columns(), plan, counts), units=counts.units)


def _with_goal(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics, exactly one of them the goal."""
    if not metrics:
        raise ValueError("metrics is empty, must hold at least one; the goal decides")
    names = [metric.name for metric in metrics]
    goals = [metric.name for metric in metrics if metric.role == "goal"]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or ASSIGNED in names:
        raise ValueError(f"metrics are {names}; every name must be there once, and {ASSIGNED!r} counts units")
    if len(goals) > 1:
        raise ValueError(f"goals are {goals}, must be one; several would be several experiments")
    if goals:
        return tuple(metrics)
    first = metrics[0]
    return (Metric(first.name, first.kind, first.direction, "goal"), *metrics[1:])


def _check_arms(arms: Sequence[str], counted: Sequence[str], control: str) -> None:
    if control not in arms:
        raise ValueError(f"control == {control!r}, must be one of {', '.join(arms) or 'no arm at all'}")
    stranger = next((arm for arm in counted if arm not in arms), None)
    if stranger is not None:
        raise ValueError(
            f"arm {stranger!r} has units and is not among arms {list(arms)}; add it, or filter it out"
        )
    if len(arms) < 2:
        raise ValueError(
            f"the only arm is {control!r}, must be two at least; there is nothing to compare it with"
        )


def _told(data: Mapping[str, Any], metrics: Sequence[Metric], splits: Splits | None) -> Counts:
    """Counts that somebody wrote down, by metric and arm."""
    known = {metric.name: metric for metric in metrics}
    if len(known) == 1 and not (data.keys() & known.keys()):
        data = {next(iter(known)): data}  # by arm alone
    rows = []
    for name, by_arm in data.items():
        if name not in known and name != ASSIGNED:
            raise ValueError(
                f"counts of {name!r}, must be of one of {', '.join(known)}, or {ASSIGNED!r} for all units"
            )
        for arm, numbers in by_arm.items():
            n, total, total_sq = (numbers, 0.0, 0.0) if name == ASSIGNED else _sums(known[name], arm, numbers)
            rows.append({"variant": arm, "metric": name, "n": n, "total": total, "total_sq": total_sq})
    return Counts.from_rows(rows, splits=splits)


def _sums(metric: Metric, arm: str, numbers: Sequence[Any]) -> tuple[Any, Any, Any]:
    """n, total and total_sq."""
    wanted = "(successes, trials)" if metric.kind == "binary" else "(n, total, total_sq)"
    if len(numbers) != (2 if metric.kind == "binary" else 3):
        raise ValueError(f"{metric.name} of {arm!r} == {tuple(numbers)!r}, must be {wanted}")
    if metric.kind != "binary":
        n, total, total_sq = numbers
        return n, total, total_sq
    successes, trials = numbers
    if not 0 <= successes <= trials or successes != int(successes) or trials != int(trials):
        raise ValueError(
            f"{metric.name} of {arm!r} has {successes} successes of {trials} trials, must be whole numbers from 0 to "
            f"{trials}; the order is (successes, trials)"
        )
    return trials, successes, successes
