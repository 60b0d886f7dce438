"""Calls while the database hangs: what is given stays given, and is recorded later."""

import asyncio
import datetime as dt

import msgspec
import pytest

from api.assigner import Assigner
from api.backlog import Backlog
from api.clock import utc_now
from api.last_known import LastKnown
from api.settings import Settings
from domain.assignments import Assignment, NewAssignment
from domain.prompts import NewVersion, ServedVersion
from service.create_version import create_version
from storage.database import Database
from tests.proxy import Proxy

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)


def _assignment(unit_id: str, prompt: str = "support") -> Assignment:
    version = ServedVersion(
        id=None,
        number=None,
        name=prompt,
        system_prompt="Hello",
        tools_config=[],
        metadata={},
        content_hash="0" * 64,
    )
    return Assignment(
        prompt=prompt,
        prompt_id=1 if prompt == "support" else None,
        unit_id=unit_id,
        version=version,
        reason="DEFAULT",
        assigned_at=NOW,
    )


async def _recorded(database: Database, prefix: str) -> set[str]:
    async with database.reading() as connection:
        query = f"SELECT unit_id FROM assignments WHERE unit_id LIKE '{prefix}%%'"
        return set((await connection.exec_driver_sql(query)).scalars())


@pytest.fixture
async def last_known(near: Database) -> LastKnown:
    """The state, read once."""
    found = LastKnown(near, utc_now)
    await found.refresh()
    return found


async def test_a_bad_assignment_in_the_backlog_does_not_hold_up_the_others(
    near: Database, last_known: LastKnown
) -> None:
    """It is found by halves, logged and dropped."""
    backlog = Backlog(near, last_known, size=1_000)
    for n in range(250):
        backlog.add(_assignment(f"bad-{n:03}"))
    broken = msgspec.structs.replace(_assignment("bad-x"), experiment_id=-1)
    backlog._waiting.insert(120, broken)
    await backlog.record()
    assert len(backlog) == 0
    assert await _recorded(near, "bad-") == {f"bad-{n:03}" for n in range(250)}


async def test_a_full_backlog_drops_what_comes_and_counts_it(near: Database, last_known: LastKnown) -> None:
    """Memory is bounded; what is dropped can be derived from its outcome."""
    backlog = Backlog(near, last_known, size=3)
    for n in range(5):
        backlog.add(_assignment(f"full-{n}"))
    assert (len(backlog), backlog.dropped) == (3, 2)
    await backlog.record()
    assert await _recorded(near, "full-") == {"full-0", "full-1", "full-2"}


async def test_the_backlog_waits_for_a_prompt_that_nobody_has_created_yet(
    near: Database, last_known: LastKnown
) -> None:
    """Served from the fallback file to a server that is ahead of its manager."""
    backlog = Backlog(near, last_known, size=10)
    backlog.add(_assignment("ahead-1", prompt="coming"))
    await backlog.record()
    assert (len(backlog), await _recorded(near, "ahead-")) == (0, set())
    async with near.writing() as connection:
        await create_version(connection, NewVersion(name="coming", system_prompt="Hi"), actor="test", now=NOW)
    await last_known.refresh()
    await backlog.record()
    assert await _recorded(near, "ahead-") == {"ahead-1"}


async def test_a_unit_that_asks_again_meanwhile_gets_the_same_answer(
    far: Database, near_url: str, proxy: Proxy, last_known: LastKnown
) -> None:
    """Asked twice while the database hangs, with a new split in between: the first answer stands."""
    settings = Settings(database_url=near_url, soft_deadline_ms=100, max_in_flight=1)
    backlog = Backlog(far, last_known, size=10)
    assigner = Assigner(far, last_known, backlog, {}, settings, utc_now)
    new = NewAssignment(prompt="support", unit_id="twice")
    proxy.hold()
    first = asyncio.create_task(assigner.answer(new))
    await asyncio.sleep(0.05)
    state = last_known.state("support")
    assert state is not None
    assert state.active is not None
    assert last_known.snapshot is not None
    changed = msgspec.structs.replace(state.active, content_hash="f" * 64)
    last_known.snapshot.prompts["support"] = msgspec.structs.replace(state, active=changed)
    second = await assigner.answer(new)
    assert second.version == (await first).version == (await assigner.answer(new)).version
    assert second.version.content_hash != "f" * 64
    assert second.reason == "STALE"
    proxy.heal()
    await assigner.drain()


async def test_an_assignment_that_could_not_be_stored_is_given_once_and_stored_later(
    near: Database, near_url: str, last_known: LastKnown
) -> None:
    """Its transaction fails; who asks at that very moment gets the same answer as who asked first."""
    settings = Settings(database_url=near_url, soft_deadline_ms=20_000)
    backlog = Backlog(near, last_known, size=10)
    narrow = Database(near_url, pool_size=2, lock_timeout_ms=200, pre_ping=False)
    assigner = Assigner(narrow, last_known, backlog, {}, settings, utc_now)
    async with near.writing() as connection:
        await connection.exec_driver_sql("LOCK TABLE assignments IN ACCESS EXCLUSIVE MODE")
        asked = [assigner.answer(NewAssignment(prompt="support", unit_id="failed")) for _ in range(5)]
        given = await asyncio.gather(*asked)
    assert {item.reason for item in given} == {"STALE"}
    assert all(item == given[0] for item in given)
    assert len(backlog) == 1
    await backlog.record()
    assert await _recorded(near, "failed") == {"failed"}
    await narrow.close()
