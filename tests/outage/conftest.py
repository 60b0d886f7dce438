"""Servers that the tests of a file share, on databases that they may break."""

import re
from collections.abc import Iterator

import pytest

from tests.postgres import Postgres
from tests.proxy import Proxy
from tests.running_server import RunningServer


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
