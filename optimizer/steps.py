"""The steps of a run: each begins with a saved state, asks, and ends with the next saved state."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import ValidationError

from domain.errors import DomainError
from optimizer.answers import Notes, Suggestion
from optimizer.batches import collect_batch, submit_batch
from optimizer.candidates import (
    Candidate,
    candidate_of,
    cited,
    earlier_of,
    evidence_for,
    objection_of,
    suggestions_of,
)
from optimizer.plan import Plan
from optimizer.provider import Answered, Failed
from optimizer.requests import (
    EarlierSuggestion,
    LlmRequest,
    NoteOfCall,
    critic_request,
    propose_request,
    reduce_request,
)
from optimizer.sampling import Sample
from optimizer.stages import Found, found_in, map_requests, notes_of
from optimizer.window import Material, labelled, read_material
from optimizer.work import StillWorking, Stopped, Work, finish, keep_lease
from storage.llm_calls import spent_by
from storage.optimizer_runs import OptimizerRun, past_suggestions, save_run

type Step = Callable[[Work, OptimizerRun], Awaitable[OptimizerRun]]
type MapAnswer = Answered[Notes] | Failed


async def read_calls(work: Work, run: OptimizerRun) -> OptimizerRun:
    """sampled → mapped: what happened in each call, one question a call."""
    material = await _material(work, run)
    requests = map_requests(material, plan_of(run), seed=run.seed)
    answers = await _answers(work, run, [request for _, request in requests])
    notes: list[NoteOfCall] = []
    unread: Counter[str] = Counter()
    for call, request in requests:
        answer = answers[request.hash]
        if isinstance(answer, Failed):
            unread[answer.status] += 1
        else:
            notes += notes_of(call, answer.answer)
    if unread.total() * 2 > len(requests):
        return await _fail(
            work, run, f"map: {unread.total()} of {len(requests)} calls unread ({_told(unread)})"
        )
    async with work.means.database.reading() as connection:
        past = await past_suggestions(connection, run.prompt_id, limit=50)
    results = {"notes": notes, "unread": dict(unread), "earlier": earlier_of(past)}
    return await work.save(run, status="mapped", results=_json(results))


async def _answers(
    work: Work, run: OptimizerRun, requests: Sequence[LlmRequest[Notes]]
) -> Mapping[str, MapAnswer]:
    if work.means.settings.optimizer_batch or run.batch_id is not None:
        return await _from_batch(work, run, requests)
    answers: dict[str, MapAnswer] = {}
    for number, request in enumerate(requests, start=1):
        answers[request.hash] = await work.ask(request)
        work.means.watch("map", number, len(requests))
    return answers


async def _from_batch(
    work: Work, run: OptimizerRun, requests: Sequence[LlmRequest[Notes]]
) -> Mapping[str, MapAnswer]:
    batch_id = run.batch_id
    if batch_id is None:
        submitted = await submit_batch(work.claude, requests)
        if isinstance(submitted, Failed):
            raise Stopped("map", submitted)
        batch_id = submitted.batch_id
    if batch_id is None:  # the ledger knows every answer
        return {request.hash: await work.ask(request) for request in requests}
    collected = await collect_batch(work.claude, batch_id, requests)
    if isinstance(collected, Failed):
        raise Stopped("map", collected)
    if collected.results is None:
        raise StillWorking
    return collected.results


async def find_patterns(work: Work, run: OptimizerRun) -> OptimizerRun:
    """mapped → reduced: what the calls have in common, counted by code."""
    notes = msgspec.convert(_results(run)["notes"], list[NoteOfCall])
    if not any(note.failed for note in notes):
        return await _done(work, run, "no note on any failing call")
    material = await _material(work, run)
    asking = plan_of(run).asking("reduce", seed=run.seed)
    answer = await work.ask_or_stop(reduce_request(notes, prompt=material.study, asking=asking))
    found = found_in(answer, notes, sample_of(run))
    run = await work.save(run, status="reduced", results=_results(run) | {"found": _json(found)})
    if not found.fixable:
        return await _done(work, run, "no pattern of two calls or more that a prompt can mend")
    return run


async def propose(work: Work, run: OptimizerRun) -> OptimizerRun:
    """reduced → proposed: edits, or why there are none."""
    found, material = _found(run), await _material(work, run)
    request = propose_request(
        found.fixable,
        earlier=msgspec.convert(_results(run)["earlier"], list[EarlierSuggestion]),
        prompt=material.study,
        asking=plan_of(run).asking("propose", seed=run.seed),
    )
    report = await work.ask_or_stop(request)
    suggestions = suggestions_of(report)
    results = _results(run) | {"suggestions": _json(suggestions), "handed": []}
    run = await work.save(run, status="proposed", results=results)
    if not suggestions:
        return await _done(work, run, f"nothing proposed: {report.no_change_reason or 'no reason given'}")
    return run


async def hand_over(work: Work, run: OptimizerRun) -> OptimizerRun:
    """proposed → gated: each suggestion gets an objection and goes to the door, one after the other."""
    suggestions = msgspec.convert(_results(run)["suggestions"], list[Suggestion])
    found, study = _found(run), (await _material(work, run)).study
    units = {item.label: item.unit_id for item in labelled(sample_of(run))}
    for number, suggestion in enumerate(suggestions):
        if number < len(_results(run)["handed"]):
            continue  # by the run before this one was killed
        evidence = evidence_for(suggestion, found)
        asking = plan_of(run).asking("critic", seed=run.seed)
        answer = await work.ask(
            critic_request(suggestion.edits, [quote for _, quote in evidence], prompt=study, asking=asking)
        )
        candidate = candidate_of(
            suggestion,
            found,
            cited(evidence, units),
            objection=objection_of(answer if isinstance(answer, Failed) else answer.answer),
            prompt=work.prompt,
            parent_version_id=plan_of(run).parent_version_id,
            run_id=run.id,
            cost_usd=await _spent(work, run) / len(suggestions),
        )
        run = await _through_the_door(work, run, candidate)
        work.means.watch("door", number + 1, len(suggestions))
    return await work.save(run, status="gated")


async def _through_the_door(work: Work, run: OptimizerRun, candidate: Candidate) -> OptimizerRun:
    """The suggestion and that it was handed over are stored together, or neither."""
    handed = _results(run)["handed"]
    try:
        enter = await work.means.door(candidate)  # calls are recorded while the gate compares transcripts
        async with work.means.database.writing() as connection:
            await keep_lease(connection, work.lease)
            suggestion_id = await enter(connection)
            told = {"title": candidate.title, "suggestion_id": suggestion_id, "refusal": None}
            return await save_run(connection, run.id, results=_results(run) | {"handed": [*handed, told]})
    except (DomainError, ValidationError) as refusal:
        told = {"title": candidate.title, "suggestion_id": None, "refusal": str(refusal)}
    return await work.save(run, results=_results(run) | {"handed": [*handed, told]})


async def close(work: Work, run: OptimizerRun) -> OptimizerRun:
    """gated → done."""
    handed = _results(run)["handed"]
    stored = sum(item["suggestion_id"] is not None for item in handed)
    return await _done(
        work, run, f"{stored} of {len(handed)} suggestions stored, {len(handed) - stored} refused"
    )


STEPS: Mapping[str, Step] = {
    "sampled": read_calls,
    "mapped": find_patterns,
    "reduced": propose,
    "proposed": hand_over,
    "gated": close,
}


async def _material(work: Work, run: OptimizerRun) -> Material:
    async with work.means.database.reading() as connection:
        return await read_material(connection, run.prompt_id, plan_of(run), sample_of(run))


async def _spent(work: Work, run: OptimizerRun) -> float:
    async with work.means.database.reading() as connection:
        return (await spent_by(connection, run.id))[0]


async def _done(work: Work, run: OptimizerRun, reason: str) -> OptimizerRun:
    return await finish(work.means, work.lease, run, "done", reason)


async def _fail(work: Work, run: OptimizerRun, reason: str) -> OptimizerRun:
    return await finish(work.means, work.lease, run, "failed", reason)


def plan_of(run: OptimizerRun) -> Plan:
    """The plan in the row; every state after `claimed` has one."""
    return msgspec.convert(run.plan, Plan)


def sample_of(run: OptimizerRun) -> Sample:
    """The sample in the row."""
    return msgspec.convert(run.sample, Sample)


def _found(run: OptimizerRun) -> Found:
    return msgspec.convert(_results(run)["found"], Found)


def _results(run: OptimizerRun) -> dict[str, Any]:
    return dict(run.results or {})


def _json(value: object) -> Any:
    return msgspec.to_builtins(value)


def _told(unread: Counter[str]) -> str:
    return ", ".join(f"{number} {status}" for status, number in sorted(unread.items()))
