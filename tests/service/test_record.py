"""Single promises of the ingestion, each on both databases; test_ingestion.py mixes them all."""

import asyncio

import pytest
import sqlalchemy as sa

from domain.errors import (
    AllocationMismatch,
    AllocationNotFound,
    InvalidValue,
    PromptNotFound,
    TimestampOutOfRange,
)
from domain.metrics import NewMetric
from service.record import record
from storage.database import Database
from storage.schema import assignments, counts, outcome_revisions
from tests.service.world import (
    MINUTE,
    NOW,
    arm_by_hand,
    call,
    check,
    counted,
    create,
    outcome,
    read_report,
    start,
    state_of,
    tell,
    tell_one,
)

SATISFIED = [
    NewMetric(name="resolved", kind="binary", role="goal"),
    NewMetric(name="csat", kind="binary"),
]


async def test_an_outcome_is_counted_where_its_call_was_assigned(database: Database):
    await start(database)
    given = await call(database, "call-1", segment="refund")
    assert await tell_one(database, outcome("call-1", resolved=True, quality=0.5)) == "accepted"
    assert await counted(database, "resolved") == {given.variant_id: (1, 1.0, 1.0)}
    assert await counted(database, "quality") == {given.variant_id: (1, 0.5, 0.25)}


async def test_a_second_telling_is_unchanged_and_a_correction_is_counted_once(database: Database):
    await start(database)
    given = await call(database, "call-1")
    told = [outcome("call-1", quality=0.5), outcome("call-1", quality=0.5), outcome("call-1", quality=0.25)]
    assert await tell(database, *told) == ["accepted", "unchanged", "revised"]
    assert await counted(database, "quality") == {given.variant_id: (1, 0.25, 0.0625)}
    async with database.reading() as connection:
        kept = (await connection.execute(sa.select(outcome_revisions))).one()
    assert (kept.value, kept.revision) == (0.5, 0)


async def test_an_outcome_before_its_call_is_parked_and_counted_when_the_call_appears(database: Database):
    await start(database)
    assert await tell_one(database, outcome("call-1", resolved=False)) == "parked"
    assert await counted(database, "resolved") == {}
    given = await call(database, "call-1")
    assert await counted(database, "resolved") == {given.variant_id: (1, 0.0, 0.0)}
    assert (await check(database)).differences == ()


async def test_an_outcome_that_tells_its_allocation_needs_no_assignment(database: Database):
    """The hash decides again what the client served without a server."""
    experiment = await start(database)
    state = await state_of(database)
    assert state.experiment is not None
    told = outcome("call-1", resolved=True, allocation=state.experiment.allocation_id, segment="refund")
    assert await tell_one(database, told) == "accepted"
    async with database.reading() as connection:
        row = (await connection.execute(sa.select(assignments))).one()
    arm = arm_by_hand("salt", "call-1", [("a", 5_000), ("b", 5_000)])
    by_id = {variant.id: variant.key for variant in experiment.variants}
    assert (by_id[row.variant_id], row.probability, row.segment, row.reason) == (arm, 0.5, "refund", "STALE")


async def test_outcomes_of_a_rederived_call_may_come_in_any_order(database: Database):
    """When the call began nobody knows, so no outcome of it can lie before it."""
    await start(database)
    allocation = (await state_of(database)).experiment.allocation_id
    late = outcome("call-1", resolved=True, occurred_at=NOW, allocation=allocation)
    early = outcome("call-1", quality=0.5, occurred_at=NOW - 30 * MINUTE, allocation=allocation)
    assert await tell_one(database, late) == "accepted"
    assert await tell_one(database, early) == "accepted"


