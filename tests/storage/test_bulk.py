"""Rows by one parameter: what is found goes by the index, what is written comes back as it was."""

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from storage.assignments import find_assignments, find_given
from storage.bulk import insert_rows
from storage.database import Database
from storage.outcomes import find_outcomes
from storage.prompts import version_ids_of
from storage.schema import outcomes, prompts
from storage.segments import known_segments

NOW = dt.datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=dt.UTC)
UNITS = [(1, "call-1"), (1, "call-2"), (2, "call-1")]
LOOKUPS = {
    "assignments": lambda connection: find_assignments(connection, UNITS),
    "given": lambda connection: find_given(connection, UNITS),
    "outcomes": lambda connection: find_outcomes(connection, UNITS),
    "versions": lambda connection: version_ids_of(connection, [(1, "a" * 64), (2, "b" * 64)]),
    "segments": lambda connection: known_segments(connection, {(1, "night"), (2, "day")}),
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("lookup", LOOKUPS)
async def test_a_lookup_goes_by_both_columns_of_an_index(database: Database, lookup: str):
    """Else SQLite reads every row of the prompt, and what a call costs grows with the calls before it.

    PostgreSQL chooses by what the tables hold: benchmarks/ingestion_growth.py shows that.
    """
    said: list[tuple[str, Any]] = []

    @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, sql: str, parameters: Any, *_: Any) -> None:
        said.append((sql, parameters))

    async with database.reading() as connection:
        await LOOKUPS[lookup](connection)
        sql, parameters = next(one for one in reversed(said) if one[0].startswith("SELECT"))
        plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)).all()
    steps = [row.detail for row in plan]
    assert any(step.startswith("SEARCH") and step.count("=?") >= 2 for step in steps), steps
    assert not any(step.startswith("SCAN") and "CONSTANT" not in step for step in steps), steps


def _returning_all(insert: Any) -> Any:
    return insert.returning(*outcomes.c)


async def test_what_is_written_comes_back_as_it_was(database: Database):
    """A float keeps its last bit, a time its microsecond, a text its quotes, also within JSON."""
    async with database.writing() as connection:
        new = sa.insert(prompts).values(id=1, name="support", name_folded="support", created_at=NOW)
        await connection.execute(new)
        rows = [
            {
                "prompt_id": 1,
                "unit_id": unit,
                "metric": "quality",
                "value": value,
                "occurred_at": NOW,
                "received_at": NOW,
                "revision": 0,
            }
            for unit, value in (
                ('"\\ \U0001f600 é', 0.1 + 0.2),
                ("tiny", 5e-324),
                ("{}", 1.7976931348623157e308),
            )
        ]
        written = await insert_rows(connection, outcomes, rows, _returning_all)
    key = "unit_id"
    found = [dict(row._mapping) for row in written]
    assert sorted(found, key=lambda row: row[key]) == sorted(rows, key=lambda row: str(row[key]))


async def test_a_time_without_a_zone_is_refused(database: Database):
    """PostgreSQL would take it for its own zone's."""
    row = {"prompt_id": 1, "unit_id": "a", "metric": "b", "value": 1.0, "revision": 0}
    times = {"occurred_at": NOW.replace(tzinfo=None), "received_at": NOW}
    async with database.reading() as connection:
        with pytest.raises(Exception, match="naive datetime"):
            await insert_rows(connection, outcomes, [row | times], _returning_all)


async def test_nothing_to_write_is_nothing(database: Database):
    async with database.reading() as connection:
        assert await insert_rows(connection, outcomes, [], _returning_all) == []
