"""Make, list and revoke API keys."""

import datetime as dt
import secrets

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import KeyNotFound
from domain.keys import ApiKey, Scope, mint
from storage.audit import append_audit
from storage.keys import find_key, insert_key
from storage.keys import revoke_key as store_revoked


async def create_key(
    connection: AsyncConnection, scope: Scope, *, name: str, actor: str, now: dt.datetime
) -> str:
    """A new key; its text is returned once and never stored."""
    text, prefix, secret_hash = mint(
        scope, prefix_bytes=secrets.token_bytes(6), secret_bytes=secrets.token_bytes(32)
    )
    key = ApiKey(prefix=prefix, secret_hash=secret_hash, scopes=(scope,), name=name, created_at=now)
    await insert_key(connection, key)
    await append_audit(
        connection,
        actor=actor,
        action="create_key",
        record_type="api_key",
        record_id=prefix,
        now=now,
        after={"scopes": [scope], "name": name},
    )
    return text


async def revoke_key(connection: AsyncConnection, prefix: str, *, actor: str, now: dt.datetime) -> None:
    """The key opens nothing any more, within 5 seconds on every server; KeyNotFound if there is none."""
    if await find_key(connection, prefix) is None:
        raise KeyNotFound(prefix=prefix)
    await store_revoked(connection, prefix, now)
    await append_audit(
        connection, actor=actor, action="revoke_key", record_type="api_key", record_id=prefix, now=now
    )
