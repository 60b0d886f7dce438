"""The connection to SQLite or PostgreSQL: one engine, transactions that read or write.

A writing transaction on SQLite begins IMMEDIATE and one writer of a process goes at a time; on
PostgreSQL the verbs lock the rows or units they change.

Inserts of many rows say RETURNING: SQLAlchemy then sends one statement. Without it psycopg sends a
pipeline, after which PostgreSQL (16.14) forgets `idle_in_transaction_session_timeout`: a client lost at
that moment keeps its locks for ever.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from weakref import WeakSet

import msgspec
import psycopg
from sqlalchemy import event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from domain.prompts import canonical_json
from storage.audit import begin_audit, write_audit
from storage.away import is_unreachable
from storage.line import Line

BUSY_TIMEOUT_S = 5.0
WRITE_BUSY_MS = 100  # one try of `_begin_writing`
CONNECT_S = 2.0
FOUND_DEAD_S = 0.1
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}

# A frozen network must not hold a call: connections die within seconds instead of the system's minutes.
_POSTGRES_CONNECT_ARGS = {
    "tcp_user_timeout": 2_000,
    "keepalives_idle": 1,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    # pgbouncer in transaction mode hands prepared statements to the wrong server connection.
    "prepare_threshold": None,
}


class Database:
    """An engine with two ways to open a transaction: `reading` and `writing`.

    Parameters
    ----------
    pool_size : connections at most.
    pool_timeout_s : how long a transaction waits for one of them.
    statement_timeout_ms : PostgreSQL's bound on a statement.
    lock_timeout_ms : PostgreSQL's bound on the wait for a lock.
    idle_timeout_ms : PostgreSQL's bound on a pause within a transaction, so that a client lost without a
        word does not keep its locks for the hours that TCP takes to notice. Default: the statement's.
    patience_s : how long we wait for the answer to a statement before we hang up; the server's own
        bounds do not hold when the server is frozen. Default: a second more than the statement's.
    pre_ping : whether PostgreSQL is asked before each transaction if the connection still lives.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        pool_size: int = 10,
        pool_timeout_s: float = 2.0,
        statement_timeout_ms: int = 5_000,
        lock_timeout_ms: int = 2_000,
        idle_timeout_ms: int | None = None,
        patience_s: float | None = None,
        pre_ping: bool = True,
        one_writer: asyncio.Lock | None = None,
    ) -> None:
        self.url = parse_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._patience_s = patience_s or statement_timeout_ms / 1000 + 1.0
        self._lines: WeakSet[Line] = WeakSet()
        self._one_writer = (one_writer or asyncio.Lock()) if self.is_sqlite else None
        options = _postgres_options(
            statement_timeout=statement_timeout_ms,
            lock_timeout=lock_timeout_ms,
            idle_in_transaction_session_timeout=idle_timeout_ms or statement_timeout_ms,
            tcp_keepalives_idle=2,
            tcp_keepalives_interval=1,
            tcp_keepalives_count=3,
        )
        connect_args: dict[str, Any] = (
            {"timeout": BUSY_TIMEOUT_S}
            if self.is_sqlite
            else _POSTGRES_CONNECT_ARGS | {"options": options, "async_creator_fn": self._connect}
        )
        self.engine: AsyncEngine = create_async_engine(
            self.url,
            connect_args=connect_args,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout_s,
            pool_pre_ping=pre_ping and not self.is_sqlite,
            **({} if self.is_sqlite else {"use_native_hstore": False}),  # asks at every connect
            json_serializer=lambda value: canonical_json(value).decode(),
            json_deserializer=msgspec.json.decode,
        )
        if self.is_sqlite:
            _tame_sqlite(self.engine)

    def aside(self, **bounds: Any) -> "Database":
        """The same database by connections of its own, so that whoever hangs there hangs nobody here."""
        return Database(self.url, one_writer=self._one_writer, **bounds)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state and changes nothing."""
        async with self.engine.connect() as connection:
            if not self.is_sqlite:  # else each statement sees what was committed before it
                await connection.execution_options(isolation_level="REPEATABLE READ")
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits when the block ends well and leaves nothing when it does not."""
        async with AsyncExitStack() as stack:
            until = time.monotonic() + BUSY_TIMEOUT_S
            if self._one_writer is not None:
                await _acquire(self._one_writer, until)
                stack.callback(self._one_writer.release)
            connection = await stack.enter_async_context(self.engine.connect())
            if self.is_sqlite:
                connection = await connection.execution_options(promptbandit_writes=True)
                await _begin_writing(stack, connection, until)
            else:
                await stack.enter_async_context(connection.begin())
            begin_audit(connection)
            yield connection
            await write_audit(connection)

    async def write[T](self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do the work in a transaction of its own, again if the first try found its connection dead at once.

        Connections are not asked beforehand whether they still live: that would be a round trip for every
        transaction. A commit whose answer got lost may be done twice, so the work must not mind.
        """
        began_at = time.monotonic()
        try:
            return await self._write(work)
        except Exception as error:
            if not is_unreachable(error) or time.monotonic() - began_at > FOUND_DEAD_S:
                raise
        self.let_go(waited_s=math.inf)  # its sisters will have died with it
        return await self._write(work)

    async def _write[T](self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with self.writing() as connection:
            return await work(connection)

    async def _connect(self, *arguments: Any, **named: Any) -> Line:
        try:
            async with asyncio.timeout(min(self._patience_s, CONNECT_S)):
                line = await Line.connect(*arguments, **named)
        except TimeoutError as error:
            raise psycopg.errors.ConnectionTimeout(
                "the server did not take the connection in time"
            ) from error
        line.patience_s = self._patience_s
        self._lines.add(line)
        return line

    def let_go(self, *, waited_s: float) -> None:
        """Give up PostgreSQL connections on which somebody has waited longer, and those that lie idle.

        Whoever waits gets an error now. After a partition old connections may be dead without a word.
        """
        for line in list(self._lines):
            if line.waited_s >= waited_s:
                line.hang_up()
            elif line.is_idle:
                line.drop()

    async def close(self) -> None:
        """Close every connection; whoever still waits for one gets an error."""
        self.let_go(waited_s=0.0)
        await self.engine.dispose()
        for line in list(self._lines):
            if line.waited_s < 0:
                line.drop()


async def _acquire(one_writer: asyncio.Lock, until: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            await one_writer.acquire()
    except TimeoutError:
        raise PoolTimeout("other writers of this process did not come to an end in time") from None


async def _begin_writing(stack: AsyncExitStack, connection: AsyncConnection, until: float) -> None:
    """SQLite's write lock, tried again and again while another process has it.

    SQLite itself can wait, too, but in a thread, which nobody can call back from there.
    """
    while True:
        try:
            await stack.enter_async_context(connection.begin())
            return
        except OperationalError as error:
            if is_unreachable(error) or time.monotonic() > until:
                raise


def parse_url(text: str | URL) -> URL:
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


def _postgres_options(**settings: int) -> str:
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


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
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        # IMMEDIATE takes the write lock at once: a transaction that reads first and writes later would
        # fail with "database is locked" as soon as somebody else wrote in between.
        writes = connection.get_execution_options().get("promptbandit_writes", False)
        busy_ms = WRITE_BUSY_MS if writes else int(BUSY_TIMEOUT_S * 1000)
        if connection.info.get("busy_ms") != busy_ms:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={busy_ms}")
            connection.info["busy_ms"] = busy_ms
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
