"""How does the time from a frame to a report grow, from 10^6 to 10^8 rows?

The same events as `benchmarks.frames`, written as Parquet in parts of 10^6 rows (2 GB at full size, below $TMPDIR)
and deleted at the end. polars gets them in memory (up to 10^7 rows) and as a lazy scan of the parts, DuckDB as a
relation over them; beside each stands the bare group-by of the same engine. The largest resident memory says that
nothing lazy was collected.

    python -m benchmarks.frame_sizes [--rows 100000000] [--rounds 3] [--write-docs]
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frames import bare, events, ours
from benchmarks.rivals import Figures, Question, Rival, main, rounded, seconds_per_call, table, told

ROWS, FOLDER = "BENCHMARKS_FRAME_ROWS", "BENCHMARKS_FRAME_FOLDER"
MOST_ROWS, LEAST_ROWS = 100_000_000, 1_000_000
MOST_IN_MEMORY = 10_000_000
PART = 1_000_000
OURS, LIMIT = "promptbandit", "bare group-by"
PEAK = "peak_mib"

type Work = Callable[[], object]


def sizes() -> list[int]:
    """Powers of ten up to the most, which comes last."""
    most = int(os.environ.get(ROWS, MOST_ROWS))
    return [*(size for size in (LEAST_ROWS, 10 * LEAST_ROWS) if size < most), most]


def parts(size: int) -> list[str]:
    """The first files, so many that they hold `size` rows."""
    return [str(file) for file in sorted(Path(os.environ[FOLDER]).glob("*.parquet"))[: -(-size // PART)]]


def write(folder: Path, size: int) -> None:
    """Events in files of 10^6 rows, each from a seed of its own."""
    for part in range(-(-size // PART)):
        rows = min(PART, size - part * PART)
        events(rows, seed=part).write_parquet(folder / f"part-{part:05}.parquet")


def in_memory(size: int) -> Any:
    import polars as pl

    return pl.read_parquet(parts(size))


def scanned(size: int) -> Any:
    import polars as pl

    return pl.scan_parquet(parts(size))


def related(size: int) -> Any:
    import duckdb

    return duckdb.connect().read_parquet(parts(size))


def bare_polars(frame: Any) -> Work:
    return bare(frame, engine="streaming")


def bare_duckdb(relation: Any) -> Work:
    """The same sums in SQL."""
    sums = ", ".join(
        [
            "count(*) AS len",
            "count(resolved) AS resolved_n",
            "count(*) FILTER (WHERE resolved) AS resolved",
            *(
                f"count({name}) AS {name}_n, sum({name}) AS {name}, sum({name} * {name}) AS {name}_sq"
                for name in ("quality", "duration_s")
            ),
        ]
    )
    return lambda: relation.aggregate(f"variant, {sums}", "variant").fetchall()


def measure(frame: Callable[[int], Any], prepare: Callable[[Any], Work], most: int) -> Figures:
    """Seconds by number of rows, and the largest resident memory of this process."""
    figures: Figures = {}
    prepare(frame(min(sizes())))()  # loads and compiles what is loaded and compiled once
    for size in sizes():
        if size <= most:
            figures[str(size)] = _seconds(prepare(frame(size)), size)
    figures[PEAK] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def _seconds(work: Work, size: int) -> float:
    if size <= MOST_IN_MEMORY:
        return seconds_per_call(work)
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


ENGINES: Mapping[str, tuple[Callable[[int], Any], Callable[[Any], Work], int, str]] = {
    "polars, in memory": (in_memory, bare_polars, MOST_IN_MEMORY, "polars"),
    "polars, lazy over Parquet": (scanned, bare_polars, MOST_ROWS, "polars"),
    "DuckDB over Parquet": (related, bare_duckdb, MOST_ROWS, "duckdb"),
}


def tables(rounds: Mapping[str, Sequence[Figures]]) -> str:
    """Time by number of rows for both, and their ratio, from the same round."""
    lines = []
    for engine in ENGINES:
        both = [rounds.get(f"{who}: {engine}") for who in (OURS, LIMIT)]
        if both[0] is None or both[1] is None:
            continue
        for who, found in zip((OURS, LIMIT), both, strict=True):
            times = [_cell([figures.get(str(size)) for figures in found], told) for size in sizes()]
            peak = rounded(max(figures[PEAK] for figures in found))
            lines.append([f"{engine}: {who}", *times, f"{peak} MiB"])
        ratios = [
            [
                mine[str(size)] / least[str(size)]
                for mine, least in zip(*both, strict=True)
                if str(size) in mine
            ]
            for size in sizes()
        ]
        lines.append([f"{engine}: ratio", *(_cell(ratio, _spread) for ratio in ratios), ""])
    return table(["", *(f"{size:,} rows".replace(",", " ") for size in sizes()), "most memory"], lines)


def _cell(values: Sequence[float | None], tell: Callable[[Sequence[float]], str]) -> str:
    known = [value for value in values if value is not None]
    return tell(known) if known else "not tried"


def _spread(ratios: Sequence[float]) -> str:
    return f"{np.median(ratios):.3g} ({min(ratios):.3g} - {max(ratios):.3g})"


QUESTION = Question(
    name="frame_sizes",
    rivals={
        f"{who}: {engine}": Rival(partial(measure, frame, prepare, most), (package, *needed))
        for engine, (frame, limit, most, package) in ENGINES.items()
        for who, prepare, needed in ((OURS, ours, ("narwhals",)), (LIMIT, limit, ()))
    },
    tables=tables,
    rounds=3,
)


def with_parts(question: Question) -> None:
    """Write the parts, ask, delete the parts; a rival finds them there."""
    if FOLDER in os.environ:
        main(question)
        return
    with tempfile.TemporaryDirectory(prefix="promptbandit-frames-") as folder:
        os.environ[FOLDER] = folder
        write(Path(folder), max(sizes()))
        main(question)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rows", type=int)
    options, rest = parser.parse_known_args()
    if options.rows or "--quick" in rest:
        os.environ[ROWS] = str(options.rows or LEAST_ROWS)
    sys.argv[1:] = rest
    with_parts(QUESTION)