async def test_a_retry_of_a_parked_outcome_is_unchanged_even_if_it_lies_before_the_call(database: Database):
    await start(database)
    told = outcome("call-1", resolved=True, occurred_at=NOW - 30 * MINUTE)
    assert await tell_one(database, told) == "parked"
    await call(database, "call-1", now=NOW)
    assert await tell_one(database, told) == "unchanged"
    with pytest.raises(TimestampOutOfRange):
        await tell_one(database, outcome("call-1", resolved=False, occurred_at=NOW - 29 * MINUTE))


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
async def test_the_latest_value_stands_whatever_the_order_of_arrival(database: Database, order):
    """Also where it repeats an earlier one: resolved, reopened, resolved again is resolved."""
    await start(database)
    given = await call(database, "call-1", now=NOW - 9 * MINUTE)
    story = [
        outcome("call-1", resolved=value, occurred_at=NOW - (8 - minute) * MINUTE)
        for minute, value in enumerate([True, False, True])
    ]
    for position in order:
        await tell_one(database, story[position])
    assert await counted(database, "resolved") == {given.variant_id: (1, 1.0, 1.0)}


@pytest.mark.parametrize("metric", ["amount", "score"])
async def test_a_corrected_outlier_leaves_no_trace_in_the_sums(database: Database, metric):
    """1e12 in a sum of squares leaves nothing of 2.25: 2.25 + 1e24 - 1e24 is 0. The report needs the digits."""
    metrics = [NewMetric(name="resolved", kind="binary"), NewMetric(name="value", kind=metric)]
    await start(database, metrics=metrics)
    calls = [await call(database, f"call-{i}") for i in range(12)]
    scale, wrong = (1.5, 1e12) if metric == "amount" else (1e-6, 1.0)
    for index, given in enumerate(calls):
        await tell_one(database, outcome(given.unit_id, value=wrong if index % 2 else scale))
    for given in calls:
        await tell_one(database, outcome(given.unit_id, value=scale), now=NOW + MINUTE)
    assert (await check(database)).differences == ()
    for n, total, total_sq in (await counted(database, "value")).values():
        assert (total, total_sq) == pytest.approx((n * scale, n * scale**2), rel=1e-12)
    found = await read_report(database)
    for variant in found.variants:
        assert variant.metrics["value"].mean == pytest.approx(scale, rel=1e-12)


async def test_scores_corrected_to_zero_leave_a_report(database: Database):
    """0.81 + 0.49 - 0.81 - 0.49 is -5.6e-17, and no sum of squares is negative."""
    await start(database)
    values = [0.9, 0.7, 0.1, 0.3]
    calls = [await call(database, f"call-{i}") for i in range(16)]
    for index, given in enumerate(calls):
        await tell_one(database, outcome(given.unit_id, quality=values[index % 4]))
    for given in calls:
        await tell_one(database, outcome(given.unit_id, quality=0.0), now=NOW + MINUTE)
    found = await read_report(database)
    for variant in found.variants:
        assert variant.metrics["quality"].mean == pytest.approx(0.0, abs=1e-15)


async def test_a_parked_value_that_its_experiment_cannot_count_is_not_taken_away(database: Database):
    """`csat` 7 was told before anybody knew that it is a yes-or-no metric here."""
    await start(database, metrics=SATISFIED)
    assert await tell_one(database, outcome("call-1", csat=7)) == "parked"
    given = await call(database, "call-1")
    assert await counted(database, "csat") == {}
    assert await tell_one(database, outcome("call-1", csat=True)) == "revised"
    assert await counted(database, "csat") == {given.variant_id: (1, 1.0, 1.0)}
    assert (await check(database)).differences == ()


