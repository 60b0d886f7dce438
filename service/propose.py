"""Propose a change of a prompt: the one door, for the optimizer, for other tools and for people."""

import asyncio
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import (
    GateRefused,
    InvalidValue,
    NothingToServe,
    SameContent,
    SuggestionWaits,
    VersionOfOtherPrompt,
)
from domain.gate import Check, GateResult, GateRules, gate
from domain.prompts import PromptVersion, content_hash
from domain.suggestions import GateFinding, LedgerEntry, NewSuggestion, Suggestion, check_new_suggestion
from service.diff_versions import diff_text
from service.find import prompt_id_named, suggestion_of, version_of
from storage.audit import append_audit
from storage.locks import lock_prompt
from storage.prompts import active_version_id, find_same_content
from storage.suggestions import insert_suggestion, ledger, run_of
from storage.transcripts import calls_of, units_with_transcript


class Judged(NamedTuple):
    """What the gate found, and what it compared with: the version, and the calls that have a transcript."""

    parent: PromptVersion
    result: GateResult
    calls: frozenset[str]


async def judge(connection: AsyncConnection, new: NewSuggestion) -> Judged:
    """Ask the gate; whoever serves calls from the same SQLite file does it before the writing transaction.

    Transcripts are read from the database: those it cites, those it says it read, and those of its run.

    Raises
    ------
    PromptNotFound, VersionNotFound, VersionOfOtherPrompt, NothingToServe
    InvalidValue : not one text, or a run of another prompt.
    GateRefused : with every check, those that passed as well.
    """
    check_new_suggestion(new)
    prompt_id = await prompt_id_named(connection, new.prompt)
    parent = await _parent(connection, new, prompt_id)
    calls = await calls_of(connection, prompt_id, await _units(connection, new, prompt_id))
    rejected = _rejected(await ledger(connection, prompt_id))
    candidate: Any = new.edits if new.system_prompt is None else new.system_prompt
    rules = GateRules(needs_evidence=new.needs_evidence)
    # In a thread: 75 transcripts take 0.4 s, and calls are answered meanwhile.
    result = await asyncio.to_thread(
        gate, parent, candidate, new.evidence, calls, rejected.keys(), rules, prose=new.prose
    )
    _check_passed(result, rejected)
    return Judged(parent, result, frozenset(call.unit_id for call in calls))


async def propose(
    connection: AsyncConnection,
    new: NewSuggestion,
    *,
    actor: str,
    now: dt.datetime,
    judged: Judged | None = None,
) -> Suggestion:
    """What passes the gate is stored `pending`; of what fails nothing is kept.

    Parameters
    ----------
    judged : what `judge` found a moment ago; without it the gate is asked here.

    Raises
    ------
    PromptNotFound, VersionNotFound, VersionOfOtherPrompt, NothingToServe, InvalidValue, GateRefused :
        as `judge`.
    SameContent : a version says this already.
    SuggestionWaits : the same is pending.
    """
    prompt_id = await prompt_id_named(connection, new.prompt)
    await lock_prompt(connection, prompt_id)
    if judged is None or await _has_changed(connection, new, prompt_id, judged):
        judged = await judge(connection, new)
    earlier = await ledger(connection, prompt_id)
    _check_passed(judged.result, _rejected(earlier))
    made = _suggestion(new, judged, actor=actor, now=now)
    await _check_new(connection, made, prompt_id, earlier)
    suggestion_id = await insert_suggestion(connection, made, prompt_id=prompt_id)
    told = {name: getattr(made, name) for name in ("prompt", "parent_version_id", "origin", "text_hash")}
    await append_audit(
        connection,
        actor=actor,
        action="propose",
        record_type="suggestion",
        record_id=suggestion_id,
        now=now,
        after=told,
    )
    return await suggestion_of(connection, suggestion_id)


