"""When the split moves and when not, where to, and the one planned look that a pass may take."""

import asyncio
import datetime as dt

import numpy as np
import pytest
from scipy.stats import beta

import storage.snapshots
from domain.errors import InvalidValue
from domain.experiments import NewPolicy
from domain.metrics import NewMetric
from service.assign import assign
from service.reallocate import ids_to_pass
from storage.database import Database
from storage.snapshots import read_snapshot
from tests.service.world import (
    DAY,
    MINUTE,
    NOW,
    PROMPT,
    add,
    call,
    derive,
    fill,
    history,
    move,
    outcome,
    read_experiment,
    retire,
    start,
    state_of,
    stop,
    tell,
)

# SQLite has one writer at a time, and a reading transaction there sees one state.
ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
EAGER = NewPolicy(name="thompson", burn_in=0, every_s=0.0)
SCORE = [NewMetric(name="quality", kind="score", role="goal")]
SMALL = {"minimum_detectable_effect": 0.1}  # 388 outcomes a variant are planned


async def test_the_split_does_not_move_while_a_first_variant_burns_in(database: Database):
    policy = NewPolicy(name="thompson", burn_in=100, every_s=0.0)
    experiment = await start(database, policy=policy)
    await fill(database, experiment, a=(10, 1_000), b=(99, 99))
    assert (await move(database, experiment, now=NOW + MINUTE)).outcome == "burning_in"
    await fill(database, experiment, b=(1, 1))
    assert (await move(database, experiment, now=NOW + MINUTE)).outcome == "moved"


async def test_the_split_moves_at_most_every_so_many_seconds(database: Database):
    experiment = await start(database, policy=NewPolicy(name="thompson", burn_in=0, every_s=300.0))
    await fill(database, experiment, a=(5, 10), b=(6, 10))
    early = NOW + dt.timedelta(seconds=299)
    assert (await move(database, experiment, now=early)).outcome == "too_soon"
    assert (await move(database, experiment, now=early, force=True)).outcome == "moved"
    await fill(database, experiment, a=(5, 10), b=(6, 10))
    assert (await move(database, experiment, now=early + 4 * MINUTE)).outcome == "too_soon"
    assert (await move(database, experiment, now=early + 5 * MINUTE)).outcome == "moved"


async def test_a_second_pass_with_nothing_new_changes_nothing(database: Database):
    experiment = await start(database, policy=EAGER)
    await fill(database, experiment, a=(5, 10), b=(6, 10))
    first = await move(database, experiment, now=NOW + MINUTE)
    for minute in range(2, 5):
        again = await move(database, experiment, now=NOW + minute * MINUTE, force=True)
        assert (again.outcome, again.split) == ("nothing_new", first.split)
    assert [item.number for item in await history(database, experiment)] == [1, 2]


async def test_an_allocation_tells_what_it_was_computed_from(database: Database):
    """P(b > a) from (1, 1) priors and 0/1 against 1/1 is 5/6 (high_precision.json, `one_each`)."""
    policy = NewPolicy(name="thompson", burn_in=0, every_s=0.0, floor=0.0, control_floor=0.0, cap=1.0)
    experiment = await start(database, policy=policy)
    await fill(database, experiment, a=(0, 1), b=(1, 1))
    await move(database, experiment, now=NOW + MINUTE)
    first, second = await history(database, experiment)
    assert (first.policy, first.probability_best, first.counts) == ("start", None, {})
    assert second.probability_best == pytest.approx({"a": 1 / 6, "b": 5 / 6}, abs=1e-10)
    assert second.split == {"a": 1_667, "b": 8_333}
    assert (second.counts, second.policy) == ({"metric": "resolved", "n": {"a": 1, "b": 1}}, "thompson")
    assert second.created_at == NOW + MINUTE


