"""Servers that a whole module shares: starting one takes seconds."""

import asyncio
import datetime as dt
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from domain.keys import SCOPES
from migrations import migrate
from service.manage_keys import create_key
from storage.database import Database
from tests.conftest import DIALECTS
from tests.postgres import Postgres
from tests.running_server import RunningServer

# On a busy machine an assignment that is recorded late would change the tables under a test's eyes.
PATIENT = {"PROMPTBANDIT_SOFT_DEADLINE_MS": "30000", "PROMPTBANDIT_OUTCOME_DEADLINE_MS": "30000"}


async def _keys(url: str) -> dict[str, str]:
    database = Database(url)
    try:
        await migrate(database)
        async with database.writing() as connection:
            now = dt.datetime.now(dt.UTC)
            return {
                scope: await create_key(connection, scope, name="", actor="test", now=now) for scope in SCOPES
            }
    finally:
        await database.close()


def start(url: str, folder: Path, environment: dict[str, str]) -> RunningServer:
    """A server on a fresh database, with a key of every scope; the caller stops it."""
    server = RunningServer(url, folder, environment=PATIENT | environment)
    server.take_keys(asyncio.run(_keys(url)))
    return server.__enter__()


def _urls(folders: dict[str, Path], request: pytest.FixtureRequest) -> dict[str, str]:
    """A database for each folder; SQLite alone where there is no PostgreSQL."""
    urls = {"sqlite": f"sqlite:///{folders['sqlite'] / 'test.db'}"}
    with suppress(pytest.skip.Exception):
        server: Postgres = request.getfixturevalue("postgres")
        urls["postgresql"] = server.create_database(f"test_{uuid.uuid4().hex}")
    return urls


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Settings of the module's servers; a module may have its own."""
    return {}


@pytest.fixture(scope="module")
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Iterator[dict[str, RunningServer]]:
    """One server on each database, by dialect, for the whole module."""
    folders = {dialect: tmp_path_factory.mktemp(f"server_{dialect}") for dialect in DIALECTS}
    urls = _urls(folders, request)
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        starting = {name: pool.submit(start, url, folders[name], environment) for name, url in urls.items()}
        for future in starting.values():
            stack.push(future.result())
        yield {name: future.result() for name, future in starting.items()}


@pytest.fixture(params=DIALECTS)
def shared(request: pytest.FixtureRequest, servers: dict[str, RunningServer]) -> RunningServer:
    """The module's server on each of the two databases."""
    if request.param not in servers:
        pytest.skip("no PostgreSQL here")
    return servers[request.param]
