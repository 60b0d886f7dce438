"""An allocation: a split with a start, and what it was computed from."""

import datetime as dt

from domain.fields import JsonObject, Record


class Allocation(Record, frozen=True, kw_only=True):
    """A split that stood still from `created_at` until the next one; append-only.

    `split` is in basis points by variant key (10 000 in all); `probability_best` is the raw split by
    variant key before floors and caps, null for a split that nobody computed.
    """

    id: int
    experiment_id: int
    number: int
    split: dict[str, int]
    probability_best: dict[str, float] | None
    policy: str
    counts: JsonObject
    seed: int | None
    engine_version: str
    created_at: dt.datetime
