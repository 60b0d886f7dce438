"""A run of the optimizer up to the door, against a scripted model: the real SDK, databases and gate."""

import datetime as dt
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from domain.errors import PromptNotFound
from optimizer.answers import STAGES
from optimizer.local_analysts import blocks_of, good_analyst
from optimizer.local_provider import LocalProvider
from optimizer.local_replies import FAULTS, Reply, malformed, message
from optimizer.plan import Scope
from optimizer.requests import hash_of
from optimizer.run import optimize
from storage.allocations import current_allocation
from storage.database import Database
from storage.leases import take_lease
from storage.prompts import find_version
from storage.schema import suggestions, variants
from tests.conftest import NOW
from tests.optimizer.asked import only, paid_twice, stages
from tests.optimizer.injections import SHOP_TOOLS
from tests.optimizer.shop_calls import (
    LATER,
    leases_of,
    llm_calls_of,
    means_for,
    open_shop,
    run,
    runs_of,
    shop_calls,
    suggested,
    take_calls,
)
from tests.service.world import start


async def test_the_whole_circle_ends_with_suggestions_that_the_gate_lets_through(database: Database):
    version = await open_shop(database, shop_calls())
    with LocalProvider(good_analyst) as local:
        ended = await run(database, local.url)
    assert ended.status == "done", ended
    assert "2 of 2 suggestions stored" in ended.reason
    found = await suggested(database)
    assert {item["title"] for item in found} == {"Guidance on returns", "Guidance on sizes"}
    # 25 of 50 seats are read; 20 of 40 failing calls are in the read half, 10 of each segment.
    assert [item["patterns"][0]["calls"] for item in found] == [10, 10]
    assert all(item["patterns"][0]["share_of_failing"] == pytest.approx(0.5) for item in found)
    assert all(item["parent_version_id"] == version.id and item["objection"] for item in found)
    told = stages(local)
    assert [stage for stage in STAGES if stage in told] == list(STAGES)
    assert (told.count("reduce"), told.count("propose"), told.count("critic")) == (1, 1, 2)
    (row,) = await runs_of(database)
    assert (row.status, row.finished_at) == ("done", LATER)
    calls = await llm_calls_of(database)
    assert len(calls) == len(local.questions)
    assert row.cost_usd == pytest.approx(sum(call.cost_usd for call in calls))
    assert ended.cost_usd == row.cost_usd > 0
    assert await leases_of(database) == []


async def test_the_half_that_is_kept_for_checking_is_never_sent(shop: Database):
    await open_shop(shop, shop_calls())
    with LocalProvider(good_analyst) as local:
        await run(shop, local.url)
    (row,) = await runs_of(shop)
    sampled = [*row.sample["failing"], *row.sample["good"]]
    kept = [item["unit_id"] for item in sampled if item["half"] == "gate"]
    read = [item["unit_id"] for item in sampled if item["half"] == "read"]
    assert kept
    assert stages(local).count("map") == len(read)
    sent = [str(blocks_of(question)) for question in local.questions]
    # Each call tells its own number, and its unit_id leaves the house in no form.
    assert not any(f" number {int(unit[-3:])}." in text for unit in kept for text in sent)
    assert all(any(f" number {int(unit[-3:])}." in text for text in sent) for unit in read)
    assert not any(unit in text for unit in read for text in sent)
    assert {tuple(blocks_of(q)["prompt"]["tools"]) for q in local.questions} == {
        tuple(tool["name"] for tool in SHOP_TOOLS)
    }


@pytest.mark.parametrize(
    ("failing", "good", "why"), [(29, 20, "29 callers with a failing call"), (40, 9, "9 callers with a good")]
)
async def test_with_too_little_to_read_a_run_is_skipped_and_nothing_is_sent(
    shop: Database, failing: int, good: int, why: str
):
    await open_shop(shop, shop_calls(failing=failing, good=good))
    with LocalProvider(good_analyst) as local:
        ended = await run(shop, local.url)
    assert ended.status == "skipped"
    assert why in ended.reason
    assert local.asked == []
    assert [row.status for row in await runs_of(shop)] == ["skipped"]


