"""What hangs with the database hangs nothing else: lines, locks, the state, keys, the backlog."""

import asyncio
import datetime as dt
import re
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Keyring
from api.clock import utc_now
from api.last_known import LastKnown
from api.problems import StorageAway
from domain.assignments import Assignment
from domain.keys import ApiKey, mint
from domain.prompts import ServedVersion
from storage.assignments import insert_assignments
from storage.database import Database
from storage.keys import insert_key
from storage.prompts import served_versions
from tests.postgres import Postgres
from tests.proxy import Proxy

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
SOON_S = 4.0  # psycopg alone takes 10.5 s; a loaded test machine gets some of that
PATIENT_S = 60.0


async def _ask(database: Database, statement: str) -> None:
    async with database.reading() as connection:
        await connection.exec_driver_sql(statement)


# --- connections -------------------------------------------------------------------------------------


async def test_a_statement_without_an_answer_ends_when_the_patience_ends(far: Database, proxy: Proxy) -> None:
    """PostgreSQL's own statement_timeout is of no use: it cannot be heard."""
    proxy.hold()
    started = time.monotonic()
    with pytest.raises(Exception, match="closed the connection") as caught:
        await _ask(far, "SELECT 1")
    assert "OperationalError" in type(caught.value).__name__
    assert 0.4 < time.monotonic() - started < 0.5 + SOON_S


async def test_a_cancelled_statement_costs_its_connection_and_no_time(far_url: str, proxy: Proxy) -> None:
    """psycopg asks a frozen server to cancel, and waits: 10.5 s."""
    database = Database(far_url, patience_s=PATIENT_S)
    await _ask(database, "SELECT 1")
    proxy.hold()
    task = asyncio.create_task(_ask(database, "SELECT 1"))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    task.cancel()
    await asyncio.wait({task})
    assert time.monotonic() - started < SOON_S
    proxy.heal()
    await _ask(database, "SELECT 1")
    await database.close()


async def test_letting_go_ends_the_waits_and_forgets_the_idle_connections(far_url: str, proxy: Proxy) -> None:
    """After a partition that lost the connections, no call tries one of the old ones."""
    database = Database(far_url, pool_size=4, patience_s=PATIENT_S)
    await asyncio.gather(*(_ask(database, "SELECT pg_sleep(0.05)") for _ in range(4)))
    proxy.lose()
    hanging = asyncio.create_task(_ask(database, "SELECT 1"))
    await asyncio.sleep(0.1)
    proxy.heal()
    database.let_go(waited_s=0.05)
    started = time.monotonic()
    await asyncio.gather(*(_ask(database, "SELECT 1") for _ in range(4)))
    await asyncio.gather(hanging, return_exceptions=True)
    assert time.monotonic() - started < SOON_S
    await database.close()


async def test_a_client_that_is_lost_within_a_batch_does_not_keep_its_locks(
    own_postgres: Postgres, near: Database, far_url: str, proxy: Proxy
) -> None:
    """PostgreSQL ends the transaction of whoever says nothing: also after an insert of many rows."""
    database = Database(far_url, statement_timeout_ms=300)
    silent = asyncio.Event()
    lost = asyncio.create_task(_insert_and_go_silent(database, proxy, silent))
    while not silent.is_set():
        assert not lost.done(), lost.exception()
        await asyncio.sleep(0.01)
    deadline = time.monotonic() + PATIENT_S
    with psycopg.connect(own_postgres.dsn("hanging"), autocommit=True) as session:
        query = b"SELECT 1 FROM pg_stat_activity WHERE datname = 'hanging' AND state LIKE '%in transaction%'"
        held = 0
        while session.execute(query).fetchone():
            held += 1
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert held  # it was there, before PostgreSQL ended it
        rows = session.execute(b"SELECT 1 FROM assignments WHERE unit_id LIKE 'silent-%'").fetchall()
    assert rows == []
    proxy.heal()
    await database.close()
    (error,) = await asyncio.gather(lost, return_exceptions=True)
    assert isinstance(error, DBAPIError | StorageAway | TimeoutError), repr(error)


async def _insert_and_go_silent(database: Database, proxy: Proxy, silent: asyncio.Event) -> None:
    async with database.writing() as connection:
        version = (await served_versions(connection, {1}))[1]
        await insert_assignments(connection, [_assignment(f"silent-{n}", version) for n in range(3)])
        proxy.lose()
        silent.set()
        await connection.exec_driver_sql("SELECT 1")


def _assignment(unit_id: str, version: ServedVersion) -> Assignment:
    return Assignment(
        prompt="support", prompt_id=1, unit_id=unit_id, version=version, reason="STATIC", assigned_at=NOW
    )


def test_inserts_of_many_rows_do_not_use_pipelines() -> None:
    """After a pipeline PostgreSQL forgets idle_in_transaction_session_timeout; RETURNING avoids it."""
    inserts = {
        f"{path.name}: {insert}"
        for folder in ("storage", "service")
        for path in Path(folder).glob("*.py")
        for insert in re.findall(r"sa\.insert\(\w+\)\s*\.?\w*", path.read_text())
    }
    assert len(inserts) > 5
    assert {text for text in inserts if not text.endswith((".returning", ".values"))} == set()


