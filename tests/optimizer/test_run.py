"""A run of the optimizer up to the door, against a scripted model: the real SDK, databases and gate."""

import datetime as dt
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from domain.errors import PromptNotFound
from domain.prompts import PromptVersion
from optimizer.answers import STAGES
from optimizer.book import account_of
from optimizer.budget import Budget
from optimizer.local_analysts import blocks_of, good_analyst
from optimizer.local_provider import LocalProvider
from optimizer.local_replies import FAULTS, Behaviour, Reply, drops, in_turn, malformed, message
from optimizer.plan import Scope
from optimizer.requests import hash_of
from optimizer.run import optimize
from storage.allocations import current_allocation
from storage.database import Database
from storage.leases import take_lease
from storage.prompts import find_version
from storage.schema import suggestions, variants
from tests.conftest import NOW
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


def stages(local: LocalProvider) -> list[str]:
    """The stage of each question, by the block that tells it."""
    names = {"call": "map", "notes": "reduce", "patterns": "propose", "change": "critic"}
    return [names[next(name for name in blocks_of(q) if name in names)] for q in local.questions]


def only(stage: str, behaviour: Behaviour) -> Behaviour:
    """A good analyst, but for the questions of one stage."""
    block = {"map": "call", "reduce": "notes", "propose": "patterns", "critic": "change"}[stage]

    def behave(body: Mapping[str, Any]) -> Reply:
        return (behaviour if block in blocks_of(body) else good_analyst)(body)

    return behave


async def find_version_named(shop: Database) -> PromptVersion:
    async with shop.reading() as connection:
        version = await find_version(connection, 1)
    assert version is not None
    return version


def paid_twice(local: LocalProvider) -> list[str]:
    hashes = [hash_of(question) for question in local.questions]
    return [item for item in hashes if hashes.count(item) > 1]


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


async def test_a_budget_stops_a_run_and_a_larger_one_ends_it(shop: Database):
    await open_shop(shop, shop_calls())
    with LocalProvider(good_analyst) as local:
        # Reading a call may cost 0.009 USD, grouping the notes 0.35.
        ended = await run(shop, local.url, optimizer_max_cost_usd=0.05)
        assert ended.status == "failed"
        assert "reduce: over_budget" in ended.reason
        assert ended.cost_usd < 0.05
        assert set(stages(local)) == {"map"}
        assert (await run(shop, local.url, optimizer_max_cost_usd=0.05)).status == "failed"
        assert set(stages(local)) == {"map"}
        assert (await run(shop, local.url, optimizer_max_cost_usd=5.0)).status == "done"
        assert paid_twice(local) == []


async def test_what_may_have_been_billed_counts_in_full_and_is_not_sent_again(shop: Database):
    await open_shop(shop, shop_calls())
    with LocalProvider(in_turn(drops, good_analyst)) as local:
        assert "over_budget" in (await run(shop, local.url, optimizer_max_cost_usd=0.05)).reason
        assert (await run(shop, local.url)).status == "done"
        assert paid_twice(local) == []
    unknown = [call for call in await llm_calls_of(shop) if call.cost_usd is None]
    assert [call.status for call in unknown] == ["no_answer"]
    # 16 000 tokens of output of Haiku 5.5 at 0.50 USD a million are 0.008 USD.
    assert 0.008 < unknown[0].held_usd < 0.01
    (row,) = await runs_of(shop)
    assert row.cost_usd > unknown[0].held_usd
    assert row.results["unread"] == {"no_answer": 1}


@pytest.mark.parametrize("stage", ["reduce", "propose"])
@pytest.mark.parametrize("fault", ["malformed", "truncated", "refused"])
async def test_an_answer_that_cannot_be_read_ends_the_run_and_stores_no_suggestion(
    shop: Database, stage: str, fault: str
):
    await open_shop(shop, shop_calls())
    with LocalProvider(only(stage, FAULTS[fault])) as local:
        ended = await run(shop, local.url)
    assert ended.status == "failed"
    assert ended.reason.startswith(f"{stage}: {fault}")
    assert await suggested(shop) == []
    (row,) = await runs_of(shop)
    assert (row.status, row.resume_from) == ("failed", None)
    assert [call.status for call in await llm_calls_of(shop)].count("received") == len(local.questions)


@pytest.mark.parametrize(("stage", "asked_again"), [("reduce", ["reduce"]), ("propose", ["propose"])])
async def test_what_was_paid_before_an_unreadable_answer_is_not_paid_by_the_next_run(
    shop: Database, stage: str, asked_again: list[str]
):
    """Only the question that had no answer is asked once more, beside those that nobody had asked."""
    await open_shop(shop, shop_calls())
    with LocalProvider(only(stage, malformed)) as local:
        failed = await run(shop, local.url, seed="first")
        assert failed.status == "failed"
        before = len(local.questions)
        local.behaviour = good_analyst
        ended = await run(shop, local.url, seed="second", now=LATER + dt.timedelta(hours=1))
        later = [hash_of(question) for question in local.questions[before:]]
        assert (ended.status, ended.run_id != failed.run_id) == ("done", True)
        assert "map" not in stages(local)[before:]
        earlier = [hash_of(question) for question in local.questions[:before]]
        assert [stages(local)[before + later.index(item)] for item in later if item in earlier] == asked_again
    assert len(await suggested(shop)) == 2


async def test_what_a_run_of_other_settings_or_of_long_ago_paid_is_no_use(shop: Database):
    await open_shop(shop, shop_calls())
    with LocalProvider(only("reduce", malformed)) as local:
        assert (await run(shop, local.url, seed="first")).status == "failed"
        read = stages(local).count("map")
        assert (await run(shop, local.url, seed="second", scope=Scope(limit=40))).status == "failed"
        assert stages(local).count("map") > read
        read = stages(local).count("map")
        late = LATER + dt.timedelta(hours=49)
        assert (await run(shop, local.url, seed="third", scope=Scope(limit=40), now=late)).status == "failed"
        assert stages(local).count("map") > read


async def test_a_month_has_a_bound_that_all_runs_share(shop: Database):
    await open_shop(shop, shop_calls())
    with LocalProvider(good_analyst) as local:
        spent = (await run(shop, local.url)).cost_usd
        more = [(f"new-{unit}", *rest) for unit, *rest in shop_calls()]
        version = await find_version_named(shop)
        async with shop.writing() as connection:
            await take_calls(connection, version, more, at=LATER + dt.timedelta(hours=1))
        asked, bound = len(local.asked), {"optimizer_max_month_usd": spent + 0.001}
        later = LATER + dt.timedelta(hours=2)
        ended = await run(shop, local.url, seed="second", now=later, **bound)
        assert ended.status == "failed"
        assert ended.reason.startswith("map: over_budget")
        assert "PROMPTBANDIT_OPTIMIZER_MAX_MONTH_USD" in ended.reason
        assert len(local.asked) == asked
        budget = Budget(max_usd=5.0, max_tokens=1_000)
        december = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
        assert (await account_of(shop, 99, budget, now=later)).others_usd == pytest.approx(spent)
        assert (await account_of(shop, 99, budget, now=december)).others_usd == 0.0
        # With a larger one the run that was stopped goes on.
        ended = await run(shop, local.url, seed="third", now=later, optimizer_max_month_usd=50.0)
        assert (ended.status, ended.cost_usd > 0) == ("done", True)


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