async def test_one_bad_outcome_does_not_hold_up_the_others(database: Database):
    await start(database)
    for unit in ("call-1", "call-2"):
        await call(database, unit)
    answers = await tell(
        database,
        outcome("call-1", quality=2.0),
        outcome("call-1", resolved=True, prompt="nobody"),
        outcome("call-1", resolved=True, allocation=10**6),
        outcome("call-3", resolved=True, allocation=10**6),
        outcome("call-1", warmth=0.5),
        outcome("call-1", resolved=True, occurred_at=NOW + 6 * MINUTE),
        outcome("call-1", resolved=True, occurred_at=NOW - 6 * MINUTE),
        outcome("call-2", resolved=True),
    )
    assert [type(answer) for answer in answers] == [
        InvalidValue,
        PromptNotFound,
        AllocationMismatch,
        AllocationNotFound,
        InvalidValue,
        TimestampOutOfRange,
        TimestampOutOfRange,
        str,
    ]
    assert answers[-1] == "accepted"
    assert sum(n for n, _, _ in (await counted(database, "resolved")).values()) == 1


async def test_a_rejected_outcome_leaves_no_assignment_behind(database: Database):
    await start(database)
    allocation = (await state_of(database)).experiment.allocation_id
    with pytest.raises(InvalidValue):
        await tell_one(database, outcome("call-1", quality=2.0, allocation=allocation))
    async with database.reading() as connection:
        assert (await connection.execute(sa.select(assignments))).first() is None


async def test_outcomes_outside_an_experiment_are_stored_and_counted_nowhere(database: Database):
    await create(database, "Be kind.")
    given = await call(database, "call-1")
    assert (given.reason, given.experiment) == ("STATIC", None)
    assert await tell_one(database, outcome("call-1", resolved=True, warmth=0.5)) == "accepted"
    async with database.reading() as connection:
        assert (await connection.execute(sa.select(counts))).first() is None


async def test_outcomes_and_their_calls_may_arrive_at_the_same_moment(database: Database):
    """Each call and its outcome, told twice, race each other on several connections: each counts once."""
    await start(database)
    state = await state_of(database)
    units = [f"call-{index}" for index in range(25)]
    racing = [call(database, unit, state=state, segment=unit[-1]) for unit in units]
    racing += [tell(database, outcome(unit, resolved=True)) for unit in units for _ in range(2)]
    await asyncio.gather(*racing)
    assert sum(n for n, _, _ in (await counted(database, "assigned")).values()) == 25
    assert sum(n for n, _, _ in (await counted(database, "resolved")).values()) == 25
    assert (await check(database)).differences == ()


async def test_a_recount_loses_no_outcome_that_arrives_meanwhile(database: Database):
    """A correction that recounts its row, while others write outcomes of the same row."""
    await start(database, shares=[1.0, 0.0])
    units = [f"call-{index}" for index in range(30)]
    for unit in units:
        await call(database, unit)
    outliers, others = units[:10], units[10:]
    await tell(database, *(outcome(unit, duration_s=2e6) for unit in outliers))
    racing = [tell(database, outcome(unit, duration_s=1.1), now=NOW + MINUTE) for unit in outliers]
    racing += [tell(database, outcome(unit, duration_s=1.1)) for unit in others]
    await asyncio.gather(*racing)
    assert (await check(database)).differences == ()


async def test_verify_sees_one_state_while_outcomes_arrive(database: Database):
    """On PostgreSQL two statements of a transaction see two states; a difference would be a false alarm."""
    await start(database)
    units = [f"call-{index}" for index in range(30)]
    for unit in units:
        await call(database, unit)
    done = asyncio.Event()

    async def write() -> None:
        for unit in units:
            await tell(database, outcome(unit, resolved=True))
        done.set()

    async def watch() -> int:
        looks = 0
        while not done.is_set():
            assert (await check(database)).differences == ()
            looks += 1
        return looks

    _, looks = await asyncio.gather(write(), watch())
    assert looks > 0


async def test_what_is_not_committed_is_not_there(database: Database):
    """A failure between outcome and commit leaves neither the value nor its count."""
    await start(database)
    await call(database, "call-1")

    async def fail_after_recording() -> None:
        async with database.writing() as connection:
            await record(connection, [outcome("call-1", resolved=True)], now=NOW)
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        await fail_after_recording()
    assert await counted(database, "resolved") == {}
    assert await tell_one(database, outcome("call-1", resolved=True)) == "accepted"
