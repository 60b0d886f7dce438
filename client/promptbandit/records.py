"""What travels between client and server, and what the client tells its user. Unknown fields are skipped,
so that a newer server can say more."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

MetricValue = bool | int | float | None


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """The prompt a call gets; `id` and `number` are None for a fallback, which no server has stored.

    Treat `tools_config` and `metadata` as read-only: units that were given one version share them.
    """

    id: int | None
    number: int | None
    name: str
    system_prompt: str
    tools_config: list[Any] | dict[str, Any]
    metadata: dict[str, Any]
    content_hash: str


class Assignment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a unit was given.

    Attributes
    ----------
    experiment, variant, allocation, probability : where an experiment runs, else None; `probability` is
        that of this variant under the split at the time.
    reason : SPLIT (experiment), STATIC (active version), STALE (the server's last known split), DEFAULT
        (a hard-coded prompt: the server's, or with `source` "fallback" the client's).
    source : who chose: "server", or "fallback" when the server did not answer in time.
    """

    prompt: str
    unit_id: str
    version: Version
    experiment: str | None = None
    variant: str | None = None
    allocation: int | None = None
    probability: float | None = None
    reason: str
    source: Literal["server", "fallback"] = "server"


class AssignmentRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `POST /assignments`."""

    prompt: str
    unit_id: str
    segment: str | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item of the body of `POST /outcomes`."""

    prompt: str
    unit_id: str
    metrics: dict[str, MetricValue]
    occurred_at: dt.datetime
    allocation: int | None = None
    segment: str | None = None
    content_hash: str | None = None
    transcript: Sequence[Mapping[str, Any]] | None = None
    known_values: Mapping[str, str | int | None] | None = None
    caller: str | None = None


class OutcomeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the server did with one outcome; `problem` says why it was rejected."""

    status: str
    problem: dict[str, Any] | None = None


class OutcomeResults(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `POST /outcomes`, in the order of the outcomes."""

    results: list[OutcomeResult]


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """How many outcomes went which way since the client was made.

    Every recorded outcome is in exactly one of `sent`, `dropped` and `waiting`.

    Attributes
    ----------
    sent : acknowledged by the server, whatever it answered; the sum of the next five, unless a newer
        server knows further answers.
    accepted, unchanged, revised, parked, rejected : the server's answers.
    dropped : given up by the client: outbox full, request refused, or undelivered at close().
    attempts : requests made to deliver outcomes.
    waiting : in the outbox, those on their way included.
    """

    sent: int = 0
    accepted: int = 0
    unchanged: int = 0
    revised: int = 0
    parked: int = 0
    rejected: int = 0
    dropped: int = 0
    attempts: int = 0
    waiting: int = 0
