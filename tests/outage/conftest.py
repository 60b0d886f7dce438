"""Servers that the tests of a file share, on databases that they may break."""

import asyncio
import datetime as dt
import re
from collections.abc import AsyncIterator, Iterator

import pytest

from domain.prompts import NewVersion
from migrations import migrate
from service.create_version import create_version
from storage.database import Database
from tests.postgres import Postgres
from tests.proxy import Proxy
from tests.running_server import RunningServer

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def proxy(own_postgres: Postgres) -> Iterator[Proxy]:
    """The network between a server and its PostgreSQL."""
    with Proxy(own_postgres.port) as running:
        yield running


@pytest.fixture(scope="module")
def far_server(
    own_postgres: Postgres, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that reaches its PostgreSQL through the proxy."""
    url = own_postgres.create_database("bandit").replace(str(own_postgres.port), str(proxy.port))
    with RunningServer(url, tmp_path_factory.mktemp("far_server")) as running:
        yield running


@pytest.fixture(scope="module")
def lone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on a SQLite file."""
    folder = tmp_path_factory.mktemp("lone_server")
    with RunningServer(f"sqlite:///{folder / 'bandit.db'}", folder) as running:
        yield running


@pytest.fixture
def prompt(request: pytest.FixtureRequest) -> str:
    """The name of a prompt of this test's own."""
    return re.sub(r"\W+", "-", request.node.name).strip("-")[-60:].strip("_-")


@pytest.fixture(scope="module")
def near_url(own_postgres: Postgres) -> str:
    """A migrated database with one prompt, reached without the proxy."""
    url = own_postgres.create_database("hanging")

    async def prepare() -> None:
        database = Database(url)
        await migrate(database)
        async with database.writing() as connection:
            new = NewVersion(name="support", system_prompt="Be kind.")
            await create_version(connection, new, actor="test", now=NOW)
        await database.close()

    asyncio.run(prepare())
    return url


@pytest.fixture
async def near(near_url: str) -> AsyncIterator[Database]:
    """The database, with nothing in between."""
    database = Database(near_url)
    yield database
    await database.close()


@pytest.fixture
def far_url(near_url: str, own_postgres: Postgres, proxy: Proxy) -> str:
    """The database behind the proxy."""
    return near_url.replace(str(own_postgres.port), str(proxy.port))


@pytest.fixture
async def far(far_url: str, proxy: Proxy) -> AsyncIterator[Database]:
    """The database behind the proxy; half a second of patience."""
    database = Database(far_url, pool_size=4, patience_s=0.5, pre_ping=False)
    async with database.reading() as connection:
        await connection.exec_driver_sql("SELECT 1")
    yield database
    proxy.heal()
    await database.close()
