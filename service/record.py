"""Take outcomes: store them, and move the counts in the same transaction."""

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment
from domain.errors import AllocationMismatch, AllocationNotFound, DomainError, PromptNotFound
from domain.metrics import Metric
from domain.outcomes import Delta, NewOutcome, OutcomeStatus, Settled, StoredOutcome, check_time, settle
from domain.snapshot import PromptState, derive, state_under
from service.recording import keep_assignments
from storage.allocations import allocations_by_id
from storage.assignments import find_assignments
from storage.counts import CountKey, add_counts, place_of
from storage.experiments import experiments_by_id
from storage.locks import lock_units
from storage.outcomes import Unit, find_outcomes, find_superseded, write_settled
from storage.prompts import find_prompt_ids, served_versions

Recorded = OutcomeStatus | DomainError


async def record(
    connection: AsyncConnection, outcomes: Sequence[NewOutcome], *, now: dt.datetime
) -> list[Recorded]:
    """Store outcomes in the order given; one bad outcome does not hold up the others.

    Returns
    -------
    For each outcome its status, or the error for which it was rejected (nothing of it is stored).
    """
    prompt_ids = await find_prompt_ids(connection, sorted({item.prompt for item in outcomes}))
    units = {
        index: (prompt_ids[item.prompt], item.unit_id)
        for index, item in enumerate(outcomes)
        if item.prompt in prompt_ids
    }
    known = list(dict.fromkeys(units.values()))
    if not known:
        return [PromptNotFound(name=item.prompt) for item in outcomes]
    await lock_units(connection, known)
    assignments = await find_assignments(connection, known)
    unplaced = {i: outcomes[i] for i, unit in units.items() if unit not in assignments}
    failures = await _rederive(connection, unplaced, units, assignments, now=now)
    batch = await _open_batch(connection, known, assignments)
    results: list[Recorded] = []
    for index, item in enumerate(outcomes):
        if index not in units:
            results.append(PromptNotFound(name=item.prompt))
        elif index in failures:
            results.append(failures[index])
        else:
            results.append(batch.take(units[index], item, now=now))
    await write_settled(connection, batch.settled, now=now)
    await add_counts(connection, batch.deltas)
    return results


class _Batch:
    """The units of one transaction as they change while its outcomes are taken one after the other."""

    def __init__(
        self,
        assignments: dict[Unit, Assignment],
        metrics: dict[int, dict[str, Metric]],
        stored: dict[Unit, dict[str, StoredOutcome]],
        superseded: dict[Unit, dict[str, set[tuple[float, dt.datetime]]]],
    ) -> None:
        self._assignments = assignments
        self._metrics = metrics
        self._stored = stored
        self._superseded = superseded
        self.settled: list[tuple[Unit, Settled]] = []
        self.deltas: list[tuple[CountKey, Delta]] = []

    def take(self, unit: Unit, new: NewOutcome, *, now: dt.datetime) -> Recorded:
        assignment = self._assignments.get(unit)
        place = place_of(assignment) if assignment else None
        try:
            check_time(new, assigned_at=assignment.assigned_at if assignment else None, now=now)
            _check_allocation(new, assignment)
            settled = settle(
                new,
                stored=self._stored.get(unit, {}),
                superseded=self._superseded.get(unit, {}),
                metrics=self._metrics[place.experiment_id] if place else None,
                assigned=assignment is not None,
                counted=place is not None,
                now=now,
            )
        except DomainError as error:
            return error
        values = self._stored.setdefault(unit, {})
        values |= settled.inserted
        for metric, (old, fresh) in settled.revised.items():
            values[metric] = fresh
            history = self._superseded.setdefault(unit, {})
            history.setdefault(metric, set()).add((old.value, old.occurred_at))
        self.settled.append((unit, settled))
        if place is not None:
            self.deltas += [((place, metric), delta) for metric, delta in settled.deltas.items()]
        return settled.status


def _check_allocation(new: NewOutcome, assignment: Assignment | None) -> None:
    if new.allocation is None or assignment is None or new.allocation == assignment.allocation:
        return
    raise AllocationMismatch(unit_id=new.unit_id, recorded=assignment.allocation, told=new.allocation)


async def _open_batch(
    connection: AsyncConnection, units: list[Unit], assignments: dict[Unit, Assignment]
) -> _Batch:
    ids = {item.experiment_id for item in assignments.values() if item.experiment_id is not None}
    experiments = await experiments_by_id(connection, ids) if ids else {}
    metrics = {
        id_: {metric.name: metric for metric in experiment.metrics} for id_, experiment in experiments.items()
    }
    stored = await find_outcomes(connection, units)
    corrected = [
        unit for unit, values in stored.items() if any(value.revision > 0 for value in values.values())
    ]
    return _Batch(assignments, metrics, stored, await find_superseded(connection, corrected))


async def _rederive(
    connection: AsyncConnection,
    unplaced: dict[int, NewOutcome],
    units: dict[int, Unit],
    assignments: dict[Unit, Assignment],
    *,
    now: dt.datetime,
) -> dict[int, DomainError]:
    """Record the assignments of outcomes that tell their allocation: it is a pure function of it."""
    told = {index: item for index, item in unplaced.items() if item.allocation is not None}
    if not told:
        return {}
    states = await _states(connection, {item.allocation for item in told.values() if item.allocation})
    failures: dict[int, DomainError] = {}
    proposals: dict[Unit, Assignment] = {}
    grouped: dict[Unit, list[int]] = defaultdict(list)
    for index in told:
        grouped[units[index]].append(index)
    for unit, indices in grouped.items():
        for index in indices:
            proposal = _proposal(unit, told[index], states, now=now)
            if isinstance(proposal, DomainError):
                failures[index] = proposal
            else:
                proposals.setdefault(unit, proposal)
    assignments |= await keep_assignments(connection, list(proposals.values())) if proposals else {}
    return failures


def _proposal(
    unit: Unit, new: NewOutcome, states: dict[int, PromptState], *, now: dt.datetime
) -> Assignment | DomainError:
    assert new.allocation is not None
    state = states.get(new.allocation)
    if state is None or state.prompt_id != unit[0]:
        return AllocationNotFound(allocation=new.allocation)
    when = min(new.occurred_at or now, now)
    proposal = derive(state, unit_id=new.unit_id, segment=new.segment, now=when, reason="STALE")
    if proposal is None or state.experiment is None:
        return AllocationNotFound(allocation=new.allocation)
    metrics = {metric.name: metric for metric in state.experiment.metrics}
    try:
        # An outcome that will be rejected must not leave an assignment behind.
        check_time(new, assigned_at=None, now=now)
        settle(new, stored={}, superseded={}, metrics=metrics, assigned=True, counted=True, now=now)
    except DomainError as error:
        return error
    return proposal


async def _states(connection: AsyncConnection, allocation_ids: set[int]) -> dict[int, PromptState]:
    allocations = await allocations_by_id(connection, allocation_ids)
    experiments = await experiments_by_id(connection, {item.experiment_id for item in allocations.values()})
    wanted = {v.version_id for e in experiments.values() for v in e.variants if v.version_id is not None}
    versions = await served_versions(connection, wanted)
    return {
        id_: state_under(experiments[allocation.experiment_id], allocation, versions)
        for id_, allocation in allocations.items()
    }
