"""Outcomes: one value of one metric for one unit, and what telling it again means.

`settle` is the heart of the ingestion and pure: stored values in, rows to write and count deltas out.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from domain.errors import TimestampOutOfRange
from domain.fields import (
    METRIC_PATTERN,
    ContentHash,
    Id,
    MetricName,
    Name,
    Record,
    Request,
    Segment,
    Time,
    UnitId,
)
from domain.metrics import Metric, MetricValue, outcome_value

OutcomeStatus = Literal["accepted", "unchanged", "revised", "parked", "rejected"]
MAX_OUTCOMES = 1_000
CLOCK_TOLERANCE = dt.timedelta(minutes=5)  # agents' clocks differ from ours by less
EARLIEST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)  # before it a clock was never set: year 1, 1970


class Turn(Request, frozen=True, kw_only=True):
    """One turn of a transcript."""

    role: Annotated[str, Meta(min_length=1, max_length=50)]
    content: str | None = None
    name: Annotated[str, Meta(max_length=200)] | None = None
    tool_calls: list[Any] | None = None


Transcript = Annotated[
    list[Turn],
    Meta(max_length=2_000, description="the turns of the call; redacted before they are stored"),
]
KnownFields = Annotated[
    dict[
        Annotated[str, Meta(min_length=1, max_length=40, pattern=METRIC_PATTERN)],
        Annotated[str, Meta(max_length=500)] | int | None,
    ],
    Meta(
        max_length=50,
        description="what the agent knows of the caller, such as caller_name or order_id: taken out of the "
        "transcript wherever it stands, and not stored itself",
    ),
]
Caller = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        description="who called, such as a telephone number or a customer's id: one caller counts once, however "
        "often; not stored, only a keyed hash of it beside the transcript",
    ),
]


class NewOutcome(Request, frozen=True, kw_only=True):
    """`POST /outcomes`: what became of a call; a null value is missing, never a failure."""

    prompt: Name
    unit_id: UnitId
    metrics: Annotated[dict[MetricName, MetricValue | None], Meta(min_length=1, max_length=30)]
    occurred_at: Time | None = None
    allocation: Id | None = None
    segment: Segment | None = None
    content_hash: ContentHash | None = None
    transcript: Transcript | None = None
    known_values: KnownFields | None = None
    caller: Caller | None = None


class OutcomeResult(Record, frozen=True, kw_only=True):
    """What happened to one outcome; `problem` is the problem document of a rejected one."""

    prompt: str
    unit_id: str
    status: OutcomeStatus
    problem: dict[str, Any] | None = None


class StoredOutcome(Record, frozen=True, kw_only=True):
    """A row of `outcomes`, as far as telling it again needs it."""

    value: float
    occurred_at: dt.datetime
    received_at: dt.datetime
    revision: int


class Place(Record, frozen=True, kw_only=True):
    """Where a unit's outcomes are counted."""

    experiment_id: int
    allocation_id: int
    variant_id: int
    segment: str


class Delta(Record, frozen=True, kw_only=True):
    """What one metric's sufficient statistics change by."""

    n: int = 0
    total: float = 0.0
    total_sq: float = 0.0

    def __add__(self, other: "Delta") -> "Delta":
        """Deltas of the same counts row add."""
        return Delta(
            n=self.n + other.n, total=self.total + other.total, total_sq=self.total_sq + other.total_sq
        )


class Settled(Record, frozen=True, kw_only=True):
    """What one outcome does: values that are new, values that replace others, and the count deltas."""

    status: OutcomeStatus
    inserted: dict[str, StoredOutcome]
    revised: dict[str, tuple[StoredOutcome, StoredOutcome]]
    deltas: dict[str, Delta]


def settle(
    new: NewOutcome,
    *,
    stored: Mapping[str, StoredOutcome],
    superseded: Mapping[str, set[tuple[float, dt.datetime]]],
    metrics: dict[str, Metric] | None,
    assigned: bool,
    counted: bool,
    now: dt.datetime,
) -> Settled:
    """Decide what telling `new` changes.

    Parameters
    ----------
    stored : the unit's values so far, by metric.
    superseded : values that later ones replaced, by metric, so that an old message delivered again
        does not undo its correction.
    metrics : the experiment's metrics by name; None where the unit is in no experiment.
    assigned : whether the unit's assignment is known; if not, the outcome is parked.
    counted : whether the unit's outcomes are counted, that is, it is in an experiment.
    now : the server's time, UTC.

    Raises
    ------
    InvalidValue : a metric is unknown or its value impossible. Nothing is half done.
    """
    inserted: dict[str, StoredOutcome] = {}
    revised: dict[str, tuple[StoredOutcome, StoredOutcome]] = {}
    deltas: dict[str, Delta] = {}
    for name, raw in new.metrics.items():
        if raw is None:
            continue
        value = outcome_value(name, raw, metrics)
        old = stored.get(name)
        fresh = StoredOutcome(
            value=value,
            occurred_at=new.occurred_at or now,
            received_at=now,
            revision=old.revision + 1 if old else 0,
        )
        if old is None:
            inserted[name] = fresh
        elif _is_news(fresh, old, told_when=new.occurred_at, superseded=superseded.get(name, set())):
            revised[name] = (old, fresh)
        else:
            continue
        if counted:
            deltas[name] = _delta(fresh) + (_delta(old, sign=-1) if old else Delta())
    status = _status(inserted, revised, assigned=assigned)
    return Settled(status=status, inserted=inserted, revised=revised, deltas=deltas)


def _is_news(
    fresh: StoredOutcome,
    old: StoredOutcome,
    *,
    told_when: dt.datetime | None,
    superseded: set[tuple[float, dt.datetime]],
) -> bool:
    if fresh.value == old.value:
        return False
    if told_when is None:
        return True
    # An older message that arrives late, or a replaced one delivered again, must not undo the newer one.
    return told_when >= old.occurred_at and (fresh.value, told_when) not in superseded


def _status(inserted: Mapping[str, Any], revised: Mapping[str, Any], *, assigned: bool) -> OutcomeStatus:
    if not inserted and not revised:
        return "unchanged"
    if not assigned:
        return "parked"
    return "revised" if revised else "accepted"


def delta_of(value: float) -> Delta:
    """What one value adds to its sufficient statistics."""
    return Delta(n=1, total=value, total_sq=value * value)


def _delta(outcome: StoredOutcome, sign: int = 1) -> Delta:
    delta = delta_of(outcome.value)
    return Delta(n=sign * delta.n, total=sign * delta.total, total_sq=sign * delta.total_sq)


def check_time(new: NewOutcome, *, assigned_at: dt.datetime | None, now: dt.datetime) -> None:
    """Raise TimestampOutOfRange when the outcome lies in the future, before its call, or before 2000."""
    when = new.occurred_at
    if when is None:
        return
    if when < EARLIEST:
        problem = f"lies before {EARLIEST.year}; check the agent's clock"
        raise TimestampOutOfRange(pointer="/occurred_at", problem=problem)
    if when > now + CLOCK_TOLERANCE:
        problem = f"lies in the future (server time {now.isoformat()}); check the agent's clock"
        raise TimestampOutOfRange(pointer="/occurred_at", problem=problem)
    if assigned_at is not None and when < assigned_at - CLOCK_TOLERANCE:
        problem = f"lies before the call was assigned ({assigned_at.isoformat()}); check unit_id and clock"
        raise TimestampOutOfRange(pointer="/occurred_at", problem=problem)
