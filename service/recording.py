"""Record assignments of units that have none, and count what was parked for them.

The callers hold the units' locks, so an outcome and the assignment it waits for cannot miss each other.
"""

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment
from domain.outcomes import Delta, delta_of
from storage.assignments import find_assignments, find_given, insert_assignments
from storage.counts import CountKey, add_counts, assigned_deltas, is_countable, place_of
from storage.experiments import metrics_of
from storage.outcomes import Unit, find_outcomes
from storage.segments import admit_segment, known_segments


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
    first = {unit_of(item): item for item in reversed(proposals)}
    first = await _with_segments(connection, first)
    written = await insert_assignments(connection, list(first.values()))
    fresh = {unit: item for unit, item in first.items() if unit in written}
    if fresh:
        parked = await _parked_deltas(connection, fresh)
        await add_counts(connection, assigned_deltas(fresh.values()) + parked)
    old = [unit for unit in first if unit not in written]
    return fresh | (await find_assignments(connection, old) if old else {})


async def _with_segments(
    connection: AsyncConnection, proposals: dict[Unit, Assignment]
) -> dict[Unit, Assignment]:
    """The proposals with the segments under which they count; a segment new to its experiment is admitted."""
    segments = {
        unit: (item.experiment_id, item.segment)
        for unit, item in proposals.items()
        if item.experiment_id is not None and item.segment is not None
    }
    if not segments:
        return proposals
    known = await known_segments(connection, set(segments.values()))
    new = [unit for unit, segment in segments.items() if segment not in known]
    # A unit that has its assignment already must not use up one of the few places.
    given = await find_given(connection, new) if new else {}
    counted = dict(proposals)
    for unit in new:
        if unit not in given:
            segment = await admit_segment(connection, *segments[unit])
            counted[unit] = msgspec.structs.replace(proposals[unit], segment=segment)
    return counted


async def _parked_deltas(
    connection: AsyncConnection, fresh: dict[Unit, Assignment]
) -> list[tuple[CountKey, Delta]]:
    waiting = await find_outcomes(connection, list(fresh))
    if not waiting:
        return []
    ids = {item.experiment_id for item in fresh.values() if item.experiment_id is not None}
    metrics = await metrics_of(connection, ids)
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
