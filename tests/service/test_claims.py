"""What the report and the split do with what the always-valid tests have shown."""

from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from domain.evidence import Evidence, Process
from domain.experiments import NewPolicy
from domain.metrics import NewMetric
from service.claims import claims_of
from service.report import build_report
from storage.audit import list_audit
from storage.database import Database
from storage.schema import counts
from tests.service.world import (
    DAY,
    LATER,
    MINUTE,
    NOW,
    add,
    binary_rows,
    history,
    known_of,
    luck,
    move,
    plain,
    play,
    read_report,
    retire,
    start,
    stop,
)


async def test_a_better_variant_is_switched_to_and_equal_ones_are_not(database: Database):
    experiment = await start(database, minimum_detectable_effect=0.1)
    await play(database, experiment, 1_500, luck({"a": 0.6, "b": 0.75}))
    await move(database, experiment, now=LATER)
    advice = (await read_report(database, now=LATER)).recommendation
    assert (advice.action, advice.variant) == ("switch", "b")
    assert "e-value" in advice.because[0]
    await stop(database, now=LATER)

    experiment = await start(database, key="equal")
    await play(database, experiment, 1_500, luck({"a": 0.6, "b": 0.6}, seed=3), prefix="equal", now=LATER)
    await move(database, experiment, now=LATER + MINUTE)
    advice = (await read_report(database, "equal", now=LATER)).recommendation
    assert advice.action == "keep_collecting"
    assert any("more calls" in gap for gap in advice.still_needed)


async def test_no_switch_before_the_minimum_duration_is_over(database: Database):
    experiment = await start(database, minimum_detectable_effect=0.1, min_days=7.0)
    await play(database, experiment, 1_000, luck({"a": 0.5, "b": 0.8}))
    await move(database, experiment, now=LATER)
    advice = (await read_report(database, now=LATER)).recommendation
    assert advice.action == "keep_collecting"
    assert advice.still_needed == ("7.0 more days",)
    advice = (await read_report(database, now=NOW + 7 * DAY)).recommendation
    assert (advice.action, advice.variant) == ("switch", "b")


@pytest.mark.parametrize("policy", ["fixed", "thompson"])
async def test_a_variant_that_is_proven_worse_gets_no_more_calls(database: Database, policy):
    experiment = await start(
        database,
        arms="abc",
        policy=NewPolicy(name=policy, every_s=0.0, burn_in=10_000),
    )
    await play(database, experiment, 1_500, luck({"a": 0.7, "b": 0.7, "c": 0.4}))
    moved = await move(database, experiment, now=LATER)
    assert (moved.outcome, moved.split) == ("paused", {"a": 5_001, "b": 4_999, "c": 0})
    again = await move(database, experiment, now=LATER + MINUTE)
    assert (again.outcome, again.split) == ("fixed" if policy == "fixed" else "burning_in", moved.split)
    report = await read_report(database, now=LATER + MINUTE)
    c = next(item for item in report.variants if item.key == "c")
    assert (c.paused, c.live, c.share, c.probability_best) == (True, True, 0.0, None)
    assert (report.recommendation.action, report.recommendation.variant) == ("pause_variant", "c")
    async with database.reading() as connection:
        entries = await list_audit(connection, limit=100, offset=0)
    assert [entry.after for entry in entries if entry.action == "pause_variant"] == [
        {"variant": "c", "share_bp": 0}
    ]
    grown = await add(database, "d", now=LATER + 2 * MINUTE)
    assert (await history(database, grown))[-1].split["c"] == 0
    await retire(database, "c", now=LATER + 3 * MINUTE)
    report = await read_report(database, now=LATER + 3 * MINUTE)
    assert report.recommendation.action == "keep_collecting"


async def test_a_worse_variant_alone_leaves_the_control(database: Database):
    experiment = await start(database, minimum_detectable_effect=0.1)
    await play(database, experiment, 1_000, luck({"a": 0.7, "b": 0.4}))
    moved = await move(database, experiment, now=LATER)
    assert (moved.outcome, moved.split) == ("paused", {"a": 10_000, "b": 0})
    advice = (await read_report(database, now=LATER)).recommendation
    assert (advice.action, advice.variant) == ("keep_control", "a")


async def test_a_harmful_variant_is_paused_although_its_goal_is_better(database: Database):
    metrics = [
        NewMetric(name="resolved", kind="binary", role="goal"),
        NewMetric(name="upset", kind="binary", direction="decrease", role="guardrail", margin=0.05),
    ]
    experiment = await start(database, metrics=metrics, minimum_detectable_effect=0.1)
    rng = np.random.default_rng(5)

    def told(key: str, index: int) -> dict[str, Any]:
        good, upset = {"a": (0.5, 0.1), "b": (0.8, 0.4)}[key]
        return {"resolved": bool(rng.random() < good), "upset": bool(rng.random() < upset)}

    await play(database, experiment, 1_000, told)
    assert (await move(database, experiment, now=LATER)).outcome == "paused"
    report = await read_report(database, now=LATER)
    (guardrail,) = report.guardrails
    assert (guardrail.metric, guardrail.variant, guardrail.status) == ("upset", "b", "harmed")
    assert guardrail.e_value > 100
    assert report.recommendation.action == "keep_control"
    assert "upset" in report.recommendation.because[0]


