"""Keys made without the command, which takes seconds for each."""

import datetime as dt
from collections.abc import Collection, Mapping

from domain.keys import Scope
from migrations import migrate
from service.manage_keys import create_key, revoke_key
from storage.database import Database


async def make_keys(
    url: str, scopes: Mapping[str, Scope], *, revoked: Collection[str] = ()
) -> dict[str, str]:
    """A key for each name, on a database that gets its tables here; those of `revoked` open nothing any more."""
    database = Database(url)
    try:
        await migrate(database)
        async with database.writing() as connection:
            now = dt.datetime.now(dt.UTC)
            keys = {
                name: await create_key(connection, scope, name=name, actor="test", now=now)
                for name, scope in scopes.items()
            }
            for name in revoked:
                await revoke_key(connection, keys[name].split("_")[2], actor="test", now=now)
            return keys
    finally:
        await database.close()
