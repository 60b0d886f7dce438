"""The always-valid tests over stored calls: what they read, and when."""

import datetime as dt
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from domain.evidence import Evidence
from domain.experiments import NewPolicy
from domain.metrics import NewMetric
from engine.adaptive import aipw_estimate
from engine.sequential import EProcess
from engine.statistics import BinaryCounts
from service.evidence import gather_evidence, read_units
from service.reallocate import ids_to_pass, reallocate_fully
from storage.database import Database
from storage.evidence import find_evidence, units_after
from storage.schema import counts, evidence
from tests.service.world import (
    LATER,
    MINUTE,
    NOW,
    RATES,
    add,
    call,
    history,
    luck,
    move,
    outcome,
    play,
    read_experiment,
    read_report,
    start,
    stop,
    tell,
)


async def evidence_of(database: Database, metric: str = "resolved") -> Evidence:
    experiment = await read_experiment(database)
    async with database.reading() as connection:
        return (await find_evidence(connection, experiment.id))[metric]


async def test_the_tests_read_what_the_engine_would_of_the_same_calls(database: Database):
    """In three passes with calls in between: the same wealth to the last bit as in one."""
    experiment = await start(database)
    rng = np.random.default_rng(7)
    seen: list[tuple[str, bool]] = []

    def told(key: str, index: int) -> dict[str, Any]:
        seen.append((key, bool(rng.random() < RATES[key])))
        return {"resolved": seen[-1][1]}

    for step in range(3):
        at = NOW + step * 10 * MINUTE
        await play(database, experiment, 120, told, prefix=f"step{step}", now=at)
        await move(database, experiment, now=at + MINUTE)
    expected = EProcess.start(direction="better", effects=[0.025, 0.05, 0.1]).update(
        [float(good) for _, good in seen], [key == "b" for key, _ in seen], 0.5
    )
    found = await evidence_of(database)
    process = found.process("b", "better")
    assert process is not None
    assert (found.units, found.missing) == (360, 0)
    assert process.log_wealth == pytest.approx(expected.log_wealth.tolist(), abs=1e-12)
    assert process.log_e_max == pytest.approx(float(expected.log_e_max), abs=1e-12)
    (test,) = [
        item.always_valid for item in (await read_report(database)).comparisons if item.metric == "resolved"
    ]
    both = [found.process("b", claim) for claim in ("better", "worse")]
    wealth = [np.exp(item.log_wealth).mean() for item in both if item]
    assert test.e_value == pytest.approx(np.mean(wealth), rel=1e-12)
    assert test.n == 360


async def test_a_pass_without_new_calls_changes_nothing(database: Database):
    experiment = await start(database)
    await play(database, experiment, 40, luck(RATES))
    await move(database, experiment, now=LATER)
    before = await evidence_of(database)
    await move(database, experiment, now=LATER + MINUTE)
    assert await evidence_of(database) == before


async def test_calls_within_the_maturity_window_are_not_read(database: Database):
    experiment = await start(database, maturity_s=600.0)
    await play(database, experiment, 60, luck(RATES), every_s=10.0)
    await move(database, experiment, now=NOW + 5 * MINUTE)
    assert (await evidence_of(database)).units == 30 + 0  # those assigned 10 minutes before
    await move(database, experiment, now=LATER)
    assert (await evidence_of(database)).units == 60


async def test_after_the_window_a_call_without_outcome_is_missing_and_its_late_outcome_is_not_read(
    database: Database,
):
    experiment = await start(database, maturity_s=60.0)
    await play(database, experiment, 30, lambda key, index: {} if index == 3 else {"resolved": True})
    await move(database, experiment, now=LATER)
    before = await evidence_of(database)
    assert (before.units, before.missing) == (30, 1)
    await tell(database, outcome("call-3", resolved=False), now=LATER)
    await move(database, experiment, now=LATER + MINUTE)
    assert await evidence_of(database) == before
    report = await read_report(database, now=LATER + MINUTE)
    assert sum(item.metrics["resolved"].n for item in report.variants) == 30  # the counts have it


async def test_without_a_window_calls_wait_for_the_outcome_of_the_one_before_them_up_to_an_hour(
    database: Database,
):
    """Whoever takes long calls under one variant must not change the order of the test."""
    experiment = await start(database)
    await play(database, experiment, 30, lambda key, index: {} if index == 10 else {"resolved": True})
    await move(database, experiment, now=LATER)
    assert (await evidence_of(database)).units == 10
    await move(database, experiment, now=NOW + 61 * MINUTE)
    assert (await evidence_of(database)).units == 30
    assert (await evidence_of(database)).missing == 1


