"""Outcomes and the earlier values that later ones replaced."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.outcomes import Settled, StoredOutcome
from storage.bulk import insert_rows, select_among
from storage.schema import outcome_revisions as r
from storage.schema import outcomes as o

Unit = tuple[int, str]
_OUTCOMES = sa.select(o)
_REVISIONS = sa.select(r)


async def find_outcomes(
    connection: AsyncConnection, units: Sequence[Unit]
) -> dict[Unit, dict[str, StoredOutcome]]:
    """The units' values by metric."""
    found: dict[Unit, dict[str, StoredOutcome]] = defaultdict(dict)
    rows = await select_among(connection, _OUTCOMES, (o.c.prompt_id, o.c.unit_id), units)
    for row in rows:
        found[row.prompt_id, row.unit_id][row.metric] = StoredOutcome(
            value=row.value,
            occurred_at=row.occurred_at,
            received_at=row.received_at,
            revision=row.revision,
        )
    return found


async def find_superseded(
    connection: AsyncConnection, units: Sequence[Unit]
) -> dict[Unit, dict[str, set[tuple[float, dt.datetime]]]]:
    """The (value, occurred_at) that later values replaced, by unit and metric."""
    found: dict[Unit, dict[str, set[tuple[float, dt.datetime]]]] = defaultdict(lambda: defaultdict(set))
    if units:
        rows = await select_among(connection, _REVISIONS, (r.c.prompt_id, r.c.unit_id), units)
        for row in rows:
            found[row.prompt_id, row.unit_id][row.metric].add((row.value, row.occurred_at))
    return found


async def write_settled(
    connection: AsyncConnection, settled: Sequence[tuple[Unit, Settled]], *, now: dt.datetime
) -> None:
    """Insert the new values, then replace and keep the corrected ones, in the order in which they were told."""
    # A value told and corrected within one batch must be inserted before its correction.
    rows = [
        {"prompt_id": prompt_id, "unit_id": unit_id, "metric": metric, **_row(outcome)}
        for (prompt_id, unit_id), item in settled
        for metric, outcome in item.inserted.items()
    ]
    await insert_rows(connection, o, rows, _returning)
    for unit, item in settled:
        for metric, (old, new) in item.revised.items():
            await _replace(connection, unit, metric, old, new, now)


async def write_confirmed(
    connection: AsyncConnection, confirmed: Mapping[tuple[Unit, str], dt.datetime]
) -> None:
    """Move the time of values that were told again with a later one; they stay what they are."""
    for ((prompt_id, unit_id), metric), occurred_at in confirmed.items():
        same = (o.c.prompt_id == prompt_id) & (o.c.unit_id == unit_id) & (o.c.metric == metric)
        await connection.execute(sa.update(o).where(same).values(occurred_at=occurred_at))


async def _replace(
    connection: AsyncConnection,
    unit: Unit,
    metric: str,
    old: StoredOutcome,
    new: StoredOutcome,
    now: dt.datetime,
) -> None:
    key = {"prompt_id": unit[0], "unit_id": unit[1], "metric": metric}
    await connection.execute(sa.insert(r).values(**key, **_row(old), replaced_at=now))
    same = (o.c[name] == value for name, value in key.items())
    await connection.execute(sa.update(o).where(*same).values(**_row(new)))


def _returning(insert: Any) -> Any:
    return insert.returning(o.c.prompt_id)


def _row(outcome: StoredOutcome) -> dict[str, Any]:
    return {
        "value": outcome.value,
        "occurred_at": outcome.occurred_at,
        "received_at": outcome.received_at,
        "revision": outcome.revision,
    }
