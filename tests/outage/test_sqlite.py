"""SQLite: another process holds the write lock, the server is killed, the server is stopped."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import make_url

from tests.outage.judge import (
    check_assignments_are_recorded,
    check_every_call_got_a_prompt,
    check_nothing_is_lost_or_counted_twice,
    check_outcomes_were_acknowledged_or_refused,
)
from tests.outage.load import Load
from tests.outage.riding import RECOVERED_S, ride_out
from tests.running_server import RunningServer


@contextmanager
def _other_writer(server: RunningServer) -> Iterator[sqlite3.Connection]:
    path = str(make_url(server.database_url).database)
    connection = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
    try:
        yield connection
    finally:
        connection.close()


def test_calls_get_prompts_while_another_process_writes(lone_server: RunningServer, prompt: str) -> None:
    """Somebody holds the one write lock for 3 s."""
    lone_server.start_experiment(key=prompt, prompt=prompt)
    with _other_writer(lone_server) as writer:
        ridden = ride_out(
            lone_server,
            prompt,
            begin=lambda: writer.execute("BEGIN IMMEDIATE"),
            end=lambda: writer.execute("ROLLBACK"),
            lasting_s=3.0,
        )
    check_every_call_got_a_prompt(ridden.load)
    check_outcomes_were_acknowledged_or_refused(ridden.load)
    check_nothing_is_lost_or_counted_twice(lone_server.database_url, ridden.load)
    assert ridden.recovered_s < RECOVERED_S
    inside = ridden.new_asks(ridden.began_at + 0.3, ridden.ended_at)
    assert {ask.reason for ask in inside} == {"STALE"}


def test_calls_get_prompts_while_the_disk_is_full(lone_server: RunningServer, prompt: str) -> None:
    """The server may not write into its files, not even into its log, then it may again."""
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux limits the files of another process")
    lone_server.start_experiment(key=prompt, prompt=prompt)

    def limit(size: int) -> None:
        resource.prlimit(lone_server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    ridden = ride_out(
        lone_server,
        prompt,
        begin=lambda: limit(4096),
        end=lambda: limit(resource.RLIM_INFINITY),
        lasting_s=1.5,
    )
    check_every_call_got_a_prompt(ridden.load)
    check_outcomes_were_acknowledged_or_refused(ridden.load)
    check_nothing_is_lost_or_counted_twice(lone_server.database_url, ridden.load)
    assert ridden.recovered_s < RECOVERED_S
    assert {ask.reason for ask in ridden.new_asks(ridden.began_at + 0.3, ridden.ended_at)} == {"STALE"}


def test_what_was_acknowledged_survives_a_killed_server(lone_server: RunningServer, prompt: str) -> None:
    """kill -9 under load; after the restart everything acknowledged is there and telling it again is idle."""
    lone_server.start_experiment(key=prompt, prompt=prompt)
    with Load(lone_server.port, lone_server.key("manager"), prompt) as load:
        time.sleep(1.0)
        lone_server.kill()
        lone_server.start()
        time.sleep(0.5)
        load.drain()
    check_every_call_got_a_prompt(load, unanswered=True)
    check_outcomes_were_acknowledged_or_refused(load, unanswered=True)
    check_nothing_is_lost_or_counted_twice(lone_server.database_url, load, forgotten=True)
    again = lone_server.manager.post("/outcomes", json=list(load.sent.values())[:1000])
    assert {result["status"] for result in again.json()["results"]} == {"unchanged"}


def test_a_server_that_is_stopped_records_its_backlog(lone_server: RunningServer, prompt: str) -> None:
    """SIGTERM under load while somebody else writes: what was given is recorded before the process ends."""
    lone_server.start_experiment(key=prompt, prompt=prompt)
    key = lone_server.key("manager")
    with _other_writer(lone_server) as writer, Load(lone_server.port, key, prompt) as load:
        time.sleep(0.5)
        writer.execute("BEGIN IMMEDIATE")
        time.sleep(0.7)
        threading.Timer(0.5, writer.execute, ["ROLLBACK"]).start()
        lone_server.stop()
        load.stop_asking()
        check_assignments_are_recorded(lone_server.database_url, load)
        lone_server.start()
        load.drain()
    check_every_call_got_a_prompt(load, unanswered=True)
    check_outcomes_were_acknowledged_or_refused(load, unanswered=True)
    check_nothing_is_lost_or_counted_twice(lone_server.database_url, load)
