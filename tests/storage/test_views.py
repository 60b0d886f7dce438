"""The two views that people and dashboards read."""

import sqlalchemy as sa

from tests.service.world import NOW, call, outcome, start, tell


async def rows(database, view):
    async with database.reading() as connection:
        return [row._mapping for row in await connection.execute(sa.text(f"SELECT * FROM {view}"))]


async def test_calls_has_one_row_a_call_with_its_outcomes(database):
    await start(database, arms="ab", shares=[1.0, 0.0])
    await call(database, "call-1", segment="refund")
    await call(database, "call-2")
    await tell(database, outcome("call-1", resolved=True, quality=0.25, duration_s=60))
    found = {row["unit_id"]: row for row in await rows(database, "calls")}
    assert set(found["call-1"]) == {
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
    first = found["call-1"]
    assert (first["prompt"], first["prompt_version"], first["experiment"]) == ("support", 1, "greeting")
    assert (first["variant"], first["probability"], first["segment"]) == ("a", 1.0, "refund")
    assert (first["resolved"], first["quality"], first["duration_s"]) == (1.0, 0.25, 60.0)
    assert (found["call-2"]["resolved"], found["call-2"]["quality"]) == (None, None)


async def test_prompt_ab_tests_shows_two_variants_side_by_side(database):
    experiment = await start(database, arms="ab")
    await start(database, key="three", prompt="other", arms="abc")
    by_variant = {"a": [0.2, 0.4], "b": [0.9]}
    state_calls = [await call(database, f"call-{number}") for number in range(40)]
    told = {key: list(values) for key, values in by_variant.items()}
    for assignment in state_calls:
        if told[assignment.variant]:
            await tell(database, outcome(assignment.unit_id, quality=told[assignment.variant].pop()))
    (row,) = await rows(database, "prompt_ab_tests")
    assert set(row) == {
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
    a, b = experiment.variants
    assert (row["test_name"], row["variant_a_id"], row["variant_b_id"]) == ("greeting", a.version_id, b.version_id)
    assert row["calls_a"] + row["calls_b"] == 40
    assert row["calls_a"] == sum(assignment.variant == "a" for assignment in state_calls)
    assert abs(row["quality_a"] - 0.3) < 1e-12
    assert row["quality_b"] == 0.9
    assert row["status"] == "running"
    assert str(NOW.year) in str(row["started_at"])
