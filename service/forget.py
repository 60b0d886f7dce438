"""Forget what callers said: of one unit, or everything older than a time. Versions, outcomes and counts stay.

Words of a call stand in its transcript, and in what an optimizer wrote down of it: quotes and notes in its runs,
answers of a model, suggestions. All of them go.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.fields import Record
from domain.forgetting import Gone, gone, labels_of, without
from domain.outcomes import Turn
from service.find import prompt_id_named
from storage.audit import append_audit
from storage.forgetting import (
    KeptRun,
    forget_answers,
    keep_suggestion,
    kept_runs,
    kept_suggestions,
)
from storage.leases import break_lease
from storage.locks import lock_prompt, lock_units
from storage.optimizer_runs import ENDED, lease_name, save_run
from storage.transcripts import calls_of, delete_transcripts, old_transcripts

BATCH = 1_000  # transcripts a transaction: its locks are held for a moment
INTERRUPTED = "a call that it had read was forgotten; a new run begins anew"


class Forgotten(Record, frozen=True, kw_only=True):
    """In how many places there was something to forget."""

    transcripts: int = 0
    suggestions: int = 0
    llm_calls: int = 0
    optimizer_runs: int = 0

    def __add__(self, other: "Forgotten") -> "Forgotten":
        """Both together."""
        return Forgotten(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__}
        )


async def forget_unit(
    connection: AsyncConnection, prompt: str, unit_id: str, *, actor: str, now: dt.datetime
) -> Forgotten:
    """Delete the transcript of a unit, and its words wherever they stand.

    It is audited also where there was none: somebody was asked to forget, and has.

    Raises
    ------
    PromptNotFound : there is no such prompt.
    """
    prompt_id = await prompt_id_named(connection, prompt)
    done = await _forget(connection, prompt_id, {unit_id}, now=now)
    await append_audit(
        connection,
        actor=actor,
        action="forget_transcript",
        record_type="unit",
        record_id=f"{prompt}/{unit_id}",
        now=now,
        after=msgspec.to_builtins(done),
    )
    return done


async def forget_before(
    connection: AsyncConnection, before: dt.datetime, *, actor: str, now: dt.datetime
) -> Forgotten:
    """Forget some of what was stored before a time, audited. Call again until there are no transcripts."""
    units: dict[int, set[str]] = defaultdict(set)
    for prompt_id, unit_id in await old_transcripts(connection, before, limit=BATCH):
        units[prompt_id].add(unit_id)
    done = Forgotten()
    for prompt_id, some in sorted(units.items()):
        done += await _forget(connection, prompt_id, some, now=now)
    if done.transcripts:
        await append_audit(
            connection,
            actor=actor,
            action="forget_transcripts",
            record_type="transcripts",
            record_id=before.isoformat(),
            now=now,
            after=msgspec.to_builtins(done),
        )
    return done


async def _forget(
    connection: AsyncConnection, prompt_id: int, units: Collection[str], *, now: dt.datetime
) -> Forgotten:
    # In the order in which a run takes them: its lease, then the prompt. Nobody proposes meanwhile what quotes them.
    if any(_is_open(run) and _read(run, units) for run in await kept_runs(connection, prompt_id)):
        await break_lease(connection, lease_name(prompt_id))
    await lock_prompt(connection, prompt_id)
    await lock_units(connection, [(prompt_id, unit_id) for unit_id in units])
    runs = [(run, read) for run in await kept_runs(connection, prompt_id) if (read := _read(run, units))]
    answers = 0
    for run, read in runs:
        of = gone(read, await _turns(connection, prompt_id, read), run.sample)
        answers += await _forget_in_run(connection, run, of, now=now)
    suggestions = await _forget_in_suggestions(
        connection, prompt_id, units, {run.id: read for run, read in runs}
    )
    return Forgotten(
        transcripts=await delete_transcripts(connection, prompt_id, units),
        suggestions=suggestions,
        llm_calls=answers,
        optimizer_runs=len(runs),
    )


def _read(run: KeptRun, units: Collection[str]) -> set[str]:
    """Those of the units that the run has shown to a model."""
    return labels_of(run.sample).keys() & set(units)


def _is_open(run: KeptRun) -> bool:
    return run.status not in ENDED or run.resume_from is not None


async def _forget_in_run(connection: AsyncConnection, run: KeptRun, of: Gone, *, now: dt.datetime) -> int:
    """The answers that are forgotten. A run that is under way ends: it would write down again what it knows."""
    results = None if run.results is None else without(run.results, of) | {"forgotten": True}
    if _is_open(run):
        ended = {"status": "failed", "resume_from": None, "reason": INTERRUPTED, "finished_at": now}
        await save_run(connection, run.id, results=results, **ended)
    else:
        await save_run(connection, run.id, results=results, reason=without(run.reason, of))
    return await forget_answers(connection, run.id, of.units)


async def _forget_in_suggestions(
    connection: AsyncConnection, prompt_id: int, units: Collection[str], runs: dict[int, set[str]]
) -> int:
    number = 0
    for suggestion in await kept_suggestions(connection, prompt_id):
        cited = {item.get("unit_id") for item in suggestion.words["evidence"]} & set(units)
        meant = cited | runs.get(suggestion.run_id or 0, set())
        if not meant:
            continue
        clean = without(suggestion.words, gone(meant, await _turns(connection, prompt_id, meant)))
        if clean != suggestion.words:
            await keep_suggestion(connection, suggestion.id, clean)
            number += 1
    return number


async def _turns(connection: AsyncConnection, prompt_id: int, units: Collection[str]) -> list[Sequence[Turn]]:
    return [call.turns for call in await calls_of(connection, prompt_id, units)]
