"""The rows that the judge reads: from the database itself, not through the API."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

CountKey = tuple[int, str, str, str]  # allocation, variant, segment, metric


class StoredAssignment(NamedTuple):
    """A row of `assignments`; variant and allocation are None where the unit is in no experiment."""

    unit: str
    variant: str | None
    allocation: int | None
    segment: str
    reason: str
    content_hash: str


class StoredOutcome(NamedTuple):
    """A row of `outcomes`."""

    unit: str
    metric: str
    value: float
    revision: int


class Sum(NamedTuple):
    """Sufficient statistics of one row of `counts`."""

    n: int
    total: float
    total_sq: float


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Everything stored about one prompt; `splits` holds basis points by variant for each allocation."""

    assignments: list[StoredAssignment] = []
    outcomes: list[StoredOutcome] = []
    counts: dict[CountKey, Sum] = {}
    splits: dict[int, dict[str, int]] = {}


_PROMPT = "(SELECT id FROM prompts WHERE name = 'support')"
_EXPERIMENTS = f"(SELECT id FROM experiments WHERE prompt_id = {_PROMPT})"
_QUERIES = {
    "assignments": "SELECT a.unit_id, v.key, a.allocation_id, COALESCE(a.segment, ''), a.reason, a.content_hash"
    f" FROM assignments a LEFT JOIN variants v ON v.id = a.variant_id WHERE a.prompt_id = {_PROMPT}",
    "outcomes": f"SELECT unit_id, metric, value, revision FROM outcomes WHERE prompt_id = {_PROMPT}",
    "counts": "SELECT c.allocation_id, v.key, c.segment, c.metric, c.n, c.total, c.total_sq"
    f" FROM counts c JOIN variants v ON v.id = c.variant_id WHERE c.experiment_id IN {_EXPERIMENTS}",
    "splits": f"SELECT id, split FROM allocations WHERE experiment_id IN {_EXPERIMENTS}",
}


def read_rows(connection: Any) -> Rows:
    """All rows as they stood at one moment.

    Parameters
    ----------
    connection : psycopg's or sqlite3's, within a transaction that sees one state.
    """
    found: dict[str, Sequence[Any]] = {
        name: connection.execute(query).fetchall() for name, query in _QUERIES.items()
    }
    return Rows(
        assignments=[StoredAssignment(*row) for row in found["assignments"]],
        outcomes=[StoredOutcome(*row) for row in found["outcomes"]],
        counts={tuple(row[:4]): Sum(*row[4:]) for row in found["counts"]},
        splits={id_: _split(split) for id_, split in found["splits"]},
    )


def _split(stored: Any) -> dict[str, int]:
    """SQLite gives JSON as text."""
    return msgspec.json.decode(stored) if isinstance(stored, str) else stored
