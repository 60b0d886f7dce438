"""Calls that happened elsewhere, as a file tells them."""

from typing import Annotated

from msgspec import Meta

from domain.fields import MetricName, Record, Request, Segment, Time, UnitId, VariantKey
from domain.metrics import MetricValue
from domain.outcomes import Caller, KnownFields, Transcript


class ImportedCall(Request, frozen=True, kw_only=True):
    """One line of an import file; `variant` tells the arm where the file holds an experiment."""

    unit_id: UnitId
    metrics: Annotated[dict[MetricName, MetricValue | None], Meta(min_length=1, max_length=30)]
    variant: VariantKey | None = None
    segment: Segment | None = None
    transcript: Transcript | None = None
    known_values: KnownFields | None = None
    caller: Caller | None = None
    occurred_at: Time | None = None


class Imported(Record, frozen=True, kw_only=True):
    """How many outcomes had each status, and the refused ones with their line (from 1)."""

    statuses: dict[str, int]
    refused: tuple[tuple[int, str], ...]
