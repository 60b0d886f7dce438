"""One server on each database for all tests of the API: starting one takes seconds.

Tests share them, so each takes prompts and experiments of its own names.
"""

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from domain.keys import SCOPES, Scope
from tests.api.reference_cases import World, set_up
from tests.conftest import DIALECTS
from tests.made_keys import make_keys
from tests.postgres import Postgres
from tests.running_server import RunningServer

ENVIRONMENT = {
    # On a busy machine an assignment that is recorded late would change the tables under a test's eyes.
    "PROMPTBANDIT_SOFT_DEADLINE_MS": "30000",
    "PROMPTBANDIT_OUTCOME_DEADLINE_MS": "30000",
    # Room for fifty assignments at once: beyond it one says STALE instead of SPLIT.
    "PROMPTBANDIT_MAX_IN_FLIGHT": "64",
    "PROMPTBANDIT_BODY_DEADLINE_MS": "1500",
    # Hundreds of tests have one key and one address; the limits have a server of their own.
    "PROMPTBANDIT_DESK_REQUESTS_PER_S": "0",
    "PROMPTBANDIT_FAILED_KEYS_PER_MINUTE": "0",
}
KEYS: dict[str, Scope] = {scope: scope for scope in SCOPES} | {
    "to be revoked": "analyst",
    "revoked": "manager",
}


def _with_keys(url: str, folder: Path) -> RunningServer:
    """A server on a fresh database, not started yet, with a key of every scope."""
    server = RunningServer(url, folder, environment=ENVIRONMENT)
    server.take_keys(asyncio.run(make_keys(url, KEYS, revoked=["revoked"])))
    return server


def _urls(folders: dict[str, Path], request: pytest.FixtureRequest) -> dict[str, str]:
    """A database for each folder; SQLite alone where there is no PostgreSQL."""
    urls = {"sqlite": f"sqlite:///{folders['sqlite'] / 'test.db'}"}
    with suppress(pytest.skip.Exception):
        server: Postgres = request.getfixturevalue("postgres")
        urls["postgresql"] = server.create_database(f"test_{uuid.uuid4().hex}")
    return urls


@pytest.fixture(scope="session")
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, RunningServer]]:
    """One server on each database, by dialect."""
    folders = {dialect: tmp_path_factory.mktemp(f"server_{dialect}") for dialect in DIALECTS}
    # One after the other: Alembic is not made for threads. The processes start side by side.
    made = {name: _with_keys(url, folders[name]) for name, url in _urls(folders, request).items()}
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        for server in pool.map(lambda server: server.__enter__(), made.values()):
            stack.push(server)
        yield made


@pytest.fixture(scope="session")
def worlds(servers: dict[str, RunningServer]) -> dict[str, World]:
    """What stands in every server: `support` under the experiment `greeting`, and more."""
    return {dialect: set_up(server) for dialect, server in servers.items()}


@pytest.fixture(params=DIALECTS)
def shared(request: pytest.FixtureRequest, servers: dict[str, RunningServer]) -> RunningServer:
    """The server on each of the two databases."""
    if request.param not in servers:
        pytest.skip("no PostgreSQL here")
    return servers[request.param]
