"""One caller counts once, however often and in whatever words he calls; who he is stands nowhere."""

import datetime as dt
from typing import Any

import sqlalchemy as sa

from domain.errors import GateRefused
from domain.outcomes import NewOutcome, Turn
from domain.redaction import redact
from domain.suggestions import NewSuggestion, SuggestionEvidence
from optimizer.local_analysts import good_analyst
from optimizer.local_provider import LocalProvider
from service.propose import judge
from service.record import record
from service.transcripts import redacted
from storage.database import Database
from storage.schema import transcripts
from tests.optimizer.dumps import dump, file_of
from tests.optimizer.injections import HONEST_EDIT
from tests.optimizer.shop_calls import LATER, NOW, PROMPT, Call, open_shop, run, runs_of, shop_calls

NUMBER = "+1 202 555 0143"
OFTEN = 200


def rant(number: int) -> list[Turn]:
    """Every time something else: no three words are those of another call."""
    said = " ".join(
        f"{word}{'abcdefghijklmnopqrst'[number // 10]}{'abcdefghij'[number % 10]}"
        for word in ("wol", "tib", "nes", "kur", "hap", "dov", "gim", "lef", "sut")
    )
    return [
        Turn(role="caller", content=f"Listen, {said}."),
        Turn(role="agent", content=f"Sorry, I don't know {said.split()[0]} yet."),
    ]


async def tell_callers(
    database: Database, callers: dict[str, str], *, at: dt.datetime, key: str = ""
) -> None:
    """As the server does: the outcome again, now with who called."""
    async with database.writing() as connection:
        rows = (await connection.execute(sa.select(transcripts.c.unit_id, transcripts.c.turns))).all()
        turns = {row.unit_id: [Turn(**turn) for turn in row.turns] for row in rows}
        told = [
            NewOutcome(
                prompt=PROMPT,
                unit_id=unit_id,
                metrics={"resolved": False},
                transcript=turns[unit_id],
                caller=caller,
            )
            for unit_id, caller in callers.items()
        ]
        clean = {index: redacted(redact, outcome, caller_key=key) for index, outcome in enumerate(told)}
        await record(connection, told, now=at, transcripts=clean)  # type: ignore[arg-type]


async def marks(database: Database) -> dict[str, str | None]:
    async with database.reading() as connection:
        rows = (await connection.execute(sa.select(transcripts.c.unit_id, transcripts.c.caller))).all()
    return {row.unit_id: row.caller for row in rows}


def often() -> list[Call]:
    return [(f"often-{number:03}", "returns", 0.1, rant(number)) for number in range(OFTEN)]


async def test_who_calls_200_times_in_other_words_counts_once(database: Database):
    await open_shop(database, [*often(), *shop_calls(failing=29, good=12)])
    with LocalProvider(good_analyst) as local:
        await tell_callers(database, {unit: NUMBER for unit, *_ in often()}, at=NOW, key="a secret")
        assert len({mark for unit, mark in (await marks(database)).items() if unit.startswith("often")}) == 1
        ended = await run(database, local.url)
        assert ended.status == "done", ended  # 29 callers and this one: 30 are needed
        (row,) = await runs_of(database)
        assert sum(item["unit_id"].startswith("often") for item in row.sample["failing"]) == 1
        assert sum(item["taken"] for item in row.sample["strata"]) == 30
        assert NUMBER not in str(local.questions)
    assert not [name for name, text in (await dump(database)).items() if NUMBER in text]
    assert NUMBER not in file_of(database)


async def test_without_the_one_who_calls_often_there_are_too_few(shop: Database):
    await open_shop(shop, [*often(), *shop_calls(failing=28, good=12)])
    await tell_callers(shop, {unit: NUMBER for unit, *_ in often()}, at=NOW)
    with LocalProvider(good_analyst) as local:
        ended = await run(shop, local.url)
    assert ended.status == "skipped"
    assert "29 callers with a failing call" in ended.reason


async def test_quotes_of_one_caller_are_one_voice_and_those_of_two_are_two(database: Database):
    await open_shop(database, often()[:3])
    await tell_callers(database, {"often-000": NUMBER, "often-001": NUMBER, "often-002": "C-77"}, at=NOW)

    async def gate(*units: str) -> list[str]:
        quotes = {unit: (turns[0].content or "") for unit, _, _, turns in often()}
        new = NewSuggestion(
            prompt=PROMPT,
            origin="optimizer",
            title="Say what is next",
            edits=[HONEST_EDIT],
            evidence=[SuggestionEvidence(unit_id=unit, turn=0, quote=quotes[unit]) for unit in units],
        )
        async with database.reading() as connection:
            try:
                await judge(connection, new)
            except GateRefused as refused:
                return [check.name for check in refused.checks if not check.passed]
        return []

    assert await gate("often-000", "often-001") == ["evidence"]
    assert await gate("often-000", "often-002") == []


async def test_the_mark_stays_when_the_transcript_is_told_again_and_differs_by_key(shop: Database):
    await open_shop(shop, often()[:2])
    await tell_callers(shop, {"often-000": NUMBER}, at=NOW, key="one")
    first = (await marks(shop))["often-000"]
    assert first is not None
    assert len(first) == 64
    again = NewOutcome(prompt=PROMPT, unit_id="often-000", metrics={"resolved": False}, transcript=rant(5))
    async with shop.writing() as connection:
        clean: Any = {0: redacted(redact, again)}
        await record(connection, [again], now=LATER, transcripts=clean)
    assert (await marks(shop))["often-000"] == first
    await tell_callers(shop, {"often-001": NUMBER}, at=NOW, key="two")
    assert (await marks(shop))["often-001"] not in (None, first)
