"""Servers whose own clocks are wrong go by the database's."""

import datetime as dt
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.outage.judge import rows
from tests.postgres import Postgres
from tests.running_server import RunningServer
from tests.servers.calls import allocations, wait_for

pytestmark = pytest.mark.timeout(600)
DAY_S = 86_400
HOUR = dt.timedelta(hours=1)  # no machine is that slow


class WrongServer(RunningServer):
    """On a machine whose clock is off."""

    def launch(self) -> subprocess.Popen[bytes]:
        return self.from_scratch(
            *("-m", "uvicorn", "tests.servers.wrong_clock:create", "--factory"),
            *("--port", str(self.port), "--log-level", "warning"),
        )


@pytest.fixture(scope="module")
def wrong(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningServer]]:
    """A server a day ahead and one a day behind, on one database."""
    name = f"clocks_{uuid.uuid4().hex}"
    url = postgres.create_database(name)
    servers: list[RunningServer] = [
        WrongServer(
            url,
            tmp_path_factory.mktemp(f"off_{off_s}"),
            environment={
                "WRONG_CLOCK_S": str(off_s),
                "PROMPTBANDIT_SOFT_DEADLINE_MS": "30000",
                "PROMPTBANDIT_REALLOCATE_EVERY_S": str(reallocate_every_s),
            },
        )
        for off_s, reallocate_every_s in ((DAY_S, 0), (-DAY_S, 0.5))
    ]
    servers[1].take_keys({scope: servers[0].key(scope) for scope in ("manager", "agent")})
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: server.__enter__(), servers))
        yield servers
    finally:
        for server in servers:
            server.__exit__(None, None, None)
        postgres.drop_database(name)


def in_database(server: RunningServer, query: str) -> list[dt.datetime]:
    return [row[0] for row in rows(server.database_url, query)]


def test_a_call_is_assigned_at_the_databases_time(wrong: list[RunningServer]):
    wrong[0].create_version("times")
    for number, server in enumerate(wrong):
        server.assign(f"times-{number}", "times")
    told = in_database(wrong[0], "SELECT assigned_at FROM assignments WHERE unit_id LIKE 'times-%'")
    (now,) = in_database(wrong[0], "SELECT clock_timestamp()")
    assert len(told) == 2
    assert all(now - HOUR < at <= now + HOUR for at in told), (told, now)


def test_an_outcome_of_now_is_neither_in_the_future_nor_before_its_call(wrong: list[RunningServer]):
    """The one behind would say the first, and of a call that the one ahead has assigned anybody the second."""
    ahead, behind = wrong
    ahead.create_version("honest")
    for number, (giver, taker) in enumerate(
        [(ahead, behind), (behind, ahead), (ahead, ahead), (behind, behind)]
    ):
        unit = f"honest-{number}"
        giver.assign(unit, "honest")
        now = dt.datetime.now(dt.UTC).isoformat()
        assert taker.record(unit, "honest", metrics={"resolved": True}, occurred_at=now) == "accepted"


def test_splits_follow_each_other_in_time_whoever_made_them(wrong: list[RunningServer]):
    """Started by the server ahead, moved by the one behind, for which it would not have started yet."""
    ahead, _ = wrong
    policy = {"name": "thompson", "burn_in": 0, "every_s": 0.5}
    ahead.start_experiment("order", "order", policy=policy)
    wait_for("a split by the server behind", lambda: len(allocations(ahead, "order")) == 2)
    times = in_database(ahead, "SELECT created_at FROM allocations ORDER BY number")
    assert times[0] < times[1] < times[0] + HOUR
