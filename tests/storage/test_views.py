"""The two views that people and dashboards read: the design's columns, and the numbers of the report."""

from typing import Any

import pytest
import sqlalchemy as sa

from domain.assignments import Assignment
from domain.prompts import ServedVersion
from service.assign import record_late
from storage.database import Database
from storage.schema import prompts
from tests.service.world import MINUTE, NOW, call, create, outcome, read_report, start, state_of, stop, tell

CALLS = {
    "unit_id",
    "prompt",
    "prompt_version",
    "experiment",
    "variant",
    "probability",
    "segment",
    "started_at",
    "resolved",
    "quality",
    "duration_s",
}
AB_TESTS = {
    "test_name",
    "variant_a_id",
    "variant_b_id",
    "calls_a",
    "calls_b",
    "quality_a",
    "quality_b",
    "status",
    "started_at",
}


async def rows(database: Database, view: str) -> list[dict[str, Any]]:
    async with database.reading() as connection:
        found = await connection.execute(sa.text(f"SELECT * FROM {view}"))
        return [dict(row._mapping) for row in found]


async def test_calls_has_one_row_a_call_with_its_outcomes(database: Database):
    await start(database, shares=[1.0, 0.0])
    await call(database, "call-1", segment="refund")
    await call(database, "call-2")
    told = outcome("call-1", resolved=True, quality=0.75, duration_s=60)
    await tell(database, told)
    await tell(database, outcome("call-1", quality=0.25), now=NOW + MINUTE)
    await tell(database, outcome("call-3", resolved=True))  # parked: nobody was assigned for it
    found = {row["unit_id"]: row for row in await rows(database, "calls")}
    assert set(found) == {"call-1", "call-2"}
    assert set(found["call-1"]) == CALLS
    assert "2026-11-22" in str(found["call-1"].pop("started_at"))
    assert found["call-1"] == {
        "unit_id": "call-1",
        "prompt": "support",
        "prompt_version": 1,
        "experiment": "greeting",
        "variant": "a",
        "probability": 1.0,
        "segment": "refund",
        "resolved": 1.0,
        "quality": 0.25,
        "duration_s": 60.0,
    }
    assert (found["call-2"]["resolved"], found["call-2"]["quality"]) == (None, None)


async def test_calls_outside_an_experiment_and_from_the_fallback_file_are_there_too(database: Database):
    await create(database, "Be kind.")
    await call(database, "call-1")
    async with database.writing() as connection:
        fallback = Assignment(
            prompt="support",
            prompt_id=await connection.scalar(sa.select(prompts.c.id)),
            unit_id="call-2",
            version=ServedVersion(
                id=None,
                number=None,
                name="support",
                system_prompt="",
                tools_config=[],
                metadata={},
                content_hash="",
            ),
            reason="DEFAULT",
            assigned_at=NOW,
        )
        await record_late(connection, [fallback])
    found = {row["unit_id"]: row for row in await rows(database, "calls")}
    assert (found["call-1"]["prompt_version"], found["call-1"]["experiment"]) == (1, None)
    assert (found["call-2"]["prompt_version"], found["call-2"]["variant"]) == (None, None)


async def test_two_prompts_may_have_a_call_of_the_same_id(database: Database):
    await create(database, "Be kind.")
    await create(database, "Be exact.", name="billing")
    for name in ("support", "billing"):
        await call(database, "call-1", prompt=name)
    await tell(database, outcome("call-1", quality=0.25, prompt="billing"))
    found = {row["prompt"]: row["quality"] for row in await rows(database, "calls")}
    assert found == {"support": None, "billing": 0.25}


async def test_prompt_ab_tests_has_the_numbers_of_the_report(database: Database):
    """Two variants side by side, the control first, over all segments; three variants are no A/B test."""
    experiment = await start(database)
    await start(database, key="three", prompt="other", arms="abc")
    state = await state_of(database)
    for number in range(40):
        await call(database, f"call-{number}", state=state, segment=f"intent-{number % 3}")
        if number % 2:
            await tell(database, outcome(f"call-{number}", quality=number / 64))
    (row,) = await rows(database, "prompt_ab_tests")
    assert set(row) == AB_TESTS
    a, b = experiment.variants
    assert (row["test_name"], row["status"]) == ("greeting", "running")
    assert (row["variant_a_id"], row["variant_b_id"]) == (a.version_id, b.version_id)
    report = await read_report(database)
    for key, variant in zip("ab", report.variants, strict=True):
        assert row[f"calls_{key}"] == variant.assigned > 0
        assert row[f"quality_{key}"] == pytest.approx(variant.metrics["quality"].mean, rel=1e-12)
    await stop(database)
    assert (await rows(database, "prompt_ab_tests"))[0]["status"] == "stopped"


async def test_an_ab_test_without_a_call_has_no_quality(database: Database):
    await start(database)
    (row,) = await rows(database, "prompt_ab_tests")
    assert (row["calls_a"], row["calls_b"], row["quality_a"], row["quality_b"]) == (0, 0, None, None)