@pytest.mark.parametrize(("seconds", "status"), [(400.0, "harmed"), (205.0, "safe")])
async def test_a_guardrail_without_bounds_is_judged_by_its_confidence_sequence(
    database: Database, seconds, status
):
    metrics = [
        NewMetric(name="resolved", kind="binary", role="goal"),
        NewMetric(
            name="duration_s", kind="amount", direction="decrease", unit="s", role="guardrail", margin=60.0
        ),
    ]
    experiment = await start(database, metrics=metrics)
    rng = np.random.default_rng(5)
    mean = {"a": 200.0, "b": seconds}
    await play(
        database,
        experiment,
        900,
        lambda key, index: {"resolved": True, "duration_s": float(rng.gamma(4.0, mean[key] / 4.0))},
    )
    await move(database, experiment, now=LATER)
    (guardrail,) = (await read_report(database, now=LATER)).guardrails
    assert (guardrail.status, guardrail.e_value) == (status, None)


async def test_variants_that_differ_by_less_than_the_region_are_equivalent(database: Database):
    experiment = await start(database, minimum_detectable_effect=0.15)
    await play(database, experiment, 2_000, luck({"a": 0.7, "b": 0.7}, seed=4))
    await move(database, experiment, now=LATER)
    advice = (await read_report(database, now=LATER)).recommendation
    assert advice.action == "equivalent"
    assert "differs by less than 0.15" in advice.because[0]


async def test_outcomes_that_are_missing_for_one_variant_stop_every_claim(database: Database):
    """b loses a third of its failures: the rest looks better and is not."""
    experiment = await start(database, minimum_detectable_effect=0.1, maturity_s=60.0)
    rng = np.random.default_rng(8)

    def told(key: str, index: int) -> dict[str, Any]:
        good = bool(rng.random() < 0.5)
        return {} if key == "b" and not good and rng.random() < 0.4 else {"resolved": good}

    await play(database, experiment, 1_500, told)
    await move(database, experiment, now=LATER)
    report = await read_report(database, now=LATER)
    b = next(item for item in report.variants if item.key == "b")
    assert (b.missing_differs, b.missing > 0.15) == (True, True)
    assert report.recommendation.action == "investigate"


async def test_a_sample_ratio_mismatch_stops_every_claim(database: Database):
    experiment = await start(database, minimum_detectable_effect=0.1)
    await play(database, experiment, 1_500, luck({"a": 0.5, "b": 0.8}))
    await move(database, experiment, now=LATER)
    assert (await read_report(database, now=LATER)).recommendation.action == "switch"
    async with database.writing() as connection:  # as if calls of a were lost on the way
        lost = sa.update(counts).where(
            counts.c.metric == "assigned", counts.c.variant_id == experiment.control.id
        )
        await connection.execute(lost.values(n=counts.c.n - 250))
    report = await read_report(database, now=LATER)
    assert report.sample_ratio.mismatch
    assert report.recommendation.action == "investigate"


def told_of(*processes: tuple[str, str, float]) -> dict[str, Evidence]:
    """Evidence on the goal: (variant, claim, logarithm of the largest e-value)."""
    made = [
        Process(
            variant=v,
            claim=c,
            n=(500.0, 500.0),
            total=(1.0, 1.0),
            total_sq=1.0,
            log_wealth=(0.0,),
            log_e_max=e,
        )
        for v, c, e in processes
    ]
    return {"resolved": Evidence(metric="resolved", units=1_000, processes=tuple(made))}


def test_what_was_shown_stays_shown_when_another_variant_comes():
    """b passed 40, the threshold of one variant beside the control; c came later and needs 80."""
    experiment, allocation = plain(arms="abc")
    later = replace(experiment.variants[2], created_at=NOW + DAY)
    experiment = replace(experiment, variants=(*experiment.variants[:2], later))
    shown = told_of(("b", "worse", np.log(45)), ("c", "worse", np.log(45)))
    claims = claims_of(known_of(experiment, allocation, [], evidence=shown))
    assert (claims["b"].is_out, claims["c"].is_out) == (True, False)


@pytest.mark.parametrize(("share", "out"), [(0, True), (5_000, False)])
def test_missing_outcomes_stop_claims_but_bring_nobody_back(share, out):
    experiment, allocation = plain(arms="ab")
    allocation = replace(allocation, split={"a": 10_000 - share, "b": share})
    shown = told_of(("b", "worse", np.log(100)), ("b", "missing", np.log(1e6)))
    (claim,) = claims_of(known_of(experiment, allocation, [], evidence=shown)).values()
    assert (claim.worse, claim.missing_differs, claim.is_out) == (False, True, out)


def test_a_sequence_counts_concurrent_outcomes_only():
    """c came when the control had few calls left: 5 000 old ones of the control are no comparison."""
    experiment, first = plain(arms="abc")
    first = replace(first, split={"a": 5_000, "b": 5_000, "c": 0})
    second = replace(first, id=2, number=2, split={"a": 1_000, "b": 1_000, "c": 8_000})
    rows = binary_rows([(2_500, 5_000), (2_500, 5_000)])
    rows += [replace(row, allocation_id=2) for row in binary_rows([(8, 15), (8, 15), (70, 140)])]
    report = build_report(known_of(experiment, [first, second], rows), now=NOW)
    b, c = (item.always_valid for item in report.comparisons if item.metric == "resolved")
    assert b.interval != (None, None)
    assert (c.interval, "100 outcomes" in (c.reason or "")) == ((None, None), True)
