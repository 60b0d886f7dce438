"""What the ingestion promises, in plain Python: dictionaries instead of tables, recounting instead of counts."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from domain.outcomes import NewOutcome
from tests.service.world import MINUTE, arm_by_hand

BINARY, SCORE, AMOUNT = "binary", "score", "amount"
DECLARED = {"resolved": BINARY, "quality": SCORE, "duration_s": AMOUNT, "csat": BINARY}
DEFAULTS = {"resolved": BINARY, "quality": SCORE, "duration_s": AMOUNT}

CountKey = tuple[int, str, str, str]  # allocation, variant, segment, metric
Sums = tuple[int, float, float]


@dataclass(frozen=True)
class Given:
    """What a unit was given."""

    variant: str
    allocation: int
    probability: float
    segment: str
    assigned_at: dt.datetime | None  # None where it was derived afterwards


@dataclass
class Value:
    """What stands for one metric of one unit."""

    value: float
    when: dt.datetime
    replaced: set[tuple[float, dt.datetime]] = field(default_factory=set)


@dataclass
class Model:
    """Everything the service must remember."""

    salt: str
    splits: dict[int, list[tuple[str, int]]] = field(default_factory=dict)
    given: dict[str, Given] = field(default_factory=dict)
    values: dict[tuple[str, str], Value] = field(default_factory=dict)

    def assign(
        self, unit: str, allocation: int, segment: str | None, *, at: dt.datetime | None = None
    ) -> Given:
        """The split of the allocation decides, once."""
        split = self.splits[allocation]
        arm = arm_by_hand(self.salt, unit, split)
        fresh = Given(arm, allocation, dict(split)[arm] / 10_000, segment or "", at)
        return self.given.setdefault(unit, fresh)

    def tell(self, messages: Sequence[NewOutcome], now: dt.datetime) -> list[str]:
        """The status of each message; "rejected" where nothing of it is kept."""
        underivable = set()
        for index, new in enumerate(messages):
            if new.allocation is None or new.unit_id in self.given:
                continue
            if new.allocation not in self.splits or self._is_wrong(new, DECLARED, now):
                underivable.add(index)
        first_derivable = [
            new
            for index, new in enumerate(messages)
            if new.allocation is not None and new.unit_id not in self.given and index not in underivable
        ]
        for new in first_derivable:
            assert new.allocation is not None
            self.assign(new.unit_id, new.allocation, new.segment)
        return [
            "rejected" if index in underivable else self._take(new, now) for index, new in enumerate(messages)
        ]

    def _take(self, new: NewOutcome, now: dt.datetime) -> str:
        given = self.given.get(new.unit_id)
        if given and new.allocation is not None and new.allocation != given.allocation:
            return "rejected"
        if self._is_wrong(new, DECLARED if given else DEFAULTS, now):
            return "rejected"
        told = {name: float(raw) for name, raw in new.metrics.items() if raw is not None}
        news = {name: value for name, value in told.items() if self._is_news(new, name, value)}
        begin = given.assigned_at if given else None
        if news and new.occurred_at and begin and new.occurred_at < begin - 5 * MINUTE:
            return "rejected"
        revised = any((new.unit_id, name) in self.values for name in news)
        for name, value in told.items():
            self._keep(new, name, value, name in news, now)
        if not news:
            return "unchanged"
        return "parked" if given is None else "revised" if revised else "accepted"

    def _is_wrong(self, new: NewOutcome, declared: Mapping[str, str], now: dt.datetime) -> bool:
        if new.occurred_at and new.occurred_at > now + 5 * MINUTE:
            return True
        return any(
            raw is not None and name in declared and not _fits(raw, declared[name])
            for name, raw in new.metrics.items()
        )

    def _is_news(self, new: NewOutcome, name: str, value: float) -> bool:
        old = self.values.get((new.unit_id, name))
        if old is None:
            return True
        if value == old.value:
            return False
        if new.occurred_at is None:
            return True
        return new.occurred_at >= old.when and (value, new.occurred_at) not in old.replaced

    def _keep(self, new: NewOutcome, name: str, value: float, is_news: bool, now: dt.datetime) -> None:
        key = new.unit_id, name
        old = self.values.get(key)
        if old is None:
            self.values[key] = Value(value, new.occurred_at or now)
        elif is_news:
            replaced = old.replaced | {(old.value, old.when)}
            self.values[key] = Value(value, new.occurred_at or now, replaced)
        elif value == old.value and new.occurred_at:
            old.when = max(old.when, new.occurred_at)

    def counts(self) -> dict[CountKey, Sums]:
        """Counted afresh from what was given and told."""
        found: dict[CountKey, list[float]] = defaultdict(list)
        assigned: dict[CountKey, int] = defaultdict(int)
        for unit, given in self.given.items():
            place = given.allocation, given.variant, given.segment
            assigned[*place, "assigned"] += 1
            for name, kind in DECLARED.items():
                value = self.values.get((unit, name))
                if value is not None and (kind != BINARY or value.value in (0.0, 1.0)):
                    found[*place, name].append(value.value)
        sums = {key: (len(v), sum(v), sum(x * x for x in v)) for key, v in found.items()}
        return sums | {key: (n, 0.0, 0.0) for key, n in assigned.items()}


def _fits(raw: Any, kind: str) -> bool:
    if kind == BINARY:
        return isinstance(raw, bool)
    return not isinstance(raw, bool) and 0 <= raw <= (1 if kind == SCORE else 30 * 86_400)
