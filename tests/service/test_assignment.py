"""A unit's variant: always one, the same for ever, served as often as the split says."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from scipy.stats import chisquare

from domain.experiments import NewPolicy
from domain.fields import MAX_SEGMENTS
from domain.prompts import ServedVersion
from domain.snapshot import PromptState, RunningExperiment, ServedVariant, derive
from service.assign import record_late
from service.stop_experiment import stop_experiment
from storage.database import Database
from storage.schema import assignments, counts, segments
from tests.service.world import (
    ACTOR,
    MINUTE,
    NOW,
    PROMPT,
    arm_by_hand,
    call,
    counted,
    create,
    move,
    outcome,
    start,
    state_of,
    tell,
)

THOMPSON = NewPolicy(name="thompson", burn_in=0, every_s=0.0)
TEXT = ServedVersion(
    id=1, number=1, name=PROMPT, system_prompt="Hi", tools_config=[], metadata={}, content_hash=""
)


def state(split: list[tuple[str, int]], salt: str = "salt") -> PromptState:
    variants = [
        ServedVariant(id=index, key=key, version=TEXT, share_bp=share)
        for index, (key, share) in enumerate(split, 1)
    ]
    running = RunningExperiment(
        id=1, key="e", salt=salt, served_since=NOW, allocation_id=1, variants=tuple(variants), metrics=()
    )
    return PromptState(prompt_id=1, prompt=PROMPT, active=None, experiment=running)


@st.composite
def splits(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Up to eight variants, some of them with share 0."""
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), max_size=7)))
    ends = [0, *cuts, 10_000]
    return [(chr(97 + i), high - low) for i, (low, high) in enumerate(pairwise(ends))]


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text("salt-0123", max_size=8), splits()
)
def test_every_unit_has_a_variant_with_a_share_and_its_probability_is_that_share(unit, salt, split):
    assignment = derive(state(split, salt), unit_id=unit, segment=None, now=NOW)
    assert assignment is not None
    share = dict(split)[str(assignment.variant)]
    assert share > 0
    assert assignment.probability == share / 10_000
    assert assignment.variant == arm_by_hand(salt, unit, split)


@pytest.mark.parametrize("shares", [(5_000, 5_000), (500, 9_500), (100, 900, 3_000, 6_000)])
def test_shares_served_match_the_split(shares):
    """Chi-square over 40 000 units at level 1e-3; the units and the salt are fixed."""
    split = [(chr(97 + index), share) for index, share in enumerate(shares)]
    known = state(split, "5f1d")
    served = Counter(
        derive(known, unit_id=f"call-{index}", segment=None, now=NOW).variant for index in range(40_000)
    )
    expected = [40_000 * share / 10_000 for share in shares]
    assert chisquare([served[key] for key, _ in split], expected).pvalue > 1e-3


def test_another_salt_shuffles_the_units_independently():
    """Two experiments in a row must not give the same calls to the same arms: 2 x 2 table, level 1e-3."""
    one, other = state([("a", 5_000), ("b", 5_000)], "one"), state([("a", 5_000), ("b", 5_000)], "other")
    pairs = Counter(
        (
            derive(one, unit_id=f"call-{i}", segment=None, now=NOW).variant,
            derive(other, unit_id=f"call-{i}", segment=None, now=NOW).variant,
        )
        for i in range(20_000)
    )
    assert chisquare(list(pairs.values())).pvalue > 1e-3


async def test_a_unit_keeps_its_variant_when_the_split_moves_away_from_it(database: Database):
    """Of 40 calls some would be given another variant by the new split; asked again, none is."""
    experiment = await start(database, policy=THOMPSON)
    units = [f"call-{index}" for index in range(40)]
    first = {unit: await call(database, unit) for unit in units}
    await tell(database, *(outcome(unit, resolved=first[unit].variant == "b") for unit in units))
    moved = await move(database, experiment, now=NOW + MINUTE)
    assert moved.split == {"a": 1_000, "b": 9_000}
    after = await state_of(database)
    would = {unit: derive(after, unit_id=unit, segment=None, now=NOW).variant for unit in units}
    assert any(would[unit] != first[unit].variant for unit in units)
    for unit in units:
        again = await call(database, unit, now=NOW + MINUTE)
        assert again == first[unit]


async def test_processes_with_snapshots_of_different_age_agree_on_a_unit(database: Database):
    """Whoever records first decides; the other one, with an older split, is told what stands."""
    experiment = await start(database, policy=THOMPSON)
    old = await state_of(database)
    units = [f"call-{index}" for index in range(30)]
    for unit in units[:20]:
        given = await call(database, unit, state=old)
        await tell(database, outcome(unit, resolved=given.variant == "b"))
    await move(database, experiment, now=NOW + MINUTE)
    new = await state_of(database)
    for unit in units[20:]:
        one, other = await asyncio.gather(call(database, unit, state=old), call(database, unit, state=new))
        assert (one.variant, one.allocation, one.probability) == (
            other.variant,
            other.allocation,
            other.probability,
        )
    assert sum(n for n, _, _ in (await counted(database, "assigned")).values()) == 30


