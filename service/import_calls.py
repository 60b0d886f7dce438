"""Bring in calls that happened elsewhere: history enters the same records, counted the same way."""

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment
from domain.errors import InvalidValue, NameTaken
from domain.experiments import Experiment
from domain.fields import is_reserved_file_name
from domain.imports import Imported, ImportedCall
from domain.metrics import DEFAULT_METRICS, Metric, MetricValue
from domain.outcomes import NewOutcome
from domain.prompts import ServedVersion
from domain.redaction import RedactedTranscript
from engine.metrics import ASSIGNED
from service.evidence import gather_evidence
from service.find import allocation_now
from service.imported_experiment import ImportedExperiment, find_or_store_experiment
from service.outcome_batch import Recorded
from service.record import NO_TRANSCRIPTS, record
from service.recording import keep_assignments
from service.rederive import problem_with
from storage.audit import append_audit
from storage.locks import lock_experiment, lock_units
from storage.prompts import find_name_of, find_prompt_id, insert_prompt


def infer_metrics(calls: Sequence[ImportedCall]) -> tuple[Metric, ...]:
    """The metrics of a file: our default ones where it has them, others by the type of their values.

    A true/false value is binary (more is better), a number an amount (less is better): declare the
    experiment yourself where that is wrong.
    """
    samples: dict[str, MetricValue] = {}
    for call in calls:
        samples |= {name: value for name, value in call.metrics.items() if value is not None}
    if ASSIGNED in samples:
        raise InvalidValue(
            pointer=f"/metrics/{ASSIGNED}", problem=f"{ASSIGNED!r} counts calls; rename the metric"
        )
    known = [metric for metric in DEFAULT_METRICS if metric.name in samples]
    names = {metric.name for metric in known}
    other = [
        Metric(name=name, kind="binary", direction="increase")
        if isinstance(value, bool)
        else Metric(name=name, kind="amount", direction="decrease")
        for name, value in samples.items()
        if name not in names
    ]
    metrics = [*known, *other]
    if not metrics:
        raise InvalidValue(pointer="/metrics", problem="no line has a metric; there is nothing to import")
    return tuple(
        msgspec.structs.replace(metric, role="goal" if index == 0 else "secondary")
        for index, metric in enumerate(metrics)
    )


async def open_import(
    connection: AsyncConnection,
    *,
    prompt: str,
    experiment: ImportedExperiment | None,
    shares: Sequence[float],
    actor: str,
    now: dt.datetime,
) -> Experiment | None:
    """Create the prompt and the experiment if they are not there; importing again finds them.

    The experiment is stopped from the start: its calls are over. Its variants have no version, because
    nobody recorded the text that ran, so nothing of it can ever be served or activated.
    """
    prompt_id = await find_prompt_id(connection, prompt)
    if prompt_id is None:
        prompt_id = await _new_prompt(connection, prompt, actor=actor, now=now)
    if experiment is None:
        return None
    return await find_or_store_experiment(
        connection, experiment, prompt=prompt, prompt_id=prompt_id, shares=shares, actor=actor, now=now
    )


async def finish_import(connection: AsyncConnection, experiment: Experiment, *, now: dt.datetime) -> None:
    """Let the always-valid tests read all calls, in the order of time, whatever came in which import."""
    await lock_experiment(connection, experiment.id)
    await gather_evidence(connection, experiment, now=now, ended=True, anew=True)


async def _new_prompt(connection: AsyncConnection, name: str, *, actor: str, now: dt.datetime) -> int:
    if is_reserved_file_name(name):
        raise InvalidValue(pointer="/prompt", problem=f"{name!r} cannot be a file name; choose another")
    taken = await find_name_of(connection, name)
    if taken is not None:
        raise NameTaken(name=taken)
    prompt_id = await insert_prompt(connection, name, now)
    await append_audit(
        connection,
        actor=actor,
        action="import_prompt",
        record_type="prompt",
        record_id=name,
        now=now,
    )
    return prompt_id


