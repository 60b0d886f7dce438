"""From a frame of units to counts, in one group-by: polars, pandas, pyarrow, DuckDB, PySpark, Ibis.

What is lazy stays lazy: only the sums come into memory, a row per arm, allocation and segment. A null is a
missing outcome, never a failure. narwhals translates; it loads when the first frame comes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.counts import ALMOST, Cell, Counts, Label, Place, Splits, add_cell
from engine.metrics import ASSIGNED, Metric

type Row = Mapping[str, Any]
KEYS = ("arm", "allocation", "segment")


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns; metrics are columns of their own names."""

    arm: str
    metrics: tuple[Metric, ...]
    segment: str | None = None
    allocation: str | None = None
    probability: str | None = None
    unit: str | None = None
    time: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """Column by its role, those that were named."""
        of_role = {
            "arm": self.arm,
            "allocation": self.allocation,
            "segment": self.segment,
            "probability": self.probability,
            "unit": self.unit,
            "time": self.time,
        }
        return {role: name for role, name in of_role.items() if name is not None} | {
            metric.name: metric.name for metric in self.metrics
        }


def counts_of_frame(frame: Any, columns: Columns, *, splits: Splits | None = None) -> Counts:
    """Counts of a frame with a row per unit.

    Parameters
    ----------
    splits : The share of each arm, by allocation, where no column holds the probability of what a unit was given.

    Raises
    ------
    TypeError
        What is no frame that narwhals knows.
    ValueError
        A column that is not there, values that a metric cannot have, units that stand there twice,
        probabilities that are none or change within an allocation.
    """
    table = checked_table(frame, columns)
    _check_units(table, columns)
    grouped, ends = _summed(frame, table, columns)
    _check_ends(ends, table, columns)
    rows = [row for row in grouped if not _is_missing(row["arm"])]
    cells: dict[tuple[Place, str], Cell] = {}
    for row in rows:
        place = _place(row)
        add_cell(cells, (place, ASSIGNED), Cell(int(row["units"]), 0.0, 0.0))
        for index, metric in enumerate(columns.metrics):
            add_cell(cells, (place, metric.name), _cell(row, index, metric, table, columns))
    found = splits or (_splits(rows) if columns.probability else {})
    return Counts(cells, found)


def polars_frame(rows: Sequence[Row]) -> Any:
    """Rows that all have the same columns, as a polars frame."""
    import polars

    return polars.DataFrame(rows, infer_schema_length=None)


def checked_table(frame: Any, columns: Columns) -> Any:
    """The frame as narwhals sees it, with all columns; polars frames become lazy: their plan is optimised as one."""
    import narwhals.stable.v2 as nw

    try:
        table = nw.from_native(frame)
    except TypeError as error:
        raise TypeError(
            f"{type(frame).__module__}.{type(frame).__name__} is no frame; give polars, pandas, pyarrow, DuckDB, "
            "PySpark or Ibis, counts by metric and arm, or `Counts`"
        ) from error
    _check_columns(table, columns)
    return table.lazy() if table.implementation.is_polars() else table


def _check_columns(table: Any, columns: Columns) -> None:
    there = table.collect_schema().names()
    for role, name in columns.named.items():
        if name not in there:
            meant = "" if role == name else f" for the {role}"
            raise ValueError(f"column {name!r}{meant} is not in the frame; there are {', '.join(there)}")


def _summed(frame: Any, table: Any, columns: Columns) -> tuple[list[Row], list[Row]]:
    """The one pass over the data: the sums by arm, allocation and segment, and the ends of each metric's values.

    What is in memory is asked for the ends of whole columns, apart from the groups. A second look at what is lazy
    would read it again: there they come with the sums.
    """
    import narwhals.stable.v2 as nw

    whole, schema = nw.from_native(frame), table.collect_schema()
    given = [role for role in KEYS if role in columns.named]
    keys = [nw.col(columns.named[role]).alias(role) for role in given]
    # False and true are their own squares, and always possible.
    numbers = {
        index: metric for index, metric in enumerate(columns.metrics) if schema[metric.name] != nw.Boolean
    }
    values, sums = _sums(columns, numbers)
    grouped = table.select(*keys, *values).group_by(*given, drop_null_keys=False)
    if isinstance(whole, nw.LazyFrame):
        rows = _collected(grouped.agg(*sums, *_ends(numbers, lambda index: nw.col(f"x{index}"))))
        return rows, rows
    ends = _ends(numbers, lambda index: nw.col(numbers[index].name).cast(nw.Float64))
    return _collected(grouped.agg(*sums)), whole.select(*ends).rows(named=True) if ends else []


def _sums(columns: Columns, numbers: Mapping[int, Metric]) -> tuple[list[Any], list[Any]]:
    """Values, and of each their number, sum and sum of squares."""
    import narwhals.stable.v2 as nw

    values, sums = [], [nw.len().alias("units")]
    for index, metric in enumerate(columns.metrics):
        name, value = f"x{index}", nw.col(metric.name).cast(nw.Float64)
        values.append(value.alias(name))
        sums += [nw.col(name).count().alias(f"n{index}"), nw.col(name).sum().alias(f"total{index}")]
        if index in numbers:
            values.append((value * value).alias(f"xx{index}"))
            sums.append(nw.col(f"xx{index}").sum().alias(f"total_sq{index}"))
    if columns.probability:
        values.append(nw.col(columns.probability).cast(nw.Float64).alias("probability"))
        sums += [nw.col("probability").min().alias("least"), nw.col("probability").max().alias("most")]
    return values, sums


