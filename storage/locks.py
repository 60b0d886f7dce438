"""Locks that a transaction holds until it ends. SQLite has one writer, so there they are nothing.

Rows are held FOR NO KEY UPDATE: one holder at a time, and calls can still be recorded, since their
foreign keys only need the row to stay (FOR UPDATE would make them wait for a manager's transaction).
"""

import hashlib
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.schema import experiments, prompts

# Ordered inside, locked outside: PostgreSQL may otherwise lock before it sorts. Counted, so that no row travels.
_LOCK = sa.text(
    "SELECT count(pg_advisory_xact_lock(key)) FROM"
    " (SELECT key FROM unnest(CAST(:keys AS bigint[])) AS key ORDER BY key OFFSET 0) AS ordered"
)


def is_sqlite(connection: AsyncConnection) -> bool:
    """Whether the connection talks to SQLite."""
    return connection.dialect.name == "sqlite"


async def lock_prompt(connection: AsyncConnection, prompt_id: int) -> None:
    """Hold the prompt: activations, new versions and experiment starts of one prompt go one by one."""
    query = sa.select(prompts.c.id).where(prompts.c.id == prompt_id)
    await connection.execute(query.with_for_update(key_share=True))


async def lock_experiment(connection: AsyncConnection, experiment_id: int) -> None:
    """Hold the experiment: changes of its variants and splits go one by one."""
    query = sa.select(experiments.c.id).where(experiments.c.id == experiment_id)
    await connection.execute(query.with_for_update(key_share=True))


async def try_lock_experiment(connection: AsyncConnection, experiment_id: int) -> bool:
    """Hold the experiment unless somebody else does: then False at once."""
    query = sa.select(experiments.c.id).where(experiments.c.id == experiment_id)
    found = await connection.scalar(query.with_for_update(key_share=True, skip_locked=True))
    return found is not None


async def lock_units(connection: AsyncConnection, units: Iterable[tuple[int, str]]) -> None:
    """Hold the units (prompt id, unit id): their assignment and outcomes change one by one.

    This closes the race between an outcome that finds no assignment yet and the assignment that
    finds no outcome yet. Locks are taken in the order of their keys, so two batches cannot wait for
    each other in a circle. They end with the transaction, so pgbouncer in transaction mode keeps them.
    """
    if is_sqlite(connection):
        return
    keys = sorted({_key(prompt_id, unit_id) for prompt_id, unit_id in units})
    await connection.execute(_LOCK, {"keys": keys})


async def lock_audit(connection: AsyncConnection) -> None:
    """Hold the end of the audit. The last lock of a transaction: nobody who holds it waits for another.

    A lock of two numbers, which no unit's lock of one can meet.
    """
    if not is_sqlite(connection):
        await connection.execute(sa.text("SELECT pg_advisory_xact_lock(20546, 1)"))


def _key(prompt_id: int, unit_id: str) -> int:
    digest = hashlib.sha256(f"{prompt_id}/{unit_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
