"""Export an experiment's calls, one row a call, without holding them all in memory."""

import csv
import io
from collections.abc import AsyncIterator, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.experiments import Experiment
from storage.calls import CallRow, read_calls

_FIXED = ("unit_id", "segment", "variant", "allocation", "probability", "reason", "assigned_at")
PAGE = 1_000


async def calls_csv(connection: AsyncConnection, experiment: Experiment) -> AsyncIterator[str]:
    """CSV text in pieces: a header, then a line a call; an empty field is a missing value.

    Text that a spreadsheet would run as a formula is quoted with an apostrophe.
    """
    metrics = [metric.name for metric in experiment.metrics]
    yield _lines([[*_FIXED, *metrics]])
    after = ""
    while True:
        rows = await read_calls(connection, experiment, after=after, limit=PAGE)
        if not rows:
            return
        yield _lines([_fields(row, metrics) for row in rows])
        after = rows[-1].unit_id


def _fields(row: CallRow, metrics: Sequence[str]) -> list[str]:
    fixed = [
        _harmless(row.unit_id),
        _harmless(row.segment or ""),
        row.variant,
        str(row.allocation),
        repr(row.probability),
        row.reason,
        row.assigned_at.isoformat(),
    ]
    return fixed + [repr(row.values[name]) if name in row.values else "" for name in metrics]


def _harmless(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _lines(rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
