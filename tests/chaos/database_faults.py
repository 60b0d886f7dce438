"""Faults of PostgreSQL: its processes, its locks, its connections, its disk."""

import contextlib
import time
from collections.abc import Iterator

import psycopg

from tests.chaos.parting import LastWill
from tests.chaos.plan import Planned
from tests.chaos.stage import CONNECTIONS, DATABASE, Stage

SETTLING_S = 30.0


def kill_postgres(stage: Stage, planned: Planned) -> Iterator[None]:
    """kill -9 of every process; crash recovery."""
    del planned
    stage.postgres.crash()
    yield
    stage.postgres.start()


def restart_postgres(stage: Stage, planned: Planned) -> Iterator[None]:
    """An operator's restart: sessions end with a word."""
    del planned
    stage.postgres.shut_down()
    yield
    stage.postgres.start()


def freeze_postgres(stage: Stage, planned: Planned) -> Iterator[None]:
    """SIGSTOP of every process."""
    del planned
    # A frozen process does not hear that its parent is gone.
    thaw = LastWill(*(f"kill -CONT {pid}" for pid in stage.postgres.pids()))
    stage.postgres.freeze()
    yield
    stage.postgres.thaw()
    thaw.execute()


def lock_tables(stage: Stage, planned: Planned) -> Iterator[None]:
    """ACCESS EXCLUSIVE on what every call needs."""
    del planned
    with stage.session(autocommit=False) as session:
        session.execute("LOCK TABLE assignments, outcomes IN ACCESS EXCLUSIVE MODE")
        yield
        session.rollback()


def exhaust_connections(stage: Stage, planned: Planned) -> Iterator[None]:
    """Somebody takes every connection, after the servers' were ended."""
    del planned
    with contextlib.ExitStack() as sessions, stage.session() as killer:
        for attempt in range(3 * CONNECTIONS):
            try:
                sessions.enter_context(stage.session())
            except psycopg.OperationalError:
                if attempt > CONNECTIONS:
                    break
                _end_sessions(killer)
        yield


def terminate_backends(stage: Stage, planned: Planned) -> Iterator[None]:
    """Every session of the servers is ended, again and again."""
    until = time.monotonic() + planned.lasting_s
    with stage.session() as killer:
        while time.monotonic() < until:
            _end_sessions(killer)
            time.sleep(0.25)
    yield


def _end_sessions(killer: psycopg.Connection) -> None:
    """Those that came through the network; the harness's own have a name."""
    killer.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{DATABASE}' AND application_name <> 'harness' AND pid <> pg_backend_pid()"
    )


def fill_disk(stage: Stage, planned: Planned) -> Iterator[None]:
    """No room for another page; PostgreSQL may end because of it, then it is started again."""
    del planned
    assert stage.disk is not None
    stage.disk.fill()
    yield
    stage.disk.free()
    _start_if_ended(stage)


def _start_if_ended(stage: Stage) -> None:
    until = time.monotonic() + SETTLING_S
    while time.monotonic() < until:
        if not stage.postgres.is_running:
            stage.postgres.start()
        try:
            stage.session().close()
            return
        except psycopg.OperationalError:
            time.sleep(0.02)
    raise RuntimeError("PostgreSQL did not come back after its disk had been full")
