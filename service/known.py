"""What is stored of an experiment, read once; everything that judges it is a pure function of this."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.allocations import Allocation
from domain.evidence import Evidence
from domain.experiments import Experiment
from engine.periods import merge_allocations
from engine.prior import ArmPrior
from service.arm_priors import read_priors
from service.statistics import probabilities, statistics_by_allocation
from storage.allocations import list_allocations
from storage.counts import CountColumn, CountRow, counts_by
from storage.evidence import find_evidence
from storage.recount import matured_counts_by

MOST_ALLOCATIONS = 100_000
MOST_PERIODS = 60  # more make no difference to a mean, and each costs a branch of a query


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """An experiment and its counts.

    Attributes
    ----------
    allocations : All, in the order of time.
    rows : Matured counts per allocation, variant and metric. Only these move the split and the tests: units
        that are still on the phone would let long calls look like missing ones.
    told : All counts so far per variant and metric.
    cells : Matured counts per period (its first allocation), segment, variant and metric.
    evidence : The always-valid tests after their last pass, by metric.
    priors : Of variants that came later, by key; the others have Beta(1, 1).
    """

    experiment: Experiment
    allocations: Sequence[Allocation]
    rows: Sequence[CountRow]
    told: Sequence[CountRow]
    cells: Sequence[CountRow] = ()
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    priors: Mapping[str, ArmPrior] = field(default_factory=dict)

    @property
    def periods(self) -> np.ndarray:
        """Which period each allocation belongs to, shape (allocation,)."""
        return periods_of(self.experiment, self.allocations, self.rows)

    @property
    def control(self) -> int:
        """The control's position among the variants."""
        return next(i for i, variant in enumerate(self.experiment.variants) if variant.is_control)

    @property
    def contrasts(self) -> int:
        """Variants beside the control that were ever compared with it."""
        return len(self.experiment.variants) - 1

    @property
    def current(self) -> Allocation:
        """The allocation that serves now, or served last."""
        return self.allocations[-1]


async def read_known(
    connection: AsyncConnection, experiment: Experiment, *, now: dt.datetime, with_segments: bool = True
) -> Known:
    """Everything about the experiment; a few queries whose cost does not grow with the calls."""
    allocations = await list_allocations(connection, experiment.id, limit=MOST_ALLOCATIONS)
    rows = await _matured(connection, experiment, ("allocation_id", "variant_id"), now=now)
    cells: Sequence[CountRow] = ()
    if with_segments:
        periods = periods_of(experiment, allocations, rows)
        first = [allocations[int(i)].id for i in np.unique(periods, return_index=True)[1]]
        keys: tuple[CountColumn, ...] = ("allocation_id", "variant_id", "segment")
        cells = await _matured(connection, experiment, keys, now=now, periods=first)
    told = await counts_by(connection, experiment.id, ("variant_id",)) if experiment.maturity_s > 0 else rows
    return Known(
        experiment=experiment,
        allocations=allocations,
        rows=rows,
        told=told,
        cells=cells,
        evidence=await find_evidence(connection, experiment.id),
        priors=await read_priors(connection, experiment, rows),
    )


def periods_of(
    experiment: Experiment, allocations: Sequence[Allocation], rows: Sequence[CountRow]
) -> np.ndarray:
    """Allocations merged into periods by the goal's outcomes, at most about 60 of them."""
    variants = experiment.variants
    n = statistics_by_allocation(experiment.goal_metric, variants, allocations, rows).n
    least = max(20, int(n.sum()) // (MOST_PERIODS * len(variants)))
    return merge_allocations(n, probabilities(variants, allocations) > 0.0, least=least)


async def _matured(
    connection: AsyncConnection,
    experiment: Experiment,
    keys: Sequence[CountColumn],
    *,
    now: dt.datetime,
    periods: Sequence[int] = (),
) -> list[CountRow]:
    if experiment.maturity_s <= 0:
        return await counts_by(connection, experiment.id, keys, periods=periods)
    since = now - dt.timedelta(seconds=experiment.maturity_s)
    return await matured_counts_by(connection, experiment.id, keys, since=since, periods=periods)