@pytest.mark.parametrize(
    ("evidence", "split"),
    [
        ({"a": (0, 900), "b": (450, 900), "c": (900, 900)}, {"a": 1_000, "b": 500, "c": 8_500}),
        ({"a": (900, 900), "b": (450, 900), "c": (0, 900)}, {"a": 9_000, "b": 500, "c": 500}),
    ],
)
async def test_floors_and_the_control_floor_hold_against_any_evidence(database: Database, evidence, split):
    experiment = await start(database, arms="abc", policy=EAGER)
    await fill(database, experiment, **evidence)
    assert (await move(database, experiment, now=NOW + MINUTE)).split == split


async def test_the_cap_holds_against_any_evidence(database: Database):
    policy = NewPolicy(name="thompson", burn_in=0, every_s=0.0, floor=0.0, control_floor=0.0, cap=0.7)
    experiment = await start(database, policy=policy)
    await fill(database, experiment, a=(0, 900), b=(900, 900))
    assert (await move(database, experiment, now=NOW + MINUTE)).split == {"a": 3_000, "b": 7_000}


async def test_three_variants_are_split_by_top_two_unless_the_policy_says_otherwise(database: Database):
    """P(best) of Beta(2,5), (3,4), (4,4) exactly: 28733/277134, ... (paper_cases.json); psi by its formula."""
    experiment = await start(database, arms="abc")
    assert experiment.policy.name == "top_two"
    await fill(database, experiment, a=(1, 5), b=(2, 5), c=(3, 6))
    assert (await move(database, experiment, now=NOW + DAY)).outcome == "burning_in"
    eager = NewPolicy(name="top_two", burn_in=0, every_s=0.0)
    await stop(database)
    experiment = await start(database, key="second", arms="abc", policy=eager)
    await fill(database, experiment, a=(1, 5), b=(2, 5), c=(3, 6))
    p = np.array([28733 / 277134, 189421 / 554268, 307381 / 554268])
    others = np.array([sum(p[j] / (1 - p[j]) for j in range(3) if j != i) for i in range(3)])
    psi = p * (0.5 + 0.5 * others)
    moved = await move(database, experiment, now=NOW + MINUTE)
    assert np.array(list(moved.split.values())) == pytest.approx(psi * 10_000, abs=1.0)
    assert (await history(database, experiment))[-1].probability_best == pytest.approx(
        dict(zip("abc", p, strict=True)), abs=1e-10
    )


async def test_two_variants_are_split_evenly_for_ever_unless_the_policy_says_otherwise(database: Database):
    experiment = await start(database)
    await fill(database, experiment, a=(0, 900), b=(900, 900))
    result = await move(database, experiment, now=NOW + DAY, force=True)
    assert (result.outcome, result.split) == ("fixed", {"a": 5_000, "b": 5_000})


async def test_a_stopped_experiment_is_left_alone(database: Database):
    experiment = await start(database, policy=EAGER)
    await fill(database, experiment, a=(0, 900), b=(900, 900))
    await stop(database)
    assert (await move(database, experiment, now=NOW + DAY)).outcome == "stopped"
    async with database.reading() as connection:
        assert await ids_to_pass(connection) == []


async def test_passes_at_the_same_moment_make_one_allocation(database: Database):
    experiment = await start(database, policy=EAGER)
    await fill(database, experiment, a=(5, 10), b=(6, 10))
    passes = await asyncio.gather(*(move(database, experiment, now=NOW + MINUTE) for _ in range(6)))
    outcomes = [item.outcome for item in passes]
    assert outcomes.count("moved") == 1
    assert set(outcomes) <= {"moved", "held", "nothing_new"}
    assert len(await history(database, experiment)) == 2


@ON_POSTGRESQL
async def test_calls_that_are_being_recorded_do_not_hold_up_a_pass(database: Database):
    """On a busy line some assignment is always under way; a pass that waits for a quiet moment never comes."""
    experiment = await start(database, policy=EAGER)
    await fill(database, experiment, a=(5, 10), b=(6, 10))
    proposal = derive(await state_of(database), unit_id="call-1", segment=None, now=NOW)
    assert proposal is not None
    async with database.writing() as connection:
        await assign(connection, [proposal])
        assert (await move(database, experiment, now=NOW + MINUTE)).outcome == "moved"


