"""Give a unit its version: what it was given before, or what the split says now."""

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment
from service.recording import keep_assignments, unit_of
from storage.locks import lock_units


async def assign(connection: AsyncConnection, proposals: list[Assignment]) -> list[Assignment]:
    """Record each proposal unless its unit has an assignment; what stands for each, in their order.

    A proposal is `domain.snapshot.derive(...)`: computed before the database is asked, so that the
    same answer can be given when the database does not answer in time.
    """
    units = [unit_of(item) for item in proposals]
    await lock_units(connection, units)
    standing = await keep_assignments(connection, proposals)
    return [standing[unit] for unit in units]


async def record_late(
    connection: AsyncConnection, proposals: list[Assignment]
) -> list[tuple[Assignment, Assignment]]:
    """Record assignments that were given while the database was away.

    Returns
    -------
    (given, standing) for the units where somebody recorded another answer first: that one stays.
    """
    pairs = zip(proposals, await assign(connection, proposals), strict=True)
    return [(given, kept) for given, kept in pairs if given.version.content_hash != kept.version.content_hash]
