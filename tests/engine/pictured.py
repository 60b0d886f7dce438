"""A study to draw pictures of, and how to read a picture's specification."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

import engine as ab

METRICS = (
    ab.Binary("resolved", goal=True),
    ab.Score("quality"),
    ab.Amount("duration_s", better="decrease"),
)
DAYS, PER_DAY = 8, 150
SPLITS = [[0.5, 0.3, 0.2], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6], [0.2, 0.1, 0.7]]


def calls() -> pl.DataFrame:
    """Eight days, a split that moves every other day, and a v3 that is better."""
    rng = np.random.default_rng(11)
    rows = []
    for day in range(DAYS):
        split = SPLITS[day // 2]
        for arm in rng.choice(3, size=PER_DAY, p=split):
            segment = str(rng.choice(["order", "refund"]))
            resolved = rng.random() < (0.45, 0.5, 0.8)[arm] - 0.1 * (segment == "refund")
            rows.append(
                {
                    "unit": len(rows),
                    "arm": f"v{arm + 1}",
                    "day": day,
                    "share": split[arm],
                    "intent": segment,
                    "resolved": bool(resolved),
                    "quality": float(np.clip(rng.normal(0.6 + 0.1 * arm, 0.2), 0.0, 1.0)),
                    "duration_s": float(rng.gamma(4.0, 40.0 - 3.0 * arm)),
                }
            )
    return pl.DataFrame(rows)


def study() -> ab.Findings:
    """What the eight days say, with e-values."""
    asked = ab.Study(
        arm="arm",
        control="v1",
        metrics=METRICS,
        segment="intent",
        allocation="day",
        probability="share",
        time="unit",
    )
    return asked.analyze(calls(), in_order=True)


def rows_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the picture and of all its parts, which travel within the specification."""
    inner = [row for part in ("layer", "vconcat") for each in spec.get(part, ()) for row in rows_of(each)]
    return spec.get("data", {}).get("values", []) + inner


def encodings(spec: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every channel of every layer."""
    if isinstance(spec, dict):
        yield from spec.get("encoding", {}).items()
        for part in ("layer", "vconcat"):
            for inner in spec.get(part, ()):
                yield from encodings(inner)


def titles(spec: dict[str, Any]) -> set[str]:
    return {
        channel["axis"]["title"] for _, channel in encodings(spec) if (channel.get("axis") or {}).get("title")
    }
