"""Many rows by one parameter: PostgreSQL gets them as one JSON text, whatever their number.

A statement with a parameter for every value costs SQLAlchemy and the server more than the rows do, and is
another statement for every number of rows. SQLite gets rows one by one from C, which costs it less.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.locks import is_sqlite

Row = Mapping[str, Any]


def insert_into(connection: AsyncConnection, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT in the connection's dialect."""
    return (sqlite if is_sqlite(connection) else postgresql).insert(table)


def among(
    connection: AsyncConnection, columns: Sequence[sa.Column[Any]], keys: Iterable[Sequence[Any]]
) -> sa.ColumnElement[bool]:
    """The condition that a row's `columns` are one of `keys`."""
    if is_sqlite(connection):
        return sa.tuple_(*columns).in_([tuple(key) for key in keys])
    names = [column.name for column in columns]
    told = _told(columns, [dict(zip(names, key, strict=True)) for key in keys])
    return sa.tuple_(*columns).in_(sa.select(*told.c))


async def insert_rows(
    connection: AsyncConnection, insert: Any, rows: Sequence[Row], returning: Sequence[sa.Column[Any]]
) -> Sequence[sa.Row[Any]]:
    """Insert rows, each with the same columns; what `insert` says about conflicts holds.

    Returns
    -------
    The `returning` columns of the rows that were written, in any order.
    """
    if not rows:
        return []
    if is_sqlite(connection):
        return (await connection.execute(insert.returning(*returning), list(rows))).all()
    names = list(rows[0])
    told = _told([insert.table.c[name] for name in names], rows)
    return (
        await connection.execute(insert.from_select(names, sa.select(*told.c)).returning(*returning))
    ).all()


def _told(columns: Sequence[sa.Column[Any]], rows: Sequence[Row]) -> sa.TableValuedAlias:
    """The rows as a table."""
    text = sa.cast(sa.literal(_json(rows), sa.Text), postgresql.JSON)
    named = [sa.column(column.name, column.type) for column in columns]
    return sa.func.json_to_recordset(text).table_valued(*named).render_derived(with_types=True)


def _json(rows: Sequence[Row]) -> str:
    for row in rows:
        for value in row.values():
            if isinstance(value, dt.datetime) and value.tzinfo is None:
                raise ValueError(f"naive datetime {value!r}; give it a time zone")
    return msgspec.json.encode(rows).decode()
