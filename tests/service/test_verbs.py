"""Versions, experiments and their changes: what each verb stores, refuses and writes into the audit."""

import asyncio
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

import service.stop_experiment
from domain.audit import AuditEntry
from domain.errors import (
    DomainError,
    ExperimentNotFound,
    ExperimentRunning,
    ExperimentStopped,
    InvalidValue,
    LastVariants,
    NameTaken,
    NotAnAbTest,
    SameContent,
    VariantExists,
    VariantNotFound,
    VariantRetired,
    VersionNotFound,
    VersionOfOtherPrompt,
)
from domain.experiments import Experiment, NewAbTest, NewExperiment, NewPolicy, NewVariant
from domain.metrics import NewMetric
from domain.prompts import PromptVersion, VersionDiff
from domain.report import Report
from service.activate_version import activate_version
from service.change_variants import add_variant
from service.diff_versions import diff_text, diff_versions
from service.manage_keys import create_key, revoke_key
from service.start_experiment import ab_test_of, start_ab_test, start_experiment
from storage.audit import list_audit
from storage.database import Database
from storage.experiments import final_report
from storage.prompts import active_version_id, list_versions
from storage.schema import prompts
from tests.service.world import (
    ACTOR,
    DAY,
    MINUTE,
    NOW,
    PROMPT,
    add,
    call,
    check,
    counted,
    create,
    fill,
    history,
    outcome,
    read_experiment,
    read_report,
    retire,
    start,
    stop,
    tell_one,
)

ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


async def activate(database: Database, version_id: int) -> PromptVersion:
    async with database.writing() as connection:
        return await activate_version(connection, version_id, actor=ACTOR, now=NOW)


async def active(database: Database, prompt: str = PROMPT) -> int | None:
    async with database.reading() as connection:
        prompt_id = await connection.scalar(sa.select(prompts.c.id).where(prompts.c.name == prompt))
        return await active_version_id(connection, int(prompt_id or 0))


async def diff(database: Database, one: PromptVersion, other: PromptVersion) -> VersionDiff:
    async with database.reading() as connection:
        return await diff_versions(connection, one.id, other.id)


async def audit(database: Database) -> list[AuditEntry]:
    """The oldest first."""
    async with database.reading() as connection:
        return (await list_audit(connection, limit=1_000, offset=0))[::-1]


def variants_of(*versions: PromptVersion) -> list[NewVariant]:
    return [NewVariant(key=key, version_id=item.id) for key, item in zip("abcdef", versions, strict=False)]


async def begin(database: Database, **fields: Any) -> Experiment:
    async with database.writing() as connection:
        return await start_experiment(connection, NewExperiment(**fields), actor=ACTOR, now=NOW)


# --- versions -----------------------------------------------------------------------------------------


async def test_the_first_version_of_a_name_is_active_and_later_ones_wait(database: Database):
    first, second = await create(database, "one"), await create(database, "two")
    assert (first.number, second.number, first.is_active, second.is_active) == (1, 2, True, False)
    assert await active(database) == first.id
    assert (await create(database, "one", name="billing")).number == 1


async def test_the_same_content_twice_is_a_conflict_that_names_the_version(database: Database):
    """Whatever the order of keys in tools_config; metadata is no content."""
    tools = {"lookup": {"retries": 2, "timeout": 1}}
    await create(database, "other")
    version = await create(database, "text", tools_config=tools)
    turned = {"lookup": {"timeout": 1, "retries": 2}}
    with pytest.raises(SameContent) as caught:
        await create(database, "text", tools_config=turned, metadata={"note": "again"})
    assert (caught.value.data["number"], caught.value.data["version_id"]) == (2, version.id)
    assert f"(id {version.id})" in str(caught.value)
    assert (await create(database, "text", name="billing", tools_config=tools)).number == 1


async def test_a_name_in_another_case_is_taken(database: Database):
    await create(database, "one", name="Straße")
    with pytest.raises(NameTaken, match="Straße"):
        await create(database, "one", name="STRASSE")


async def test_a_parent_must_be_a_version_of_the_same_prompt(database: Database):
    parent, stranger = await create(database, "one"), await create(database, "one", name="billing")
    child = await create(database, "two", parent_id=parent.id)
    assert child.parent_id == parent.id
    for wrong in (stranger.id, 10**6):
        with pytest.raises(InvalidValue) as caught:
            await create(database, "three", parent_id=wrong)
        assert caught.value.pointer == "/parent_id"
    async with database.reading() as connection:
        assert len(await list_versions(connection, prompt=PROMPT)) == 2


