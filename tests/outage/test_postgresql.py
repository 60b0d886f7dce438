"""PostgreSQL goes away under load, in every way it can: calls get prompts, outcomes are not lost."""

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from tests.outage.judge import (
    IN_TIME_S,
    check_assignments_are_recorded,
    check_every_call_got_a_prompt,
    check_nothing_is_lost_or_counted_twice,
    check_outcomes_were_acknowledged_or_refused,
)
from tests.outage.load import Ask, Load, Wire, ask
from tests.outage.riding import RECOVERED_S, Ridden, ride_out, wait_until_ready
from tests.postgres import Postgres
from tests.proxy import Proxy
from tests.running_server import RunningServer

NOTICED_S = 0.3  # from the beginning of a fault until answers say STALE


@pytest.fixture
def ride(own_postgres: Postgres, far_server: RunningServer, prompt: str) -> Callable[..., Ridden]:
    """Ride out a fault with an experiment of the test's own, and judge what is left."""

    def ride(begin: Callable[[], object], end: Callable[[], object], *, lasting_s: float) -> Ridden:
        far_server.start_experiment(key=prompt, prompt=prompt)
        ridden = ride_out(far_server, prompt, begin=begin, end=end, lasting_s=lasting_s)
        check_every_call_got_a_prompt(ridden.load)
        check_outcomes_were_acknowledged_or_refused(ridden.load)
        check_nothing_is_lost_or_counted_twice(own_postgres.url("bandit"), ridden.load)
        assert ridden.recovered_s < RECOVERED_S
        inside = ridden.new_asks(ridden.began_at + NOTICED_S, ridden.ended_at)
        assert {ask.reason for ask in inside} <= {"STALE"}
        return ridden

    return ride


def test_calls_get_prompts_while_postgresql_is_killed_and_restarted(
    ride: Callable[..., Ridden], own_postgres: Postgres
) -> None:
    """kill -9 of every process of the database, a second of nothing, crash recovery."""
    ride(own_postgres.crash, own_postgres.start, lasting_s=1.0)


def test_calls_get_prompts_while_postgresql_is_frozen(
    ride: Callable[..., Ridden], own_postgres: Postgres
) -> None:
    """SIGSTOP: connections stay open and nobody answers, then everybody does."""
    ride(own_postgres.freeze, own_postgres.thaw, lasting_s=2.5)


def test_calls_get_prompts_while_packets_are_held_back(ride: Callable[..., Ridden], proxy: Proxy) -> None:
    """A partition: what was sent into it arrives when it heals."""
    ride(proxy.hold, proxy.heal, lasting_s=2.5)


def test_calls_get_prompts_while_packets_are_lost(ride: Callable[..., Ridden], proxy: Proxy) -> None:
    """A partition after which old connections are dead without a word, on both sides.

    The server must not trust its pool, and PostgreSQL must not keep the locks of whoever is gone.
    """
    ride(proxy.lose, proxy.heal, lasting_s=2.5)


def test_calls_get_prompts_while_connections_are_reset(ride: Callable[..., Ridden], proxy: Proxy) -> None:
    """RST on every connection, and on every new one at once."""
    ride(proxy.reset, proxy.heal, lasting_s=1.2)


def test_calls_get_prompts_while_connections_are_refused(ride: Callable[..., Ridden], proxy: Proxy) -> None:
    """Nobody listens."""
    ride(proxy.refuse, proxy.heal, lasting_s=1.2)


def test_connections_that_postgresql_ends_are_replaced(
    ride: Callable[..., Ridden], own_postgres: Postgres
) -> None:
    """An operator, or a failover, ends every session at once; no restart is needed."""
    with psycopg.connect(own_postgres.dsn("bandit"), autocommit=True) as session:
        query = b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        ride(lambda: session.execute(query), lambda: None, lasting_s=0.1)


def test_calls_get_prompts_while_assignments_are_locked(
    ride: Callable[..., Ridden], own_postgres: Postgres
) -> None:
    """A migration gone wrong: ACCESS EXCLUSIVE on the table that every call needs."""
    with psycopg.connect(own_postgres.dsn("bandit")) as session:
        ride(lambda: _lock(session), session.rollback, lasting_s=2.5)