async def test_while_a_suggestion_is_pending_a_run_is_skipped(shop: Database):
    version = await open_shop(shop, shop_calls())
    filler = {sa.JSON: [], sa.Text: "", sa.DateTime: NOW}
    row = {
        column.name: next((v for kind, v in filler.items() if isinstance(column.type, kind)), 1)
        if not hasattr(column.type, "impl")
        else NOW
        for column in suggestions.columns
        if not column.nullable and column.name != "id"
    }
    row |= {"prompt_id": 1, "status": "pending", "parent_version_id": version.id}
    async with shop.writing() as connection:
        await connection.execute(sa.insert(suggestions).values(row))
    with LocalProvider(good_analyst) as local:
        ended = await run(shop, local.url)
    assert ended.status == "skipped"
    assert "pending" in ended.reason
    assert local.asked == []


async def test_calls_that_a_finished_run_has_read_do_not_start_another(shop: Database):
    version = await open_shop(shop, shop_calls())
    tomorrow = LATER + dt.timedelta(days=1)
    with LocalProvider(good_analyst) as local:
        assert (await run(shop, local.url)).status == "done"
        asked = len(local.asked)
        assert (await run(shop, local.url, now=tomorrow)).status == "skipped"
        assert len(local.asked) == asked
        more = [(f"new-{unit}", *rest) for unit, *rest in shop_calls()]
        async with shop.writing() as connection:
            await take_calls(connection, version, more, at=LATER + dt.timedelta(hours=1))
        assert (await run(shop, local.url, now=tomorrow + dt.timedelta(hours=1))).status == "done"


async def test_calls_before_the_window_and_of_versions_that_are_not_live_are_not_read(shop: Database):
    await open_shop(shop, shop_calls(), at=NOW - dt.timedelta(days=8))
    with LocalProvider(good_analyst) as local:
        assert (await run(shop, local.url)).reason.startswith("0 callers with a failing call")
        assert (await run(shop, local.url, scope=Scope(days=9))).status == "done"


async def test_an_unknown_prompt_and_a_missing_key_are_said_before_anything_is_claimed(shop: Database):
    await open_shop(shop, shop_calls())
    with LocalProvider(good_analyst) as local:
        with pytest.raises(PromptNotFound):
            await optimize(means_for(shop, local.url), "nobody", Scope())
        with pytest.raises(ValueError, match="PROMPTBANDIT_ANTHROPIC_API_KEY"):
            await run(shop, local.url, anthropic_api_key="")
        with pytest.raises(ValueError, match="has no price"):
            await run(shop, local.url, optimizer_reduce_model="claude-unknown")
    assert await runs_of(shop) == []


async def test_while_another_run_has_the_lease_this_one_does_nothing(shop: Database):
    await open_shop(shop, shop_calls())
    async with shop.writing() as connection:
        assert await take_lease(connection, "optimize 1", holder="another", for_s=3_600.0)
    with LocalProvider(good_analyst) as local:
        ended = await run(shop, local.url)
    assert (ended.status, local.asked) == ("busy", [])
    assert await leases_of(shop) == ["optimize 1"]
    assert await runs_of(shop) == []


async def test_a_run_that_lost_its_lease_stops_before_the_next_question(shop: Database):
    await open_shop(shop, shop_calls())

    def steal(state: str, done: int, _: int) -> None:
        if (state, done) == ("map", 2):
            with closing(sqlite3.connect(str(shop.url.database))) as other, other:
                other.execute("UPDATE leases SET holder = 'another'")

    with LocalProvider(good_analyst) as local:
        ended = await run(shop, local.url, watch=steal)
        assert ended.status == "busy"
        assert stages(local) == ["map", "map"]
    assert [row.status for row in await runs_of(shop)] == ["sampled"]
    assert await leases_of(shop) == ["optimize 1"]


@pytest.mark.parametrize(
    "fault", ["rate_limited_for_an_hour", "overloaded", "spend_limit", "unauthenticated"]
)
@pytest.mark.parametrize("stage", ["map", "critic"])
async def test_a_run_that_the_api_stopped_goes_on_where_it_was(shop: Database, fault: str, stage: str):
    await open_shop(shop, shop_calls())
    with LocalProvider(only(stage, FAULTS[fault])) as local:
        ended = await run(shop, local.url, seed="first")
        assert ended.status == "failed"
        assert ended.reason.startswith(f"{stage}: ")
        assert await suggested(shop) == []
        local.behaviour = good_analyst
        served = [hash_of(question) for question in local.questions][:-1]
        again = await run(shop, local.url, seed="second")
        later = [hash_of(question) for question in local.questions][len(served) + 1 :]
    assert (again.status, again.run_id) == ("done", ended.run_id)
    assert set(served).isdisjoint(later)
    assert len(await suggested(shop)) == 2


