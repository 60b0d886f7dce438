"""What a run asked a model, what came back and what it cost; written before anybody reads the answer."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.locks import is_sqlite
from storage.schema import llm_calls as c

RECEIVED = "received"


async def insert_call(
    connection: AsyncConnection, run_id: int, call: Mapping[str, Any], *, now: dt.datetime
) -> None:
    """Keep a call. A second answer to one question is left out: the first one is what was read."""
    row = {**call, "run_id": run_id, "at": now}
    new = sqlite.insert(c) if is_sqlite(connection) else postgresql.insert(c)
    await connection.execute(new.values(row).on_conflict_do_nothing())


async def find_settled(connection: AsyncConnection, run_id: int, request_hash: str) -> dict[str, Any] | None:
    """The answer to this question, else a failure that may have been billed: neither is asked again in its run."""
    query = (
        sa.select(c)
        .where(c.c.run_id == run_id, c.c.request_hash == request_hash)
        .where(sa.or_(c.c.status == RECEIVED, c.c.cost_usd.is_(None)))
        .order_by(c.c.status != RECEIVED, c.c.id)
        .limit(1)
    )
    row = (await connection.execute(query)).mappings().first()
    return dict(row) if row else None


async def spent_by(connection: AsyncConnection, run_id: int) -> tuple[float, int]:
    """USD and tokens of a run; where a bill is unknown, the most that it can be."""
    tokens = c.c.input_tokens + c.c.output_tokens + c.c.cache_read_tokens + c.c.cache_written_tokens
    query = sa.select(
        sa.func.coalesce(sa.func.sum(sa.func.coalesce(c.c.cost_usd, c.c.held_usd)), 0.0),
        sa.func.coalesce(sa.func.sum(tokens + c.c.held_tokens), 0),
    ).where(c.c.run_id == run_id)
    usd, total = (await connection.execute(query)).one()
    return float(usd), int(total)


async def spent_since(connection: AsyncConnection, since: dt.datetime, *, besides: int) -> float:
    """USD of all runs but one since a moment, by when each answer came; unknown bills as for `spent_by`."""
    usd = sa.func.sum(sa.func.coalesce(c.c.cost_usd, c.c.held_usd))
    query = sa.select(sa.func.coalesce(usd, 0.0)).where(c.c.at >= since, c.c.run_id != besides)
    return float((await connection.execute(query)).scalar_one())
