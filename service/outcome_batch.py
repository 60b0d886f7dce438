"""The units of one transaction, and what its outcomes change, one after the other."""

import datetime as dt

import msgspec

from domain.assignments import Given
from domain.errors import AllocationMismatch, ContentMismatch, DomainError
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
from storage.counts import CountKey, is_countable, place_of
from storage.outcomes import Unit

Recorded = OutcomeStatus | DomainError
FAR = 100.0  # a correction by less leaves at least 1e-4 of the square that it takes away


class OutcomeBatch:
    """Takes outcomes; what they change is written when the batch is whole."""

    def __init__(
        self,
        given: dict[Unit, Given],
        metrics: dict[int, dict[str, Metric]],
        stored: dict[Unit, dict[str, StoredOutcome]],
        superseded: dict[Unit, dict[str, set[tuple[float, dt.datetime]]]],
    ) -> None:
        self._given = given
        self._metrics = metrics
        self._stored = stored
        self._superseded = superseded
        self.settled: list[tuple[Unit, Settled]] = []
        self.confirmed: dict[tuple[Unit, str], dt.datetime] = {}
        self.deltas: list[tuple[CountKey, Delta]] = []
        self.taken: dict[CountKey, float] = {}

    def take(self, unit: Unit, new: NewOutcome, *, now: dt.datetime) -> Recorded:
        """Settle one outcome; what it changes is written when the batch is whole."""
        given = self._given.get(unit)
        place = place_of(given) if given else None
        declared = self._metrics[place.experiment_id] if place else None
        try:
            check_time(new, assigned_at=None, now=now)
            _check_served(new, given)
            settled = settle(
                new,
                stored=self._stored.get(unit, {}),
                superseded=self._superseded.get(unit, {}),
                metrics=declared,
                assigned=given is not None,
                counted=place is not None,
                now=now,
            )
            if settled.status != "unchanged":  # a retry of what was parked may lie before its assignment
                check_time(new, assigned_at=_begin_of(given), now=now)
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


def _begin_of(given: Given | None) -> dt.datetime | None:
    """When the call was assigned; unknown where that was derived afterwards, from an outcome's own time."""
    return None if given is None or given.reason in ("STALE", "DEFAULT") else given.assigned_at


def _check_served(new: NewOutcome, given: Given | None) -> None:
    """The call got what is recorded for it; else its outcome would count for a text that nobody spoke."""
    if given is None:
        return
    if new.content_hash and given.content_hash:  # of an imported call nobody knows the text
        if new.content_hash != given.content_hash:
            raise ContentMismatch(unit_id=new.unit_id, recorded=given.content_hash, told=new.content_hash)
        return  # the same text is the same variant, under whichever allocation it was given
    if new.allocation is not None and new.allocation != given.allocation:
        raise AllocationMismatch(unit_id=new.unit_id, recorded=given.allocation, told=new.allocation)
