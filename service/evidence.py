"""From stored counts to the engine's values: arms in the order of the variants."""

import datetime as dt
from collections.abc import Sequence

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.experiments import Experiment, Variant
from domain.metrics import ASSIGNED, Metric
from engine.statistics import BinaryCounts, Moments
from storage.counts import CountRow, counts_by_variant
from storage.recount import matured_counts_by_variant

Statistics = BinaryCounts | Moments


async def matured_counts(
    connection: AsyncConnection, experiment: Experiment, *, now: dt.datetime
) -> list[CountRow]:
    """Counts per variant and metric of the units older than the maturity window.

    Only these move the split and the test: units that are still on the phone would let long calls
    look like missing ones.
    """
    if experiment.maturity_s <= 0:
        return await counts_by_variant(connection, experiment.id)
    since = now - dt.timedelta(seconds=experiment.maturity_s)
    return await matured_counts_by_variant(connection, experiment.id, since=since)


def statistics_of(metric: Metric, variants: Sequence[Variant], rows: Sequence[CountRow]) -> Statistics:
    """One metric's sufficient statistics, shape (variant,), in the metric's own unit and direction."""
    by_variant = {row.variant_id: row for row in rows if row.metric == metric.name}
    mine = [by_variant.get(variant.id) for variant in variants]
    n = np.array([row.n if row else 0 for row in mine], dtype=np.int64)
    total = np.array([row.total if row else 0.0 for row in mine])
    if metric.kind == "binary":
        return BinaryCounts(n=n, successes=np.rint(total).astype(np.int64))
    return _moments(n, total, np.array([row.total_sq if row else 0.0 for row in mine]))


def _moments(n: np.ndarray, total: np.ndarray, total_sq: np.ndarray) -> Moments:
    """Sums that numbers >= 0 can have: 0.9 + 0.7 - 0.9 - 0.7 is 1.1e-16, the squares -5.6e-17."""
    total = np.where(n > 0, np.maximum(total, 0.0), 0.0)
    least = total / np.maximum(n, 1) * total  # no numbers of this sum have smaller squares
    return Moments(n=n, total=total, total_sq=np.where(n > 0, np.maximum(total_sq, least), 0.0))


def higher_is_better(metric: Metric, statistics: Statistics) -> Statistics:
    """The same statistics turned so that more is better; the only place where direction is resolved."""
    return statistics.flipped() if metric.direction == "decrease" else statistics


def assigned_units(variants: Sequence[Variant], rows: Sequence[CountRow]) -> list[int]:
    """How many units each variant was given."""
    by_variant = {row.variant_id: row.n for row in rows if row.metric == ASSIGNED}
    return [by_variant.get(variant.id, 0) for variant in variants]
