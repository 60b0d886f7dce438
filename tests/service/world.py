"""What the tests of the verbs share: a prompt with versions, an experiment on it, its calls and outcomes."""

import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from itertools import batched
from typing import Any

import numpy as np
import sqlalchemy as sa

from domain.allocations import Allocation
from domain.assignments import Assignment
from domain.errors import DomainError
from domain.experiments import Experiment, NewExperiment, NewPolicy, NewVariant, Policy, Variant
from domain.metrics import ASSIGNED, DEFAULT_METRICS, Metric, NewMetric
from domain.outcomes import Delta, NewOutcome, Place
from domain.prompts import NewVersion, PromptVersion
from domain.report import Report
from domain.snapshot import PromptState, derive
from service.assign import assign
from service.change_variants import add_variant, retire_variant
from service.create_version import create_version
from service.find import experiment_of
from service.known import Known
from service.outcome_batch import Recorded
from service.reallocate import Reallocated, reallocate
from service.record import record
from service.recording import keep_assignments
from service.report import report
from service.start_experiment import start_experiment
from service.statistics import tally_by_allocation, tally_of_all
from service.stop_experiment import stop_experiment
from service.verify import Verified, verify
from storage.allocations import current_allocation, list_allocations
from storage.counts import CountRow, add_counts
from storage.database import Database
from storage.schema import counts
from storage.snapshots import read_snapshot

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)
LATER = NOW + 10 * MINUTE
RATES = {"a": 0.6, "b": 0.75, "c": 0.4}
PROMPT = "support"
ACTOR = "test"


async def create(database: Database, text: str, *, name: str = PROMPT, **more: Any) -> PromptVersion:
    new = NewVersion(name=name, system_prompt=text, **more)
    async with database.writing() as connection:
        return await create_version(connection, new, actor=ACTOR, now=NOW)


async def start(
    database: Database,
    *,
    key: str = "greeting",
    prompt: str = PROMPT,
    arms: str = "ab",
    shares: list[float] | None = None,
    policy: NewPolicy | None = None,
    metrics: list[NewMetric] | None = None,
    now: dt.datetime = NOW,
    salt: str = "salt",
    **more: Any,
) -> Experiment:
    """An experiment on fresh versions of `prompt`, one a letter of `arms`; the first is the control."""
    versions = [await create(database, f"{key} {arm}", name=prompt) for arm in arms]
    parts = shares or [None] * len(arms)
    variants = [
        NewVariant(key=arm, version_id=version.id, share=share)
        for arm, version, share in zip(arms, versions, parts, strict=True)
    ]
    new = NewExperiment(
        key=key,
        prompt=prompt,
        variants=variants,
        control=arms[0],
        policy=policy,
        metrics=metrics,
        **{"min_days": 0.0, **more},
    )
    async with database.writing() as connection:
        return await start_experiment(connection, new, actor=ACTOR, now=now, salt=salt)


async def state_of(database: Database, *, prompt: str = PROMPT, now: dt.datetime = NOW) -> PromptState:
    """What a process that reads the snapshot now knows of the prompt."""
    async with database.reading() as connection:
        return (await read_snapshot(connection, now=now)).prompts[prompt]


async def call(
    database: Database,
    unit_id: str,
    *,
    state: PromptState | None = None,
    segment: str | None = None,
    now: dt.datetime = NOW,
    prompt: str = PROMPT,
) -> Assignment:
    """A call starts: propose from what is known, record, and return what stands."""
    known = state or await state_of(database, prompt=prompt, now=now)
    proposal = derive(known, unit_id=unit_id, segment=segment, now=now)
    assert proposal is not None
    async with database.writing() as connection:
        (standing,) = await assign(connection, [proposal])
    return standing


def luck(rates: dict[str, float], seed: int = 1) -> Callable[[str, int], dict[str, Any]]:
    """For `play`: each call is resolved with its variant's rate."""
    rng = np.random.default_rng(seed)
    return lambda key, index: {"resolved": bool(rng.random() < rates[key])}


