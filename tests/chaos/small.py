"""A run in miniature for the judge's own tests: three calls of which nothing is wrong, and ways to break it."""

from typing import Any

import msgspec

from tests.chaos.ledger import Acked, Asked, Ledger, Sums, Told
from tests.chaos.safety import recompute
from tests.chaos.stored import Rows, StoredAssignment, StoredOutcome

HASHES = {"a": "hash-a", "b": "hash-b"}
SPLITS = {1: {"a": 5_000, "b": 5_000}, 2: {"a": 9_000, "b": 1_000}}
VALUES = {"resolved": 1.0, "duration_s": 40.5}


def asked(unit: str, variant: str | None = "a", **more: Any) -> Asked:
    """An answer of the server, or what `more` says."""
    usual = {
        "at": 1.0,
        "first": True,
        "late_s": 0.0,
        "seconds": 0.01,
        "source": "server",
        "reason": "SPLIT",
        "allocation": 1,
        "content_hash": HASHES.get(variant or "", ""),
    }
    return Asked(unit=unit, variant=variant, **usual | more)


def fallback(unit: str, **more: Any) -> Asked:
    """An answer of the client's own."""
    own = {"source": "fallback", "reason": "DEFAULT", "allocation": None, "content_hash": "own"}
    return asked(unit, None, **own | more)


def told(unit: str, **more: Any) -> Told:
    return Told(**{"at": 2.0, "unit": unit, "metrics": VALUES, "allocation": 1} | more)


def acked(unit: str, status: str = "accepted", **more: Any) -> Acked:
    return Acked(**{"at": 3.0, "unit": unit, "status": status} | more)


def row(unit: str, variant: str | None = "a", **more: Any) -> StoredAssignment:
    usual = {
        "allocation": 1,
        "segment": "",
        "reason": "SPLIT",
        "content_hash": HASHES.get(variant or "", ""),
    }
    return StoredAssignment(unit=unit, variant=variant, **usual | more)


UNITS = {"one": "a", "two": "b", "three": "a"}
LEDGER = Ledger(
    asked=[asked(unit, variant) for unit, variant in UNITS.items()],
    told=[told(unit) for unit in UNITS],
    acked=[acked(unit) for unit in UNITS],
    sums=[Sums(at=4.0, recorded=3, sent=3, dropped=0, waiting=0, attempts=2, items=3)],
)


def stored(assignments: list[StoredAssignment], outcomes: list[StoredOutcome]) -> Rows:
    """Rows with counts that fit."""
    rows = Rows(assignments=assignments, outcomes=outcomes, splits=SPLITS)
    return msgspec.structs.replace(rows, counts=recompute(rows))


ROWS = stored(
    [row(unit, variant) for unit, variant in UNITS.items()],
    [StoredOutcome(unit, metric, value, 0) for unit in UNITS for metric, value in VALUES.items()],
)


def ledger(**changed: Any) -> Ledger:
    """The small ledger with other lines."""
    return msgspec.structs.replace(LEDGER, **changed)


def rows(**changed: Any) -> Rows:
    """The small rows with others; counts stay as they were."""
    return msgspec.structs.replace(ROWS, **changed)
