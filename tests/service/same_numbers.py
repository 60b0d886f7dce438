"""One experiment with three metrics, three segments and a split that moved, and how it is told in other ways."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
import sqlalchemy as sa

import engine as ab
from domain.experiments import NewPolicy
from storage.database import Database
from storage.schema import allocations, assignments, outcomes, variants
from tests.service.world import DAY, NOW, move, play, start, stop

KEY = "greeting"
STUDY = ab.Study(
    arm="variant",
    control="a",
    metrics=[
        ab.Binary("resolved", goal=True),
        ab.Score("quality"),
        ab.Amount("duration_s", better="decrease"),
    ],
    segment="intent",
    allocation="allocation",
    probability="probability",
)
IN_ORDER = replace(STUDY, time="assigned_at", unit="call")
IN_LAKE = replace(STUDY, segment="segment", unit="unit_id")  # as `promptbandit export` calls the columns
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "data-science.md"
SEGMENTS = ("refund", "order", "delivery")
CALLS = 400  # under each split


async def fill(database: Database) -> None:
    """The experiment, stopped at the end: nothing moves while it is read."""
    policy = NewPolicy(name="thompson", every_s=86_400.0, burn_in=0)
    experiment = await start(database, key=KEY, arms="abc", policy=policy)
    rng = np.random.default_rng(7)
    for turn in range(3):
        at = NOW + turn * DAY
        if turn:
            assert (
                await move(database, experiment, now=at - dt.timedelta(hours=12), force=True)
            ).outcome == "moved"
        await play(
            database,
            experiment,
            CALLS,
            lambda key, index: _told(rng, key, index),
            prefix=f"call-{turn}",
            now=at,
            segment_of=lambda index: SEGMENTS[index % 3],
        )
    await stop(database, now=NOW + 3 * DAY)


def _told(rng: np.random.Generator, key: str, index: int) -> dict[str, Any]:
    better = {"a": 0.0, "b": 0.03, "c": -0.02}[key] + 0.1 * (index % 3)
    quality = round(float(rng.beta(5.0 + 5.0 * better, 3.0)), 2)
    told = {
        "resolved": bool(rng.random() < 0.5 + better),
        "quality": quality,
        "duration_s": round(float(rng.gamma(4.0, 45.0)), 1),
    }
    return {name: value for name, value in told.items() if rng.random() > 0.06}


async def units_of(database: Database) -> pl.DataFrame:
    """A row per call, as somebody would export them."""
    a = assignments.c
    query = (
        sa.select(
            a.unit_id.label("call"),
            variants.c.key.label("variant"),
            allocations.c.number.label("allocation"),
            a.probability,
            a.segment.label("intent"),
            a.assigned_at,
        )
        .join(variants, variants.c.id == a.variant_id)
        .join(allocations, allocations.c.id == a.allocation_id)
        .order_by(a.unit_id)
    )
    async with database.reading() as connection:
        calls = pl.DataFrame([dict(row) for row in (await connection.execute(query)).mappings()])
        told = (
            await connection.execute(sa.select(outcomes.c.unit_id, outcomes.c.metric, outcomes.c.value))
        ).all()
    values = pl.DataFrame([tuple(row) for row in told], schema=["call", "metric", "value"], orient="row")
    frame = calls.join(values.pivot("metric", index="call", values="value"), on="call", how="left")
    return frame.with_columns(pl.col("resolved").cast(pl.Boolean))


@contextmanager
def brought_into_memory() -> Iterator[list[int]]:
    """How many rows each lazy frame had that came into memory; the engine has no other way than this one."""
    heights: list[int] = []
    collect = nw.LazyFrame.collect

    def counted(*arguments: Any, **named: Any) -> Any:
        found = collect(*arguments, **named)
        heights.append(len(found))
        return found

    with patch.object(nw.LazyFrame, "collect", counted):
        yield heights


def told_on_spark() -> str:
    """What the guide for data scientists writes for Spark."""
    (block,) = [part for part in GUIDE.read_text().split("```python\n") if "spark.read" in part]
    return block.split("```")[0]


def shared(report: dict[str, Any]) -> dict[str, Any]:
    """What counts alone decide: no e-values, no names of what only a server knows."""
    of_metric = ("n", "mean", "interval", "posterior")
    of_ratio = ("e_value", "p_value", "fixed_p_value", "mismatch", "expected")
    return {
        "variants": [
            {
                "key": variant["key"],
                "paused": variant["paused"],
                "missing": variant["missing"],
                "probability_best": variant["probability_best"],
                "expected_loss": variant["expected_loss"],
                "metrics": {
                    name: {part: summary[part] for part in of_metric}
                    for name, summary in variant["metrics"].items()
                },
            }
            for variant in report["variants"]
        ],
        "comparisons": [
            {name: value for name, value in item.items() if name != "always_valid"}
            | {"sequence": item["always_valid"]["interval"]}
            for item in report["comparisons"]
        ],
        "sample_ratio": {name: report["sample_ratio"][name] for name in of_ratio},
    }


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """Every leaf by its path."""
    if isinstance(value, dict):
        return {
            path: leaf for name, part in value.items() for path, leaf in flat(part, f"{at}/{name}").items()
        }
    if isinstance(value, list | tuple):
        return {path: leaf for i, part in enumerate(value) for path, leaf in flat(part, f"{at}/{i}").items()}
    return {at: value}
