"""Any frame of units gives the same counts, in one pass that leaves lazy frames where they are."""

from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.io.plugins import register_io_source

import engine as ab

METRICS = (
    ab.Binary("resolved", goal=True),
    ab.Score("quality"),
    ab.Amount("duration_s", better="decrease"),
)
STUDY = ab.Study(
    arm="variant",
    control="v1",
    metrics=METRICS,
    segment="intent",
    allocation="allocation",
    probability="probability",
)


def units(n: int = 600, seed: int = 1) -> pl.DataFrame:
    """Two allocations, three segments, outcomes missing here and there."""
    rng = np.random.default_rng(seed)
    allocation = np.repeat([1, 2], [n // 2, n - n // 2])
    share = np.where(allocation == 1, 0.5, 0.2)
    second = rng.random(n) < share
    resolved = rng.random(n) < 0.6 + 0.1 * second
    quality = rng.integers(0, 101, n) / 100
    return pl.DataFrame(
        {
            "call": [f"call-{i}" for i in range(n)],
            "variant": np.where(second, "v2", "v1"),
            "allocation": allocation,
            "probability": np.where(second, share, 1.0 - share),
            "intent": [None if i % 7 == 0 else "refund" if i % 2 else "order" for i in range(n)],
            "resolved": pl.Series([None if i % 11 == 0 else bool(x) for i, x in enumerate(resolved)]),
            "quality": pl.Series([None if i % 5 == 0 else float(x) for i, x in enumerate(quality)]),
            "duration_s": rng.integers(1, 600, n),
        }
    )


FRAMES: dict[str, Callable[[pl.DataFrame], Any]] = {
    "polars": lambda frame: frame,
    "polars, lazy": lambda frame: frame.lazy(),
    "pandas": lambda frame: frame.to_pandas(),
    "pandas with arrow": lambda frame: frame.to_pandas(use_pyarrow_extension_array=True),
    "pyarrow": lambda frame: frame.to_arrow(),
    "DuckDB": lambda frame: duckdb.connect().from_arrow(frame.to_arrow()),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_every_frame_gives_the_sums_that_polars_gives_by_hand(kind):
    frame = units()
    counts = STUDY.count(FRAMES[kind](frame))
    assert counts.splits == {1: {"v1": 0.5, "v2": 0.5}, 2: {"v1": 0.8, "v2": 0.2}}
    assert counts.segments == ["", "order", "refund"]
    for (place, metric), cell in counts.cells.items():
        here = frame.filter(
            pl.col("variant") == place.arm,
            pl.col("allocation") == place.allocation,
            pl.col("intent").fill_null("") == place.segment,
        )
        if metric == "assigned":
            assert cell == (here.height, 0.0, 0.0)
            continue
        value = here[metric].drop_nulls().cast(pl.Float64)
        assert cell.n == value.len()
        assert cell.total == pytest.approx(value.sum(), rel=1e-14)
        assert cell.total_sq == pytest.approx((value * value).sum(), rel=1e-14)


@pytest.mark.parametrize("kind", ["polars, lazy", "DuckDB"])
def test_a_lazy_frame_is_collected_once_as_sums(kind, monkeypatch):
    collected: list[tuple[int, int]] = []
    collect = nw.LazyFrame.collect

    def watched(self: Any, *arguments: Any, **named: Any) -> Any:
        found = collect(self, *arguments, **named)
        collected.append(found.shape)
        return found

    monkeypatch.setattr(nw.LazyFrame, "collect", watched)
    frame = units()
    counts = STUDY.count(FRAMES[kind](frame))
    rows = frame.n_unique(subset=["variant", "allocation", "intent"])
    assert [height for height, _ in collected] == [rows]
    assert counts.units == frame.height


def test_the_sums_and_the_ends_of_a_lazy_frame_come_from_one_scan():
    """Else each file would be read twice."""
    frame, read = units(), []

    def source(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        read.append((predicate, n_rows))
        yield frame.select(with_columns or frame.columns)

    scan = register_io_source(source, schema=frame.schema)
    assert STUDY.count(scan).units == frame.height
    assert read == [(None, None)]


@given(st.integers(0, 200), st.randoms(use_true_random=False))
@settings(max_examples=8)
def test_parts_add_up_and_rows_come_in_any_order(cut, random):
    frame = units(200)
    order = list(range(200))
    random.shuffle(order)
    whole, mixed = STUDY.count(frame), STUDY.count(frame[order])
    parts = STUDY.count(frame[:cut]) + STUDY.count(frame[cut:])
    for other in (mixed, parts):
        assert other.cells.keys() == whole.cells.keys()
        for key, cell in whole.cells.items():
            assert other.cells[key] == pytest.approx(cell, rel=1e-13)


def test_numbers_may_be_narrow_integers_and_arms_may_be_numbers():
    study = ab.Study(arm="arm", control="0", metrics=[ab.Binary("good"), ab.Amount("seconds")])
    frame = pl.DataFrame(
        {"arm": [0, 0, 1, 1], "good": [1, 0, 1, 1], "seconds": [100, 100, 120, 127]},
        schema={"arm": pl.Int8, "good": pl.UInt8, "seconds": pl.Int8},
    )
    for given_frame in (frame, frame.to_pandas(), frame.to_arrow()):
        found = study.analyze(given_frame)
        assert found["seconds"]["1"].mean == 123.5
        assert found["good"]["0"].rate == 0.5


def test_units_without_an_arm_are_not_in_the_study():
    """Nor is a value of theirs that cannot be."""
    study = ab.Study(arm="arm", control="a", metrics=[ab.Binary("good"), ab.Score("quality")])
    frame = pl.DataFrame({"arm": ["a", "b", None], "good": [True, False, True], "quality": [0.5, None, 1.7]})
    for given_frame in (frame, frame.lazy(), frame.to_pandas(), frame.to_arrow()):
        assert study.count(given_frame).units == 2


def test_a_unit_whose_arm_is_not_a_number_is_not_looked_at():
    """Arms may be numbers, and then NaN stands for a missing one; here its outcome is impossible."""
    frame = pl.DataFrame({"variant": [1.0, 2.0, float("nan")], "resolved": [1.0, 0.0, 7.0]})
    study = ab.Study(arm="variant", control="1.0", metrics=METRICS[:1])
    assert [arm.n for arm in study.analyze(frame)["resolved"].arms.values()] == [1, 1]


BAD = {
    "a missing column": (
        {"variant": ["v1"], "quality": [0.5], "duration_s": [1.0]},
        "column 'resolved' is not in the frame; there are variant, quality, duration_s",
    ),
    "a score beyond 1": (
        {"variant": ["v1", "v2"], "resolved": [1, 1], "quality": [0.5, 1.7], "duration_s": [1.0, 1.0]},
        r"quality == 1\.7 of variant 'v2', must be in \[0, 1\]",
    ),
    "a half success": (
        {"variant": ["v1", "v2"], "resolved": [1, 0.5], "quality": [0.5, 0.7], "duration_s": [1.0, 1.0]},
        r"resolved == 0\.5 of variant 'v2', must be 0 or 1",
    ),
    "a negative amount": (
        {"variant": ["v1", "v2"], "resolved": [1, 0], "quality": [0.5, 0.7], "duration_s": [1.0, -1.0]},
        r"duration_s == -1 of variant 'v2', must be at least 0",
    ),
    "NaN": (
        {"variant": ["v1", "v2"], "resolved": [1, 0], "quality": [0.5, float("nan")], "duration_s": [1, 1]},
        "column 'quality' holds NaN, must hold numbers or null",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("kind", ["polars", "pyarrow", "DuckDB"])
def test_impossible_values_are_refused_by_name_value_and_bound(case, kind):
    columns, message = BAD[case]
    study = ab.Study(arm="variant", control="v1", metrics=METRICS)
    with pytest.raises(ValueError, match=message):
        study.analyze(FRAMES[kind](pl.DataFrame(columns, strict=False)))


def test_the_unit_is_named_where_its_column_is():
    study = ab.Study(arm="variant", control="v1", metrics=[ab.Score("quality")], unit="call")
    frame = pl.DataFrame({"call": ["x", "y"], "variant": ["v1", "v2"], "quality": [0.5, 2.0]})
    with pytest.raises(ValueError, match="quality == 2 of call 'y'"):
        study.analyze(frame)
    twice = pl.DataFrame({"call": ["x", "x"], "variant": ["v1", "v2"], "quality": [0.5, 0.2]})
    for given_frame in (
        twice,
        twice.lazy(),
        twice.to_pandas(),
        duckdb.connect().from_arrow(twice.to_arrow()),
    ):
        with pytest.raises(ValueError, match="call 'x' stands in 2 rows, must stand in one"):
            study.analyze(given_frame)


def test_probabilities_that_cannot_be_are_refused():
    study = ab.Study(arm="v", control="a", metrics=[ab.Binary("good")], probability="p")

    def frame(*rows: tuple[str, float | None]) -> pl.DataFrame:
        return pl.DataFrame({"v": [v for v, _ in rows], "p": [p for _, p in rows], "good": [1] * len(rows)})

    with pytest.raises(ValueError, match=r"probability == 50\.0 of arm 'b', must be in \(0, 1\]"):
        study.count(frame(("a", 0.5), ("b", 50.0)))
    with pytest.raises(ValueError, match=r"must be in \(0, 1\]"):
        study.count(frame(("a", None), ("b", 0.5)))
    with pytest.raises(ValueError, match="name the column of allocations"):
        study.count(frame(("a", 0.5), ("a", 0.6), ("b", 0.5)))
    with pytest.raises(ValueError, match=r"adds up to 0\.8, must be 1"):
        study.analyze(frame(("a", 0.5), ("b", 0.3)))
    by_allocation = ab.Study(
        arm="v", control="a", metrics=[ab.Binary("good")], probability="p", allocation="split"
    )
    rows = pl.DataFrame({"v": ["a", "b", "a"], "p": [0.5, 0.5, 0.9], "split": [1, 1, 2], "good": [1, 1, 1]})
    # Nobody got b in the second allocation: its share is what a leaves.
    assert by_allocation.analyze(rows).observed.probability[1].tolist() == pytest.approx([0.9, 0.1])


def test_what_is_no_frame_is_refused_with_what_would_be_one():
    with pytest.raises(TypeError, match=r"builtins\.int is no frame; give polars, pandas"):
        STUDY.analyze(3)


def test_arrow_and_pandas_frames_are_the_same_as_polars():
    frame = units()
    one = STUDY.analyze(frame).to_dict()
    for other in (pd.DataFrame(frame.to_dict(as_series=False)), pa.table(frame.to_dict(as_series=False))):
        assert STUDY.analyze(other).to_dict()["variants"][0]["units"] == one["variants"][0]["units"]
