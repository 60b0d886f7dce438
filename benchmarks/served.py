"""A server to be measured: a fresh database, a key, processes, and what is stored at the end."""

import asyncio
import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import sqlalchemy as sa

from domain.keys import Scope
from service.manage_keys import create_key
from storage.database import Database
from tests.postgres import Postgres, PostgresUnavailable

DATABASES = ("SQLite", "PostgreSQL")
UP_S = 60.0
POSTGRES = "BENCHMARKS_POSTGRES"  # its port and the folder of its programs, for the processes of the rivals
SLOW_MS = 3_600_000
# Every answer waits for its commit, however long that takes: STALE would be fast and recorded later.
DURABLE = {
    "PROMPTBANDIT_SOFT_DEADLINE_MS": "60000",
    "PROMPTBANDIT_OUTCOME_DEADLINE_MS": "60000",
    "PROMPTBANDIT_MAX_IN_FLIGHT": "1000",
    "PROMPTBANDIT_LOG_LEVEL": "warning",
}


@contextmanager
def postgres_or_none() -> Iterator[Postgres | None]:
    """A PostgreSQL server that child processes find as well; where none starts, its rivals are missing.

    A rival's process has one from its parent.
    """
    if POSTGRES in os.environ:
        yield None
        return
    try:
        server = Postgres()
    except PostgresUnavailable as reason:
        print(f"PostgreSQL: not measured, {reason}")
        yield None
        return
    os.environ[POSTGRES] = f"{server.port} {server.bin}"
    try:
        yield server
    finally:
        server.stop()


def postgres_dsn(name: str) -> str:
    """A database of the server that `postgres_or_none` started, here or in the parent process."""
    return f"postgresql://test@127.0.0.1:{_postgres()[0]}/{name}"


def postgres_programs() -> Path:
    return Path(_postgres()[1])


def _postgres() -> tuple[str, str]:
    if POSTGRES not in os.environ:
        raise ImportError("no PostgreSQL here")  # the answer of a rival that is not installed
    port, folder = os.environ[POSTGRES].split(" ", 1)
    return port, folder


@contextmanager
def fresh_database(kind: str) -> Iterator[str]:
    """The URL of an empty database (one of DATABASES), gone afterwards."""
    if kind == "SQLite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/bench.db"
        return
    name = f"bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_dsn("postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield postgres_dsn(name).replace("postgresql:", "postgresql+psycopg:")
    finally:
        with psycopg.connect(postgres_dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


async def filled(
    url: str, work: Callable[[Database, dt.datetime], Awaitable[object]], scope: Scope = "agent"
) -> str:
    """A key to the database, after `work` has filled it and all is at rest."""
    database = Database(url, statement_timeout_ms=SLOW_MS)
    now = dt.datetime.now(dt.UTC)
    try:
        await work(database, now)
        async with database.writing() as connection:
            key = await create_key(connection, scope, name="bench", actor="bench", now=now)
    finally:
        await database.close()
    await asyncio.to_thread(settle, url)
    return key


def rows_of(url: str, table: str) -> int:
    """How many rows are stored."""

    async def count() -> int:
        database = Database(url, statement_timeout_ms=SLOW_MS)
        try:
            async with database.reading() as connection:
                found = await connection.scalar(sa.select(sa.func.count()).select_from(sa.table(table)))
                return int(found or 0)
        finally:
            await database.close()

    return asyncio.run(count())


def settle(url: str) -> None:
    """After a bulk fill: no vacuum and no checkpoint of it is to fall into what is measured."""
    if url.startswith("sqlite"):
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        engine.dispose()
        return
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def ours(port: int, workers: int) -> list[str]:
    """The command line of `promptbandit serve`."""
    return [sys.executable, "-m", "cli", "serve", "--port", str(port), "--workers", str(workers)]


def other(python: Path | str, app: str, port: int, workers: int) -> list[str]:
    """The command line that serves another application in the way that `promptbandit serve` does."""
    options = ["--factory", "--no-access-log", "--log-level", "warning", "--no-server-header"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    return [str(python), "-m", "uvicorn", app, *options, *where]


def environment(url: str, more: Mapping[str, str] = DURABLE) -> dict[str, str]:
    """What the server's processes see."""
    # One byte code for all starts: without it every start compiles everything anew.
    out = {"PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}
    clean = {k: v for k, v in os.environ.items() if k not in out and not k.startswith("PROMPTBANDIT_")}
    return clean | {"PROMPTBANDIT_DATABASE_URL": url} | dict(more)


@contextmanager
def serving(command: Sequence[str], port: int, variables: Mapping[str, str]) -> Iterator[str]:
    """The URL of a server that answers; it is stopped afterwards."""
    with started(command, port, variables):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def started(
    command: Sequence[str], port: int, variables: Mapping[str, str]
) -> "Iterator[subprocess.Popen[bytes]]":
    """The process of a server that answers at the port; it is stopped afterwards.

    Raises
    ------
    RuntimeError : it ended by itself or did not answer in time.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=dict(variables), stdout=log, stderr=log)
        try:
            _wait_for(process, f"http://127.0.0.1:{port}/health/ready")
            yield process
        except RuntimeError as error:
            log.seek(0)
            raise RuntimeError(f"{error}\n{log.read().decode(errors='replace')[-2000:]}") from error
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait_for(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + UP_S
    while True:
        try:
            if httpx.get(url, timeout=2.0, verify=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{' '.join(map(str, process.args))} does not answer at {url}")  # type: ignore[union-attr]
        time.sleep(0.05)
