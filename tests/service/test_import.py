"""History enters the same records: small files, hostile ones, and 152 real calls as an A/A test."""

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from domain.errors import AllocationNotFound, ExperimentStopped, InvalidValue, NameTaken, NoVersion
from domain.experiments import Experiment
from domain.imports import Imported, ImportedCall
from service.import_calls import import_calls, infer_metrics, open_import
from service.imported_experiment import ImportedExperiment
from storage.database import Database
from storage.schema import assignments, outcomes
from tests.service.world import (
    ACTOR,
    DAY,
    MINUTE,
    NOW,
    call,
    check,
    counted,
    create,
    outcome,
    read_report,
    start,
    state_of,
    stop,
    tell_one,
)

REAL_CALLS = Path(__file__).resolve().parents[3] / "shared" / "data" / "tau_bench" / "airline_calls.jsonl.gz"
Lines = list[tuple[int, ImportedCall]]


def line(number: int, *, variant: str | None = None, at: int = 0, **metrics: Any) -> tuple[int, ImportedCall]:
    when = NOW - DAY + at * MINUTE
    return number, ImportedCall(
        unit_id=f"old-{number}", metrics=metrics, variant=variant, occurred_at=when, segment="refund"
    )


async def bring_in(
    database: Database, lines: Lines, *, key: str = "history", prompt: str = "airline"
) -> tuple[Imported, Experiment | None]:
    """As the command does: open, then the calls; lines with variants become an experiment."""
    keys = sorted({item.variant for _, item in lines if item.variant})
    wanted = (
        ImportedExperiment(key=key, variants=tuple(keys), metrics=infer_metrics([item for _, item in lines]))
        if keys
        else None
    )
    shares = [1.0 / len(keys) for _ in keys]
    async with database.writing() as connection:
        experiment = await open_import(
            connection, prompt=prompt, experiment=wanted, shares=shares, actor=ACTOR, now=NOW
        )
        found = await import_calls(connection, lines, prompt=prompt, experiment=experiment, now=NOW)
    return found, experiment


def two_arms() -> Lines:
    """b resolves 3 of 4, a 1 of 4."""
    a = [line(index, variant="a", resolved=index == 0) for index in range(4)]
    b = [line(index, variant="b", resolved=index != 4) for index in range(4, 8)]
    return a + b


async def test_imported_calls_are_counted_like_others(database: Database):
    found, experiment = await bring_in(database, two_arms())
    assert experiment is not None
    assert (found.statuses, found.refused) == ({"accepted": 8}, ())
    by_key = {variant.key: variant.id for variant in experiment.variants}
    assert await counted(database, "resolved") == {by_key["a"]: (4, 1.0, 1.0), by_key["b"]: (4, 3.0, 3.0)}
    assert (await check(database)).differences == ()
    report = await read_report(database, "history")
    assert [variant.assigned for variant in report.variants] == [4, 4]
    assert report.status == "stopped"


async def test_importing_twice_changes_nothing(database: Database):
    async def stored() -> list[Any]:
        async with database.reading() as connection:
            return [(await connection.execute(sa.select(table))).all() for table in (assignments, outcomes)]

    await bring_in(database, two_arms())
    before = await stored()
    found, _ = await bring_in(database, two_arms())
    assert found.statuses == {"unchanged": 8}
    assert await stored() == before


async def test_a_corrected_line_corrects_its_count(database: Database):
    _, experiment = await bring_in(database, two_arms())
    assert experiment is not None
    found, _ = await bring_in(database, [line(1, variant="a", at=1, resolved=True), *two_arms()[2:]])
    assert found.statuses == {"revised": 1, "unchanged": 6}
    a = experiment.variant("a")
    assert a is not None
    assert (await counted(database, "resolved"))[a.id] == (4, 2.0, 2.0)


async def test_lines_without_a_variant_are_history_without_an_experiment(database: Database):
    found, experiment = await bring_in(database, [line(1, resolved=True), line(2, resolved=None)])
    assert (found.statuses, experiment) == ({"accepted": 1, "unchanged": 1}, None)
    assert await counted(database, "resolved") == {}


async def test_a_line_that_breaks_a_rule_is_refused_with_its_number(database: Database):
    lines = [*two_arms(), line(9, variant="b", quality=1.5), line(10, variant="b", resolved=1)]
    found, _ = await bring_in(database, lines)
    assert found.statuses == {"accepted": 8, "rejected": 2}
    assert [number for number, _ in found.refused] == [9, 10]
    assert all("/metrics/" in problem for _, problem in found.refused)
    report = await read_report(database, "history")
    assert [variant.assigned for variant in report.variants] == [4, 4]  # and leave no call behind


async def test_a_variant_that_the_experiment_does_not_have_is_refused_and_not_dropped(database: Database):
    _, experiment = await bring_in(database, two_arms())
    async with database.writing() as connection:
        stranger = [line(9, variant="z", resolved=True)]
        found = await import_calls(connection, stranger, prompt="airline", experiment=experiment, now=NOW)
    assert found.statuses == {"rejected": 1}
    assert "'z'" in found.refused[0][1]
    assert (await check(database)).rows == 4  # assigned and resolved of a and b: nothing came in