async def play(
    database: Database,
    experiment: Experiment,
    calls: int,
    outcome_of: Callable[[str, int], dict[str, Any]],
    *,
    prefix: str = "call",
    now: dt.datetime = NOW,
    every_s: float = 1.0,
    segment_of: Callable[[int], str] | None = None,
    told_after_s: float = 0.0,
) -> list[Assignment]:
    """Many calls, `every_s` apart, the last one at `now`: `outcome_of(variant key, index)` gives the metrics.

    A call whose metrics are empty is never told.
    """
    state = await state_of(database, prompt=experiment.prompt, now=now)
    keys = {variant.id: variant.key for variant in (await read_experiment(database, experiment.key)).variants}
    given = []
    for index in range(calls):
        at = now - dt.timedelta(seconds=every_s * (calls - 1 - index))
        segment = segment_of(index) if segment_of else None
        proposal = derive(state, unit_id=f"{prefix}-{index}", segment=segment, now=at)
        assert proposal is not None
        given.append(proposal)
    for some in batched(given, 500):
        async with database.writing() as connection:
            await keep_assignments(connection, list(some))
    told = [
        (item, outcome_of(keys[item.variant_id or 0], index), item.assigned_at)
        for index, item in enumerate(given)
    ]
    outcomes = [
        outcome(item.unit_id, prompt=experiment.prompt, **metrics) for item, metrics, _ in told if metrics
    ]
    for batch in batched(outcomes, 500):
        await tell(database, *batch, now=now + dt.timedelta(seconds=told_after_s))
    return given


def outcome(unit_id: str, *, prompt: str = PROMPT, **fields: Any) -> NewOutcome:
    """`outcome("call-1", resolved=True)`; what is no metric goes in by its name."""
    own = {
        name: fields.pop(name)
        for name in ("occurred_at", "allocation", "segment", "content_hash")
        if name in fields
    }
    return NewOutcome(prompt=prompt, unit_id=unit_id, metrics=fields, **own)


async def tell(database: Database, *outcomes: NewOutcome, now: dt.datetime = NOW) -> list[Recorded]:
    async with database.writing() as connection:
        return await record(connection, outcomes, now=now)


async def tell_one(database: Database, told: NewOutcome, *, now: dt.datetime = NOW) -> str:
    """Its status; the error of a rejected one is raised."""
    (status,) = await tell(database, told, now=now)
    if isinstance(status, DomainError):
        raise status
    return status


async def move(
    database: Database, experiment: Experiment, *, now: dt.datetime, force: bool = False
) -> Reallocated:
    async with database.writing() as connection:
        return await reallocate(connection, experiment.id, now=now, force=force)


async def check(database: Database) -> Verified:
    async with database.reading() as connection:
        return await verify(connection)


async def read_report(database: Database, key: str = "greeting", *, now: dt.datetime = NOW) -> Report:
    async with database.reading() as connection:
        return await report(connection, key, now=now)


async def counted(database: Database, metric: str) -> dict[int, tuple[int, float, float]]:
    """n, total and total_sq of a metric by variant id, summed over allocations and segments."""
    sums = [sa.func.sum(counts.c[name]) for name in ("n", "total", "total_sq")]
    query = sa.select(counts.c.variant_id, *sums).where(counts.c.metric == metric)
    async with database.reading() as connection:
        rows = await connection.execute(query.group_by(counts.c.variant_id))
        return {row[0]: (int(row[1]), float(row[2]), float(row[3])) for row in rows}


def arm_by_hand(salt: str, unit_id: str, split: list[tuple[str, int]]) -> str:
    """The design's rule written out: SHA-256 of salt/unit, first 8 bytes, modulo 10 000, along the split."""
    number = int(hashlib.sha256(f"{salt}/{unit_id}".encode()).hexdigest()[:16], 16) % 10_000
    for key, share in split:
        if number < share:
            return key
        number -= share
    raise AssertionError("the split does not add up to 10 000")