async def test_a_stop_reads_everything_that_is_there(database: Database):
    experiment = await start(database)
    await play(database, experiment, 30, lambda key, index: {} if index == 10 else {"resolved": True})
    await stop(database, now=NOW)
    assert (await evidence_of(database)).units == 30
    assert (await read_report(database)).evidence.units == 30
    assert experiment.status == "running"


async def test_the_estimate_is_the_engines_from_the_counts_per_allocation(database: Database):
    experiment = await start(database, policy=NewPolicy(name="thompson", every_s=0.0, burn_in=0))
    ids = [variant.id for variant in experiment.variants]
    n, good, splits = [], [], []
    for step in range(4):
        at = NOW + step * 20 * MINUTE
        split = (await history(database, experiment))[-1].split
        given = await play(database, experiment, 100, luck(RATES, seed=step), prefix=f"s{step}", now=at)
        assert len(given) == 100
        splits.append([split["a"] / 1e4, split["b"] / 1e4])
        await move(database, experiment, now=at + 10 * MINUTE)
    async with database.reading() as connection:
        query = sa.select(counts).where(counts.c.metric == "resolved").order_by(counts.c.allocation_id)
        rows = (await connection.execute(query)).all()
    for allocation in sorted({row.allocation_id for row in rows}):
        mine = {row.variant_id: row for row in rows if row.allocation_id == allocation}
        n.append([mine[key].n if key in mine else 0 for key in ids])
        good.append([int(mine[key].total) if key in mine else 0 for key in ids])
    expected = aipw_estimate(BinaryCounts(n=n, successes=good), splits[: len(n)], control=0)
    found = next(
        item.adaptive for item in (await read_report(database)).comparisons if item.metric == "resolved"
    )
    assert found.estimate == pytest.approx(expected.estimate[1], abs=1e-12)
    assert found.standard_error == pytest.approx(expected.standard_error[1], abs=1e-12)


async def test_segments_that_explain_the_outcome_narrow_the_adjusted_estimate(database: Database):
    experiment = await start(database)
    rng = np.random.default_rng(2)
    await play(
        database,
        experiment,
        600,
        lambda key, index: {"resolved": bool(rng.random() < (0.9 if index % 2 else 0.1))},
        segment_of=lambda index: "refund" if index % 2 else "complaint",
    )
    (found,) = [
        item.adaptive for item in (await read_report(database)).comparisons if item.metric == "resolved"
    ]
    adjusted = found.segment_adjusted
    assert adjusted is not None
    assert adjusted.standard_error < 0.7 * found.standard_error
    assert adjusted.variance_explained == pytest.approx(0.64, abs=0.06)  # (.9 - .1)^2 / 4 / .25


async def test_a_variant_that_comes_later_starts_around_its_parent(database: Database):
    """kappa = 10 around the control's rate, and no count of it."""
    experiment = await start(database, policy=NewPolicy(name="thompson", every_s=0.0, burn_in=0))
    await play(database, experiment, 300, luck({"a": 0.8, "b": 0.8}))
    await add(database, "c", now=LATER)
    report = await read_report(database, now=LATER)
    a, _, c = report.variants
    assert a.prior == (1.0, 1.0)
    assert sum(c.prior) == pytest.approx(10.0)
    assert c.prior[0] / 10.0 == pytest.approx(a.metrics["resolved"].posterior.mean, abs=1e-12)
    assert c.metrics["resolved"].n == 0
    moved = await move(database, experiment, now=LATER + MINUTE)
    assert moved.split["c"] >= 500


async def test_a_half_life_lets_the_split_forget(database: Database):
    """b was worse for 400 calls and is better now; with a half-life of 100 calls it leads, without a does."""
    splits = {}
    for half_life in (None, 100.0):
        key = f"half-life-{half_life}"
        policy = NewPolicy(name="thompson", every_s=0.0, burn_in=0, half_life_calls=half_life)
        experiment = await start(database, key=key, policy=policy)
        for step, rates in enumerate([{"a": 0.6, "b": 0.45}, {"a": 0.6, "b": 0.75}]):
            at = NOW + step * 20 * MINUTE
            prefix = f"{key}-{step}"
            await play(database, experiment, 200, luck(rates, seed=step), prefix=prefix, now=at)
            await move(database, experiment, now=at + 10 * MINUTE)
        splits[half_life] = (await history(database, experiment))[-1].split["b"]
        await stop(database, key=key, now=NOW + 60 * MINUTE)
    assert splits[100.0] > splits[None]


