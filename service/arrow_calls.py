"""Calls as Arrow batches: what a column is called and which type it has, in files and over HTTP alike.

pyarrow is no dependency of a server (the extra `science`); it is loaded when somebody asks for such a format.
"""

import asyncio
import datetime as dt
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.experiments import Experiment
from engine.extras import load
from storage.calls import CallRow, read_calls_since

if TYPE_CHECKING:
    import pyarrow as pa

type ArrowFormat = Literal["parquet", "arrow"]
PAGE = 10_000  # rows at once: one batch of Arrow, one row group of Parquet, about 5 MB
COMPRESSION = "zstd"
FIRST = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LAST = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
_FIXED = (
    *("unit_id", "prompt", "prompt_version", "experiment", "variant", "allocation", "probability"),
    *("segment", "assigned_at", "reason", "content_hash"),
)


def load_pyarrow() -> Any:
    """The module `pyarrow` with its parts for Parquet and streams.

    Raises
    ------
    ExtraMissing : it is not installed.
    """
    pa = load("pyarrow", extra="science", what="Parquet and Arrow")
    load("pyarrow.parquet", extra="science", what="Parquet and Arrow")
    return pa


def schema_of(
    experiment: Experiment, *, without: Sequence[str] = (), with_turns: bool = False
) -> "pa.Schema":
    """Fixed columns, then one of doubles for each metric (0 and 1 of a binary one), null where it is missing."""
    pa = load_pyarrow()
    types = {
        "prompt_version": pa.int32(),
        "allocation": pa.int64(),
        "probability": pa.float64(),
        "assigned_at": pa.timestamp("us", tz="UTC"),
    }
    fields = [(name, types.get(name, pa.string())) for name in _FIXED if name not in without]
    fields += [(column, pa.float64()) for column in metric_columns(experiment).values()]
    if with_turns:
        fields.append(("transcript", pa.string()))
    return pa.schema(fields)


def metric_columns(experiment: Experiment) -> dict[str, str]:
    """The column of each metric: its name, or metric_NAME where a fixed column has that name."""
    taken = {*_FIXED, "day", "transcript"}
    return {
        metric.name: f"metric_{metric.name}" if metric.name in taken else metric.name
        for metric in experiment.metrics
    }


def batch_of(rows: Sequence[CallRow], experiment: Experiment, schema: "pa.Schema") -> "pa.RecordBatch":
    """These calls as one batch."""
    pa = load_pyarrow()
    columns: dict[str, list[Any]] = {
        "unit_id": [row.unit_id for row in rows],
        "prompt": [experiment.prompt] * len(rows),
        "prompt_version": [row.version for row in rows],
        "experiment": [experiment.key] * len(rows),
        "variant": [row.variant for row in rows],
        "allocation": [row.allocation for row in rows],
        "probability": [row.probability for row in rows],
        "segment": [row.segment for row in rows],
        "assigned_at": [row.assigned_at for row in rows],
        "reason": [row.reason for row in rows],
        "content_hash": [row.content_hash for row in rows],
        "transcript": [row.turns and msgspec.json.encode(row.turns).decode() for row in rows],
    }
    for name, column in metric_columns(experiment).items():
        columns[column] = [row.values.get(name) for row in rows]
    arrays = [pa.array(columns[field.name], type=field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def open_writer(
    target: Any, schema: "pa.Schema", file_format: ArrowFormat, *, as_stream: bool = False
) -> Any:
    """A writer of batches into a path or a stream; it has `write_batch` and `close`."""
    pa = load_pyarrow()
    if file_format == "parquet":
        return pa.parquet.ParquetWriter(target, schema, compression=COMPRESSION)
    options = pa.ipc.IpcWriteOptions(compression=COMPRESSION)
    opened = pa.ipc.new_stream if as_stream else pa.ipc.new_file
    return opened(target, schema, options=options)


class Outflow(io.RawIOBase):
    """What was written and not yet taken; it only knows how much there was before."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, piece: Any, /) -> int:
        """Keep a copy: the writer reuses its memory."""
        self._pieces.append(bytes(piece))
        self._written += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        """Bytes written so far."""
        return self._written

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


async def calls_encoded(
    connection: AsyncConnection, experiment: Experiment, file_format: ArrowFormat
) -> AsyncIterator[bytes]:
    """Every call as one Parquet file or one Arrow stream, in pieces of a page each.

    Encoding goes on in a thread: 10 000 rows take some 20 ms, in which a server has calls to answer.
    """
    outflow = Outflow()
    schema = await asyncio.to_thread(schema_of, experiment)
    writer = await asyncio.to_thread(open_writer, outflow, schema, file_format, as_stream=True)
    try:
        async with aclosing(read_calls_since(connection, experiment, FIRST, LAST, limit=PAGE)) as pages:
            async for rows in pages:
                batch = await asyncio.to_thread(batch_of, rows, experiment, schema)
                await asyncio.to_thread(writer.write_batch, batch)
                yield outflow.take()
    finally:
        writer.close()
    yield outflow.take()