def plain(
    *, arms: str = "ab", metrics: tuple[Metric, ...] = DEFAULT_METRICS, policy: str = "fixed", **more: Any
) -> tuple[Experiment, Allocation]:
    """An experiment and its first, even allocation that no database knows; the first arm is the control."""
    variants = tuple(
        Variant(
            id=index,
            key=arm,
            position=index,
            version_id=index,
            is_control=index == 1,
            live=True,
            created_at=NOW,
        )
        for index, arm in enumerate(arms, 1)
    )
    fields: dict[str, Any] = {
        "id": 1,
        "key": "greeting",
        "prompt_id": 1,
        "prompt": PROMPT,
        "status": "running",
        "policy": Policy(name=policy),
        "goal": next(metric.name for metric in metrics if metric.role == "goal"),
        "alpha": 0.05,
        "minimum_detectable_effect": 0.05,
        "baseline": 0.5,
        "maturity_s": 0.0,
        "min_days": 0.0,
        "salt": "salt",
        "metrics": metrics,
        "variants": variants,
        "started_at": NOW,
    }
    experiment = Experiment(**(fields | more))
    shares = [10_000 // len(arms) + (index < 10_000 % len(arms)) for index in range(len(arms))]
    allocation = Allocation(
        id=1,
        experiment_id=1,
        number=1,
        split=dict(zip(arms, shares, strict=True)),
        probability_best=None,
        policy="start",
        counts={},
        seed=None,
        engine_version="",
        created_at=NOW,
    )
    return experiment, allocation


def known_of(
    experiment: Experiment,
    allocations: Allocation | Sequence[Allocation],
    rows: Sequence[CountRow],
    **more: Any,
) -> Known:
    """What would be read of an experiment that no database knows."""
    served = [allocations] if isinstance(allocations, Allocation) else allocations
    return Known(
        experiment=experiment,
        allocations=served,
        tally=tally_by_allocation(experiment.variants, served, rows),
        told=tally_of_all(experiment.variants, rows),
        **more,
    )


def binary_rows(sides: Sequence[tuple[int, int]], *, metric: str = "resolved") -> list[CountRow]:
    """(successes, trials) per variant, in the order of their ids; every call is told."""
    rows = []
    for index, (successes, n) in enumerate(sides, 1):
        told = {"n": n, "total": float(successes), "total_sq": float(successes)}
        rows.append(CountRow(allocation_id=1, variant_id=index, metric=metric, **told))
        rows.append(
            CountRow(allocation_id=1, variant_id=index, metric=ASSIGNED, n=n, total=0.0, total_sq=0.0)
        )
    return rows


def moment_rows(sides: Sequence[tuple[int, float, float]], *, metric: str = "quality") -> list[CountRow]:
    """(n, total, total_sq) per variant, in the order of their ids."""
    return [
        CountRow(allocation_id=1, variant_id=index, metric=metric, n=n, total=total, total_sq=total_sq)
        for index, (n, total, total_sq) in enumerate(sides, 1)
    ]


async def fill(
    database: Database, experiment: Experiment, *, metric: str = "resolved", **sums: tuple[float, ...]
) -> None:
    """Count outcomes that have no calls: `fill(db, experiment, a=(50, 100))`, or (n, total, total_sq)."""
    async with database.writing() as connection:
        allocation = await current_allocation(connection, experiment.id)
        assert allocation is not None
        deltas = []
        for key, values in sums.items():
            variant = experiment.variant(key)
            assert variant is not None
            place = Place(
                experiment_id=experiment.id, allocation_id=allocation.id, variant_id=variant.id, segment=""
            )
            n, total, total_sq = values if len(values) == 3 else (values[1], values[0], values[0])
            deltas.append(((place, metric), Delta(n=int(n), total=float(total), total_sq=float(total_sq))))
        await add_counts(connection, deltas)


async def history(database: Database, experiment: Experiment) -> list[Allocation]:
    async with database.reading() as connection:
        return await list_allocations(connection, experiment.id)


async def add(
    database: Database, arm: str, *, key: str = "greeting", now: dt.datetime = NOW, **more: Any
) -> Experiment:
    """A new arm with a version of its own."""
    version = await create(database, f"{key} {arm}")
    new = NewVariant(key=arm, version_id=version.id, **more)
    async with database.writing() as connection:
        return await add_variant(connection, key, new, actor=ACTOR, now=now)


async def retire(
    database: Database, arm: str, *, key: str = "greeting", now: dt.datetime = NOW
) -> Experiment:
    async with database.writing() as connection:
        return await retire_variant(connection, key, arm, actor=ACTOR, now=now)


async def stop(
    database: Database, *, key: str = "greeting", winner: str | None = None, now: dt.datetime = NOW
) -> Experiment:
    async with database.writing() as connection:
        return await stop_experiment(connection, key, winner=winner, actor=ACTOR, now=now)


async def read_experiment(database: Database, key: str = "greeting") -> Experiment:
    async with database.reading() as connection:
        return await experiment_of(connection, key)
