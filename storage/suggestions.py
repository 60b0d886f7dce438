"""Suggestions: written when they passed the gate, decided once."""

import datetime as dt
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.suggestions import LedgerEntry, Suggestion, SuggestionStatus
from storage.schema import optimizer_runs as r
from storage.schema import prompts as p
from storage.schema import suggestions as s

_SUGGESTIONS = sa.select(s, p.c.name.label("prompt")).select_from(s.join(p, s.c.prompt_id == p.c.id))
# Fields of the record that are columns of the same name and shape.
_PLAIN = tuple(
    name for name in Suggestion.__struct_fields__ if name not in ("prompt", "edits", "evidence", "gate")
)


async def insert_suggestion(connection: AsyncConnection, suggestion: Suggestion, *, prompt_id: int) -> int:
    """A new one; its id (that of the record is not looked at)."""
    row: dict[str, Any] = {name: getattr(suggestion, name) for name in _PLAIN if name != "id"}
    row |= {name: msgspec.to_builtins(getattr(suggestion, name)) for name in ("edits", "evidence", "gate")}
    query = sa.insert(s).values(**row, prompt_id=prompt_id).returning(s.c.id)
    return int((await connection.execute(query)).scalar_one())


async def find_suggestion(connection: AsyncConnection, suggestion_id: int) -> Suggestion | None:
    """One suggestion."""
    row = (await connection.execute(_SUGGESTIONS.where(s.c.id == suggestion_id))).first()
    return _suggestion(row) if row else None


async def list_suggestions(
    connection: AsyncConnection,
    *,
    status: SuggestionStatus | None = None,
    prompt: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[Suggestion]:
    """Suggestions, the newest first."""
    query = _SUGGESTIONS.order_by(s.c.id.desc()).limit(limit).offset(offset)
    if status is not None:
        query = query.where(s.c.status == status)
    if prompt is not None:
        query = query.where(p.c.name == prompt)
    return [_suggestion(row) for row in await connection.execute(query)]


async def decide_suggestion(
    connection: AsyncConnection,
    suggestion_id: int,
    *,
    status: SuggestionStatus,
    by: str,
    now: dt.datetime,
    reason: str | None = None,
    version_id: int | None = None,
) -> None:
    """Pending becomes something else. The caller holds the prompt's lock and has seen that it is pending."""
    query = sa.update(s).where(s.c.id == suggestion_id, s.c.status == "pending")
    done = await connection.execute(
        query.values(status=status, decided_by=by, decided_at=now, reason=reason, version_id=version_id)
    )
    assert done.rowcount == 1, f"suggestion {suggestion_id} was decided beside the prompt's lock"


async def ledger(connection: AsyncConnection, prompt_id: int) -> list[LedgerEntry]:
    """What was suggested for the prompt before, the newest first."""
    query = (
        sa.select(s.c.id.label("suggestion_id"), s.c.fingerprint, s.c.title, s.c.status, s.c.reason)
        .where(s.c.prompt_id == prompt_id)
        .order_by(s.c.id.desc())
    )
    return [LedgerEntry(**row) for row in (await connection.execute(query)).mappings()]


async def run_of(connection: AsyncConnection, run_id: int) -> tuple[int, Any] | None:
    """The prompt of an optimizer's run, and its sample."""
    row = (await connection.execute(sa.select(r.c.prompt_id, r.c.sample).where(r.c.id == run_id))).first()
    return (row.prompt_id, row.sample) if row else None


def _suggestion(row: sa.Row[Any]) -> Suggestion:
    return msgspec.convert(
        {name: getattr(row, name) for name in Suggestion.__struct_fields__}, Suggestion, strict=True
    )