async def test_a_call_keeps_the_variant_it_was_imported_with(database: Database):
    """The same calls under another key, or another variant, are refused aloud: an assignment never changes."""
    await bring_in(database, two_arms())
    found, _ = await bring_in(database, two_arms(), key="again")
    assert found.statuses == {"rejected": 8}
    assert "was given another" in found.refused[0][1]
    swapped = [(number, msgspec.structs.replace(item, variant="b")) for number, item in two_arms()[:4]]
    found, _ = await bring_in(database, [*swapped, *two_arms()[4:], line(20, variant="a", resolved=True)])
    assert found.statuses == {"rejected": 4, "unchanged": 4, "accepted": 1}


async def test_a_key_or_prompt_in_another_case_or_of_another_experiment_is_refused(database: Database):
    await bring_in(database, two_arms())
    with pytest.raises(NameTaken):
        await bring_in(database, two_arms(), key="History")
    with pytest.raises(NameTaken):
        await bring_in(database, two_arms(), prompt="Airline", key="new")
    with pytest.raises(InvalidValue, match="cannot be a file name"):
        await bring_in(database, two_arms(), prompt="con", key="new")
    await start(database)
    with pytest.raises(InvalidValue, match="another experiment"):
        await bring_in(database, two_arms(), key="greeting", prompt="support")
    with pytest.raises(InvalidValue, match="are not variants"):
        await bring_in(database, [*two_arms(), line(9, variant="c", resolved=True)])


def test_metrics_are_known_by_name_or_by_the_type_of_their_values():
    calls = [line(1, turns=7, resolved=None, escalated=False)[1], line(2, resolved=True, quality=0.5)[1]]
    found = {metric.name: (metric.kind, metric.direction, metric.role) for metric in infer_metrics(calls)}
    assert found == {
        "resolved": ("binary", "increase", "goal"),
        "quality": ("score", "increase", "secondary"),
        "turns": ("amount", "decrease", "secondary"),
        "escalated": ("binary", "increase", "secondary"),
    }
    with pytest.raises(InvalidValue, match="nothing to import"):
        infer_metrics([line(1, resolved=None)[1]])


def test_a_metric_may_not_take_the_name_that_counts_calls():
    with pytest.raises(InvalidValue, match="counts calls"):
        infer_metrics([line(1, assigned=3)[1]])


async def test_nothing_of_an_imported_experiment_can_be_served_or_win(database: Database):
    await bring_in(database, two_arms())
    with pytest.raises(NoVersion):
        await stop(database, key="history", winner="b")
    with pytest.raises(ExperimentStopped):
        await stop(database, key="history")
    state = await state_of(database, prompt="airline")
    assert (state.experiment, state.active) == (None, None)


async def test_the_first_version_after_an_import_is_served(database: Database):
    await bring_in(database, two_arms())
    version = await create(database, "Welcome aboard.", name="airline")
    assert version.is_active
    assert (await call(database, "new-1", prompt="airline")).version == version.served()
    assert not (await create(database, "Welcome again.", name="airline")).is_active


async def test_an_outcome_cannot_be_rederived_from_an_imported_allocation(database: Database):
    """Its split was never served, so the hash says nothing about its calls."""
    _, experiment = await bring_in(database, two_arms())
    assert experiment is not None
    async with database.reading() as connection:
        allocation = await connection.scalar(sa.select(assignments.c.allocation_id).limit(1))
    with pytest.raises(AllocationNotFound):
        await tell_one(database, outcome("new-1", prompt="airline", resolved=True, allocation=allocation))


def real_lines() -> Lines:
    if not REAL_CALLS.exists():
        pytest.skip(f"{REAL_CALLS} is not part of this checkout")
    with gzip.open(REAL_CALLS, "rt") as stream:
        raw = [json.loads(text) for text in stream]
    return [
        (
            number,
            ImportedCall(
                unit_id=item["unit_id"],
                segment=item["segment"],
                metrics=item["metrics"],
                variant="a" if item["trial"] in (0, 2) else "b",
            ),
        )
        for number, item in enumerate(raw, 1)
    ]


async def test_real_calls_of_one_agent_show_no_difference_between_their_trials(database: Database):
    """152 calls, 54 resolved (data/README.md); quality is the reward, here 1 exactly when resolved."""
    lines = real_lines()
    found, experiment = await bring_in(database, lines)
    assert experiment is not None
    assert found.statuses == {"accepted": 152}
    report = await read_report(database, "history")
    a, b = report.variants
    assert (a.assigned, b.assigned, a.missing, b.missing) == (76, 76, 0.0, 0.0)
    resolved = {
        key: sum(bool(item.metrics["resolved"]) for _, item in lines if item.variant == key) for key in "ab"
    }
    assert sum(resolved.values()) == 54
    for variant in report.variants:
        assert variant.metrics["resolved"].mean == pytest.approx(resolved[variant.key] / 76, rel=1e-15)
        assert variant.metrics["quality"].mean == pytest.approx(resolved[variant.key] / 76, rel=1e-12)
    for comparison in report.comparisons:
        test = comparison.z_test or comparison.welch_test
        assert test is not None
        assert test.p_value is not None
        assert test.p_value > 0.05
        assert test.interval[0] < 0 < test.interval[1]
    assert report.recommendation.action == "keep_control"
    assert any("no difference shown" in reason for reason in report.recommendation.because)
    assert (await bring_in(database, lines))[0].statuses == {"unchanged": 152}
    assert (await check(database)).differences == ()
