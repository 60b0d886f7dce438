"""The audit as a chain: what was tampered with is found, by whoever and with whatever rights it was done."""

import asyncio
import datetime as dt
import hashlib
import json
from typing import Any

import pytest
import sqlalchemy as sa

from domain.audit import GENESIS, AuditAct
from service.activate_version import activate_version
from service.verify_audit import VerifiedAudit, verify_audit
from storage.audit import append_audit, list_audit
from storage.database import Database
from storage.locks import lock_prompt
from storage.prompts import prompt_id_of
from storage.schema import audit
from tests.service.world import NOW, create

ACTS = 6
ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def note(number: int) -> dict[str, Any]:
    return {"actor": "me", "action": "note", "record_type": "thing", "record_id": number, "now": NOW}


async def act(database: Database, number: int, **more: Any) -> None:
    async with database.writing() as connection:
        await append_audit(connection, **(note(number) | more))


async def act_many(database: Database) -> list[str]:
    """A few entries; their hashes in their order."""
    for number in range(ACTS):
        await act(database, number, before={"n": number}, after={"n": number + 1})
    async with database.reading() as connection:
        return [entry.hash for entry in await list_audit(connection, limit=ACTS, offset=0)][::-1]


async def check(database: Database, kept_head: str | None = None) -> VerifiedAudit:
    async with database.reading() as connection:
        return await verify_audit(connection, kept_head=kept_head)


async def ids(database: Database) -> list[int]:
    async with database.reading() as connection:
        return list(await connection.scalars(sa.select(audit.c.id).order_by(audit.c.id)))


async def tamper(database: Database, *statements: sa.Executable) -> None:
    """As somebody who may do everything: the triggers that protect the table are off."""
    async with database.writing() as connection:
        if database.is_sqlite:
            for name in ("audit_no_update", "audit_no_delete"):
                await connection.execute(sa.text(f"DROP TRIGGER {name}"))
        else:
            await connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            await connection.execute(statement)


def entry(entry_id: int) -> sa.Update:
    return sa.update(audit).where(audit.c.id == entry_id)


async def test_an_audit_that_nobody_touched_is_whole(database: Database):
    assert await check(database) == VerifiedAudit(entries=0, head=GENESIS)
    hashes = await act_many(database)
    assert await check(database) == VerifiedAudit(entries=ACTS, head=hashes[-1])