async def test_a_connection_found_dead_is_replaced_within_the_work(near_url: str, near: Database) -> None:
    """An operator or a failover ended the sessions in the pool; no call needs to hear of it."""
    calls = Database(near_url, pool_size=2, pre_ping=False)
    tries = 0

    async def work(connection: AsyncConnection) -> int:
        nonlocal tries
        tries += 1
        return int((await connection.exec_driver_sql("SELECT 1")).scalar_one())

    assert await calls.write(work) == 1
    await _ask(near, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert await calls.write(work) == 1
    assert tries == 3
    await calls.close()


async def test_an_error_of_the_work_itself_is_not_tried_again(near: Database) -> None:
    tries = 0

    async def work(connection: AsyncConnection) -> None:
        nonlocal tries
        tries += 1
        await connection.exec_driver_sql("SELECT 1 / 0")

    with pytest.raises(DataError):
        await near.write(work)
    assert tries == 1


# --- the state ---------------------------------------------------------------------------------------


async def test_refreshing_the_state_does_not_hang_and_sees_the_end_of_a_partition(
    far: Database, proxy: Proxy
) -> None:
    """Nobody waits for long, and a reading that hangs does not hold up the next."""
    last_known = LastKnown(far, utc_now)
    assert await last_known.refresh()
    proxy.lose()
    for _ in range(4):
        started = time.monotonic()
        assert not await last_known.refresh()
        assert time.monotonic() - started < SOON_S
    assert last_known.is_away
    assert last_known.state("support") is not None
    proxy.heal()
    started = time.monotonic()
    while not await last_known.refresh():
        assert time.monotonic() - started < 20.0
    assert not last_known.is_away


async def test_refreshes_asked_for_during_a_reading_share_the_next_one(near: Database) -> None:
    """One reading for all who asked before it began; the one under way might be older than their question."""
    readings = 0

    def clock() -> dt.datetime:
        nonlocal readings
        readings += 1
        return NOW

    last_known = LastKnown(near, clock)
    assert all(await asyncio.gather(*(last_known.refresh() for _ in range(20))))
    assert readings <= 2


async def test_an_error_from_before_the_last_reading_is_no_news(near: Database) -> None:
    """A connection that died in the outage is noticed late; the database has answered since."""
    last_known = LastKnown(near, utc_now)
    began_at = time.monotonic()
    await last_known.refresh()
    last_known.note_failure(OSError("connection reset"), began_at=began_at - 1)
    assert not last_known.is_away
    last_known.note_failure(OSError("connection reset"), began_at=time.monotonic())
    assert last_known.is_away


# --- keys --------------------------------------------------------------------------------------------


@pytest.fixture
async def agent_key(near: Database) -> str:
    """A stored key of an agent."""
    salt = time.monotonic_ns().to_bytes(8, "big")
    text, prefix, secret_hash = mint("agent", prefix_bytes=salt, secret_bytes=salt * 4)
    key = ApiKey(prefix=prefix, secret_hash=secret_hash, scopes=("agent",), name="", created_at=NOW)
    async with near.writing() as connection:
        await insert_key(connection, key)
    return text


async def test_a_key_that_was_good_costs_no_wait_while_the_database_hangs(
    far: Database, proxy: Proxy, agent_key: str
) -> None:
    """In use, it is looked up before its time is over; afterwards one call in a lookup waits 50 ms."""
    keyring = Keyring(far, cache_s=0.2, agent_hashes=frozenset(), clock=utc_now)
    assert await keyring.caller_of(agent_key)
    proxy.hold()
    waits = []
    for _ in range(40):
        started = time.monotonic()
        assert await keyring.caller_of(agent_key)
        waits.append(time.monotonic() - started)
        await asyncio.sleep(0.02)
    assert max(waits) < SOON_S
    assert sorted(waits)[-5] < 0.05


async def test_an_unknown_key_is_told_to_come_back_while_the_database_hangs(
    far: Database, proxy: Proxy, agent_key: str
) -> None:
    """Nobody may be let in unseen."""
    keyring = Keyring(far, cache_s=3.0, agent_hashes=frozenset(), clock=utc_now)
    proxy.hold()
    with pytest.raises(StorageAway):
        await keyring.caller_of(agent_key)
    proxy.heal()
    await asyncio.sleep(0.3)
    assert await keyring.caller_of(agent_key)


async def test_a_revoked_key_is_refused_when_its_time_is_over(near: Database, agent_key: str) -> None:
    """The lookup before the time is over must not lengthen it."""
    keyring = Keyring(near, cache_s=0.3, agent_hashes=frozenset(), clock=utc_now)
    assert await keyring.caller_of(agent_key)
    async with near.writing() as connection:
        await connection.exec_driver_sql("UPDATE api_keys SET revoked_at = now()")
    deadline = time.monotonic() + 0.3 + SOON_S
    while await keyring.caller_of(agent_key):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
