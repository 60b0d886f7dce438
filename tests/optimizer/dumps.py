"""All that a database holds, as text."""

from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from storage.database import Database
from storage.schema import metadata


async def rows_of(database: Database) -> dict[str, list[Any]]:
    """The rows of every table."""
    async with database.reading() as connection:
        return {
            table.name: [tuple(row) for row in await connection.execute(sa.select(table))]
            for table in metadata.sorted_tables
        }


async def dump(database: Database) -> dict[str, str]:
    """Every table as text, letters as they are; what stood as JSON in a text stands there once more, read."""
    return {name: str(rows) + _read(rows) for name, rows in (await rows_of(database)).items()}


def _read(rows: list[Any]) -> str:
    read = []
    for value in (value for row in rows for value in row if isinstance(value, str)):
        try:
            read.append(str(msgspec.json.decode(value)))
        except msgspec.DecodeError:
            continue
    return "".join(read)


def file_of(database: Database) -> str:
    """The bytes of SQLite's files, as far as they are text; nothing on PostgreSQL."""
    if not database.is_sqlite:
        return ""
    path = Path(str(database.url.database))
    return "".join(file.read_bytes().decode(errors="replace") for file in path.parent.glob(f"{path.name}*"))