async def test_the_hash_can_be_computed_by_anybody(database: Database):
    """SHA-256 of the JSON of the entry and the hash before it, here by the standard library alone."""
    at = dt.datetime(2026, 11, 22, 13, 0, 0, 7, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    after = {"z": [1, None, True], "é": '\U0001f600 \u202e"', "share": 0.1}
    await act(database, 1)
    await act(database, 2, now=at, after=after)
    async with database.reading() as connection:
        second, first = await list_audit(connection, limit=2, offset=0)
    said = {
        "action": "note",
        "actor": "me",
        "after": after,
        "at": "2026-11-22T12:00:00.000007+00:00",
        "before": None,
        "previous_hash": first.hash,
        "record_id": "2",
        "record_type": "thing",
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert second.hash == hashlib.sha256(text.encode()).hexdigest()
    assert (first.previous_hash, second.previous_hash) == (GENESIS, first.hash)


async def test_odd_values_come_back_as_they_were_hashed(database: Database):
    odd = {"floats": [1e-7, 1e22, -0.0, 0.1 + 0.2, 5e-324], "ints": [2**63 - 1, 1], "": {}, "a": {"": []}}
    for number, at in enumerate(
        [NOW, NOW.replace(microsecond=999_999), dt.datetime(1970, 1, 1, tzinfo=dt.UTC)]
    ):
        await act(database, number, now=at, actor="\u202eme\n", before={}, after=odd)
    assert (await check(database)).problem is None


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "somebody else"},
        {"action": "nothing"},
        {"record_type": "other"},
        {"record_id": "7"},
        {"before": None},
        {"after": {"n": 99}},
        {"at": NOW + dt.timedelta(microseconds=1)},
        {"hash": "f" * 64},
        {"previous_hash": "f" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_changed_entry_is_found(database: Database, change: dict[str, Any]):
    await act_many(database)
    third = (await ids(database))[2]
    await tamper(database, entry(third).values(**change))
    found = await check(database)
    assert (found.entries, found.problem) == (2, f"entry {third} is not what was written")


async def test_a_changed_entry_with_a_hash_that_fits_is_found_at_the_next(database: Database):
    await act_many(database)
    third, fourth = (await ids(database))[2:4]
    async with database.reading() as connection:
        old = (await list_audit(connection, limit=ACTS, offset=0))[ACTS - 3]
    forged = AuditAct(
        **{name: getattr(old, name) for name in AuditAct.__struct_fields__} | {"actor": "nobody"}
    )
    new_hash = forged.hash_after(old.previous_hash)
    await tamper(database, entry(third).values(actor="nobody", hash=new_hash))
    found = await check(database)
    assert found.entries == 3
    assert found.problem is not None
    assert found.problem.startswith(f"entry {fourth} does not follow entry {third}")


@pytest.mark.parametrize("place", [0, 2, ACTS - 2])
async def test_a_removed_entry_is_found_at_the_next(database: Database, place: int):
    await act_many(database)
    gone, following = (await ids(database))[place : place + 2]
    await tamper(database, sa.delete(audit).where(audit.c.id == gone))
    found = await check(database)
    assert found.entries == place
    assert found.problem is not None
    assert found.problem.startswith(f"entry {following} ")


async def test_entries_that_changed_places_are_found(database: Database):
    await act_many(database)
    second, third = (await ids(database))[1:3]
    moves = [(second, -5), (third, second), (-5, third)]
    await tamper(database, *(entry(old).values(id=new) for old, new in moves))
    found = await check(database)
    assert found.entries == 1
    assert found.problem is not None
    assert found.problem.startswith(f"entry {second} does not follow")


async def test_an_entry_put_in_between_is_found_or_refused(database: Database):
    hashes = await act_many(database)
    forged = AuditAct(at=NOW, actor="me", action="a", record_type="t", record_id="1", before=None, after=None)
    said = {name: getattr(forged, name) for name in AuditAct.__struct_fields__}
    fork = sa.insert(audit).values(**said, previous_hash=hashes[2], hash=forged.hash_after(hashes[2]))
    with pytest.raises(sa.exc.IntegrityError):  # the chain does not fork
        await tamper(database, fork)
    strange = sa.insert(audit).values(id=-1, **said, previous_hash="e" * 64, hash=forged.hash_after("e" * 64))
    await tamper(database, strange)
    found = await check(database)
    assert (found.entries, found.head) == (0, GENESIS)
    assert (
        found.problem == "entry -1 is not the first that was written; entries are missing or in another order"
    )


async def test_removing_the_newest_entries_shows_only_beside_a_head_that_was_kept(database: Database):
    hashes = await act_many(database)
    newest = (await ids(database))[-1]
    await tamper(database, sa.delete(audit).where(audit.c.id == newest))
    assert await check(database) == VerifiedAudit(entries=ACTS - 1, head=hashes[-2])
    assert not (await check(database, kept_head=hashes[-1])).has_kept_head
    assert (await check(database, kept_head=hashes[-2])).has_kept_head


async def test_a_head_of_old_stays_good_while_the_audit_grows(database: Database):
    hashes = await act_many(database)
    await act(database, ACTS)
    for head in (GENESIS, *hashes):
        assert (await check(database, kept_head=head)).has_kept_head


async def test_a_long_audit_is_followed_page_by_page(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.verify_audit.PAGE", 2)
    hashes = await act_many(database)
    assert await check(database) == VerifiedAudit(entries=ACTS, head=hashes[-1])


async def test_what_is_undone_leaves_no_entry(database: Database):
    await act(database, 1)
    with pytest.raises(RuntimeError, match="on purpose"):
        async with database.writing() as connection:
            await append_audit(connection, **note(2))
            raise RuntimeError("on purpose")
    await act(database, 3)
    async with database.reading() as connection:
        entries = await list_audit(connection, limit=10, offset=0)
    assert [entry.record_id for entry in entries] == ["3", "1"]
    assert (await check(database)).problem is None


async def test_acts_of_one_transaction_stand_in_their_order(database: Database):
    async with database.writing() as connection:
        for number in range(3):
            await append_audit(connection, **note(number))
    async with database.reading() as connection:
        entries = await list_audit(connection, limit=10, offset=0)
    assert [entry.record_id for entry in entries] == ["2", "1", "0"]
    assert (await check(database)).entries == 3


async def test_many_at_once_make_one_chain(database: Database):
    """Each holds a prompt, and its entry waits for all others': no circle, no fork, no gap."""
    versions = [
        [await create(database, f"text {number} of {name}", name=name) for number in range(2)]
        for name in ("one", "two", "three")
    ]
    before = (await check(database)).entries

    async def activate(version_id: int) -> None:
        async with database.writing() as connection:
            await activate_version(connection, version_id, actor="me", now=NOW)

    # The second first, so that each activation changes something.
    turns = [
        version.id for _ in range(5) for place in (1, 0) for version in (pair[place] for pair in versions)
    ]
    for start in range(0, len(turns), 3):
        await asyncio.gather(*(activate(version_id) for version_id in turns[start : start + 3]))
    found = await check(database)
    assert (found.problem, found.entries - before) == (None, len(turns))


@ON_POSTGRESQL
async def test_whoever_has_an_entry_to_write_and_waits_for_a_row_holds_nobody_up(database: Database):
    """The end of the audit is the last lock of a transaction. Were it taken with the entry, these two would
    wait for each other: one for the prompt that the other holds, the other for the end of the audit."""
    version = await create(database, "text")
    async with database.reading() as connection:
        prompt_id = await prompt_id_of(connection, version.id)
    assert prompt_id is not None
    both_are_under_way = asyncio.Barrier(2)

    async def tells_first() -> None:
        async with database.writing() as connection:
            await append_audit(connection, **note(1))
            await both_are_under_way.wait()
            await lock_prompt(connection, prompt_id)

    async def holds_first() -> None:
        async with database.writing() as connection:
            await lock_prompt(connection, prompt_id)
            await both_are_under_way.wait()
            await append_audit(connection, **note(2))

    before = (await check(database)).entries
    await asyncio.gather(tells_first(), holds_first())
    found = await check(database)
    assert (found.problem, found.entries - before) == (None, 2)
