"""Take outcomes: store them, and move the counts in the same transaction."""

import datetime as dt
from collections.abc import Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment
from domain.errors import AllocationMismatch, DomainError, PromptNotFound
from domain.metrics import Metric
from domain.outcomes import (
    Delta,
    NewOutcome,
    OutcomeStatus,
    Place,
    Settled,
    StoredOutcome,
    check_time,
    delta_of,
    settle,
)
from service.rederive import rederive
from storage.assignments import find_assignments
from storage.counts import CountKey, add_counts, is_countable, place_of
from storage.experiments import experiments_by_id
from storage.locks import lock_units
from storage.outcomes import Unit, find_outcomes, find_superseded, write_confirmed, write_settled
from storage.prompts import find_prompt_ids
from storage.recount import restore_lost_digits

Recorded = OutcomeStatus | DomainError
FAR = 100.0  # a correction by less leaves at least 1e-4 of the square that it takes away


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
    unplaced = {i: (unit, outcomes[i]) for i, unit in units.items() if unit not in assignments}
    derived, failures = await rederive(connection, unplaced, now=now)
    batch = await _open_batch(connection, known, assignments | derived)
    results: list[Recorded] = []
    for index, item in enumerate(outcomes):
        if index not in units:
            results.append(PromptNotFound(name=item.prompt))
        elif index in failures:
            results.append(failures[index])
        else:
            results.append(batch.take(units[index], item, now=now))
    await write_settled(connection, batch.settled, now=now)
    await write_confirmed(connection, batch.confirmed)
    await add_counts(connection, batch.deltas)
    await restore_lost_digits(connection, batch.taken)
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
        self.confirmed: dict[tuple[Unit, str], dt.datetime] = {}
        self.deltas: list[tuple[CountKey, Delta]] = []
        self.taken: dict[CountKey, float] = {}

    def take(self, unit: Unit, new: NewOutcome, *, now: dt.datetime) -> Recorded:
        """Settle one outcome; what it changes is written when the batch is whole."""
        assignment = self._assignments.get(unit)
        place = place_of(assignment) if assignment else None
        declared = self._metrics[place.experiment_id] if place else None
        try:
            check_time(new, assigned_at=None, now=now)
            _check_allocation(new, assignment)
            settled = settle(
                new,
                stored=self._stored.get(unit, {}),
                superseded=self._superseded.get(unit, {}),
                metrics=declared,
                assigned=assignment is not None,
                counted=place is not None,
                now=now,
            )
            if settled.status != "unchanged":  # a retry of what was parked may lie before its assignment
                check_time(new, assigned_at=_begin_of(assignment), now=now)
        except DomainError as error:
            return error
        self._confirm(unit, new)
        self._keep(unit, settled)
        if place is not None and declared is not None:
            self._count(place, declared, settled)
        return settled.status

    def _confirm(self, unit: Unit, new: NewOutcome) -> None:
        """The same value at a later time: a message from between the two must not replace it."""
        values = self._stored.get(unit, {})
        when = new.occurred_at
        for metric, raw in new.metrics.items():
            old = values.get(metric)
            if when is None or old is None or raw is None or float(raw) != old.value:
                continue
            if old.occurred_at < when:
                values[metric] = msgspec.structs.replace(old, occurred_at=when)
                self.confirmed[unit, metric] = when

    def _keep(self, unit: Unit, settled: Settled) -> None:
        self.settled.append((unit, settled))
        values = self._stored.setdefault(unit, {})
        values |= settled.inserted
        for metric, (old, fresh) in settled.revised.items():
            values[metric] = fresh
            self.confirmed.pop((unit, metric), None)
            history = self._superseded.setdefault(unit, {})
            history.setdefault(metric, set()).add((old.value, old.occurred_at))

    def _count(self, place: Place, declared: dict[str, Metric], settled: Settled) -> None:
        for metric, delta in settled.deltas.items():
            key = (place, metric)
            if metric not in settled.revised:
                self.deltas.append((key, delta))
                continue
            old, fresh = settled.revised[metric]
            if not is_countable(declared[metric], old.value):
                # It was parked before its experiment was known and never counted: nothing to take away.
                self.deltas.append((key, delta_of(fresh.value)))
                continue
            self.deltas.append((key, delta))
            if declared[metric].kind != "binary" and old.value > FAR * fresh.value:
                self.taken[key] = max(old.value, self.taken.get(key, 0.0))


def _begin_of(assignment: Assignment | None) -> dt.datetime | None:
    """When the call was assigned; unknown where it was derived afterwards, from an outcome's own time."""
    return None if assignment is None or assignment.reason == "STALE" else assignment.assigned_at


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
