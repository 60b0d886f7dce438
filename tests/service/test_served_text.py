"""An outcome counts for the text that its call got: it may tell the hash of that text."""

import pytest
import sqlalchemy as sa

from domain.errors import ContentMismatch, InvalidValue
from domain.snapshot import derive
from service.assign import record_late
from storage.database import Database
from storage.schema import assignments
from tests.service.world import NOW, call, counted, create, outcome, start, state_of, tell, tell_one

FALLBACK = "f" * 64  # the hash of a text that no server has stored


async def rows(database: Database) -> list[tuple[str, str, str, int | None]]:
    """What is recorded: unit, reason, hash and version."""
    columns = (
        assignments.c.unit_id,
        assignments.c.reason,
        assignments.c.content_hash,
        assignments.c.version_id,
    )
    async with database.reading() as connection:
        found = await connection.execute(sa.select(*columns).order_by(assignments.c.unit_id))
        return [tuple(row) for row in found]


async def test_an_outcome_of_the_recorded_text_counts(database: Database):
    await start(database)
    given = await call(database, "call-1")
    told = outcome("call-1", resolved=True, content_hash=given.version.content_hash)
    assert await tell_one(database, told) == "accepted"
    assert sum(n for n, _, _ in (await counted(database, "resolved")).values()) == 1


async def test_an_outcome_of_another_text_counts_for_nothing(database: Database):
    """The server was too late: it recorded its answer, and the agent spoke its own fallback."""
    await start(database)
    await call(database, "call-1")
    with pytest.raises(ContentMismatch):
        await tell_one(database, outcome("call-1", resolved=True, content_hash=FALLBACK))
    assert await counted(database, "resolved") == {}


async def test_a_call_with_the_agents_fallback_is_recorded_as_such(database: Database):
    await start(database)
    assert await tell_one(database, outcome("call-1", resolved=True, content_hash=FALLBACK)) == "accepted"
    assert await rows(database) == [("call-1", "DEFAULT", FALLBACK, None)]
    assert await counted(database, "resolved") == {}


async def test_an_answer_that_came_too_late_cannot_take_the_outcome_of_the_fallback(database: Database):
    """The assignment waited in a server's memory while the agent spoke its fallback."""
    await start(database)
    late = derive(await state_of(database), unit_id="call-1", segment=None, now=NOW, reason="STALE")
    assert late is not None
    await tell_one(database, outcome("call-1", resolved=True, content_hash=FALLBACK))
    async with database.writing() as connection:
        ((given, standing),) = await record_late(connection, [late])
    assert (given, standing.reason) == (late, "DEFAULT")
    assert await counted(database, "assigned") == {}


async def test_a_version_served_from_memory_is_recorded_with_its_id(database: Database):
    """The active version was given while the database was away, and the server died before it could say so."""
    version = await create(database, "Be kind.")
    told = outcome("call-1", resolved=True, content_hash=version.content_hash)
    assert await tell_one(database, told) == "accepted"
    assert await rows(database) == [("call-1", "STALE", version.content_hash, version.id)]


async def test_an_allocation_that_gives_another_text_is_refused(database: Database):
    """Allocation and text of one answer fit together; where they do not, somebody mixed up two calls."""
    await start(database)
    allocation = (await state_of(database)).experiment.allocation_id
    with pytest.raises(ContentMismatch):
        await tell_one(
            database, outcome("call-1", resolved=True, allocation=allocation, content_hash=FALLBACK)
        )
    assert await rows(database) == []


async def test_the_same_text_under_another_allocation_is_the_same_variant(database: Database):
    """Two servers, one of them a second behind, gave the call the same text under two allocations."""
    await start(database)
    given = await call(database, "call-1")
    await start(database, key="other", prompt="sales")
    other = (await state_of(database, prompt="sales")).experiment.allocation_id
    told = outcome("call-1", resolved=True, allocation=other, content_hash=given.version.content_hash)
    assert await tell_one(database, told) == "accepted"


async def test_a_rejected_outcome_of_a_fallback_leaves_no_assignment_behind(database: Database):
    await start(database)
    with pytest.raises(InvalidValue):
        await tell_one(database, outcome("call-1", quality=2.0, content_hash=FALLBACK))
    assert await rows(database) == []


async def test_one_batch_may_tell_all_kinds(database: Database):
    await start(database)
    given = await call(database, "call-1")
    answers = await tell(
        database,
        outcome("call-1", resolved=True, content_hash=given.version.content_hash),
        outcome("call-1", quality=0.5, content_hash=FALLBACK),
        outcome("call-2", resolved=True, content_hash=FALLBACK),
        outcome("call-2", quality=0.5, content_hash=given.version.content_hash),
        outcome("call-3", resolved=True),
    )
    kinds = [answer if isinstance(answer, str) else type(answer) for answer in answers]
    assert kinds == ["accepted", ContentMismatch, "accepted", ContentMismatch, "parked"]