async def test_a_new_variant_gets_the_floor_and_the_others_keep_their_ratios(database: Database):
    experiment = await start(database, arms="abc", shares=[0.2, 0.3, 0.5], policy=EAGER)
    await add(database, "d", now=NOW + MINUTE)
    split = (await history(database, experiment))[-1].split
    assert split == {"a": 1_900, "b": 2_850, "c": 4_750, "d": 500}
    assert (await history(database, experiment))[-1].policy == "variant added"


async def test_a_new_variant_may_be_given_a_share(database: Database):
    experiment = await start(database, shares=[0.5, 0.5])
    await add(database, "c", share=0.2)
    assert (await history(database, experiment))[-1].split == {"a": 4_000, "b": 4_000, "c": 2_000}


async def test_a_new_variant_beside_a_fixed_split_gets_an_even_share(database: Database):
    experiment = await start(database, shares=[0.5, 0.5])
    await add(database, "c")
    assert (await history(database, experiment))[-1].split == {"a": 3_334, "b": 3_333, "c": 3_333}


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_a_new_variant_with_no_share_or_all_of_it_is_refused(database: Database, share):
    await start(database)
    with pytest.raises(InvalidValue, match="must be in"):
        await add(database, "c", share=share)


async def test_a_retired_variant_gets_nothing_and_the_others_share_it_in_their_ratios(database: Database):
    experiment = await start(database, arms="abc", shares=[0.2, 0.3, 0.5], policy=EAGER)
    await retire(database, "c")
    split = (await history(database, experiment))[-1].split
    assert split == {"a": 4_000, "b": 6_000, "c": 0}
    await fill(database, experiment, a=(5, 10), b=(6, 10), c=(10, 10))
    moved = await move(database, experiment, now=NOW + MINUTE)
    assert (moved.outcome, moved.split["c"]) == ("moved", 0)
    state = await state_of(database)
    variants = {derive(state, unit_id=f"call-{i}", segment=None, now=NOW).variant for i in range(200)}
    assert variants == {"a", "b"}


async def test_a_new_variant_does_not_burn_in_and_the_next_pass_knows_it(database: Database):
    policy = NewPolicy(name="thompson", burn_in=10, every_s=0.0)
    experiment = await start(database, policy=policy)
    await fill(database, experiment, a=(50, 100), b=(50, 100))
    await add(database, "c", now=NOW + MINUTE)
    moved = await move(database, experiment, now=NOW + 2 * MINUTE)
    assert (moved.outcome, sum(moved.split.values())) == ("moved", 10_000)
    assert moved.split["c"] >= 500


async def test_a_new_variant_without_a_score_does_not_undo_what_the_split_has_learned(database: Database):
    """It is as likely the best as any other, 1/3; a and b keep 2/3 in their ratio instead of going even."""
    policy = NewPolicy(name="thompson", burn_in=0, every_s=0.0, floor=0.0, control_floor=0.0, cap=1.0)
    experiment = await start(database, metrics=SCORE, policy=policy)
    sums = {"a": (50, 25.0, 15.0), "b": (50, 27.0, 17.0)}
    await fill(database, experiment, metric="quality", **sums)
    before = (await move(database, experiment, now=NOW + MINUTE)).split
    await add(database, "c", now=NOW + 2 * MINUTE, share=0.1)
    await fill(database, await read_experiment(database), metric="quality", a=(1, 0.5, 0.3))
    after = (await move(database, experiment, now=NOW + 3 * MINUTE)).split
    assert after["c"] == pytest.approx(3_333, abs=1)
    assert after["b"] / (after["a"] + after["b"]) == pytest.approx(before["b"] / 10_000, abs=0.03)
    assert after["b"] > 2 * after["a"]