def _lock(session: psycopg.Connection) -> None:
    session.execute("LOCK TABLE assignments IN ACCESS EXCLUSIVE MODE")


def test_calls_beyond_the_bulkhead_do_not_queue(
    own_postgres: Postgres, proxy: Proxy, far_server: RunningServer, prompt: str
) -> None:
    """A database 100 ms away by every packet records some calls; the others are answered at once."""
    far_server.start_experiment(key=prompt, prompt=prompt)
    proxy.slow(0.1)
    started = time.monotonic()
    asks = _ask_at_once(far_server, prompt, number=80)
    took_s = time.monotonic() - started
    proxy.heal()
    assert {ask.status for ask in asks} == {200}
    assert max(ask.seconds for ask in asks) < IN_TIME_S
    assert took_s < 2 * IN_TIME_S
    assert sum(ask.reason == "STALE" for ask in asks) >= 80 - 24
    load = Load(far_server.port, "", prompt)
    load.asks += asks
    check_nothing_is_lost_or_counted_twice(own_postgres.url("bandit"), load)


def _ask_at_once(server: RunningServer, prompt: str, *, number: int) -> list[Ask]:
    asks: list[Ask] = []
    start = threading.Barrier(number)

    def one(unit: str) -> None:
        wire = Wire(server.port, server.key("manager"))
        start.wait()
        asks.append(ask(wire, prompt, unit, first=True)[0])
        wire.close()

    threads = [threading.Thread(target=one, args=(f"{prompt}-{n}",)) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return asks


def test_an_assignment_that_a_killed_server_forgot_is_derived_from_its_outcome(
    own_postgres: Postgres, proxy: Proxy, far_server: RunningServer, prompt: str
) -> None:
    """Given as STALE, held in memory, lost by kill -9: the outcome tells the allocation, that is enough."""
    far_server.start_experiment(key=prompt, prompt=prompt)
    wait_until_ready(far_server)
    proxy.refuse()
    with Load(far_server.port, far_server.key("manager"), prompt, tell_allocation=1.0) as load:
        time.sleep(0.8)
        load.stop_asking()
        assert {ask.reason for ask in load.asks[20:]} == {"STALE"}
        far_server.kill()
        proxy.heal()
        far_server.start()
        load.drain()
    check_every_call_got_a_prompt(load)
    check_nothing_is_lost_or_counted_twice(own_postgres.url("bandit"), load)


def test_what_was_acknowledged_survives_a_killed_server(
    own_postgres: Postgres, far_server: RunningServer, prompt: str
) -> None:
    """kill -9 under load; after the restart everything acknowledged is there and telling it again is idle."""
    far_server.start_experiment(key=prompt, prompt=prompt)
    with Load(far_server.port, far_server.key("manager"), prompt) as load:
        time.sleep(1.0)
        far_server.kill()
        far_server.start()
        time.sleep(0.5)
        load.drain()
    check_every_call_got_a_prompt(load, unanswered=True)
    check_outcomes_were_acknowledged_or_refused(load, unanswered=True)
    check_nothing_is_lost_or_counted_twice(own_postgres.url("bandit"), load, forgotten=True)
    again = far_server.manager.post("/outcomes", json=list(load.sent.values())[:1000])
    assert {result["status"] for result in again.json()["results"]} == {"unchanged"}
    verified = far_server.command("verify")
    assert verified.returncode == 0, verified.stderr


def test_a_server_that_is_stopped_finishes_what_it_acknowledged(
    own_postgres: Postgres, proxy: Proxy, far_server: RunningServer, prompt: str
) -> None:
    """SIGTERM under load, just after an outage that left a backlog: it is recorded before the process ends."""
    far_server.start_experiment(key=prompt, prompt=prompt)
    with Load(far_server.port, far_server.key("manager"), prompt) as load:
        time.sleep(0.5)
        proxy.refuse()
        time.sleep(0.7)
        threading.Timer(0.3, proxy.heal).start()
        far_server.stop()
        load.stop_asking()
        check_assignments_are_recorded(own_postgres.url("bandit"), load)
        far_server.start()
        load.drain()
    check_every_call_got_a_prompt(load, unanswered=True)
    check_outcomes_were_acknowledged_or_refused(load, unanswered=True)
    check_nothing_is_lost_or_counted_twice(own_postgres.url("bandit"), load)