async def test_a_diff_shows_what_changed_and_nothing_else(database: Database):
    one = await create(database, "Be kind.\nBe brief.", tools_config={"a": 1}, metadata={"x": 1})
    other = await create(database, "Be kind.\nBe very brief.", tools_config={"a": 1}, metadata={"x": 2})
    found = await diff(database, one, other)
    assert found.system_prompt.splitlines() == [
        "--- support #1",
        "+++ support #2",
        "@@ -1,2 +1,2 @@",
        " Be kind.",
        "-Be brief.",
        "+Be very brief.",
    ]
    assert found.tools_config == ""
    assert '+  "x": 2' in found.metadata


@given(st.text(), st.text())
def test_a_diff_is_empty_exactly_when_nothing_changed(one, other):
    assert (diff_text(one, other, old="#1", new="#2") == "") == (one == other)
    assert diff_text(one, one, old="#1", new="#2") == ""


@pytest.mark.parametrize(("one", "other"), [("Hi.", "Hi.\n"), ("a\r\nb", "a\nb"), ("a\x0bb", "a\nb")])
def test_a_diff_shows_changed_line_ends(one, other):
    assert diff_text(one, other, old="#1", new="#2") != ""


async def test_versions_of_two_prompts_have_no_diff(database: Database):
    one, other = await create(database, "one"), await create(database, "one", name="billing")
    with pytest.raises(VersionOfOtherPrompt):
        await diff(database, one, other)
    with pytest.raises(VersionNotFound):
        await activate(database, 10**6)


async def test_activating_the_active_version_changes_nothing_and_leaves_no_trace(database: Database):
    one, other = await create(database, "one"), await create(database, "two")
    assert (await activate(database, other.id)).is_active
    before = await audit(database)
    await activate(database, other.id)
    assert await audit(database) == before
    assert (before[-1].before, before[-1].after) == (
        {"active_version_id": one.id},
        {"active_version_id": other.id},
    )


@ON_POSTGRESQL
async def test_versions_created_at_the_same_moment_are_numbered_one_after_the_other(database: Database):
    await create(database, "zero")
    made = await asyncio.gather(*(create(database, f"text {index}") for index in range(6)))
    assert sorted(version.number for version in made) == [2, 3, 4, 5, 6, 7]


@ON_POSTGRESQL
async def test_a_prompt_created_twice_at_the_same_moment_is_one_prompt(database: Database):
    """Who loses the race learns it from the unique constraint and may try again."""
    made = await asyncio.gather(
        *(create(database, f"text {index}") for index in range(4)), return_exceptions=True
    )
    assert {type(item) for item in made} <= {PromptVersion, IntegrityError}
    async with database.reading() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(prompts)) == 1
        versions = await list_versions(connection)
    assert sum(version.is_active for version in versions) == 1
    assert len(versions) == sum(isinstance(item, PromptVersion) for item in made)


# --- starting -----------------------------------------------------------------------------------------


async def test_an_experiment_starts_with_its_shares_its_defaults_and_a_salt_of_its_own(database: Database):
    versions = [await create(database, f"text {index}") for index in range(3)]
    fields = {"prompt": PROMPT, "variants": variants_of(*versions), "control": "b"}
    first = await begin(database, key="first", **fields)
    await stop(database, key="first")
    second = await begin(database, key="second", **fields)
    assert (first.control.key, first.goal, first.policy.name, first.alpha) == (
        "b",
        "resolved",
        "top_two",
        0.05,
    )
    assert first.salt != second.salt
    assert len(bytes.fromhex(first.salt)) == 16
    (allocation,) = await history(database, first)
    assert (allocation.number, allocation.split) == (1, {"a": 3_334, "b": 3_333, "c": 3_333})


async def test_one_experiment_runs_on_a_prompt_at_a_time(database: Database):
    await start(database)
    with pytest.raises(ExperimentRunning, match="'greeting' already runs"):
        await start(database, key="second")
    await start(database, key="elsewhere", prompt="billing")
    await stop(database)
    await start(database, key="third")


async def test_a_key_in_another_case_is_taken_for_ever(database: Database):
    await start(database)
    await stop(database)
    with pytest.raises(NameTaken):
        await start(database, key="Greeting")


async def test_a_version_that_is_not_there_or_belongs_elsewhere_is_refused(database: Database):
    one, other = await create(database, "one"), await create(database, "one", name="billing")
    fields = {"key": "greeting", "prompt": PROMPT, "control": "a"}
    with pytest.raises(VersionOfOtherPrompt):
        await begin(database, variants=variants_of(one, other), **fields)
    missing = [NewVariant(key="a", version_id=one.id), NewVariant(key="b", version_id=10**6)]
    with pytest.raises(InvalidValue) as caught:
        await begin(database, variants=missing, **fields)
    assert caught.value.pointer == "/variants/1/version_id"


