"""Ways to make a row durable: each opens a database and gives a coroutine that returns after the commit."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

type Row = tuple[str, str, float]
type Store = Callable[[Row], Awaitable[object]]
type Write = Callable[[Sequence[Row]], Awaitable[object]]

CONNECTIONS = 16  # of the ways that commit every request
COLUMNS = ("unit_id", "metric", "value")
TABLE = sa.table("stored", *map(sa.column, COLUMNS))
CREATE = (
    "CREATE TABLE stored (unit_id text NOT NULL, metric text NOT NULL, value double precision NOT NULL, "
    "PRIMARY KEY (unit_id, metric))"
)
INSERT = "INSERT INTO stored (unit_id, metric, value) VALUES "
FROM_JSON = {
    "PostgreSQL": "INSERT INTO stored SELECT * FROM json_to_recordset(%s::text::json) "
    "AS r(unit_id text, metric text, value double precision)",
    "SQLite": "INSERT INTO stored SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?)",
}
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=60000")


@asynccontextmanager
async def grouped(write: Write) -> AsyncIterator[Store]:
    """Group commit: whatever is pending goes in one transaction, then what came meanwhile, without a timer."""
    pending: list[tuple[Row, asyncio.Future[None]]] = []
    arrived = asyncio.Event()

    async def store(row: Row) -> None:
        committed = asyncio.get_running_loop().create_future()
        pending.append((row, committed))
        arrived.set()
        await committed

    async def keep_writing() -> None:
        while True:
            await arrived.wait()
            arrived.clear()
            batch, pending[:] = pending[:], []
            try:
                await write([row for row, _ in batch])
            except Exception as error:
                for _, committed in batch:
                    committed.set_exception(error)
                return
            for _, committed in batch:
                committed.set_result(None)

    writer = asyncio.create_task(keep_writing())
    try:
        yield store
    finally:
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await writer


# --- SQLAlchemy Core, both databases --------------------------------------------------------------


@asynccontextmanager
async def _engine(url: str) -> AsyncIterator[AsyncEngine]:
    is_sqlite = url.startswith("sqlite")
    pool_size = 1 if is_sqlite else CONNECTIONS  # SQLite has one writer anyway
    engine = create_async_engine(
        url.replace("sqlite:", "sqlite+aiosqlite:"), pool_size=pool_size, max_overflow=0, pool_timeout=600
    )
    if is_sqlite:
        sa.event.listen(engine.sync_engine, "connect", _make_durable)
    try:
        yield engine
    finally:
        await engine.dispose()


def _make_durable(connection: Any, _record: Any = None) -> None:
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


async def _core_write(engine: AsyncEngine, rows: Sequence[Row]) -> None:
    values = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    async with engine.begin() as connection:
        await connection.execute(sa.insert(TABLE), values)


@asynccontextmanager
async def core_each(url: str) -> AsyncIterator[Store]:
    async with _engine(url) as engine:
        yield lambda row: _core_write(engine, [row])


@asynccontextmanager
async def core_grouped(url: str) -> AsyncIterator[Store]:
    async with _engine(url) as engine, grouped(partial(_core_write, engine)) as store:
        yield store


# --- psycopg --------------------------------------------------------------------------------------


@asynccontextmanager
async def _line(url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    connection = await psycopg.AsyncConnection.connect(url.replace("+psycopg", ""), autocommit=True)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def psycopg_each(url: str) -> AsyncIterator[Store]:
    """One statement in autocommit, prepared, over as many connections as the pool of the others has."""
    free: asyncio.Queue[psycopg.AsyncConnection] = asyncio.Queue()

    async def store(row: Row) -> None:
        connection = await free.get()
        try:
            await connection.execute(f"{INSERT}(%s, %s, %s)", row, prepare=True)
        finally:
            free.put_nowait(connection)

    async with AsyncExitStack() as stack:
        for _ in range(CONNECTIONS):
            free.put_nowait(await stack.enter_async_context(_line(url)))
        yield store


async def _executemany(connection: psycopg.AsyncConnection, rows: Sequence[Row]) -> None:
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany(f"{INSERT}(%s, %s, %s)", rows)


async def _copy(connection: psycopg.AsyncConnection, rows: Sequence[Row]) -> None:
    async with connection.cursor() as cursor, cursor.copy("COPY stored FROM STDIN") as copy:
        for row in rows:
            await copy.write_row(row)


async def _json_text(connection: psycopg.AsyncConnection, rows: Sequence[Row]) -> None:
    text = json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows])
    await connection.execute(FROM_JSON["PostgreSQL"], (text,), prepare=True)


@asynccontextmanager
async def psycopg_grouped(
    write: Callable[[psycopg.AsyncConnection, Sequence[Row]], Awaitable[None]], url: str
) -> AsyncIterator[Store]:
    async with _line(url) as connection, grouped(partial(write, connection)) as store:
        yield store


# --- the standard library's sqlite3, in a thread --------------------------------------------------


@asynccontextmanager
async def _in_thread(
    url: str, write: Callable[[sqlite3.Connection, Sequence[Row]], object]
) -> AsyncIterator[Write]:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(max_workers=1) as thread:
        path = url.removeprefix("sqlite:///")
        connection = await loop.run_in_executor(thread, partial(sqlite3.connect, path, isolation_level=None))
        await loop.run_in_executor(thread, _make_durable, connection)
        try:
            yield lambda rows: loop.run_in_executor(thread, write, connection, rows)
        finally:
            await loop.run_in_executor(thread, connection.close)


def _sqlite_rows(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(f"{INSERT}(?, ?, ?)", rows)
    connection.execute("COMMIT")


def _sqlite_json(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    connection.execute(FROM_JSON["SQLite"], (json.dumps(rows),))


def _sqlite_row(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    connection.execute(f"{INSERT}(?, ?, ?)", rows[0])


@asynccontextmanager
async def sqlite_each(url: str) -> AsyncIterator[Store]:
    async with _in_thread(url, _sqlite_row) as write:
        yield lambda row: write([row])


@asynccontextmanager
async def sqlite_grouped(
    write: Callable[[sqlite3.Connection, Sequence[Row]], object], url: str
) -> AsyncIterator[Store]:
    async with _in_thread(url, write) as in_thread, grouped(in_thread) as store:
        yield store


WAYS: Mapping[str, Mapping[str, Callable[[str], AbstractAsyncContextManager[Store]]]] = {
    "PostgreSQL": {
        "one commit per request, SQLAlchemy Core": core_each,
        "one statement in autocommit, psycopg": psycopg_each,
        "group commit, SQLAlchemy Core": core_grouped,
        "group commit, psycopg executemany": partial(psycopg_grouped, _executemany),
        "group commit, psycopg COPY": partial(psycopg_grouped, _copy),
        "group commit, one JSON text": partial(psycopg_grouped, _json_text),
    },
    "SQLite": {
        "one commit per request, SQLAlchemy Core": core_each,
        "one statement in autocommit, sqlite3": sqlite_each,
        "group commit, SQLAlchemy Core": core_grouped,
        "group commit, sqlite3 executemany": partial(sqlite_grouped, _sqlite_rows),
        "group commit, one JSON text": partial(sqlite_grouped, _sqlite_json),
    },
}
