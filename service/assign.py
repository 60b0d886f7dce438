"""Give a unit its version: what it was given before, or what the split says now."""

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment
from service.recording import keep_assignments, unit_of
from storage.locks import lock_units


async def assign(connection: AsyncConnection, proposal: Assignment) -> Assignment:
    """Record `proposal` unless the unit has an assignment; return what stands.

    The proposal is `domain.snapshot.derive(...)`: computed before the database is asked, so that the
    same answer can be given when the database does not answer in time.
    """
    unit = unit_of(proposal)
    await lock_units(connection, [unit])
    return (await keep_assignments(connection, [proposal]))[unit]


async def record_late(
    connection: AsyncConnection, proposals: list[Assignment]
) -> list[tuple[Assignment, Assignment]]:
    """Record assignments that were given while the database was away.

    Returns
    -------
    (given, standing) for the units where somebody recorded another answer first: that one stays.
    """
    await lock_units(connection, [unit_of(item) for item in proposals])
    standing = await keep_assignments(connection, proposals)
    pairs = [(item, standing[unit_of(item)]) for item in proposals]
    return [(given, kept) for given, kept in pairs if given.version.content_hash != kept.version.content_hash]