async def import_calls(
    connection: AsyncConnection,
    calls: Sequence[tuple[int, ImportedCall]],
    *,
    prompt: str,
    experiment: Experiment | None,
    now: dt.datetime,
    transcripts: Mapping[int, RedactedTranscript] = NO_TRANSCRIPTS,
) -> Imported:
    """Store calls (with their line numbers): an assignment each, then their outcomes. Again changes nothing.

    Parameters
    ----------
    transcripts : by line, redacted; those of the calls themselves are never read.
    """
    prompt_id = await find_prompt_id(connection, prompt)
    assert prompt_id is not None, "open_import comes first"
    await lock_units(connection, [(prompt_id, call.unit_id) for _, call in calls])
    places = await _places(connection, experiment)
    told = {line: _outcome(call, prompt) for line, call in calls}
    results = _hopeless(calls, told, experiment, now=now)
    proposals = {
        line: _assignment(call, prompt, prompt_id, experiment, places, now=now)
        for line, call in calls
        if line not in results and (experiment is None or call.variant is None or call.variant in places)
    }
    standing = await keep_assignments(connection, list(proposals.values()))
    fitting = [
        line
        for line, call in calls
        if line in proposals and _is_same(proposals[line], standing[prompt_id, call.unit_id])
    ]
    spoken = {index: transcripts[line] for index, line in enumerate(fitting) if line in transcripts}
    recorded = await record(connection, [told[line] for line in fitting], now=now, transcripts=spoken)
    results |= dict(zip(fitting, recorded, strict=True))
    return _summary([(line, call, results.get(line)) for line, call in calls])


def _outcome(call: ImportedCall, prompt: str) -> NewOutcome:
    return NewOutcome(prompt=prompt, unit_id=call.unit_id, metrics=call.metrics, occurred_at=call.occurred_at)


def _hopeless(
    calls: Sequence[tuple[int, ImportedCall]],
    told: dict[int, NewOutcome],
    experiment: Experiment | None,
    *,
    now: dt.datetime,
) -> dict[int, Recorded]:
    """Lines that will be refused, so that they leave no assignment behind that waits for its outcome."""
    found = {
        line: problem_with(
            told[line], experiment.metrics if experiment is not None and call.variant else None, now=now
        )
        for line, call in calls
    }
    return {line: problem for line, problem in found.items() if problem is not None}


def _is_same(proposed: Assignment, standing: Assignment) -> bool:
    """A call that tells no variant may stand anywhere; one that does must have been given that one."""
    return proposed.variant_id is None or proposed.variant_id == standing.variant_id


def _summary(results: Sequence[tuple[int, ImportedCall, Recorded | None]]) -> Imported:
    statuses: Counter[str] = Counter()
    refused: list[tuple[int, str]] = []
    for line, call, item in results:
        if isinstance(item, str):
            statuses[item] += 1
            continue
        statuses["rejected"] += 1
        problem = (
            f"/variant {call.variant!r} is no variant of this experiment, or {call.unit_id!r} was given another"
            if item is None
            else f"{getattr(item, 'pointer', '')} {item}".strip()
        )
        refused.append((line, problem))
    return Imported(statuses=dict(statuses), refused=tuple(refused))


async def _places(connection: AsyncConnection, experiment: Experiment | None) -> dict[str, Any]:
    if experiment is None:
        return {}
    allocation = await allocation_now(connection, experiment)
    return {
        variant.key: (variant.id, allocation.id, allocation.split[variant.key] / 10_000)
        for variant in experiment.variants
    }


def _assignment(
    call: ImportedCall,
    prompt: str,
    prompt_id: int,
    experiment: Experiment | None,
    places: dict[str, Any],
    *,
    now: dt.datetime,
) -> Assignment:
    unknown = ServedVersion(
        id=None, number=None, name=prompt, system_prompt="", tools_config=[], metadata={}, content_hash=""
    )
    variant_id, allocation_id, probability = places.get(call.variant or "", (None, None, None))
    inside = experiment is not None and variant_id is not None
    return Assignment(
        prompt=prompt,
        prompt_id=prompt_id,
        unit_id=call.unit_id,
        version=unknown,
        experiment=experiment.key if experiment is not None and inside else None,
        experiment_id=experiment.id if experiment is not None and inside else None,
        variant=call.variant if inside else None,
        variant_id=variant_id,
        allocation=allocation_id,
        probability=probability,
        segment=call.segment,
        reason="SPLIT" if inside else "STATIC",
        assigned_at=call.occurred_at or now,
    )