async def _has_changed(
    connection: AsyncConnection, new: NewSuggestion, prompt_id: int, judged: Judged
) -> bool:
    """Whether another version is active, or a call was forgotten: then nobody may be shown its words."""
    if judged.parent != await _parent(connection, new, prompt_id):
        return True
    return await units_with_transcript(connection, prompt_id, judged.calls) != judged.calls


def _rejected(earlier: Sequence[LedgerEntry]) -> dict[str, LedgerEntry]:
    return {entry.fingerprint: entry for entry in earlier if entry.status == "rejected"}


def _check_passed(result: GateResult, rejected: Mapping[str, LedgerEntry]) -> None:
    """Raise GateRefused unless all is well; what was rejected before is told with the reason of then."""
    before = rejected.get(result.fingerprint)
    if result.passed and before is None:
        return
    checks = [_repeated(check, before) if before else check for check in result.checks]
    raise GateRefused(checks=checks)


def _repeated(check: Check, before: LedgerEntry) -> Check:
    if check.name != "repeat":
        return check
    told = f"the same was rejected before, as suggestion {before.suggestion_id}: {before.reason}"
    return Check(name=check.name, passed=False, detail=told)


async def _parent(connection: AsyncConnection, new: NewSuggestion, prompt_id: int) -> PromptVersion:
    version_id = new.parent_version_id or await active_version_id(connection, prompt_id)
    if version_id is None:
        raise NothingToServe(name=new.prompt)
    parent = await version_of(connection, version_id)
    if parent.prompt != new.prompt:
        raise VersionOfOtherPrompt(version_id=version_id, other=parent.prompt, prompt=new.prompt)
    return parent


async def _units(connection: AsyncConnection, new: NewSuggestion, prompt_id: int) -> set[str]:
    """The calls whose words may have found their way into the text."""
    units = {*(item.unit_id for item in new.evidence), *new.read}
    if new.run_id is not None:
        run = await run_of(connection, new.run_id)
        if run is None or run[0] != prompt_id:
            raise InvalidValue(pointer="/run_id", problem=f"{new.run_id} is no run for prompt {new.prompt!r}")
        units |= set(_units_in(run[1]))
    return units


def _units_in(sample: Any) -> Iterator[str]:
    """Every `unit_id` of a frozen sample, however it is nested."""
    if isinstance(sample, dict):
        if isinstance(unit_id := sample.get("unit_id"), str):
            yield unit_id
        sample = list(sample.values())
    if isinstance(sample, list):
        for item in sample:
            yield from _units_in(item)


def _suggestion(new: NewSuggestion, judged: Judged, *, actor: str, now: dt.datetime) -> Suggestion:
    parent, result = judged.parent, judged.result
    text = result.system_prompt
    assert text is not None, "the gate passes nothing whose edits cannot be applied"
    return Suggestion(
        id=0,
        prompt=new.prompt,
        parent_version_id=parent.id,
        run_id=new.run_id,
        status="pending",
        origin=new.origin,
        title=new.title,
        system_prompt=text,
        text_hash=content_hash(text, parent.tools_config),
        edits=list(result.edits),
        diff=diff_text(parent.system_prompt, text, old=f"{new.prompt} #{parent.number}", new="suggestion"),
        evidence=new.evidence,
        patterns=new.patterns,
        expected_effect=new.expected_effect,
        risk=new.risk,
        objection=new.objection,
        gate=[GateFinding(name=c.name, passed=c.passed, detail=c.detail) for c in result.checks],
        growth=result.growth,
        changed_share=result.changed_share,
        fingerprint=result.fingerprint,
        cost_usd=new.cost_usd,
        proposed_by=actor,
        created_at=now,
    )


async def _check_new(
    connection: AsyncConnection, made: Suggestion, prompt_id: int, earlier: Sequence[LedgerEntry]
) -> None:
    same = await find_same_content(connection, prompt_id, made.text_hash)
    if same is not None:
        raise SameContent(name=made.prompt, number=same.number, version_id=same.id)
    for entry in earlier:
        if entry.status == "pending" and entry.fingerprint == made.fingerprint:
            raise SuggestionWaits(suggestion_id=entry.suggestion_id)
