"""Bring in calls that happened elsewhere: history enters the same records, counted the same way."""

import datetime as dt
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment
from domain.errors import DomainError, InvalidValue
from domain.experiments import Experiment, Policy
from domain.fields import ExperimentKey, MetricName, Record, Request, Segment, Time, UnitId, VariantKey
from domain.metrics import DEFAULT_METRICS, Metric, MetricValue
from domain.outcomes import NewOutcome, Turn
from domain.prompts import ServedVersion
from engine.allocation import largest_remainder
from engine.version import ENGINE_VERSION
from service.find import allocation_now, experiment_of
from service.record import record
from service.recording import keep_assignments
from storage.allocations import append_allocation
from storage.audit import append_audit
from storage.experiments import find_experiment, insert_experiment, insert_variant
from storage.locks import lock_units
from storage.prompts import find_prompt_id, insert_prompt


class ImportedCall(Request, frozen=True, kw_only=True):
    """One line of an import file; `variant` tells the arm where the file holds an experiment."""

    unit_id: UnitId
    metrics: Annotated[dict[MetricName, MetricValue | None], Meta(min_length=1, max_length=30)]
    variant: VariantKey | None = None
    segment: Segment | None = None
    transcript: Annotated[list[Turn], Meta(max_length=2_000)] | None = None
    occurred_at: Time | None = None


class ImportedExperiment(Record, frozen=True, kw_only=True):
    """The experiment that imported variants become; `variants` are in order, the first is the control."""

    key: ExperimentKey
    variants: tuple[str, ...]
    metrics: tuple[Metric, ...]


class Imported(Record, frozen=True, kw_only=True):
    """How many outcomes had each status, and the refused ones with their line (from 1)."""

    statuses: dict[str, int]
    refused: tuple[tuple[int, str], ...]


def infer_metrics(calls: Sequence[ImportedCall]) -> tuple[Metric, ...]:
    """The metrics of a file: our default ones where it has them, others by the type of their values.

    A true/false value is binary (more is better), a number an amount (less is better): declare the
    experiment yourself where that is wrong.
    """
    samples: dict[str, MetricValue] = {}
    for call in calls:
        samples |= {name: value for name, value in call.metrics.items() if value is not None}
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
        prompt_id = await insert_prompt(connection, prompt, now)
    if experiment is None:
        return None
    found = await find_experiment(connection, experiment.key)
    if found is not None:
        _check_same(found, experiment, prompt)
        return found
    await _insert(connection, experiment, prompt_id=prompt_id, prompt=prompt, shares=shares, now=now)
    await append_audit(
        connection,
        actor=actor,
        action="import_experiment",
        record_type="experiment",
        record_id=experiment.key,
        now=now,
        after={"prompt": prompt, "variants": list(experiment.variants)},
    )
    return await experiment_of(connection, experiment.key)


def _check_same(found: Experiment, wanted: ImportedExperiment, prompt: str) -> None:
    if found.prompt != prompt or any(variant.version_id is not None for variant in found.variants):
        raise InvalidValue(
            pointer="/experiment", problem=f"{wanted.key!r} is another experiment; choose a new key"
        )
    missing = sorted(set(wanted.variants) - {variant.key for variant in found.variants})
    if missing:
        raise InvalidValue(
            pointer="/variant", problem=f"{missing} are not variants of {wanted.key!r}; choose a new key"
        )


async def _insert(
    connection: AsyncConnection,
    experiment: ImportedExperiment,
    *,
    prompt_id: int,
    prompt: str,
    shares: Sequence[float],
    now: dt.datetime,
) -> None:
    goal = next(metric for metric in experiment.metrics if metric.role == "goal")
    draft = Experiment(
        id=0,
        key=experiment.key,
        prompt_id=prompt_id,
        prompt=prompt,
        status="stopped",
        policy=Policy(name="fixed"),
        goal=goal.name,
        alpha=0.05,
        minimum_detectable_effect=0.05,
        baseline=0.5,
        maturity_s=0.0,
        min_days=0.0,
        salt=secrets.token_hex(16),
        metrics=experiment.metrics,
        variants=(),
        started_at=now,
        stopped_at=now,
    )
    experiment_id = await insert_experiment(connection, draft)
    for position, key in enumerate(experiment.variants):
        await insert_variant(
            connection,
            experiment_id=experiment_id,
            key=key,
            position=position,
            version_id=None,
            is_control=position == 0,
            now=now,
        )
    split = largest_remainder(list(shares))
    await append_allocation(
        connection,
        experiment_id=experiment_id,
        split={key: int(bp) for key, bp in zip(experiment.variants, split, strict=True)},
        probability_best=None,
        policy="imported",
        counts={},
        engine_version=ENGINE_VERSION,
        now=now,
    )


async def import_calls(
    connection: AsyncConnection,
    calls: Sequence[tuple[int, ImportedCall]],
    *,
    prompt: str,
    experiment: Experiment | None,
    now: dt.datetime,
) -> Imported:
    """Store calls (with their line numbers): an assignment each, then their outcomes. Again changes nothing.

    Transcripts are checked and not stored yet: storing waits for their redaction.
    """
    prompt_id = await find_prompt_id(connection, prompt)
    assert prompt_id is not None, "open_import comes first"
    await lock_units(connection, [(prompt_id, call.unit_id) for _, call in calls])
    places = await _places(connection, experiment)
    proposals = [_assignment(call, prompt, prompt_id, experiment, places, now=now) for _, call in calls]
    await keep_assignments(connection, proposals)
    outcomes = [
        NewOutcome(prompt=prompt, unit_id=call.unit_id, metrics=call.metrics, occurred_at=call.occurred_at)
        for _, call in calls
    ]
    recorded = await record(connection, outcomes, now=now)
    statuses: Counter[str] = Counter(
        "rejected" if isinstance(item, DomainError) else item for item in recorded
    )
    refused = [
        (line, f"{getattr(item, 'pointer', '')} {item}".strip())
        for (line, _), item in zip(calls, recorded, strict=True)
        if isinstance(item, DomainError)
    ]
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
