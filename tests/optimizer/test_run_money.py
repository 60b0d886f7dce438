"""What runs of the optimizer pay: bounds of a run and of a month, and nothing twice."""

import datetime as dt

import pytest

from optimizer.book import account_of
from optimizer.budget import Budget
from optimizer.local_analysts import good_analyst
from optimizer.local_provider import LocalProvider
from optimizer.local_replies import FAULTS, drops, in_turn, malformed
from optimizer.plan import Scope
from optimizer.requests import hash_of
from storage.database import Database
from tests.optimizer.asked import only, paid_twice, stages
from tests.optimizer.shop_calls import (
    LATER,
    find_version_named,
    llm_calls_of,
    open_shop,
    run,
    runs_of,
    shop_calls,
    suggested,
    take_calls,
)


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
