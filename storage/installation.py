"""What is this installation's own: random secrets that no other database has."""

import secrets
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.locks import is_sqlite
from storage.schema import installation as i

CALLERS = "callers"  # key of the marks in `transcripts.caller`


async def secret_of(connection: AsyncConnection, name: str) -> str:
    """The secret of this name; made, and the same for everybody, when it is asked for first."""
    query = sa.select(i.c.value).where(i.c.name == name)
    found: str | None = await connection.scalar(query)
    if found is None:
        insert: Any = (sqlite if is_sqlite(connection) else postgresql).insert(i)
        row = {"name": name, "value": secrets.token_hex(32)}
        # Whoever comes second waits here, and then reads the first one's.
        await connection.execute(insert.values(row).on_conflict_do_nothing())
        found = str((await connection.execute(query)).scalar_one())
    return found
