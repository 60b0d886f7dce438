"""Two servers with two workers each on one PostgreSQL database, shared by the tests of a file; agents at both."""

import asyncio
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from domain.keys import Scope
from tests.made_keys import make_keys
from tests.outage.load import Load
from tests.postgres import Postgres
from tests.running_server import RunningServer
from tests.servers.calls import stop
from tests.servers.restarting import wait_for_more

ENVIRONMENT = {
    # On a busy machine a late answer comes from memory; these tests are about what the database says.
    "PROMPTBANDIT_SOFT_DEADLINE_MS": "30000",
    "PROMPTBANDIT_OUTCOME_DEADLINE_MS": "30000",
    "PROMPTBANDIT_STATEMENT_TIMEOUT_MS": "30000",
    "PROMPTBANDIT_LOCK_TIMEOUT_MS": "30000",
    "PROMPTBANDIT_MAX_IN_FLIGHT": "200",
    # So often that passes meet.
    "PROMPTBANDIT_REALLOCATE_EVERY_S": "0.5",
}
PERIOD_S = 0.4  # of an agent: 4 agents ask each server 10 times a second
KEYS: dict[str, Scope] = {"manager": "manager", "agent": "agent", "to be revoked": "agent"}


@pytest.fixture(scope="module")
def pair(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningServer]]:
    """The two servers."""
    if not sys.platform.startswith("linux"):
        pytest.skip("which worker answers is read from /proc")
    name = f"pair_{uuid.uuid4().hex}"
    url = postgres.create_database(name)
    servers = [
        RunningServer(url, tmp_path_factory.mktemp(f"server_{number}"), workers=2, environment=ENVIRONMENT)
        for number in (1, 2)
    ]
    keys = asyncio.run(make_keys(url, KEYS))
    try:
        with ThreadPoolExecutor() as pool:
            for server in servers:
                server.take_keys(keys)
            list(pool.map(lambda server: server.__enter__(), servers))
        yield servers
    finally:
        for server in servers:
            server.__exit__(None, None, None)
        postgres.drop_database(name)


@pytest.fixture
def loads(pair: list[RunningServer]) -> Iterator[list[Load]]:
    """Agents at both servers, on one prompt with an experiment."""
    prompt = f"restart-{uuid.uuid4().hex[:8]}"
    pair[0].start_experiment(prompt, prompt)
    with ExitStack() as stack:
        made = [
            stack.enter_context(
                Load(server.port, server.key("agent"), prompt, name=f"{number}-", period_s=PERIOD_S)
            )
            for number, server in enumerate(pair)
        ]
        for load in made:
            wait_for_more(load)
        yield made
    stop(pair[0], prompt)
