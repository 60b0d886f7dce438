"""Record assignments of units that have none, and count what was parked for them.

The callers hold the units' locks, so an outcome and the assignment it waits for cannot miss each other.
"""

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment
from domain.metrics import Metric
from domain.outcomes import Delta, delta_of
from storage.assignments import find_assignments, insert_assignments
from storage.counts import CountKey, add_counts, assigned_deltas, is_countable, place_of
from storage.experiments import experiments_by_id
from storage.outcomes import Unit, find_outcomes
from storage.segments import admit_segment


def unit_of(assignment: Assignment) -> Unit:
    """The key under which a unit is stored."""
    assert assignment.prompt_id is not None, "an assignment without a prompt cannot be stored"
    return assignment.prompt_id, assignment.unit_id


async def keep_assignments(
    connection: AsyncConnection, proposals: list[Assignment]
) -> dict[Unit, Assignment]:
    """Record the proposals of units that have no assignment yet.

    Returns
    -------
    What stands for every proposed unit: the recorded assignment where there was one, else the proposal.
    """
    standing = await find_assignments(connection, [unit_of(item) for item in proposals])
    fresh: dict[Unit, Assignment] = {}
    for proposal in proposals:
        unit = unit_of(proposal)
        if unit not in standing and unit not in fresh:
            fresh[unit] = await _with_segment(connection, proposal)
    if fresh:
        await insert_assignments(connection, list(fresh.values()))
        parked = await _parked_deltas(connection, fresh)
        await add_counts(connection, assigned_deltas(fresh.values()) + parked)
    return standing | fresh


async def _with_segment(connection: AsyncConnection, proposal: Assignment) -> Assignment:
    if proposal.segment is None or proposal.experiment_id is None:
        return proposal
    segment = await admit_segment(connection, proposal.experiment_id, proposal.segment)
    return msgspec.structs.replace(proposal, segment=segment)


async def _parked_deltas(
    connection: AsyncConnection, fresh: dict[Unit, Assignment]
) -> list[tuple[CountKey, Delta]]:
    waiting = await find_outcomes(connection, list(fresh))
    if not waiting:
        return []
    ids = {item.experiment_id for item in fresh.values() if item.experiment_id is not None}
    metrics: dict[int, dict[str, Metric]] = {
        id_: {metric.name: metric for metric in experiment.metrics}
        for id_, experiment in (await experiments_by_id(connection, ids)).items()
    }
    deltas = []
    for unit, outcomes in waiting.items():
        place = place_of(fresh[unit])
        if place is None:
            continue
        declared = metrics[place.experiment_id]
        deltas += [
            ((place, name), delta_of(outcome.value))
            for name, outcome in outcomes.items()
            if name in declared and is_countable(declared[name], outcome.value)
        ]
    return deltas