async def test_scores_that_nobody_has_told_leave_the_split_even(database: Database):
    experiment = await start(database, metrics=SCORE, policy=EAGER)
    moved = await move(database, experiment, now=NOW + MINUTE)
    assert (moved.outcome, moved.split) == ("moved", {"a": 5_000, "b": 5_000})


async def test_young_calls_do_not_move_the_split(database: Database):
    """The raw probability must be that of a recount of the matured calls, made here by integration."""
    policy = NewPolicy(name="thompson", burn_in=0, every_s=0.0, floor=0.0, control_floor=0.0, cap=1.0)
    experiment = await start(database, policy=policy, maturity_s=3_600.0)
    state = await state_of(database)
    told: dict[str, list[tuple[dt.datetime, bool]]] = {"a": [], "b": []}
    for index in range(36):
        at = NOW + 5 * index * MINUTE
        given = await call(database, f"call-{index}", state=state, now=at)
        resolved = (index % 3 == 0) if given.variant == "a" else (index % 4 != 0)
        await tell(database, outcome(f"call-{index}", resolved=resolved), now=at)
        told[str(given.variant)].append((at, resolved))
    now = NOW + 180 * MINUTE
    old = {arm: [x for at, x in calls if at <= now - 60 * MINUTE] for arm, calls in told.items()}
    assert 0 < sum(map(len, old.values())) < 36
    await move(database, experiment, now=now)
    allocation = (await history(database, experiment))[-1]
    assert allocation.counts["n"] == {arm: len(values) for arm, values in old.items()}
    posteriors = [beta(1 + sum(values), 1 + len(values) - sum(values)) for values in old.values()]
    grid = np.linspace(0, 1, 200_001)
    better = float(np.trapezoid(posteriors[1].pdf(grid) * posteriors[0].cdf(grid), grid))
    assert allocation.probability_best == pytest.approx({"a": 1 - better, "b": better}, abs=1e-8)
    again = await move(database, experiment, now=now + MINUTE)
    assert again.outcome == "nothing_new"
    assert (await move(database, experiment, now=now + 6 * MINUTE)).outcome == "moved"


async def test_a_corrected_outcome_of_a_young_call_does_not_disturb_the_matured_ones(database: Database):
    """1 000 000 s told by a young call and corrected; the old ones' sum of squares keeps its digits."""
    experiment = await start(
        database,
        policy=EAGER,
        maturity_s=3_600.0,
        metrics=[NewMetric(name="duration_s", kind="amount", direction="decrease", unit="s", role="goal")],
    )
    for index in range(12):
        await call(database, f"old-{index}")
        await tell(database, outcome(f"old-{index}", duration_s=60.0 + index))
        await call(database, f"young-{index}", now=NOW + 60 * MINUTE)
        await tell(database, outcome(f"young-{index}", duration_s=1e6), now=NOW + 60 * MINUTE)
    moved = await move(database, experiment, now=NOW + 61 * MINUTE)
    assert moved.outcome == "moved"
    best = (await history(database, experiment))[-1].probability_best
    assert best is not None
    assert sum(best.values()) == pytest.approx(1.0, abs=1e-9)


@ON_POSTGRESQL
@pytest.mark.parametrize("step", ["running_allocations", "experiments_by_id", "served_versions"])
async def test_a_variant_that_comes_while_the_state_is_read_leaves_a_split_that_adds_up(
    database: Database, monkeypatch, step
):
    """Between any two statements of the snapshot; a split that knows more than the variants serves nobody."""
    await start(database)
    original = getattr(storage.snapshots, step)

    async def after_a_change(*arguments):
        monkeypatch.setattr(storage.snapshots, step, original)
        await add(database, "c")
        return await original(*arguments)

    monkeypatch.setattr(storage.snapshots, step, after_a_change)
    async with database.reading() as connection:
        state = (await read_snapshot(connection, now=NOW)).prompts[PROMPT]
    assert state.experiment is not None
    assert sum(variant.share_bp for variant in state.experiment.variants) == 10_000
    assert derive(state, unit_id="call-1", segment=None, now=NOW) is not None
