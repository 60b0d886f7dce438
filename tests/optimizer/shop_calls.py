"""What the tests of a run share: a shop with calls, and a door that judges by the real gate."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment
from domain.citations import Citation, CitedCall
from domain.errors import InvalidValue
from domain.gate import gate
from domain.optimizer_settings import OptimizerSettings
from domain.outcomes import NewOutcome, Turn
from domain.prompts import NewVersion, PromptVersion
from domain.redaction import redact
from optimizer.candidates import Candidate
from optimizer.plan import Scope
from optimizer.run import Ended, optimize
from optimizer.work import Door, Entry, Means, Watch
from service.assign import assign
from service.create_version import create_version
from service.record import record
from storage.audit import append_audit
from storage.database import Database
from storage.prompts import find_prompt_id, find_version
from storage.schema import audit, leases, llm_calls, optimizer_runs, transcripts
from tests.conftest import NOW
from tests.optimizer.asking import KEY, PATIENT_S
from tests.optimizer.injections import SHOP_PROMPT, SHOP_TOOLS

PROMPT = "support"
LATER = NOW + dt.timedelta(hours=1)
ANIMALS = ("otter", "heron", "lynx", "badger", "marten", "stork", "bison", "newt", "viper", "crane")
SCOPE = Scope()

type Call = tuple[str, str, float, Sequence[Turn]]  # unit_id, segment, quality, turns


def shop_calls(*, failing: int = 40, good: int = 12) -> list[Call]:
    """Callers ask in words of their own; the agent does not know, or does."""
    return [
        (
            f"call-{number:03}",
            "returns" if number % 2 else "sizes",
            0.1 if number < failing else 0.9,
            _turns(number, knows=number >= failing),
        )
        for number in range(failing + good)
    ]


def _turns(number: int, *, knows: bool) -> list[Turn]:
    animal = ANIMALS[number % len(ANIMALS)]
    said = f"It is about jacket {animal}, bought {number} days ago by my friend {animal}."
    answer = "It can be sent back." if knows else f"Sorry, I don't know about jacket {animal} at all."
    return [
        Turn(role="caller", content=said),
        Turn(role="agent", content=answer),
        Turn(role="caller", content=f"Well, goodbye then, says the {animal} number {number}."),
    ]


async def open_shop(
    database: Database, calls: Sequence[Call], *, at: dt.datetime = NOW, prompt: str = PROMPT
) -> PromptVersion:
    """The prompt with its active version, and its calls: assigned, scored, their transcripts redacted."""
    new = NewVersion(name=prompt, system_prompt=SHOP_PROMPT, tools_config=SHOP_TOOLS)
    async with database.writing() as connection:
        version = await create_version(connection, new, actor="test", now=at - dt.timedelta(days=9))
        await take_calls(connection, version, calls, at=at, prompt=prompt)
    return version


async def take_calls(
    connection: AsyncConnection,
    version: PromptVersion,
    calls: Sequence[Call],
    *,
    at: dt.datetime,
    prompt: str = PROMPT,
    **given: Any,
) -> None:
    """`given` is what an assignment says where an experiment runs."""
    prompt_id = await find_prompt_id(connection, prompt)
    if not calls:
        return
    proposals = [
        Assignment(
            prompt=prompt,
            prompt_id=prompt_id,
            unit_id=unit_id,
            version=version.served(),
            segment=segment,
            assigned_at=at,
            **({"reason": "STATIC"} | given),
        )
        for unit_id, segment, _, _ in calls
    ]
    await assign(connection, proposals)
    outcomes = [
        NewOutcome(prompt=prompt, unit_id=unit_id, metrics={"quality": quality, "resolved": quality > 0.5})
        for unit_id, _, quality, _ in calls
    ]
    redacted = {number: redact(list(turns), {}) for number, (*_, turns) in enumerate(calls)}
    await record(connection, outcomes, now=at, transcripts=redacted)


async def gate_door(candidate: Candidate) -> Entry:
    """The real gate over every call of the prompt; what passes is kept in the audit, with the transaction."""

    async def enter(connection: AsyncConnection) -> int:
        return await _enter(connection, candidate)

    return enter


async def _enter(connection: AsyncConnection, candidate: Candidate) -> int:
    parent = await find_version(connection, candidate.parent_version_id)
    assert parent is not None
    rows = (await connection.execute(sa.select(transcripts.c.unit_id, transcripts.c.turns))).all()
    result = gate(
        parent,
        candidate.edits,
        [Citation(unit_id=e.unit_id, turn=e.turn, quote=e.quote) for e in candidate.evidence],
        [CitedCall(unit_id=r.unit_id, turns=msgspec.convert(r.turns, tuple[Turn, ...])) for r in rows],
        prose=(candidate.title, candidate.expected_effect, candidate.risk),
    )
    if not result.passed:
        failed = [check.name for check in result.checks if not check.passed]
        raise InvalidValue(pointer="/edits", problem=f"gate: {', '.join(failed)}")
    number = len((await connection.execute(_SUGGESTED)).all()) + 1
    await append_audit(
        connection,
        actor="optimizer",
        action="suggested",
        record_type="suggestion",
        record_id=number,
        now=LATER,
        after=msgspec.to_builtins(candidate),
    )
    return number


_SUGGESTED = sa.select(audit.c.after).where(audit.c.action == "suggested").order_by(audit.c.id)


async def suggested(database: Database) -> list[dict[str, Any]]:
    """What came through the door."""
    async with database.reading() as connection:
        return [row.after for row in await connection.execute(_SUGGESTED)]


def means_for(
    database: Database,
    url: str,
    *,
    seed: str = "seed",
    watch: Watch = lambda _state, _done, _total: None,
    lease_s: float = 3_600.0,
    now: dt.datetime = LATER,
    door: Door = gate_door,
    **settings: Any,
) -> Means:
    """A run against a provider on loopback."""
    own = {
        "anthropic_api_key": KEY,
        "anthropic_base_url": url,
        "optimizer_timeout_s": PATIENT_S,
        "optimizer_max_retry_wait_s": 0.1,
        "optimizer_max_retries": 0,
    }
    return Means(
        database=database,
        settings=OptimizerSettings(**(own | settings)),
        clock=lambda: now,
        door=door,
        seed=seed,
        lease_s=lease_s,
        watch=watch,
    )


async def run(database: Database, url: str, *, scope: Scope = SCOPE, **more: Any) -> Ended:
    return await optimize(means_for(database, url, **more), PROMPT, scope)


async def runs_of(database: Database) -> list[Any]:
    async with database.reading() as connection:
        return list((await connection.execute(sa.select(optimizer_runs).order_by(optimizer_runs.c.id))).all())


async def llm_calls_of(database: Database) -> list[Any]:
    async with database.reading() as connection:
        return list((await connection.execute(sa.select(llm_calls).order_by(llm_calls.c.id))).all())


async def leases_of(database: Database) -> list[str]:
    async with database.reading() as connection:
        return list((await connection.execute(sa.select(leases.c.name))).scalars())


async def find_version_named(shop: Database) -> PromptVersion:
    """The shop's first version."""
    async with shop.reading() as connection:
        version = await find_version(connection, 1)
    assert version is not None
    return version
