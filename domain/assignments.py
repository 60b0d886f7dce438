"""Assignments: what a unit was given, once and for ever."""

import datetime as dt
from typing import Literal

from domain.fields import Name, Record, Request, Segment, UnitId
from domain.prompts import ServedVersion

Reason = Literal["SPLIT", "STATIC", "STALE", "DEFAULT"]


class NewAssignment(Request, frozen=True, kw_only=True):
    """`POST /assignments`."""

    prompt: Name
    unit_id: UnitId
    segment: Segment | None = None


class Assignment(Record, frozen=True, kw_only=True, gc=False):
    """What a unit was given: the version, and where an experiment ran also variant and probability.

    `prompt_id` is null only for a DEFAULT answer given while nothing was known of the database. A server holds
    tens of thousands, in which the garbage collector has nothing to look for.
    """

    prompt: str
    prompt_id: int | None
    unit_id: str
    version: ServedVersion
    experiment: str | None = None
    experiment_id: int | None = None
    variant: str | None = None
    variant_id: int | None = None
    allocation: int | None = None
    probability: float | None = None
    segment: str | None = None
    reason: Reason
    assigned_at: dt.datetime

    def given(self) -> "Given":
        """What its outcomes need to know."""
        return Given(
            experiment_id=self.experiment_id,
            variant_id=self.variant_id,
            allocation=self.allocation,
            segment=self.segment,
            reason=self.reason,
            content_hash=self.version.content_hash,
            assigned_at=self.assigned_at,
        )

    def answer(self) -> "AssignmentAnswer":
        """What the agent sees."""
        return AssignmentAnswer(
            prompt=self.prompt,
            unit_id=self.unit_id,
            version=self.version,
            experiment=self.experiment,
            variant=self.variant,
            allocation=self.allocation,
            probability=self.probability,
            reason=self.reason,
        )


class Given(Record, frozen=True, kw_only=True):
    """What a unit's outcomes need to know of its assignment."""

    experiment_id: int | None
    variant_id: int | None
    allocation: int | None
    segment: str | None
    reason: Reason
    content_hash: str
    assigned_at: dt.datetime


class AssignmentAnswer(Record, frozen=True, kw_only=True):
    """The answer of `POST /assignments`."""

    prompt: str
    unit_id: str
    version: ServedVersion
    experiment: str | None
    variant: str | None
    allocation: int | None
    probability: float | None
    reason: Reason
