"""From a frame of events to everything that is known: what does it cost beside the group-by that it needs?

A frame of 10^7 rows and 3 metrics, outcomes missing here and there. The limit is a bare polars group-by of the
same sums, by the faster one of its two engines: no report can be made of less. Peers get what they are made for,
the same frame, and answer less: tea-tasting a test per metric, bayesian-testing P(best) per metric by its default
of 20 000 draws.

    python -m benchmarks.frames [--rows 10000000] [--rounds 5] [--write-docs]
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.rivals import Figures, Question, Rival, is_quick, main, seconds_per_call, table, told

ROWS = "BENCHMARKS_ROWS"
MOST_ROWS = 10_000_000
ARMS = ("v1", "v2", "v3")
OURS = "promptbandit"
LIMIT = "bare polars group-by"


def rows() -> int:
    return int(os.environ.get(ROWS, 100_000 if is_quick() else MOST_ROWS))


def frame() -> Any:
    """All events, in memory."""
    return events(rows(), seed=1)


def events(n: int, *, seed: int) -> Any:
    """Events: an arm, a success, a score, a duration; one outcome in twenty is missing."""
    import polars as pl

    rng = np.random.default_rng(seed)
    arm = rng.integers(len(ARMS), size=n)
    known = {name: rng.random(n) > 0.05 for name in ("resolved", "quality", "duration_s")}
    return pl.DataFrame(
        {
            "variant": pl.Series(list(ARMS)).gather(arm),
            "resolved": rng.random(n) < 0.7 + 0.01 * arm,
            "quality": rng.beta(5.0, 3.0, n),
            "duration_s": rng.gamma(4.0, 45.0, n),
        }
    ).with_columns(
        pl.when(pl.Series(known[name])).then(pl.col(name)).alias(name)
        for name in ("resolved", "quality", "duration_s")
    )


def bare(units: Any, *, engine: str = "streaming") -> Callable[[], Any]:
    """n, sum and sum of squares of each metric and arm, as one would write it by hand.

    Nobody squares what is true or false, and the squares come first: polars then sums whole columns.
    """
    import polars as pl

    names, numbers = ("resolved", "quality", "duration_s"), ("quality", "duration_s")
    squares = [(pl.col(name) * pl.col(name)).alias(f"{name}_sq") for name in numbers]
    sums = [
        pl.len(),
        *(pl.col(name).count().name.suffix("_n") for name in names),
        *(pl.col(name).sum() for name in (*names, *(f"{name}_sq" for name in numbers))),
    ]
    plan = units.lazy().select("variant", *names, *squares).group_by("variant").agg(*sums)
    return lambda: plan.collect(engine=engine)


def least_bare(units: Any) -> Figures:
    """By the engine that is faster here."""
    seconds = {engine: seconds_per_call(bare(units, engine=engine)) for engine in ("streaming", "in-memory")}
    return {"seconds": min(seconds.values()), "engines": seconds}


def study() -> Any:
    import engine as ab

    return ab.Study(
        arm="variant",
        control="v1",
        metrics=[
            ab.Binary("resolved", goal=True),
            ab.Score("quality"),
            ab.Amount("duration_s", better="decrease"),
        ],
    )


def ours(units: Any) -> Callable[[], object]:
    asked = study()
    return lambda: asked.analyze(units).to_dict()


def tea_tasting(units: Any) -> Callable[[], object]:
    """Proportion and means, every variant against the control."""
    import polars as pl
    import tea_tasting as tt

    experiment = tt.Experiment(
        resolved=tt.Mean("resolved"),
        quality=tt.Mean("quality"),
        duration_s=tt.Mean("duration_s"),
        variant="variant",
    )
    numbers = units.with_columns(pl.col("resolved").cast(pl.Float64))
    return lambda: experiment.analyze(numbers, control="v1", all_variants=True)


def bayesian_testing(units: Any) -> Callable[[], object]:
    """It takes arrays, an arm at a time."""
    import polars as pl
    from bayesian_testing.experiments import BinaryDataTest, NormalDataTest

    def answer() -> object:
        found = []
        for name, kind in (
            ("resolved", BinaryDataTest),
            ("quality", NormalDataTest),
            ("duration_s", NormalDataTest),
        ):
            test = kind()
            for arm in ARMS:
                values = units.filter(pl.col("variant") == arm)[name].drop_nulls().cast(pl.Float64)
                test.add_variant_data(arm, values.to_numpy())
            found.append(test.evaluate())
        return found

    return answer


def measure(prepare: Callable[[Any], Callable[[], object]]) -> Figures:
    return {"rows": rows(), "seconds": seconds_per_call(prepare(frame()))}


def measure_limit() -> Figures:
    return {"rows": rows()} | least_bare(frame())


def tables(rounds: Mapping[str, Sequence[Figures]]) -> str:
    """Time, and how many times the limit, each pair from the same round."""
    limit = np.array([figures["seconds"] for figures in rounds[LIMIT]])
    lines = []
    for name, found in rounds.items():
        seconds = np.array([figures["seconds"] for figures in found])
        ratios = seconds / limit
        lines.append(
            [
                name,
                told(seconds.tolist()),
                f"{np.median(ratios):.3g} ({ratios.min():.3g} - {ratios.max():.3g})",
            ]
        )
    size = rounds[LIMIT][0]["rows"]
    return table([f"{size:,} rows".replace(",", " "), "time", f"÷ {LIMIT}"], lines)


QUESTION = Question(
    name="frames",
    rivals={
        OURS: Rival(partial(measure, ours), ("numpy", "scipy", "polars", "narwhals")),
        LIMIT: Rival(measure_limit, ("polars",)),
        "tea-tasting": Rival(partial(measure, tea_tasting), ("tea-tasting",)),
        "bayesian-testing": Rival(partial(measure, bayesian_testing), ("bayesian-testing",)),
    },
    tables=tables,
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rows", type=int)
    options, rest = parser.parse_known_args()
    if options.rows:
        os.environ[ROWS] = str(options.rows)
    sys.argv[1:] = rest
    main(QUESTION)