async def test_a_call_that_is_not_randomised_by_a_share_moves_no_test(database: Database):
    """A share of 0 for a variant leaves nothing to bet on."""
    experiment = await start(database, shares=[1.0, 0.0])
    await play(database, experiment, 50, luck(RATES))
    await move(database, experiment, now=LATER)
    process = (await evidence_of(database)).process("b", "better")
    assert process is not None
    assert (process.n, process.log_e_max) == ((0.0, 0.0), 0.0)


async def test_a_fresh_call_is_left_to_the_next_pass(database: Database):
    """A transaction that began before the pass may still commit an earlier call."""
    experiment = await start(database)
    await call(database, "fresh", now=NOW)
    await tell(database, outcome("fresh", resolved=True))
    async with database.writing() as connection:
        await gather_evidence(connection, experiment, now=NOW + dt.timedelta(seconds=1))
        assert await find_evidence(connection, experiment.id) == {}
        await gather_evidence(connection, experiment, now=NOW + dt.timedelta(seconds=3))
        assert (await find_evidence(connection, experiment.id))["resolved"].units == 1


async def test_a_backlog_is_read_in_several_transactions(database: Database, monkeypatch):
    """And in the end the wealth is that of one reading."""
    experiment = await start(database)
    await play(database, experiment, 100, luck(RATES))
    async with database.writing() as connection:
        assert not await gather_evidence(connection, experiment, now=LATER, ended=True)
        whole = await find_evidence(connection, experiment.id)
    monkeypatch.setattr("service.evidence.UNITS_AT_ONCE", 30)
    async with database.writing() as connection:
        await gather_evidence(connection, experiment, now=LATER, ended=True, anew=True)
        assert (await find_evidence(connection, experiment.id))["resolved"].units == 100
        await connection.execute(sa.delete(evidence))
    done = await reallocate_fully(database, experiment.id, lambda: LATER)
    assert (done.outcome, done.is_behind) == ("fixed", False)
    found = await evidence_of(database)
    assert found.units == 100
    for one, other in zip(found.processes, whole["resolved"].processes, strict=True):
        assert one.log_wealth == pytest.approx(other.log_wealth, abs=1e-12)


async def test_the_last_calls_of_a_stopped_experiment_are_read_when_they_have_matured(database: Database):
    experiment = await start(database, maturity_s=3_600.0)
    await play(database, experiment, 40, luck(RATES))
    await stop(database, now=NOW)
    assert (await evidence_of(database)).units == 0
    async with database.reading() as connection:
        assert await ids_to_pass(connection) == [experiment.id]
    done = await reallocate_fully(database, experiment.id, lambda: NOW + 61 * MINUTE)
    assert done.outcome == "stopped"
    assert (await evidence_of(database)).units == 40
    async with database.reading() as connection:
        assert await ids_to_pass(connection) == []


async def test_calls_that_were_answered_without_the_database_are_no_bet(database: Database):
    """Known from their outcomes alone, they come in the order of those, and never without one."""
    experiment = await start(database)
    given = await play(database, experiment, 20, luck(RATES))
    async with database.reading() as connection:
        read = await units_after(connection, experiment.id, Evidence(metric="resolved"), until=NOW, limit=100)
    stale = [replace(unit, reason="STALE") for unit in read]
    found = read_units(
        experiment,
        experiment.goal_metric,
        Evidence(metric="resolved"),
        stale,
        {given[0].allocation: {"a": 5_000, "b": 5_000}},
    )
    assert found.units == 20
    assert {process.log_e_max for process in found.processes} == {0.0}
    assert {process.n for process in found.processes} == {(0.0, 0.0)}


async def test_past_variants_of_another_kind_of_metric_are_no_prior(database: Database):
    """An earlier experiment counted csat in points up to 10, this one as happy or not."""
    amount = [NewMetric(name="csat", kind="amount", role="goal")]
    experiment = await start(database, key="old", metrics=amount)
    await play(database, experiment, 20, lambda key, index: {"csat": 7.5}, prefix="old")
    await stop(database, key="old")
    binary = [NewMetric(name="csat", kind="binary", role="goal")]
    await start(database, metrics=binary)
    await add(database, "c", now=LATER)
    assert sum((await read_report(database, now=LATER)).variants[2].prior) == pytest.approx(10.0)