def _ends(numbers: Mapping[int, Metric], value: Callable[[int], Any]) -> list[Any]:
    """The least value, and the largest one where there is a bound to it."""
    ends = []
    for index, metric in numbers.items():
        ends.append(value(index).min().alias(f"low{index}"))
        if metric.kind != "amount":
            ends.append(value(index).max().alias(f"high{index}"))
    return ends


def _check_ends(ends: Sequence[Row], table: Any, columns: Columns) -> None:
    """Refuse values below or beyond what a metric can have."""
    for index, metric in enumerate(columns.metrics):
        for row in ends:
            low, high = row.get(f"low{index}"), row.get(f"high{index}")
            # No number where a place has no outcome. NaN compares as false; the sums tell of it.
            if (isinstance(low, float) and low < 0.0) or (isinstance(high, float) and high > 1.0):
                _refuse_impossible(table, metric, columns)


def _collected(found: Any) -> list[Row]:
    """The few rows that were asked for, in memory."""
    import narwhals.stable.v2 as nw

    if isinstance(found, nw.LazyFrame):
        # Batch by batch: a scan of files larger than memory stays one.
        found = found.collect(engine="streaming") if found.implementation.is_polars() else found.collect()
    return list(found.rows(named=True))


def _cell(row: Row, index: int, metric: Metric, table: Any, columns: Columns) -> Cell:
    """The sums of one metric in one place, after a look at what they say about the values."""
    n = int(row[f"n{index}"])
    if n == 0:
        return Cell(0, 0.0, 0.0)
    total = float(row[f"total{index}"])
    total_sq = float(row.get(f"total_sq{index}", total))
    if total != total:
        raise ValueError(
            f"column {metric.name!r} holds NaN, must hold numbers or null; write null for a missing outcome"
        )
    # Of numbers in [0, 1] only 0 and 1 are their own squares, so the sums agree for them alone.
    if metric.kind == "binary" and total_sq != total:
        _refuse_impossible(table, metric, columns)
    return Cell(n, total, total_sq)


def _refuse_impossible(table: Any, metric: Metric, columns: Columns) -> None:
    """Say which value of which unit cannot be; a second look, for the error alone.

    Those without an arm are not in the study.
    """
    import narwhals.stable.v2 as nw

    value = nw.col(metric.name).cast(nw.Float64)
    wrong = {
        "binary": (value != 0.0) & (value != 1.0),
        "score": (value < 0.0) | (value > 1.0),
        "amount": value < 0.0,
    }[metric.kind]
    bound = {"binary": "0 or 1", "score": "in [0, 1]", "amount": "at least 0"}[metric.kind]
    who = columns.unit or columns.arm
    nobody = nw.col(columns.arm).is_null()
    if table.collect_schema()[columns.arm].is_float():
        nobody |= nw.col(columns.arm).is_nan()
    units = table.filter(wrong & ~nobody)
    found = _collected(units.select(nw.col(who).alias("who"), value.alias("value")).head(1))
    for row in found:
        raise ValueError(
            f"{metric.name} == {row['value']:g} of {who} {row['who']!r}, must be {bound}; "
            "write null where the outcome is missing, or declare another kind of metric"
        )


def _check_units(table: Any, columns: Columns) -> None:
    """One row per unit; asked only where the column of units is named."""
    import narwhals.stable.v2 as nw

    if columns.unit is None:
        return
    unit = nw.col(columns.unit)
    (whole,) = _collected(table.select(nw.len().alias("rows"), unit.n_unique().alias("units")))
    if whole["rows"] == whole["units"]:
        return
    again = (
        table.select(unit.alias("unit")).group_by("unit", drop_null_keys=False).agg(nw.len().alias("rows"))
    )
    (row,) = _collected(again.filter(nw.col("rows") > 1).head(1))
    raise ValueError(
        f"{columns.unit} {row['unit']!r} stands in {row['rows']} rows, must stand in one; "
        "aggregate to a row per unit: the unit is what was randomised"
    )


def _splits(rows: Sequence[Row]) -> dict[Label, dict[str, float]]:
    """The splits, from the probability of what each unit was given; an arm without units does not say its own."""
    splits: dict[Label, dict[str, float]] = {}
    for row in rows:
        place, least, most = _place(row), row["least"], row["most"]
        if _is_missing(least) or not 0.0 < least <= most <= 1.0:
            wrong = least if _is_missing(least) or not least > 0.0 else most
            raise ValueError(
                f"probability == {wrong} of arm {place.arm!r}, must be in (0, 1]; log what each unit was given with"
            )
        known = splits.setdefault(place.allocation, {}).setdefault(place.arm, float(least))
        if max(most, known) - min(least, known) > ALMOST:
            raise ValueError(
                f"the probability of arm {place.arm!r} goes from {min(least, known):g} to {max(most, known):g} within "
                f"allocation {place.allocation!r}, must stand still; name the column of allocations"
            )
    return splits


def _place(row: Row) -> Place:
    segment = row.get("segment")
    allocation = row.get("allocation", 0)
    return Place(
        allocation.item() if hasattr(allocation, "item") else allocation,
        "" if _is_missing(segment) else str(segment),
        str(row["arm"]),
    )


def _is_missing(value: Any) -> bool:
    return value is None or value != value
