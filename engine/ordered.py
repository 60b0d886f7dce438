"""Units of a frame in the order of their assignment, block by block, for the tests that bet on that order.

A second pass, and only when it is asked for: it sorts, which the sums do not need. A lazy frame is streamed, so
a block at a time is in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from typing import Any

import numpy as np

from engine.counts import Counts, Label, completed
from engine.evidence import Block
from engine.frames import Columns, checked_table
from engine.observed import Plan

UNITS_AT_ONCE = 100_000


def blocks_of_frame(frame: Any, columns: Columns, plan: Plan, counts: Counts) -> Iterator[Block]:
    """The units of the plan's arms, sorted by time, then by the unit's id where its column is named.

    Parameters
    ----------
    counts : Of the same frame: they hold the split of each allocation.

    Raises
    ------
    ValueError
        No column of times is named, or the splits are not known.
    """
    if columns.time is None:
        raise ValueError(
            "time == None, must name the column of assignment times; the tests read in that order"
        )
    if not counts.splits:
        raise ValueError(
            "the split is not known, must be; name the column of probabilities, or tell the splits"
        )
    split = {label: np.array(completed(label, known, plan.arms)) for label, known in counts.splits.items()}
    for part in _parts(_sorted(frame, columns)):
        yield _block(part, columns, plan, split)


def _sorted(frame: Any, columns: Columns) -> Any:
    import narwhals.stable.v2 as nw

    table = checked_table(frame, columns)
    order = [name for name in (columns.time, columns.unit) if name is not None]
    wanted = [nw.col(columns.arm).alias("arm")]
    if columns.allocation:
        wanted.append(nw.col(columns.allocation).alias("allocation"))
    wanted += [
        nw.col(metric.name).cast(nw.Float64).alias(f"x{index}")
        for index, metric in enumerate(columns.metrics)
    ]
    known = table.filter(~nw.col(columns.arm).is_null())
    return known.sort(*order).select(*wanted)


def _parts(table: Any) -> Iterator[Any]:
    """The frame in pieces that fit into memory, in order."""
    import narwhals.stable.v2 as nw

    native, kind = table.to_native(), table.implementation
    if kind.is_polars():
        pieces: Any = native.lazy().collect_batches(chunk_size=UNITS_AT_ONCE, maintain_order=True)
    elif kind.is_duckdb():
        pieces = _tables(native.to_arrow_reader(UNITS_AT_ONCE))
    elif kind.is_ibis():
        pieces = _tables(native.to_pyarrow_batches(chunk_size=UNITS_AT_ONCE))
    elif kind.is_pyspark():
        pieces = _tables_of_rows(native.toLocalIterator())
    else:
        pieces = [native] if isinstance(table, nw.DataFrame) else [table.collect().to_native()]
    for piece in pieces:
        yield nw.from_native(piece)


def _tables(batches: Any) -> Iterator[Any]:
    for batch in batches:
        yield _arrow().from_batches([batch])


def _tables_of_rows(rows: Any) -> Iterator[Any]:
    for some in batched(rows, UNITS_AT_ONCE):
        yield _arrow().from_pylist([row.asDict() for row in some])


def _arrow() -> Any:
    from pyarrow import Table

    return Table


def _block(part: Any, columns: Columns, plan: Plan, split: Mapping[Label, np.ndarray]) -> Block:
    labels = part["allocation"].to_list() if columns.allocation else [0] * len(part)
    return Block(
        arm=_positions([str(arm) for arm in part["arm"].to_list()], plan.arms),
        probability=_rows_of(labels, split),
        values={metric.name: _numbers(part[f"x{index}"]) for index, metric in enumerate(columns.metrics)},
    )


def _positions(names: Sequence[str], arms: Sequence[str]) -> np.ndarray:
    where = {arm: index for index, arm in enumerate(arms)}
    return np.array([where[name] for name in names], dtype=np.int64)


def _rows_of(labels: Sequence[Label], split: Mapping[Label, np.ndarray]) -> np.ndarray:
    known = list(split)
    where = {label: index for index, label in enumerate(known)}
    return np.stack([split[label] for label in known])[[where[label] for label in labels]]


def _numbers(series: Any) -> np.ndarray:
    """Nulls as nan."""
    return np.array([np.nan if value is None else value for value in series.to_list()], dtype=np.float64)