def test_another_process_derives_the_same_variants():
    """With another hash seed, so that nothing of Python's own hashing can leak in."""
    program = (
        "import json, sys; from engine.assignment import arm_of, bucket;"
        "print(json.dumps([arm_of(bucket('salt', f'call-{i}'), [2500, 2500, 5000]) for i in range(500)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "42"},
    )
    known = state([("a", 2_500), ("b", 2_500), ("c", 5_000)])
    here = [derive(known, unit_id=f"call-{i}", segment=None, now=NOW).variant for i in range(500)]
    assert ["abc"[arm] for arm in json.loads(done.stdout)] == here


async def test_the_logged_assignment_is_the_one_that_was_served(database: Database):
    await start(database, arms="abc", shares=[0.2, 0.3, 0.5])
    given = [await call(database, f"call-{index}", segment="refund") for index in range(20)]
    async with database.reading() as connection:
        rows = {row.unit_id: row for row in await connection.execute(sa.select(assignments))}
    shares = {"a": 0.2, "b": 0.3, "c": 0.5}
    for item in given:
        row = rows[item.unit_id]
        assert row.probability == item.probability == shares[str(item.variant)]
        assert (row.version_id, row.content_hash) == (item.version.id, item.version.content_hash)
        assert (row.variant_id, row.allocation_id, row.segment) == (
            item.variant_id,
            item.allocation,
            "refund",
        )


async def test_without_an_experiment_the_active_version_is_served(database: Database):
    version = await create(database, "Be kind.")
    given = await call(database, "call-1")
    assert (given.version, given.reason, given.probability) == (version.served(), "STATIC", None)


async def test_a_call_of_a_stopped_experiment_keeps_its_variant_and_new_ones_get_the_active_version(
    database: Database,
):
    await start(database)
    inside = await call(database, "call-1")
    async with database.writing() as connection:
        await stop_experiment(connection, "greeting", winner="b", actor=ACTOR, now=NOW)
    assert (await call(database, "call-1")) == inside
    outside = await call(database, "call-2")
    assert (outside.reason, outside.version.system_prompt) == ("STATIC", "greeting b")


async def with_segments(database: Database, number: int) -> PromptState:
    """A running experiment that has seen `number` segments: intent-0, intent-1, ..."""
    experiment = await start(database)
    rows = [{"experiment_id": experiment.id, "name": f"intent-{index}"} for index in range(number)]
    async with database.writing() as connection:
        await connection.execute(sa.insert(segments), rows)
    return await state_of(database)


async def test_the_201st_segment_counts_as_other(database: Database):
    known = await with_segments(database, MAX_SEGMENTS - 1)
    asked = ["the-200th", "the-201st", "the-202nd", "intent-7", "the-200th", "other", None]
    given = [
        await call(database, f"call-{index}", state=known, segment=segment)
        for index, segment in enumerate(asked)
    ]
    kept = ["the-200th", "other", "other", "intent-7", "the-200th", "other", None]
    assert [item.segment for item in given] == kept
    async with database.reading() as connection:
        query = sa.select(counts.c.segment, sa.func.sum(counts.c.n)).group_by(counts.c.segment)
        units = {segment: int(n) for segment, n in await connection.execute(query)}
    assert units == {"the-200th": 2, "other": 3, "intent-7": 1, "": 1}


async def test_writers_that_meet_at_the_last_free_segment_admit_one_of_them(database: Database):
    known = await with_segments(database, MAX_SEGMENTS - 1)
    racing = [call(database, f"late-{i}", state=known, segment=f"late-{i % 4}") for i in range(8)]
    admitted = {item.segment for item in await asyncio.gather(*racing)} - {"other"}
    assert len(admitted) == 1


async def test_the_same_call_asked_for_at_the_same_moment_is_recorded_once(database: Database):
    await start(database)
    known = await state_of(database)
    answers = await asyncio.gather(*(call(database, "call-1", state=known) for _ in range(12)))
    assert len({answer.variant for answer in answers}) == 1
    assert sum(n for n, _, _ in (await counted(database, "assigned")).values()) == 1


async def test_late_records_keep_what_somebody_recorded_before_and_name_the_difference(database: Database):
    await start(database)
    before = await state_of(database)
    assert before.experiment is not None
    shares = {"a": 0, "b": 10_000}
    turned = tuple(replace(item, share_bp=shares[item.key]) for item in before.experiment.variants)
    later = replace(before, experiment=replace(before.experiment, variants=turned))
    units = [f"call-{index}" for index in range(10)]
    standing = {unit: (await call(database, unit, state=before)).variant for unit in units}
    given = [derive(later, unit_id=unit, segment=None, now=NOW, reason="STALE") for unit in units]
    async with database.writing() as connection:
        differing = await record_late(connection, given)
    assert {kept.unit_id for _, kept in differing} == {u for u, variant in standing.items() if variant == "a"}
    assert all(kept.variant == standing[kept.unit_id] for _, kept in differing)


async def test_the_version_served_is_the_one_the_variant_was_started_with(database: Database):
    """Later versions of the prompt change no running variant: rows of versions never change."""
    await start(database)
    await create(database, "Newer")
    texts = {(await call(database, f"call-{index}")).version.system_prompt for index in range(20)}
    assert texts == {"greeting a", "greeting b"}
