"""Move the split to where the posterior points, and take the planned look when it is due.

Idempotent, and one at a time an experiment: whoever finds it held goes on to the next one.
"""

import datetime as dt
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.allocations import Allocation
from domain.experiments import Experiment, Variant
from domain.fields import Record
from engine.version import ENGINE_VERSION
from service.evidence import matured_counts, statistics_of
from service.find import allocation_now, experiment_with_id
from service.planning import is_look_due, take_planned_look
from service.split import goal_probability_best, live_variants, split_for
from storage.allocations import append_allocation
from storage.counts import CountRow
from storage.experiments import list_experiments, store_planned_look
from storage.locks import try_lock_experiment

Outcome = Literal["moved", "looked", "nothing_new", "too_soon", "burning_in", "fixed", "held"]


class Reallocated(Record, frozen=True, kw_only=True):
    """What the pass did to one experiment; `split` is the one that serves now."""

    experiment: str
    outcome: Outcome
    split: dict[str, int]


async def running_ids(connection: AsyncConnection) -> list[int]:
    """The running experiments, to be passed one by one, each in its own transaction."""
    return [item.id for item in await list_experiments(connection, status="running", limit=100_000)]


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
    if not held or experiment.status != "running":
        return Reallocated(experiment=experiment.key, outcome="held", split=current.split)
    rows = await matured_counts(connection, experiment, now=now)
    looked = is_look_due(experiment, current, rows, now=now)
    if looked:
        await store_planned_look(connection, experiment.id, take_planned_look(experiment, rows, now=now))
    outcome = _why_not(experiment, current, rows, now=now, force=force)
    if outcome is not None:
        return Reallocated(
            experiment=experiment.key, outcome="looked" if looked else outcome, split=current.split
        )
    moved = await _move(connection, experiment, rows, now=now)
    return Reallocated(experiment=experiment.key, outcome="moved", split=moved.split)


def _goal_n(experiment: Experiment, variants: list[Variant], rows: list[CountRow]) -> dict[str, int]:
    statistics = statistics_of(experiment.goal_metric, variants, rows)
    return {variant.key: int(n) for variant, n in zip(variants, statistics.n, strict=True)}


def _why_not(
    experiment: Experiment, current: Allocation, rows: list[CountRow], *, now: dt.datetime, force: bool
) -> Outcome | None:
    if experiment.policy.name == "fixed":
        return "fixed"
    age_s = (now - current.created_at).total_seconds()
    if age_s < experiment.policy.every_s and not force:
        return "too_soon"
    live = live_variants(experiment)
    n = _goal_n(experiment, live, rows)
    # Burn-in is for the arms of the start; a later arm has earned its share from its prior's width.
    first = [variant for variant in live if variant.created_at <= experiment.started_at]
    if any(n[variant.key] < experiment.policy.burn_in for variant in first):
        return "burning_in"
    if current.counts.get("n") == n:
        return "nothing_new"
    return None


async def _move(
    connection: AsyncConnection, experiment: Experiment, rows: list[CountRow], *, now: dt.datetime
) -> Allocation:
    live = live_variants(experiment)
    statistics = statistics_of(experiment.goal_metric, live, rows)
    best = goal_probability_best(experiment.goal_metric, statistics)
    shares = split_for(experiment.policy, live, best)
    split = {variant.key: 0 for variant in experiment.variants}
    split |= {variant.key: int(bp) for variant, bp in zip(live, shares, strict=True)}
    return await append_allocation(
        connection,
        experiment_id=experiment.id,
        split=split,
        probability_best={v.key: float(p) for v, p in zip(live, best, strict=True)},
        policy=experiment.policy.name,
        counts={"n": _goal_n(experiment, live, rows), "metric": experiment.goal},
        engine_version=ENGINE_VERSION,
        now=now,
    )
