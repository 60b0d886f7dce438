"""Who asks to be forgotten is forgotten everywhere, also while a run is under way."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from cli.optimize import door_of
from domain.forgetting import FORGOTTEN, labels_of
from domain.outcomes import Turn
from optimizer.local_analysts import blocks_of, good_analyst
from optimizer.local_provider import LocalProvider
from optimizer.local_replies import Reply, message
from optimizer.plan import Scope
from optimizer.run import Ended, optimize
from optimizer.sampling import Sample
from optimizer.window import labelled
from service.forget import INTERRUPTED, Forgotten, forget_before, forget_unit
from storage.database import Database
from storage.schema import suggestions
from tests.optimizer.dumps import dump, rows_of
from tests.optimizer.shop_calls import LATER, PROMPT, Call, llm_calls_of, means_for, open_shop, runs_of
from tests.service.world import ACTOR, DAY

LETTERS = "bdfgklmnprstvz"


def own_words(number: int) -> list[str]:
    """Eight words that nobody else says."""
    code = LETTERS[number // 14] + LETTERS[number % 14]
    return [f"{code}{ending}" for ending in ("ako", "eru", "ilo", "oma", "ubi", "ane", "olu", "iko")]


def calls_with_own_words(failing: int = 40, good: int = 12) -> list[Call]:
    return [
        (
            f"call-{number:03}",
            "returns",
            0.1 if number < failing else 0.9,
            [
                Turn(role="caller", content=f"Please help, {' '.join(own_words(number)[:4])} is broken."),
                Turn(role="agent", content=f"Sorry, I don't know {' '.join(own_words(number)[4:])} at all."),
            ],
        )
        for number in range(failing + good)
    ]


def gossip(body: Mapping[str, Any]) -> Reply:
    """The good analyst, who repeats what callers said wherever there is room for prose."""
    reply = good_analyst(body)
    blocks = blocks_of(body)
    document = json.loads(reply.body)
    answer = json.loads(document["content"][0]["text"])
    told = _heard(blocks)
    if "call" in blocks:
        for note in answer["notes"]:
            note["prompt_section"] = told[:300]
    elif "notes" in blocks:
        for pattern in answer["patterns"]:
            pattern["root_cause"] = f"Callers say {told}"
    elif "patterns" in blocks:
        for suggestion in answer["suggestions"]:
            suggestion["title"], suggestion["risk"] = told[:300], f"Some say {told}"
            suggestion["expected_effect"] = told
    else:
        answer["objection"] = f"But they say {told}"
    return message(body, json.dumps(answer))


def _heard(blocks: Mapping[str, Any]) -> str:
    """What calls said, as far as the request tells it, the words of each in a row."""
    text = json.dumps([blocks[name] for name in blocks if name != "prompt"])
    numbers = [number for number in range(60) if own_words(number)[7] in text]
    return ". ".join(" ".join(own_words(number)[4:]) for number in numbers)


async def finished_run(database: Database, behaviour: Any = gossip) -> Ended:
    await open_shop(database, calls_with_own_words())
    with LocalProvider(behaviour) as local:
        return await run_with_door(database, local)


async def run_with_door(database: Database, local: LocalProvider, **more: Any) -> Ended:
    door = door_of(database, lambda: LATER)
    return await optimize(means_for(database, local.url, door=door, **more), PROMPT, Scope())


async def forget(database: Database, unit_id: str) -> Forgotten:
    async with database.writing() as connection:
        return await forget_unit(connection, PROMPT, unit_id, actor=ACTOR, now=LATER)


async def places_of(database: Database, unit_id: str) -> list[str]:
    """Tables that hold a word that only this call has."""
    found = await dump(database)
    return [
        name for name, text in found.items() if any(word in text for word in own_words(int(unit_id[-3:])))
    ]


async def cited_units(database: Database) -> list[str]:
    """The calls that the suggestion quotes."""
    async with database.reading() as connection:
        evidence = (await connection.execute(sa.select(suggestions.c.evidence))).scalar_one()
    return [item["unit_id"] for item in evidence]


async def test_no_table_holds_a_word_of_a_call_that_is_forgotten(database: Database):
    ended = await finished_run(database)
    assert ended.status == "done", ended
    assert "1 of 1 suggestions stored" in ended.reason
    gone, stays = (await cited_units(database))[:2]
    everywhere = {"transcripts", "llm_calls", "optimizer_runs", "suggestions"}
    assert set(await places_of(database, gone)) == set(await places_of(database, stays)) == everywhere
    done = await forget(database, gone)
    assert (done.transcripts, done.suggestions, done.optimizer_runs) == (1, 1, 1)
    assert await places_of(database, gone) == []
    # What was said in other calls is kept where it does not stand beside the words that went.
    assert {"transcripts", "llm_calls", "suggestions"} <= set(await places_of(database, stays))
    found = await rows_of(database)
    assert FORGOTTEN in str(found["suggestions"])
    entries = [row for row in found["audit"] if "forget_transcript" in row]
    assert len(entries) == 1
    assert msgspec.to_builtins(done) in entries[0]
    assert (await forget(database, gone)).suggestions == 0


async def test_what_was_counted_and_paid_stays(shop: Database):
    await finished_run(shop)
    (row,) = await runs_of(shop)
    calls = labelled(msgspec.convert(row.sample, Sample))
    assert labels_of(row.sample) == {item.unit_id: item.label for item in calls}
    before, paid = await runs_of(shop), sum(call.cost_usd for call in await llm_calls_of(shop))
    gone = (await cited_units(shop))[0]
    async with shop.reading() as connection:
        query = sa.select(suggestions.c.patterns, suggestions.c.evidence, suggestions.c.diff)
        was = (await connection.execute(query)).one()
    await forget(shop, gone)
    async with shop.reading() as connection:
        now = (await connection.execute(query)).one()
    assert sum(call.cost_usd for call in await llm_calls_of(shop)) == pytest.approx(paid)
    assert (await runs_of(shop))[0].sample == before[0].sample
    assert (await runs_of(shop))[0].status == "done"
    assert now.diff == was.diff
    assert [item["calls"] for item in now.patterns] == [item["calls"] for item in was.patterns]
    assert [item["unit_id"] for item in now.evidence] == [item["unit_id"] for item in was.evidence]
    quotes = {item["unit_id"]: item["quote"] for item in now.evidence}
    assert quotes.pop(gone) == FORGOTTEN
    assert FORGOTTEN not in quotes.values()


async def test_forgetting_by_age_reaches_the_same_places(shop: Database):
    await finished_run(shop)
    async with shop.writing() as connection:
        done = await forget_before(connection, LATER + DAY, actor=ACTOR, now=LATER)
    assert done.transcripts == 52
    assert [await places_of(shop, f"call-{number:03}") for number in range(52)] == [[]] * 52


async def test_a_call_that_is_forgotten_while_a_model_reads_it_is_forgotten(database: Database):
    """The answer that is under way comes, is paid, and is not kept; the run ends; the next one begins anew."""
    asked: list[str] = []

    def forgetful(body: Mapping[str, Any]) -> Reply:
        said = [f"call-{number:03}" for number in range(40) if own_words(number)[0] in str(blocks_of(body))]
        if "call" in blocks_of(body) and said and len(asked) < 3:
            asked.append(said[0])
            if len(asked) == 3:
                asyncio.run(_forget_beside(database, said[0]))
        return gossip(body)

    await open_shop(database, calls_with_own_words())
    with LocalProvider(forgetful) as local:
        ended = await run_with_door(database, local)
        assert ended.status == "busy"
        assert "forgotten" in ended.reason
        (row,) = await runs_of(database)
        assert (row.status, row.resume_from, row.reason) == ("failed", None, INTERRUPTED)
        assert await places_of(database, asked[2]) == []
        paid = [call for call in await llm_calls_of(database) if call.unit_id == asked[2]]
        assert [(call.response, call.cost_usd > 0) for call in paid] == [(FORGOTTEN, True)]
        local.behaviour = gossip
        again = await run_with_door(database, local, seed="another", now=LATER + DAY / 24)
    assert again.status == "done"
    assert again.run_id != row.id
    assert await places_of(database, asked[2]) == []


async def _forget_beside(database: Database, unit_id: str) -> None:
    """Another process does it."""
    other = Database(database.url)
    await forget(other, unit_id)
    await other.close()
