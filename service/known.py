"""What is stored of an experiment, read once; everything that judges it is a pure function of this."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.allocations import Allocation
from domain.evidence import Evidence
from domain.experiments import Experiment
from engine.periods import LEAST_PER_ARM, merge_allocations
from engine.prior import ArmPrior
from service.arm_priors import read_priors
from service.statistics import Tally, probabilities, tally_by_allocation, tally_by_cell, tally_of_all
from storage.allocations import list_allocations
from storage.counts import CountColumn, CountRow, counts_by
from storage.evidence import find_evidence
from storage.recount import matured_counts_by

ALL = 2**31 - 1  # years of moves every few seconds
MOST_PERIODS = 60  # more make no difference to a mean, and each costs a branch of a query


@dataclass(frozen=True, eq=False)
class Known:
    """An experiment and its counts.

    Attributes
    ----------
    allocations : All, in the order of time.
    tally : Matured counts per allocation. Only these move the split and the tests: units that are still on
        the phone would let long calls look like missing ones.
    told : All counts so far.
    cells : Matured counts per segment and period (its first allocation).
    evidence : The always-valid tests after their last pass, by metric.
    priors : Of variants that came later, by key; the others have Beta(1, 1).
    """

    experiment: Experiment
    allocations: Sequence[Allocation]
    tally: Tally
    told: Tally
    cells: Sequence[CountRow] = ()
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    priors: Mapping[str, ArmPrior] = field(default_factory=dict)

    @cached_property
    def probability(self) -> np.ndarray:
        """The splits, shape (allocation, variant)."""
        return probabilities(self.experiment.variants, self.allocations)

    @cached_property
    def periods(self) -> np.ndarray:
        """Which period each allocation belongs to, shape (allocation,)."""
        return _periods(self.experiment, self.tally, self.probability)

    @cached_property
    def strata(self) -> tuple[Tally, np.ndarray]:
        """Counts per stratum, a segment within a period, and the period of each, shape (stratum,)."""
        return tally_by_cell(self.experiment.variants, self.cells)

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
    allocations = await list_allocations(connection, experiment.id, limit=ALL)
    rows = await _matured(connection, experiment, ("allocation_id", "variant_id"), now=now)
    tally = tally_by_allocation(experiment.variants, allocations, rows)
    told = tally_of_all(
        experiment.variants,
        await counts_by(connection, experiment.id, ("variant_id",)) if experiment.maturity_s > 0 else rows,
    )
    known = Known(
        experiment=experiment,
        allocations=allocations,
        tally=tally,
        told=told,
        evidence=await find_evidence(connection, experiment.id),
        priors=await read_priors(connection, experiment, tally),
    )
    if not with_segments:
        return known
    first = [allocations[int(i)].id for i in np.unique(known.periods, return_index=True)[1]]
    keys: tuple[CountColumn, ...] = ("allocation_id", "variant_id", "segment")
    return replace(known, cells=await _matured(connection, experiment, keys, now=now, periods=first))


def _periods(experiment: Experiment, tally: Tally, probability: np.ndarray) -> np.ndarray:
    """Allocations merged into periods by the goal's outcomes, at most about 60 of them."""
    n = tally.by_place(experiment.goal_metric).n
    least = max(LEAST_PER_ARM, int(n.sum()) // (MOST_PERIODS * len(experiment.variants)))
    return merge_allocations(n, probability > 0.0, least=least)


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
