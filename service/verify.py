"""Check that what is counted equals what was told."""

import datetime as dt
import math
from collections.abc import Iterator

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.fields import Record
from domain.outcomes import Delta
from domain.standings import Verification
from storage.recount import StoredCounts, stored_and_recomputed
from storage.standings import append_verification

# Sums of the same numbers in another order differ by rounding, 1e-16 a step; a lost outcome by far more.
SUM_TOLERANCE = 1e-9


class Difference(Record, frozen=True, kw_only=True):
    """A counts row that is not what its outcomes add up to."""

    experiment_id: int
    allocation_id: int
    variant_id: int
    segment: str
    metric: str
    stored: Delta
    recomputed: Delta


class Verified(Record, frozen=True, kw_only=True):
    """How many rows were compared, and the differences (none is how it has to be)."""

    rows: int
    differences: tuple[Difference, ...]


async def verify(connection: AsyncConnection) -> Verified:
    """Recompute every count from assignments and outcomes, as they all stood at one moment."""
    stored, recomputed = await stored_and_recomputed(connection)
    keys = sorted(set(stored) | set(recomputed))
    return Verified(rows=len(keys), differences=tuple(_differences(keys, stored, recomputed)))


async def note_verified(connection: AsyncConnection, found: Verified, *, now: dt.datetime) -> None:
    """Keep what was found, so that whoever watches sees that it was looked, and when."""
    first = found.differences[0] if found.differences else None
    await append_verification(
        connection,
        Verification(
            at=now,
            compared=found.rows,
            differences=len(found.differences),
            first_difference=msgspec.to_builtins(first),
        ),
    )


def _differences(
    keys: list[tuple[object, ...]], stored: StoredCounts, recomputed: StoredCounts
) -> Iterator[Difference]:
    nothing = Delta()
    for key in keys:
        have, want = stored.get(key, nothing), recomputed.get(key, nothing)
        if not same(have, want):
            names = ("experiment_id", "allocation_id", "variant_id", "segment", "metric")
            yield Difference(**dict(zip(names, key, strict=True)), stored=have, recomputed=want)  # type: ignore[arg-type]


def same(have: Delta, want: Delta) -> bool:
    """Equal numbers of outcomes, and sums equal up to rounding."""
    return (
        have.n == want.n
        and math.isclose(have.total, want.total, rel_tol=SUM_TOLERANCE, abs_tol=SUM_TOLERANCE)
        and math.isclose(have.total_sq, want.total_sq, rel_tol=SUM_TOLERANCE, abs_tol=SUM_TOLERANCE)
    )