async def test_an_improvement_must_be_possible_in_the_direction_of_the_goal(database: Database):
    """From 3 % transferred one cannot come down by 5 points."""
    goal = [NewMetric(name="transferred", kind="binary", direction="decrease", role="goal")]
    with pytest.raises(InvalidValue, match="must stay above 0"):
        await start(database, metrics=goal, baseline=0.03)
    experiment = await start(database, metrics=goal, baseline=0.06, key="possible")
    assert (await read_report(database, "possible")).planned.sample_size_per_variant is not None
    assert experiment.goal == "transferred"


@ON_POSTGRESQL
async def test_of_experiments_started_at_the_same_moment_one_runs(database: Database):
    versions = [await create(database, f"text {index}") for index in range(2)]

    async def one(key: str) -> Experiment:
        return await begin(database, key=key, prompt=PROMPT, variants=variants_of(*versions), control="a")

    made = await asyncio.gather(*(one(f"race {index}") for index in range(6)), return_exceptions=True)
    started = [item for item in made if isinstance(item, Experiment)]
    assert len(started) == 1
    refused = [item for item in made if not isinstance(item, Experiment)]
    assert {type(item) for item in refused} == {ExperimentRunning}


async def test_an_ab_test_is_an_experiment_with_the_share_of_b(database: Database):
    one, other = await create(database, "one"), await create(database, "two")
    new = NewAbTest(test_name="old way", variant_a_id=one.id, variant_b_id=other.id, traffic_split=0.2)
    async with database.writing() as connection:
        experiment = await start_ab_test(connection, new, actor=ACTOR, now=NOW)
    assert (experiment.control.key, experiment.policy.name) == ("a", "fixed")
    assert (await history(database, experiment))[0].split == {"a": 8_000, "b": 2_000}
    async with database.reading() as connection:
        assert (await ab_test_of(connection, "old way")).id == experiment.id
    await stop(database, key="old way")
    await start(database, arms="abc")
    async with database.reading() as connection:
        with pytest.raises(NotAnAbTest):
            await ab_test_of(connection, "greeting")


# --- stopping -----------------------------------------------------------------------------------------


async def test_stopping_with_a_winner_serves_it_and_freezes_the_report(database: Database):
    experiment = await start(database)
    await fill(database, experiment, a=(5, 10), b=(9, 10))
    stopped = await stop(database, winner="b", now=NOW + DAY)
    winner = experiment.variant("b")
    assert winner is not None
    assert (stopped.status, stopped.stopped_at) == ("stopped", NOW + DAY)
    assert stopped.decision is not None
    assert (stopped.decision["winner"], stopped.decision["by"]) == ("b", ACTOR)
    assert await active(database) == winner.version_id
    async with database.reading() as connection:
        frozen = msgspec.convert(await final_report(connection, experiment.id), Report)
    assert frozen.variants[1].metrics["resolved"].mean == 0.9
    await fill(database, experiment, b=(0, 10))
    async with database.reading() as connection:
        assert msgspec.convert(await final_report(connection, experiment.id), Report) == frozen


async def test_stopping_without_a_winner_leaves_the_active_version(database: Database):
    await start(database)
    before = await active(database)
    await stop(database)
    assert await active(database) == before


async def test_what_cannot_be_stopped_says_why(database: Database):
    await start(database)
    with pytest.raises(ExperimentNotFound):
        await stop(database, key="nothing")
    with pytest.raises(VariantNotFound):
        await stop(database, winner="z")
    await stop(database)
    for change in (stop(database), add(database, "c"), retire(database, "b")):
        with pytest.raises(ExperimentStopped):
            await change


async def test_outcomes_that_come_after_the_stop_are_still_counted(database: Database):
    await start(database)
    given_call = await call(database, "call-1")
    await stop(database)
    assert await tell_one(database, outcome("call-1", resolved=True), now=NOW + MINUTE) == "accepted"
    assert await counted(database, "resolved") == {given_call.variant_id: (1, 1.0, 1.0)}
    assert (await check(database)).differences == ()


@ON_POSTGRESQL
async def test_of_two_who_stop_at_the_same_moment_one_decides(database: Database):
    await start(database)
    stops = await asyncio.gather(*(stop(database, winner=winner) for winner in "ab"), return_exceptions=True)
    assert sorted(type(item).__name__ for item in stops) == ["Experiment", "ExperimentStopped"]


@ON_POSTGRESQL
async def test_a_stop_and_a_call_of_a_new_segment_do_not_wait_for_each_other_in_a_circle(
    database: Database, monkeypatch
):
    """The stop holds the prompt and wants the experiment, the call the other way round."""
    await start(database)
    lock_experiment = service.stop_experiment.lock_experiment

    async def after_a_moment(*arguments: Any) -> None:
        await asyncio.sleep(0.3)
        await lock_experiment(*arguments)

    async def a_moment_later() -> None:
        await asyncio.sleep(0.1)
        await call(database, "call-1", segment="new")

    monkeypatch.setattr(service.stop_experiment, "lock_experiment", after_a_moment)
    await asyncio.gather(stop(database), a_moment_later())


