"""Where words of calls are kept beside their transcripts: runs of the optimizer, its answers, suggestions."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.fields import Record
from domain.forgetting import FORGOTTEN
from storage.schema import llm_calls as c
from storage.schema import optimizer_runs as r
from storage.schema import suggestions as s

# What a model or a person wrote about calls. The change itself is a text of the prompt.
SUGGESTION_WORDS = (
    "title",
    "evidence",
    "patterns",
    "expected_effect",
    "risk",
    "objection",
    "gate",
    "reason",
)


class KeptRun(Record, frozen=True, kw_only=True):
    """A run, as far as it knows calls."""

    id: int
    status: str
    resume_from: str | None
    reason: str | None
    sample: Any
    results: Any


class KeptSuggestion(Record, frozen=True, kw_only=True):
    """A suggestion, as far as it knows calls; `words` are its columns that hold some."""

    id: int
    run_id: int | None
    words: dict[str, Any]


async def kept_runs(connection: AsyncConnection, prompt_id: int) -> list[KeptRun]:
    """The runs of a prompt that have drawn calls."""
    columns = [r.c[name] for name in KeptRun.__struct_fields__]
    query = sa.select(*columns).where(r.c.prompt_id == prompt_id, r.c.sample.is_not(None))
    return [KeptRun(**row) for row in (await connection.execute(query.order_by(r.c.id))).mappings()]


async def kept_suggestions(connection: AsyncConnection, prompt_id: int) -> list[KeptSuggestion]:
    """The suggestions for a prompt."""
    columns = [s.c[name] for name in SUGGESTION_WORDS]
    query = sa.select(s.c.id, s.c.run_id, *columns).where(s.c.prompt_id == prompt_id).order_by(s.c.id)
    return [
        KeptSuggestion(
            id=row["id"], run_id=row["run_id"], words={name: row[name] for name in SUGGESTION_WORDS}
        )
        for row in (await connection.execute(query)).mappings()
    ]


async def keep_suggestion(connection: AsyncConnection, suggestion_id: int, words: dict[str, Any]) -> None:
    """The same with other words."""
    await connection.execute(sa.update(s).where(s.c.id == suggestion_id).values(**words))


async def forget_answers(connection: AsyncConnection, run_id: int, units: Collection[str]) -> int:
    """Of a run: what was answered about these units, and about several calls at once. What it cost stays.

    The caller has changed the run's row before: an answer under way waits for it, and then is not kept.
    """
    about = sa.or_(c.c.unit_id.is_(None), c.c.unit_id.in_(sorted(units)))
    query = sa.update(c).where(c.c.run_id == run_id, about, c.c.response != FORGOTTEN)
    return (await connection.execute(query.values(response=FORGOTTEN, detail=""))).rowcount
