"""The audit: who did what to which record; append-only."""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.audit import AuditEntry
from storage.schema import audit as a


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
    """One line, in the transaction of what it tells."""
    await connection.execute(
        sa.insert(a).values(
            at=now,
            actor=actor,
            action=action,
            record_type=record_type,
            record_id=str(record_id),
            before=before,
            after=after,
        )
    )


async def list_audit(connection: AsyncConnection, *, limit: int, offset: int) -> list[AuditEntry]:
    """Entries, the newest first."""
    rows = await connection.execute(sa.select(a).order_by(a.c.id.desc()).limit(limit).offset(offset))
    return [
        AuditEntry(
            id=row.id,
            at=row.at,
            actor=row.actor,
            action=row.action,
            record_type=row.record_type,
            record_id=row.record_id,
            before=row.before,
            after=row.after,
        )
        for row in rows
    ]
