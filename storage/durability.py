"""Whether PostgreSQL keeps its word: settings under which a commit may be lost although it was told."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.locks import is_sqlite

# Each off: after a power cut, rows that were acknowledged are gone, or the database itself is damaged.
NEEDED = ("fsync", "full_page_writes", "synchronous_commit")


async def weak_settings(connection: AsyncConnection) -> list[str]:
    """Which of the needed settings are off for this connection; none on SQLite, whose settings are ours."""
    if is_sqlite(connection):
        return []
    # current_setting, not pg_settings: the one row a name, and no view that a role may be denied.
    told = {name: sa.func.current_setting(name) for name in NEEDED}
    row = (await connection.execute(sa.select(*(value.label(name) for name, value in told.items())))).one()
    return [name for name in NEEDED if row._mapping[name] == "off"]