async def test_one_call_in_three_that_cannot_be_read_is_left_out_and_most_of_them_end_the_run(shop: Database):
    await open_shop(shop, shop_calls())
    number = iter(range(1_000))

    def sometimes(body: Mapping[str, Any]) -> Reply:
        return (malformed if next(number) % 3 == 0 else good_analyst)(body)

    with LocalProvider(only("map", malformed)) as local:
        ended = await run(shop, local.url)
        assert ended.status == "failed"
        assert "calls unread" in ended.reason
        local.behaviour = only("map", sometimes)
        ended = await run(shop, local.url, now=LATER + dt.timedelta(minutes=1), seed="other")
    assert ended.status == "done"
    assert len(await suggested(shop)) == 2


async def test_without_a_critics_answer_the_reviewer_is_told_so(shop: Database):
    await open_shop(shop, shop_calls())
    with LocalProvider(only("critic", FAULTS["refused"])) as local:
        assert (await run(shop, local.url)).status == "done"
    assert {item["objection"] for item in await suggested(shop)} == {"(the critic gave no answer: refused)"}


async def test_proposing_nothing_is_a_good_end(shop: Database):
    await open_shop(shop, shop_calls())

    def nothing(body: Mapping[str, Any]) -> Reply:
        return message(
            body, '{"warrants_change": false, "no_change_reason": "All is well.", "suggestions": []}'
        )

    with LocalProvider(only("propose", nothing)) as local:
        ended = await run(shop, local.url)
    assert (ended.status, ended.reason) == ("done", "nothing proposed: All is well.")


async def test_a_batch_is_submitted_by_one_run_and_collected_by_a_later_one(shop: Database):
    await open_shop(shop, shop_calls())
    with LocalProvider(good_analyst, polls=1) as local:
        waiting = await run(shop, local.url, optimizer_batch=True)
        assert waiting.status == "waiting"
        ended = await run(shop, local.url, optimizer_batch=True)
        assert (ended.status, ended.run_id) == ("done", waiting.run_id)
        assert paid_twice(local) == []
    assert len(await suggested(shop)) == 2
    (row,) = await runs_of(shop)
    batched = [call.batch_id for call in await llm_calls_of(shop) if call.stage == "map"]
    assert set(batched) == {row.batch_id}


async def test_while_an_experiment_runs_each_call_of_a_live_variant_is_read_beside_its_own_prompt(
    shop: Database,
):
    first = await open_shop(shop, [])
    experiment = await start(shop, arms="abc")
    async with shop.writing() as connection:
        allocation = await current_allocation(connection, experiment.id)
        assert allocation is not None
        for variant in experiment.variants:
            version = await find_version(connection, variant.version_id or 0)
            assert version is not None
            calls = [(f"{variant.key}-{unit}", *rest) for unit, *rest in shop_calls(failing=20, good=6)]
            given = {
                "experiment": experiment.key,
                "experiment_id": experiment.id,
                "variant": variant.key,
                "variant_id": variant.id,
                "allocation": allocation.id,
                "probability": 1 / 3,
                "reason": "SPLIT",
            }
            await take_calls(connection, version, calls, at=NOW, **given)
        await connection.execute(sa.update(variants).where(variants.c.key == "c").values(status="retired"))
    with LocalProvider(good_analyst) as local:
        ended = await run(shop, local.url)
    assert ended.status == "done", ended
    (row,) = await runs_of(shop)
    assert sorted(row.plan["versions"]) == ["a", "b"]
    assert {item["unit_id"][0] for item in row.sample["failing"]} == {"a", "b"}
    read = [blocks_of(question) for question in local.questions if "call" in blocks_of(question)]
    assert {item["prompt"]["system_prompt"] for item in read} == {"greeting a", "greeting b"}
    later = [blocks_of(question) for question in local.questions if "call" not in blocks_of(question)]
    assert {item["prompt"]["system_prompt"] for item in later} == {first.system_prompt}
