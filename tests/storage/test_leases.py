"""Leases on both databases: one holder at a time, by the database's clock."""

import asyncio

import sqlalchemy as sa

from storage.database import Database
from storage.leases import release_lease, renew_lease, take_lease
from storage.schema import leases

LONG_S = 3_600.0
OVER_S = -1.0  # a lease that has run out a second ago


async def take(database: Database, holder: str, *, name: str = "optimize", for_s: float = LONG_S) -> bool:
    async with database.writing() as connection:
        return await take_lease(connection, name, holder=holder, for_s=for_s)


async def renew(database: Database, holder: str, *, for_s: float = LONG_S) -> bool:
    async with database.writing() as connection:
        return await renew_lease(connection, "optimize", holder=holder, for_s=for_s)


async def release(database: Database, holder: str) -> bool:
    async with database.writing() as connection:
        return await release_lease(connection, "optimize", holder=holder)


async def left_s(database: Database) -> float:
    """How long the lease still lasts, as the database itself says."""
    query = (
        "SELECT (julianday(until) - julianday('now')) * 86400.0 FROM leases"
        if database.is_sqlite
        else "SELECT extract(epoch FROM until - clock_timestamp()) FROM leases"
    )
    async with database.reading() as connection:
        return float(await connection.scalar(sa.text(query)) or 0.0)


async def test_of_eight_who_ask_at_once_one_gets_it(database: Database):
    names = [f"holder-{number}" for number in range(8)]
    taken = await asyncio.gather(*(take(database, name) for name in names))
    assert sum(taken) == 1
    async with database.reading() as connection:
        assert await connection.scalar(sa.select(leases.c.holder)) == names[taken.index(True)]


async def test_somebody_else_is_refused_while_it_lasts(database: Database):
    assert await take(database, "first")
    assert not await take(database, "second")
    assert await take(database, "second", name="another work")


async def test_one_that_has_run_out_is_taken_over_and_its_holder_is_told(database: Database):
    assert await take(database, "first", for_s=OVER_S)
    assert await take(database, "second")
    assert not await renew(database, "first")
    assert not await release(database, "first")
    assert not await take(database, "first")
    assert await renew(database, "second")


async def test_of_eight_who_take_over_one_that_has_run_out_one_gets_it(database: Database):
    assert await take(database, "dead", for_s=OVER_S)
    taken = await asyncio.gather(*(take(database, f"holder-{number}") for number in range(8)))
    assert sum(taken) == 1


async def test_the_holder_renews_it(database: Database):
    assert await take(database, "first", for_s=60.0)
    assert await renew(database, "first", for_s=LONG_S)
    assert LONG_S - 120.0 < await left_s(database) <= LONG_S


async def test_it_lasts_as_long_as_was_asked_for_by_the_databases_own_clock(database: Database):
    assert await take(database, "first", for_s=90.5)
    assert 0.5 < await left_s(database) <= 90.51  # a test machine may stand still for a minute


async def test_taking_what_one_holds_already_renews_it(database: Database):
    """A run that starts again under the same name goes on."""
    assert await take(database, "first", for_s=60.0)
    assert await take(database, "first", for_s=LONG_S)
    assert await left_s(database) > 120.0


async def test_one_that_has_run_out_and_that_nobody_took_is_still_its_holders(database: Database):
    assert await take(database, "first", for_s=OVER_S)
    assert await renew(database, "first")
    assert not await take(database, "second")


async def test_a_released_one_is_free_at_once_and_gone_for_who_held_it(database: Database):
    assert await take(database, "first")
    assert await release(database, "first")
    assert not await renew(database, "first")
    assert await take(database, "second")


async def test_who_waits_for_another_transaction_is_refused_when_that_commits(database: Database):
    """On SQLite transactions that write wait for each other anyway."""
    patient = database.aside(lock_timeout_ms=60_000, statement_timeout_ms=60_000)
    async with database.writing() as connection:
        assert await take_lease(connection, "optimize", holder="first", for_s=LONG_S)
        waiting = asyncio.create_task(take(patient, "second"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
    assert not await waiting
    await patient.close()


async def test_a_lease_that_was_taken_in_a_transaction_that_failed_is_free(database: Database):
    try:
        async with database.writing() as connection:
            assert await take_lease(connection, "optimize", holder="first", for_s=LONG_S)
            raise RuntimeError
    except RuntimeError:
        pass
    assert await take(database, "second")


async def test_times_are_stored_as_all_our_times_are(database: Database):
    """Read through our column type, and compared with it, they are the times that the database meant."""
    assert await take(database, "first", for_s=LONG_S)
    async with database.reading() as connection:
        until = await connection.scalar(sa.select(leases.c.until))
        after = sa.select(leases.c.name).where(leases.c.until >= until, leases.c.until <= until)
        assert await connection.scalar(after) == "optimize"
    assert until is not None
    assert until.tzinfo is not None
