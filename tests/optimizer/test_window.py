"""What a run looks for in its window costs what the window holds, not what the prompt ever answered."""

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.scored_calls import read_scores
from tests.conftest import NOW

WINDOW = (NOW - dt.timedelta(days=7), NOW)


@pytest.mark.parametrize("experiment_id", [None, 1])
async def test_the_calls_of_a_window_are_found_by_its_time(shop: Database, experiment_id: int | None):
    """One index serves both: it holds the calls outside of experiments as well, under null."""
    asked: list[tuple[str, Any]] = []

    def listen(*arguments: Any) -> None:
        asked.append((arguments[2], arguments[3]))

    sa.event.listen(shop.engine.sync_engine, "before_cursor_execute", listen)
    async with shop.reading() as connection:
        await read_scores(connection, 1, experiment_id=experiment_id, version_ids=[1], window=WINDOW)
        statement, parameters = next(item for item in asked if "FROM assignments" in item[0])
        rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plan = [row.detail for row in rows]
    assert any(
        "assignments USING INDEX ix_assignments_experiment_id_assigned_at" in line and "assigned_at>" in line
        for line in plan
    ), plan
    assert not [line for line in plan if line.startswith("SCAN")]
