"""Let the tests read what is new, drop what is proven harmful, and move the split to where the posterior points.

Idempotent, and one at a time an experiment: whoever finds it held goes on to the next one.
"""

import asyncio
import datetime as dt
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.fields import Record
from engine.version import ENGINE_VERSION
from service.claims import may_drop
from service.evidence import gather_evidence
from service.find import allocation_now, experiment_with_id
from service.judge import judge
from service.known import Known, read_known
from service.moves import Move, Outcome, next_move, waits
from storage.allocations import append_allocation
from storage.audit import append_audit
from storage.database import Database
from storage.evidence import find_evidence, unread_experiments
from storage.locks import try_lock_experiment

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
    waiting = waits(experiment, current, now=now, force=force)
    # Most passes end here: what they need is a few rows, however often the split has moved.
    evidence = await find_evidence(connection, experiment.id) if waiting else {}
    if waiting and not may_drop(experiment, evidence, current.split):
        return Reallocated(
            experiment=experiment.key, outcome=waiting, split=current.split, is_behind=is_behind
        )
    known = await read_known(connection, experiment, now=now, with_segments=False)
    # In a thread: calls wait for the loop.
    move = await asyncio.to_thread(next_move, known, now=now, force=force)
    if move.outcome in ("moved", "paused"):
        await _store(connection, known, move, now=now)
    return Reallocated(experiment=experiment.key, outcome=move.outcome, split=move.split, is_behind=is_behind)


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


async def _store(connection: AsyncConnection, known: Known, move: Move, *, now: dt.datetime) -> None:
    """Store the move, and in the audit who gets no more calls."""
    experiment = known.experiment
    for key in move.dropped:
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
    await append_allocation(
        connection,
        experiment_id=experiment.id,
        split=move.split,
        probability_best=move.probability_best,
        policy="variant paused" if move.outcome == "paused" else experiment.policy.name,
        counts=dict(move.counts),
        engine_version=ENGINE_VERSION,
        now=now,
    )
