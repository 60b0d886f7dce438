"""API keys."""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.keys import ApiKey
from storage.schema import api_keys as k


def _key(row: sa.Row[Any]) -> ApiKey:
    return ApiKey(
        prefix=row.prefix,
        secret_hash=row.secret_hash,
        scopes=tuple(row.scopes),
        name=row.name,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )


async def insert_key(connection: AsyncConnection, key: ApiKey) -> None:
    """Store a key; never its secret."""
    await connection.execute(
        sa.insert(k).values(
            prefix=key.prefix,
            secret_hash=key.secret_hash,
            scopes=list(key.scopes),
            name=key.name,
            created_at=key.created_at,
        )
    )


async def find_key(connection: AsyncConnection, prefix: str) -> ApiKey | None:
    """The key of that prefix, revoked or not."""
    row = (await connection.execute(sa.select(k).where(k.c.prefix == prefix))).first()
    return _key(row) if row else None


async def list_keys(connection: AsyncConnection) -> list[ApiKey]:
    """All keys, the oldest first."""
    return [_key(row) for row in await connection.execute(sa.select(k).order_by(k.c.created_at, k.c.id))]


async def revoke_key(connection: AsyncConnection, prefix: str, now: dt.datetime) -> None:
    """Mark the key revoked; a key revoked before keeps its time."""
    await connection.execute(
        sa.update(k).where(k.c.prefix == prefix, k.c.revoked_at.is_(None)).values(revoked_at=now)
    )


async def touch_keys(connection: AsyncConnection, used: dict[str, dt.datetime]) -> None:
    """Note when keys were last used."""
    for prefix, at in sorted(used.items()):
        await connection.execute(sa.update(k).where(k.c.prefix == prefix).values(last_used_at=at))
