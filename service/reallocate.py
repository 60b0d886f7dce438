"""Let the tests read what is new, drop what is proven harmful, and move the split to where the posterior points.

Idempotent, and one at a time an experiment: whoever finds it held goes on to the next one.
"""

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Literal

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.allocations import Allocation
from domain.experiments import Experiment
from domain.fields import Record
from engine.allocation import largest_remainder
from engine.version import ENGINE_VERSION
from service.claims import claims_of, may_drop, running_mask
from service.evidence import gather_evidence
from service.find import allocation_now, experiment_with_id
from service.judge import judge
from service.known import Known, read_known
from service.split import goal_probability_best, split_for
from storage.allocations import append_allocation
from storage.audit import append_audit
from storage.database import Database
from storage.evidence import find_evidence, unread_experiments
from storage.locks import try_lock_experiment

Outcome = Literal["moved", "paused", "nothing_new", "too_soon", "burning_in", "fixed", "held", "stopped"]
ACTOR = "reallocate"


class Reallocated(Record, frozen=True, kw_only=True):
    """What the pass did to one experiment; `split` is the one that serves now.

    `is_behind` says that the tests have more calls to read: another pass goes on at once.
    """

    experiment: str
    outcome: Outcome
    split: dict[str, int]
    is_behind: bool = False


async def ids_to_pass(connection: AsyncConnection) -> list[int]:
    """Experiments to be passed one by one, each in its own transaction: running ones, and stopped ones whose
    last calls are still to be read."""
    return await unread_experiments(connection)


async def reallocate(
    connection: AsyncConnection, experiment_id: int, *, now: dt.datetime, force: bool = False
) -> Reallocated:
    """One pass over one experiment.

    Parameters
    ----------
    force : do not wait for the policy's `every_s`; burn-in and new outcomes are waited for all the same.
    """
    held = await try_lock_experiment(connection, experiment_id)
    experiment = await experiment_with_id(connection, experiment_id)
    current = await allocation_now(connection, experiment)
    if not held:
        return Reallocated(experiment=experiment.key, outcome="held", split=current.split)
    is_behind = await gather_evidence(connection, experiment, now=now)
    if experiment.status == "stopped":
        return Reallocated(experiment=experiment.key, outcome="stopped", split=current.split)
    waits = _waits(experiment, current, now=now, force=force)
    # Most passes end here: what they need is a few rows, however often the split has moved.
    if waits and not may_drop(experiment, await find_evidence(connection, experiment.id), current.split):
        return Reallocated(experiment=experiment.key, outcome=waits, split=current.split, is_behind=is_behind)
    known = await read_known(connection, experiment, now=now, with_segments=False)
    outcome, split = await _act(connection, known, now=now, force=force)
    return Reallocated(experiment=experiment.key, outcome=outcome, split=split, is_behind=is_behind)


async def reallocate_fully(
    database: Database, experiment_id: int, clock: Callable[[], dt.datetime], *, force: bool = False
) -> Reallocated:
    """Passes over one experiment, each in its own transaction, until the tests have read what is there.

    Then how it stands is noted, if that is due.
    """
    while True:
        async with database.writing() as connection:
            done = await reallocate(connection, experiment_id, now=clock(), force=force)
        if not done.is_behind:
            await judge(database, experiment_id, clock, at_once=done.outcome == "paused")
            return done


async def _act(
    connection: AsyncConnection, known: Known, *, now: dt.datetime, force: bool
) -> tuple[Outcome, dict[str, int]]:
    experiment = known.experiment
    wanted = running_mask(known, await asyncio.to_thread(claims_of, known))
    dropped = [
        variant.key
        for variant, is_wanted in zip(experiment.variants, wanted, strict=True)
        if variant.live and not is_wanted and known.current.split.get(variant.key, 0) > 0
    ]
    if dropped:
        paused = await _pause(connection, known, wanted, dropped, now=now)
        return "paused", paused.split
    outcome = _waits(experiment, known.current, now=now, force=force) or _why_not(known, wanted)
    if outcome is not None:
        return outcome, known.current.split
    moved = await _move(connection, known, wanted, now=now)
    return ("nothing_new", known.current.split) if moved is None else ("moved", moved.split)


def _goal_n(known: Known, wanted: np.ndarray) -> dict[str, int]:
    experiment = known.experiment
    n = known.tally.whole(experiment.goal_metric.measure).n
    return {variant.key: int(n[index]) for index, variant in enumerate(experiment.variants) if wanted[index]}


def _waits(experiment: Experiment, current: Allocation, *, now: dt.datetime, force: bool) -> Outcome | None:
    if experiment.policy.name == "fixed":
        return "fixed"
    age_s = (now - current.created_at).total_seconds()
    return "too_soon" if age_s < experiment.policy.every_s and not force else None


def _why_not(known: Known, wanted: np.ndarray) -> Outcome | None:
    experiment = known.experiment
    n = _goal_n(known, wanted)
    # Burn-in is for the arms of the start; a later arm has earned its share from its prior's width.
    first = {
        variant.key
        for variant in experiment.variants
        if variant.created_at <= experiment.started_at and known.current.split.get(variant.key, 0) > 0
    }
    if any(count < experiment.policy.burn_in for key, count in n.items() if key in first):
        return "burning_in"
    if known.current.counts.get("n") == n:
        return "nothing_new"
    return None


async def _move(
    connection: AsyncConnection, known: Known, wanted: np.ndarray, *, now: dt.datetime
) -> Allocation | None:
    """The next allocation; None where only the control gets calls and has them all already."""
    experiment = known.experiment
    best = goal_probability_best(known, wanted)
    served = [variant for variant, is_wanted in zip(experiment.variants, wanted, strict=True) if is_wanted]
    shares = split_for(experiment.policy, served, best[wanted])
    split = {variant.key: 0 for variant in experiment.variants}
    split |= {variant.key: int(bp) for variant, bp in zip(served, shares, strict=True)}
    if len(served) == 1 and split == known.current.split:
        return None
    return await append_allocation(
        connection,
        experiment_id=experiment.id,
        split=split,
        probability_best={v.key: float(p) for v, p in zip(served, best[wanted], strict=True)},
        policy=experiment.policy.name,
        counts={"n": _goal_n(known, wanted), "metric": experiment.goal},
        engine_version=ENGINE_VERSION,
        now=now,
    )


async def _pause(
    connection: AsyncConnection, known: Known, wanted: np.ndarray, dropped: list[str], *, now: dt.datetime
) -> Allocation:
    """Give the dropped variants no more calls, under any policy and at once; the others keep their ratios."""
    experiment = known.experiment
    served = [variant for variant, is_wanted in zip(experiment.variants, wanted, strict=True) if is_wanted]
    weights = [float(known.current.split[variant.key]) for variant in served]
    shares = largest_remainder(weights if sum(weights) else [1.0] * len(served))
    split = {variant.key: 0 for variant in experiment.variants}
    split |= {variant.key: int(bp) for variant, bp in zip(served, shares, strict=True)}
    for key in dropped:
        await append_audit(
            connection,
            actor=ACTOR,
            action="pause_variant",
            record_type="experiment",
            record_id=experiment.key,
            now=now,
            before={"variant": key, "share_bp": known.current.split[key]},
            after={"variant": key, "share_bp": 0},
        )
    return await append_allocation(
        connection,
        experiment_id=experiment.id,
        split=split,
        probability_best=None,
        policy="variant paused",
        counts={},
        engine_version=ENGINE_VERSION,
        now=now,
    )
