"""What can go wrong: each kind of fault is a generator that begins it, yields while it lasts, and ends it.

It ends when what it broke could work again: a killed server is listening, PostgreSQL answers.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psycopg

from tests.chaos import database_faults as database
from tests.chaos import server_faults as server
from tests.chaos.plan import Planned
from tests.chaos.stage import Stage

Fault = Callable[[Stage, Planned], Iterator[None]]
DAY_S = 86_400
SLOW_DATABASE_S = 0.1  # each packet
SLOW_AGENTS_S = 0.05


class Kind(NamedTuple):
    """A kind of fault.

    `cuts` where no agent reaches a server that could answer in time: then the client's own prompt is right.
    `needs` names what the machine must have.
    """

    fault: Fault
    cuts: bool = False
    needs: str = ""


# --- networks ------------------------------------------------------------------------------------------


def _on_network(name: str, act: Callable[[Any], None]) -> Fault:
    def fault(stage: Stage, planned: Planned) -> Iterator[None]:
        del planned
        network = getattr(stage, name)
        act(network)
        yield
        network.heal()

    return fault


# --- clocks, and work that is done while calls go on -----------------------------------------------------


def _set_clock(seconds: int) -> Fault:
    def fault(stage: Stage, planned: Planned) -> Iterator[None]:
        del planned
        assert stage.clock is not None
        stage.clock.shift(seconds)
        yield
        stage.clock.shift(0)

    return fault


def _duplicate(stage: Stage, planned: Planned) -> Iterator[None]:
    """Every outcome is told by two clients at once."""
    del planned
    stage.crew.tell_twice(1.0)
    yield
    stage.crew.tell_twice(0.2)


def _migrate(stage: Stage, planned: Planned) -> Iterator[None]:
    """`promptbandit migrate`, then a column that comes and goes, as an expanding migration would add it."""
    del planned
    stage.service.command("migrate")
    _alter(stage, "ALTER TABLE outcomes ADD COLUMN chaos text")
    yield
    _alter(stage, "ALTER TABLE outcomes DROP COLUMN chaos")


def _alter(stage: Stage, statement: str) -> None:
    with stage.session() as session:
        session.execute("SET lock_timeout = '500ms'")
        for attempt in range(60):
            try:
                session.execute(statement)
                return
            except psycopg.errors.LockNotAvailable:
                time.sleep(0.05 * (1 + attempt % 4))
    raise RuntimeError(f"no lock for: {statement}")


def _reallocate(stage: Stage, planned: Planned) -> Iterator[None]:
    """The split moves."""
    del planned
    stage.service.command("reallocate", "--force")
    yield


KINDS: dict[str, Kind] = {
    "kill_worker": Kind(server.kill_worker),
    "kill_workers": Kind(server.kill_workers, cuts=True),
    "kill_server": Kind(server.kill_server, cuts=True),
    "kill_parent": Kind(server.kill_parent, cuts=True),
    "freeze_worker": Kind(server.freeze_worker),
    "freeze_server": Kind(server.freeze_server, cuts=True),
    "stop_worker": Kind(server.stop_worker),
    "rolling_restart": Kind(server.rolling_restart),
    "restart_server": Kind(server.restart_server, cuts=True),
    "kill_postgres": Kind(database.kill_postgres),
    "restart_postgres": Kind(database.restart_postgres),
    "freeze_postgres": Kind(database.freeze_postgres),
    "lock_tables": Kind(database.lock_tables),
    "exhaust_connections": Kind(database.exhaust_connections),
    "terminate_backends": Kind(database.terminate_backends),
    "full_disk": Kind(database.fill_disk, needs="disk"),
    "database_held": Kind(_on_network("database_network", lambda net: net.hold())),
    "database_lost": Kind(_on_network("database_network", lambda net: net.lose())),
    "database_reset": Kind(_on_network("database_network", lambda net: net.reset())),
    "database_refused": Kind(_on_network("database_network", lambda net: net.refuse())),
    "database_slow": Kind(_on_network("database_network", lambda net: net.slow(SLOW_DATABASE_S))),
    "agents_held": Kind(_on_network("agents_network", lambda net: net.hold()), cuts=True),
    "agents_lost": Kind(_on_network("agents_network", lambda net: net.lose()), cuts=True),
    "agents_reset": Kind(_on_network("agents_network", lambda net: net.reset()), cuts=True),
    "agents_refused": Kind(_on_network("agents_network", lambda net: net.refuse()), cuts=True),
    "agents_slow": Kind(_on_network("agents_network", lambda net: net.slow(SLOW_AGENTS_S))),
    "clock_forward": Kind(_set_clock(400 * DAY_S), needs="clock"),
    "clock_back": Kind(_set_clock(-DAY_S), needs="clock"),
    "duplicates": Kind(_duplicate),
    "migrate": Kind(_migrate),
    "reallocate": Kind(_reallocate),
}
