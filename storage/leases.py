"""Leases: who does a long work now, without a lock or a transaction held while it lasts.

A holder takes a lease for some seconds and renews it while it works. Who dies stops renewing, and somebody
else takes the lease over. Each step is one statement and goes by the database's clock, so neither the clocks
of the machines nor a pooler between them matter. What a holder does after its lease has run out must do no
harm beside another holder: renew before each step that writes, and stop when that says no.
"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.locks import is_sqlite
from storage.schema import leases

Moment = sa.ColumnElement[object]


async def take_lease(connection: AsyncConnection, name: str, *, holder: str, for_s: float) -> bool:
    """Take the lease if it is free, has run out, or is the holder's own already; whether it is the holder's now.

    Parameters
    ----------
    holder : a name that nobody else has, such as a random one a run.
    for_s : how long it lasts unless it is renewed; some times the longest step between two renewals.
    """
    at = _now_plus(connection, 0.0)
    row = {"name": name, "holder": holder, "until": _now_plus(connection, for_s)}
    new = _insert(connection).values(row)
    taken = new.on_conflict_do_update(
        index_elements=[leases.c.name],
        set_={"holder": new.excluded.holder, "until": new.excluded.until},
        where=sa.or_(leases.c.until <= at, leases.c.holder == holder),
    )
    return await connection.scalar(taken.returning(leases.c.holder)) is not None


async def renew_lease(connection: AsyncConnection, name: str, *, holder: str, for_s: float) -> bool:
    """Keep the lease so much longer from now; False when it is lost: then stop.

    One that has run out and that nobody took meanwhile is still the holder's.
    """
    mine = (leases.c.name == name) & (leases.c.holder == holder)
    query = sa.update(leases).where(mine).values(until=_now_plus(connection, for_s))
    return await connection.scalar(query.returning(leases.c.holder)) is not None


async def release_lease(connection: AsyncConnection, name: str, *, holder: str) -> bool:
    """Give the lease back; False when it was lost before."""
    mine = (leases.c.name == name) & (leases.c.holder == holder)
    return await connection.scalar(sa.delete(leases).where(mine).returning(leases.c.holder)) is not None


async def break_lease(connection: AsyncConnection, name: str) -> None:
    """Take it away from whoever has it: the next renewal says no."""
    await connection.execute(sa.delete(leases).where(leases.c.name == name))


def _insert(connection: AsyncConnection) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(leases) if is_sqlite(connection) else postgresql.insert(leases)


def _now_plus(connection: AsyncConnection, seconds: float) -> Moment:
    """A moment by the database's clock, not the transaction's: a statement may have waited for another one."""
    if is_sqlite(connection):
        # As our times are stored: microseconds, of which SQLite knows the first three.
        at = sa.func.strftime("%Y-%m-%d %H:%M:%f", "now", f"{seconds:+.3f} seconds")
        return sa.type_coerce(at.concat("000"), leases.c.until.type)
    return sa.func.clock_timestamp() + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
