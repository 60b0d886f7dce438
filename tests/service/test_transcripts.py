"""Redacted transcripts stand beside the outcomes they came with, on both databases."""

from typing import Any

import pytest
import sqlalchemy as sa

from domain.outcomes import NewOutcome, Turn
from domain.redaction import RedactedTranscript, redact
from service.import_calls import import_calls, open_import
from service.record import record
from service.transcripts import load_redactor, redacted
from storage.database import Database
from storage.schema import transcripts
from tests.service.test_import import line
from tests.service.world import ACTOR, MINUTE, NOW, call, create, outcome, start

NAME = "Anna"


def spoken(text: str) -> RedactedTranscript:
    return redact([Turn(role="user", content=text)], {"caller_name": NAME})


async def tell(database: Database, *told: tuple[NewOutcome, str | None], now: Any = NOW) -> list[Any]:
    """Outcomes with what was said, as the server tells them."""
    texts = {index: spoken(text) for index, (_, text) in enumerate(told) if text is not None}
    async with database.writing() as connection:
        return await record(connection, [item for item, _ in told], now=now, transcripts=texts)


async def stored(database: Database) -> dict[str, Any]:
    async with database.reading() as connection:
        rows = (await connection.execute(sa.select(transcripts))).all()
    return {row.unit_id: (row.turns, row.redactions, row.stored_at) for row in rows}


async def test_a_transcript_is_stored_with_the_counts_of_what_was_taken_out(database: Database):
    await start(database)
    await call(database, "call-1")
    assert await tell(database, (outcome("call-1", resolved=True), f"{NAME}, 202 555 0143")) == ["accepted"]
    turns = [{"role": "user", "content": "<CALLER_NAME_1>, <PHONE_1>"}]
    assert await stored(database) == {"call-1": (turns, {"CALLER_NAME": 1, "PHONE": 1}, NOW)}


async def test_a_later_transcript_replaces_the_earlier_one_whatever_becomes_of_the_values(database: Database):
    await start(database)
    await call(database, "call-1")
    for status, said, value in (
        ("accepted", "one", True),
        ("unchanged", "two", True),
        ("revised", "three", False),
    ):
        later = NOW + MINUTE
        told = outcome("call-1", resolved=value)
        assert await tell(database, (told, said), now=later) == [status]
        assert (await stored(database))["call-1"][0] == [{"role": "user", "content": said}]
    assert await tell(database, (outcome("call-1", resolved=False), None)) == ["unchanged"]
    assert (await stored(database))["call-1"][0][0]["content"] == "three"


async def test_of_two_transcripts_in_one_batch_the_last_stands(database: Database):
    await start(database)
    told = outcome("call-1", resolved=True)
    await tell(database, (told, "first"), (outcome("call-2", resolved=True), "other"), (told, "last"))
    contents = {unit: turns[0]["content"] for unit, (turns, _, _) in (await stored(database)).items()}
    assert contents == {"call-1": "last", "call-2": "other"}


async def test_the_transcript_of_a_parked_outcome_is_stored_and_that_of_a_refused_one_is_not(
    database: Database,
):
    await start(database)
    told = [
        (outcome("early", resolved=True), "parked"),
        (outcome("wrong", resolved="?"), "impossible value"),
        (outcome("nobody", prompt="unknown", resolved=True), "no such prompt"),
    ]
    parked, *refused = await tell(database, *told)
    assert parked == "parked"
    assert all(isinstance(result, Exception) for result in refused)
    assert set(await stored(database)) == {"early"}


async def test_a_raw_transcript_is_never_read_by_the_verb(database: Database):
    await create(database, "Be kind.")
    raw = [Turn(role="user", content="secret")]
    told = NewOutcome(prompt="support", unit_id="call-1", metrics={"resolved": True}, transcript=raw)
    await tell(database, (told, None))
    assert await stored(database) == {}


async def test_transcripts_of_imported_calls_are_stored_again_and_again(database: Database):
    lines = [line(1, resolved=True), line(2, resolved=False)]
    for said in ("first", "again"):
        async with database.writing() as connection:
            await open_import(connection, prompt="old", experiment=None, shares=[], actor=ACTOR, now=NOW)
            await import_calls(
                connection, lines, prompt="old", experiment=None, now=NOW, transcripts={2: spoken(said)}
            )
        found = await stored(database)
        assert {unit: turns[0]["content"] for unit, (turns, _, _) in found.items()} == {"old-2": said}


def keeps_everything(turns: Any, known: Any) -> RedactedTranscript:
    return RedactedTranscript(turns=tuple(turns), redactions={})


def forgets_turns(turns: Any, known: Any) -> RedactedTranscript:
    return RedactedTranscript(turns=(), redactions={})


def is_loose(turns: Any, known: Any) -> Any:
    return [turn.content for turn in turns]


def counts_in_words(turns: Any, known: Any) -> Any:
    done = redact(turns, known)
    return RedactedTranscript(turns=done.turns, redactions={"NAME": "one"})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("no.such.module:redact", "no redactor"),
        ("domain.redaction:no_such_name", "no redactor"),
        ("domain.redaction", "no redactor"),
        (f"{__name__}:NAME", "does not work"),
        (f"{__name__}:keeps_everything", "leaves the known value"),
        (f"{__name__}:forgets_turns", "as many turns"),
        (f"{__name__}:is_loose", "RedactedTranscript"),
        (f"{__name__}:counts_in_words", "does not work"),
    ],
)
def test_a_redactor_is_tried_before_it_is_trusted(path, problem):
    with pytest.raises(ValueError, match=problem):
        load_redactor(path)


def test_the_default_redactor_is_ours():
    redactor = load_redactor("domain.redaction:redact")
    told = NewOutcome(
        prompt="support",
        unit_id="call-1",
        metrics={"resolved": True},
        transcript=[Turn(role="user", content="I am Anna")],
        known_values={"caller_name": "Anna"},
    )
    assert redacted(redactor, told) == redact(
        [Turn(role="user", content="I am Anna")], {"caller_name": "Anna"}
    )
