"""The audit: who did what to which record; append-only, each entry with the hash of the one before.

Entries of a transaction are written at its end. They go one by one, under a lock that is the last one
that a transaction takes: whoever holds it waits for nobody, and holds it only while it commits.
"""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.audit import GENESIS, AuditAct, AuditEntry
from storage.locks import lock_audit
from storage.schema import audit as a

_ACTS = "promptbandit_audit_acts"


async def append_audit(
    connection: AsyncConnection,
    *,
    actor: str,
    action: str,
    record_type: str,
    record_id: object,
    now: dt.datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """One line, in the transaction of what it tells (`Database.writing`)."""
    act = AuditAct(
        at=now,
        actor=actor,
        action=action,
        record_type=record_type,
        record_id=str(record_id),
        before=before,
        after=after,
    )
    connection.info[_ACTS].append(act)


def begin_audit(connection: AsyncConnection) -> None:
    """A transaction begins, in which nothing has been done; what another one left undone is forgotten."""
    connection.info[_ACTS] = []


async def write_audit(connection: AsyncConnection) -> None:
    """The last statements of a transaction: what was done in it."""
    acts: list[AuditAct] = connection.info.pop(_ACTS)
    if not acts:
        return
    await lock_audit(connection)
    newest = sa.select(a.c.hash).order_by(a.c.id.desc()).limit(1)
    previous_hash = await connection.scalar(newest) or GENESIS
    for act in acts:
        digest = act.hash_after(previous_hash)
        said = {name: getattr(act, name) for name in AuditAct.__struct_fields__}
        await connection.execute(sa.insert(a).values(**said, previous_hash=previous_hash, hash=digest))
        previous_hash = digest


def _entry(row: sa.Row[Any]) -> AuditEntry:
    return AuditEntry(**{name: getattr(row, name) for name in AuditEntry.__struct_fields__})


async def list_audit(connection: AsyncConnection, *, limit: int, offset: int) -> list[AuditEntry]:
    """Entries, the newest first."""
    rows = await connection.execute(sa.select(a).order_by(a.c.id.desc()).limit(limit).offset(offset))
    return [_entry(row) for row in rows]


async def audit_after(connection: AsyncConnection, entry_id: int, *, limit: int) -> list[AuditEntry]:
    """Entries in their order, from the one after `entry_id` on."""
    rows = await connection.execute(sa.select(a).where(a.c.id > entry_id).order_by(a.c.id).limit(limit))
    return [_entry(row) for row in rows]
