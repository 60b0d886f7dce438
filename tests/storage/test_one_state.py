"""A transaction that reads sees one state, whatever is committed meanwhile."""

import sqlalchemy as sa

from service.find import experiment_of
from service.known import read_known
from storage.allocations import current_allocation
from storage.database import Database
from tests.service.world import NOW, add, call, start


async def test_a_reader_sees_no_variant_and_no_split_that_came_while_it_read(database: Database):
    """Half of a new variant, its share without the variant itself, would be no split at all."""
    await start(database)
    async with database.reading() as connection:
        experiment = await experiment_of(connection, "greeting")
        before = await current_allocation(connection, experiment.id)
        await add(database, "c")
        await call(database, "late-call")
        known = await read_known(connection, experiment, now=NOW)
        assert (len(known.allocations), known.current) == (1, before)
        assert known.tally.units.sum() == 0
    async with database.reading() as connection:
        known = await read_known(connection, await experiment_of(connection, "greeting"), now=NOW)
        assert (len(known.allocations), known.tally.units.sum()) == (2, 1)


async def test_a_writer_after_a_reader_sees_the_newest_state(database: Database):
    """The reader's isolation goes back with its connection."""
    async with database.reading() as connection:
        await connection.execute(sa.text("SELECT 1"))
    await start(database)
    async with database.writing() as connection:
        experiment = await experiment_of(connection, "greeting")
        level = "SELECT 'none'" if database.is_sqlite else "SHOW transaction_isolation"
        assert await connection.scalar(sa.text(level)) in ("none", "read committed")
    assert experiment.status == "running"
