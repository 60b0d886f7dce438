"""Many rows by one parameter: PostgreSQL gets them as one JSON text, whatever their number.

A statement with a parameter for every value costs SQLAlchemy and the server more than the rows do, and is
another statement for every number of rows. SQLite gets rows one by one from C, which costs it less.
Statements are built once: building one costs as much as executing it.
"""

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.locks import is_sqlite

Row = Mapping[str, Any]
Columns = tuple[sa.Column[Any], ...]


async def select_among(
    connection: AsyncConnection, query: sa.Select[Any], columns: Columns, keys: Collection[Sequence[Any]]
) -> sa.CursorResult[Any]:
    """The rows of `query` whose `columns` are one of `keys`; `query` is one that is kept, not made for this."""
    statement = _among(query, columns, is_sqlite(connection))
    told = _parts(keys) if is_sqlite(connection) else _text(columns, keys)
    rows: sa.CursorResult[Any] = await connection.execute(statement, told)
    return rows


async def insert_rows(
    connection: AsyncConnection, table: sa.Table, rows: Sequence[Row], finish: Callable[[Any], Any]
) -> Sequence[sa.Row[Any]]:
    """Insert rows, each with the same columns.

    Parameters
    ----------
    finish : a named function that says to an INSERT what it does about conflicts and what it returns; it has to
        return something, see `storage.database`.

    Returns
    -------
    What the rows that were written return, in any order.
    """
    if not rows:
        return []
    statement = _insert(table, tuple(rows[0]), finish, is_sqlite(connection))
    told: Any = list(rows) if is_sqlite(connection) else {"told": _json(rows)}
    return (await connection.execute(statement, told)).all()


@cache
def _among(query: sa.Select[Any], columns: Columns, on_sqlite: bool) -> sa.Select[Any]:
    if on_sqlite:
        # For a pair alone SQLite reads every row of the prompt: 150 ms of 300 000. The single columns, which
        # the pair implies, let it go by the index: 0.1 ms.
        single = [
            column.in_(sa.bindparam(f"told_{index}", expanding=True)) for index, column in enumerate(columns)
        ]
        return query.where(sa.tuple_(*columns).in_(sa.bindparam("told", expanding=True)), *single)
    return query.where(sa.tuple_(*columns).in_(_told(columns)))


@cache
def _insert(
    table: sa.Table, names: tuple[str, ...], finish: Callable[[Any], Any], on_sqlite: bool
) -> sa.Executable:
    if on_sqlite:
        return finish(sqlite.insert(table))  # type: ignore[no-any-return]
    told = _told(tuple(table.c[name] for name in names))
    return finish(postgresql.insert(table).from_select(names, told))  # type: ignore[no-any-return]


def _parts(keys: Collection[Sequence[Any]]) -> dict[str, Any]:
    whole = [tuple(key) for key in keys]
    single = {f"told_{index}": sorted(set(values)) for index, values in enumerate(zip(*whole, strict=True))}
    return {"told": whole} | single


def _text(columns: Columns, keys: Collection[Sequence[Any]]) -> dict[str, Any]:
    names = [column.name for column in columns]
    return {"told": _json([dict(zip(names, key, strict=True)) for key in keys])}


def _told(columns: Columns) -> sa.Select[Any]:
    """The parameter `told` as rows of these columns."""
    text = sa.cast(sa.bindparam("told", type_=sa.Text), postgresql.JSON)
    named = [sa.column(column.name, column.type) for column in columns]
    rows = sa.func.json_to_recordset(text).table_valued(*named).render_derived(with_types=True)
    return sa.select(*rows.c)


def _json(rows: Sequence[Row]) -> str:
    for row in rows:
        for value in row.values():
            if isinstance(value, dt.datetime) and value.tzinfo is None:
                raise ValueError(f"naive datetime {value!r}; give it a time zone")
    return msgspec.json.encode(rows).decode()
