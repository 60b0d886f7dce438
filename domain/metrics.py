"""Metrics: what is measured about a call, which direction is better, and which values are possible."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from domain.errors import InvalidValue
from domain.fields import MetricName, Record, Request
from domain.json_rules import escape_pointer
from engine import metrics as measures
from engine.metrics import ASSIGNED, Direction, Kind, Role

MAX_AMOUNT = 1e12
MAX_SECONDS = 30 * 86_400.0  # nobody is on the phone for a month: it is milliseconds sent as seconds


class Metric(Record, frozen=True, kw_only=True):
    """One measure of an experiment."""

    name: str
    kind: Kind
    direction: Direction
    unit: str = ""
    role: Role = "secondary"
    margin: float | None = None

    @property
    def sign(self) -> float:
        """1 where more is better, -1 where less is: times a difference, higher is better."""
        return 1.0 if self.direction == "increase" else -1.0

    @property
    def measure(self) -> measures.Metric:
        """The same as the engine takes it."""
        return measures.Metric(self.name, self.kind, self.direction, self.role, self.margin)


class NewMetric(Request, frozen=True, kw_only=True):
    """A metric as the manager declares it."""

    name: MetricName
    kind: Kind
    direction: Direction = "increase"
    unit: Annotated[str, Meta(max_length=20)] = ""
    role: Role = "secondary"
    margin: Annotated[float, Meta(ge=0.0, le=MAX_AMOUNT)] | None = None


DEFAULT_METRICS: tuple[Metric, ...] = (
    Metric(name="resolved", kind="binary", direction="increase", role="goal"),
    Metric(name="quality", kind="score", direction="increase"),
    Metric(name="duration_s", kind="amount", direction="decrease", unit="s"),
)
_DEFAULTS = {metric.name: metric for metric in DEFAULT_METRICS}


def declare(metrics: Sequence[NewMetric] | None, *, goal: str | None) -> tuple[Metric, ...]:
    """The metrics of a new experiment, exactly one of them the goal.

    Raises InvalidValue when names repeat, the goal is not among them, or a guardrail has no margin.
    """
    declared = [
        Metric(name=m.name, kind=m.kind, direction=m.direction, unit=m.unit, role=m.role, margin=m.margin)
        for m in metrics or ()
    ] or list(DEFAULT_METRICS)
    names = [metric.name for metric in declared]
    for index, metric in enumerate(declared):
        _check_metric(metric, index, names)
    goals = [metric.name for metric in declared if metric.role == "goal"]
    chosen = goal or (goals[0] if goals else names[0])
    if chosen not in names:
        raise InvalidValue(pointer="/goal", problem=f"{chosen!r} is not among the metrics {names}")
    if len(goals) > 1 and goal is None:
        raise InvalidValue(pointer="/metrics", problem=f"{goals} all have role 'goal'; choose one")
    return tuple(_with_role(metric, chosen) for metric in declared)


def _with_role(metric: Metric, goal: str) -> Metric:
    role: Role = "goal" if metric.name == goal else "secondary" if metric.role == "goal" else metric.role
    return Metric(
        name=metric.name,
        kind=metric.kind,
        direction=metric.direction,
        unit=metric.unit,
        role=role,
        margin=metric.margin if role == "guardrail" else None,
    )


def _check_metric(metric: Metric, index: int, names: list[str]) -> None:
    pointer = f"/metrics/{index}"
    if metric.name == ASSIGNED:
        raise InvalidValue(
            pointer=f"{pointer}/name", problem=f"{ASSIGNED!r} counts calls; choose another name"
        )
    if names.count(metric.name) > 1:
        raise InvalidValue(pointer=f"{pointer}/name", problem=f"{metric.name!r} stands there twice")
    if metric.role == "guardrail" and metric.margin is None:
        raise InvalidValue(
            pointer=f"{pointer}/margin", problem="a guardrail needs the margin by which it may get worse"
        )


MetricValue = bool | int | float


def outcome_value(name: str, value: MetricValue, declared: dict[str, Metric] | None) -> float:
    """The number to store for one metric of one outcome.

    Parameters
    ----------
    name : the metric.
    value : true or false for a binary metric, a number for a score or an amount.
    declared : the experiment's metrics by name; None when no experiment runs, then the default
        metrics keep their rules and any other finite number >= 0 (or true / false) is taken.

    Raises
    ------
    InvalidValue : unknown metric, wrong type, or out of bounds; the pointer names the metric.
    """
    pointer = f"/metrics/{escape_pointer(name)}"
    metric = (declared if declared is not None else _DEFAULTS).get(name)
    if metric is None and declared is not None:
        raise InvalidValue(
            pointer=pointer,
            problem=f"is not a metric of this experiment (it has {', '.join(sorted(declared))}); "
            "declare it in POST /experiments",
        )
    kind: Kind = metric.kind if metric else ("binary" if isinstance(value, bool) else "amount")
    unit = metric.unit if metric else ""
    return _checked(pointer, value, kind, unit)


def _checked(pointer: str, value: MetricValue, kind: Kind, unit: str) -> float:
    if kind == "binary":
        if not isinstance(value, bool):
            raise InvalidValue(pointer=pointer, problem=f"is {value!r}, must be true or false")
        return float(value)
    if isinstance(value, bool):
        raise InvalidValue(pointer=pointer, problem=f"is {value!r}, must be a number")
    bound = 1.0 if kind == "score" else MAX_SECONDS if unit == "s" else MAX_AMOUNT
    if not 0.0 <= value <= bound:
        raise InvalidValue(
            pointer=pointer, problem=f"is {value!r:.40}, must be in [0, {bound:g}]{_unit(unit)}"
        )
    return float(value)


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""