# --- variants -----------------------------------------------------------------------------------------


async def test_a_variant_must_be_new_and_of_the_same_prompt(database: Database):
    experiment = await start(database)
    stranger = await create(database, "one", name="billing")

    async def with_version(arm: str, version_id: int) -> None:
        async with database.writing() as connection:
            new = NewVariant(key=arm, version_id=version_id)
            await add_variant(connection, "greeting", new, actor=ACTOR, now=NOW)

    known = experiment.variants[0].version_id
    assert known is not None
    for arm, version_id, error in [
        ("a", known, VariantExists),
        ("c", known, VariantExists),
        ("c", stranger.id, VersionOfOtherPrompt),
        ("c", 10**6, VersionNotFound),
    ]:
        with pytest.raises(error):
            await with_version(arm, version_id)
    assert len(await history(database, experiment)) == 1


async def test_more_variants_than_the_floors_leave_room_for_are_refused(database: Database):
    policy = NewPolicy(name="thompson", floor=0.3, control_floor=0.3)
    await start(database, arms="abc", policy=policy)
    with pytest.raises(InvalidValue) as caught:
        await add(database, "d")
    assert caught.value.pointer == "/policy/floor"


async def test_the_control_and_the_last_variant_beside_it_cannot_be_retired(database: Database):
    await start(database, arms="abc")
    with pytest.raises(LastVariants, match="control"):
        await retire(database, "a")
    with pytest.raises(VariantNotFound):
        await retire(database, "z")
    after = await retire(database, "c", now=NOW + MINUTE)
    gone = after.variant("c")
    assert gone is not None
    assert (gone.live, gone.retired_at) == (False, NOW + MINUTE)
    with pytest.raises(VariantRetired):
        await retire(database, "c")
    with pytest.raises(LastVariants, match="only the control"):
        await retire(database, "b")


@ON_POSTGRESQL
async def test_variants_changed_at_the_same_moment_all_count(database: Database):
    experiment = await start(database, arms="abcd")
    versions = [await create(database, f"text {arm}") for arm in "ef"]

    async def grow(arm: str, version: PromptVersion) -> None:
        async with database.writing() as connection:
            new = NewVariant(key=arm, version_id=version.id, share=0.1)
            await add_variant(connection, "greeting", new, actor=ACTOR, now=NOW)

    await asyncio.gather(
        grow("e", versions[0]), grow("f", versions[1]), retire(database, "c"), retire(database, "d")
    )
    allocations = await history(database, experiment)
    assert [item.number for item in allocations] == [1, 2, 3, 4, 5]
    assert all(sum(item.split.values()) == 10_000 for item in allocations)
    after = await read_experiment(database)
    assert {variant.key for variant in after.variants if variant.live} == set("abef")
    assert [variant.position for variant in after.variants] == list(range(6))


# --- the audit ----------------------------------------------------------------------------------------


async def test_every_change_stands_in_the_audit(database: Database):
    experiment = await start(database, arms="abc")
    await add(database, "d")
    await retire(database, "d")
    await stop(database, winner="b")
    async with database.writing() as connection:
        key = await create_key(connection, "agent", name="line 1", actor=ACTOR, now=NOW)
        prefix = key.split("_")[2]
        await revoke_key(connection, prefix, actor=ACTOR, now=NOW)
    winner = experiment.variant("b")
    assert winner is not None
    ids = [str(variant.version_id) for variant in experiment.variants]
    entries = await audit(database)
    told = [(entry.action, entry.record_type, entry.record_id) for entry in entries]
    assert told == [
        *(("create_version", "prompt_version", id_) for id_ in ids),
        ("start_experiment", "experiment", "greeting"),
        ("create_version", "prompt_version", told[4][2]),
        ("add_variant", "experiment", "greeting"),
        ("retire_variant", "experiment", "greeting"),
        ("stop_experiment", "experiment", "greeting"),
        ("activate_version", "prompt_version", str(winner.version_id)),
        ("create_key", "api_key", prefix),
        ("revoke_key", "api_key", prefix),
    ]
    assert {(entry.actor, entry.at) for entry in entries} == {(ACTOR, NOW)}
    assert key not in str([msgspec.to_builtins(entry) for entry in entries])


async def test_a_refused_change_leaves_nothing_in_the_audit(database: Database):
    await start(database)
    before = await audit(database)
    for change in (create(database, "greeting a"), retire(database, "a"), stop(database, winner="z")):
        with pytest.raises(DomainError):
            await change
    assert await audit(database) == before
