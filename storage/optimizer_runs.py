"""Runs of the optimizer: where each has come to, with all that it needs to go on after it was killed."""

import datetime as dt
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.fields import Record
from storage.schema import optimizer_runs as r
from storage.schema import prompt_versions as v
from storage.schema import suggestions as s

RunStatus = Literal[
    "claimed", "sampled", "mapped", "reduced", "proposed", "gated", "done", "skipped", "failed"
]
ENDED: tuple[RunStatus, ...] = ("done", "skipped", "failed")


def lease_name(prompt_id: int) -> str:
    """The lease that a run on the prompt holds."""
    return f"optimize {prompt_id}"


class OptimizerRun(Record, frozen=True, kw_only=True):
    """A run: its plan, its frozen sample and the results of the stages that are behind it."""

    id: int
    prompt_id: int
    window_start: dt.datetime
    window_end: dt.datetime
    config_hash: str
    status: RunStatus
    resume_from: RunStatus | None
    reason: str | None
    seed: str
    plan: dict[str, Any] | None
    sample: dict[str, Any] | None
    results: dict[str, Any] | None
    batch_id: str | None
    cost_usd: float
    started_at: dt.datetime
    finished_at: dt.datetime | None


class PastSuggestion(Record, frozen=True, kw_only=True):
    """A suggestion that was made for a prompt, and what became of it."""

    id: int
    before: str
    after: str
    status: str
    reason: str | None


def _run(row: sa.Row[Any]) -> OptimizerRun:
    return OptimizerRun(**{name: getattr(row, name) for name in OptimizerRun.__struct_fields__})


async def insert_run(
    connection: AsyncConnection,
    *,
    prompt_id: int,
    window: tuple[dt.datetime, dt.datetime],
    config_hash: str,
    seed: str,
    now: dt.datetime,
) -> OptimizerRun:
    """Claim a window; the caller holds the prompt's lease."""
    row = {
        "prompt_id": prompt_id,
        "window_start": window[0],
        "window_end": window[1],
        "config_hash": config_hash,
        "status": "claimed",
        "seed": seed,
        "cost_usd": 0.0,
        "started_at": now,
    }
    return _run((await connection.execute(sa.insert(r).values(row).returning(r))).one())


async def save_run(connection: AsyncConnection, run_id: int, **values: Any) -> OptimizerRun:
    """The run with these columns changed."""
    query = sa.update(r).where(r.c.id == run_id).values(**values).returning(r)
    return _run((await connection.execute(query)).one())


async def has_ended(connection: AsyncConnection, run_id: int) -> bool:
    """Whether somebody has ended the run; whoever wants to waits until this transaction is over."""
    query = sa.select(r.c.status).where(r.c.id == run_id).with_for_update(read=True)
    return await connection.scalar(query) in ENDED


async def find_open_run(
    connection: AsyncConnection, prompt_id: int, *, config_hash: str, since: dt.datetime
) -> OptimizerRun | None:
    """The newest run of these settings that was begun since, has not ended, or failed for what can be mended."""
    is_open = sa.or_(r.c.status.not_in(ENDED), r.c.resume_from.is_not(None))
    query = (
        sa.select(r)
        .where(r.c.prompt_id == prompt_id, r.c.config_hash == config_hash, r.c.started_at >= since, is_open)
        .order_by(r.c.id.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).first()
    return _run(row) if row else None


async def find_run_before(connection: AsyncConnection, run: OptimizerRun) -> OptimizerRun | None:
    """The last run on the prompt before this one, those left out that had too little to read."""
    query = (
        sa.select(r)
        .where(r.c.prompt_id == run.prompt_id, r.c.id < run.id, r.c.status != "skipped")
        .order_by(r.c.id.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).first()
    return _run(row) if row else None


async def find_run_until(
    connection: AsyncConnection, prompt_id: int, *, config_hash: str, window_end: dt.datetime
) -> OptimizerRun | None:
    """The run of these settings whose window ends at this moment: there is one at most."""
    query = sa.select(r).where(
        r.c.prompt_id == prompt_id, r.c.config_hash == config_hash, r.c.window_end == window_end
    )
    row = (await connection.execute(query)).first()
    return _run(row) if row else None


async def close_open_runs(
    connection: AsyncConnection, prompt_id: int, *, reason: str, now: dt.datetime
) -> None:
    """End what nobody will go on with: runs of other settings, or of long ago."""
    is_open = sa.or_(r.c.status.not_in(ENDED), r.c.resume_from.is_not(None))
    query = sa.update(r).where(r.c.prompt_id == prompt_id, is_open)
    await connection.execute(
        query.values(
            status="failed", resume_from=None, reason=sa.func.coalesce(r.c.reason, reason), finished_at=now
        )
    )


async def last_done_until(connection: AsyncConnection, prompt_id: int) -> dt.datetime | None:
    """The end of the window of the last run that was done."""
    query = sa.select(sa.func.max(r.c.window_end)).where(r.c.prompt_id == prompt_id, r.c.status == "done")
    until: dt.datetime | None = await connection.scalar(query)
    return until


async def has_pending_suggestion(connection: AsyncConnection, prompt_id: int) -> bool:
    """Whether a suggestion of this prompt waits for its review."""
    query = sa.select(s.c.id).where(s.c.prompt_id == prompt_id, s.c.status == "pending").limit(1)
    return await connection.scalar(query) is not None


async def past_suggestions(
    connection: AsyncConnection, prompt_id: int, *, limit: int
) -> list[PastSuggestion]:
    """What was suggested for this prompt, the newest first."""
    query = (
        sa.select(
            s.c.id,
            v.c.system_prompt.label("before"),
            s.c.system_prompt.label("after"),
            s.c.status,
            s.c.reason,
        )
        .join(v, s.c.parent_version_id == v.c.id)
        .where(s.c.prompt_id == prompt_id)
        .order_by(s.c.id.desc())
        .limit(limit)
    )
    rows = await connection.execute(query)
    return [
        PastSuggestion(**{name: getattr(row, name) for name in PastSuggestion.__struct_fields__})
        for row in rows
    ]
