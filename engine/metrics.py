"""What is measured about a unit: kind, direction and role of a metric. Loads neither numpy nor scipy."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

Kind = Literal["binary", "score", "amount"]
Direction = Literal["increase", "decrease"]
Role = Literal["goal", "secondary", "guardrail"]
# What an always-valid test may show of an arm against the control.
Claim = Literal["better", "worse", "not_above", "not_below", "harmed", "missing"]
ASSIGNED = "assigned"  # the row of counts that counts units, not outcomes; no metric may take the name


@dataclass(frozen=True, slots=True)
class Metric:
    """One measure of a unit.

    Attributes
    ----------
    name : Of the metric; in a frame, of its column.
    kind : "binary" is 0 or 1, "score" lies in [0, 1], "amount" is at least 0.
    direction : Which way is better.
    role : "goal" decides; a "guardrail" may not get worse by more than `margin`, in the metric's unit.
    """

    name: str
    kind: Kind
    direction: Direction = "increase"
    role: Role = "secondary"
    margin: float | None = None

    @property
    def sign(self) -> float:
        """1 where more is better, -1 where less is: times a difference, higher is better."""
        return 1.0 if self.direction == "increase" else -1.0


class _Declared(Metric):
    """A metric as a data scientist declares it: its class is its kind."""

    _kind: ClassVar[Kind]
    __slots__ = ()

    def __init__(
        self,
        name: str,
        *,
        better: Direction = "increase",
        goal: bool = False,
        margin: float | int | None = None,
    ) -> None:
        _fill(self, name, self._kind, better, goal, margin)


class Binary(_Declared):
    """A metric that is 0 or 1, false or true.

    Parameters
    ----------
    better : "increase" or "decrease".
    goal : Whether it decides.
    margin : Makes it a guardrail that may get worse by so much.

    Examples
    --------
    >>> Binary("resolved", goal=True).role
    'goal'
    """

    _kind = "binary"
    __slots__ = ()


class Score(_Declared):
    """A metric in [0, 1]; parameters as for `Binary`.

    Examples
    --------
    >>> Score("quality", margin=0.02).role
    'guardrail'
    """

    _kind = "score"
    __slots__ = ()


class Amount(_Declared):
    """A metric that is at least 0 and has no upper bound, such as seconds or money; parameters as for `Binary`.

    Examples
    --------
    >>> Amount("duration_s", better="decrease").sign
    -1.0
    """

    _kind = "amount"
    __slots__ = ()


def _fill(
    metric: Metric, name: str, kind: Kind, better: Direction, goal: bool, margin: float | int | None
) -> None:
    if better not in ("increase", "decrease"):
        raise ValueError(f"better == {better!r} of {name!r}, must be 'increase' or 'decrease'")
    if margin is not None and not (math.isfinite(margin) and margin >= 0.0):
        raise ValueError(
            f"margin == {margin!r} of {name!r}, must be at least 0; it is how much worse it may get"
        )
    if goal and margin is not None:
        raise ValueError(f"{name!r} is the goal and has a margin; the goal decides, a guardrail only stops")
    role: Role = "goal" if goal else "secondary" if margin is None else "guardrail"
    fields = {"name": name, "kind": kind, "direction": better, "role": role}
    for field, value in fields.items():
        object.__setattr__(metric, field, value)
    object.__setattr__(metric, "margin", None if margin is None else float(margin))
