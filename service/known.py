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
from engine.observed import Observed, periods_of
from engine.prior import ArmPrior
from engine.tally import Tally
from service.arm_priors import read_priors
from service.plan import plan_of, tests_of
from service.statistics import probabilities, tally_by_allocation, tally_by_cell, tally_of_all
from storage.allocations import list_allocations
from storage.counts import CountColumn, CountRow, counts_by
from storage.evidence import find_evidence
from storage.recount import matured_counts_by

ALL = 2**31 - 1  # years of moves every few seconds


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
        n = self.tally.by_place(self.experiment.goal_metric.measure).n
        return periods_of(n, self.probability)

    @cached_property
    def strata(self) -> tuple[Tally, np.ndarray]:
        """Counts per stratum, a segment within a period, and the period of each, shape (stratum,)."""
        return tally_by_cell(self.experiment.variants, self.cells)

    @cached_property
    def observed(self) -> Observed:
        """The same as the engine takes it."""
        strata, period = self.strata
        uniform = (1.0, 1.0)
        priors = [self.priors.get(variant.key) for variant in self.experiment.variants]
        return Observed(
            plan=plan_of(self.experiment, self.current.split),
            tally=self.tally,
            probability=self.probability,
            period=self.periods,
            # Where calls have one segment at most, there is nothing to adjust for.
            strata=strata if len({row.segment for row in self.cells}) > 1 else None,
            stratum_period=period,
            tests=tests_of(self.evidence),
            priors=np.array([prior.shapes if prior else uniform for prior in priors]),
        )

    @property
    def current(self) -> Allocation:
        """The allocation that serves now, or served last."""
        return self.allocations[-1]


async def read_known(
    connection: AsyncConnection, experiment: Experiment, *, now: dt.datetime, with_segments: bool = True
) -> Known:
    """Everything about the experiment; a few queries whose cost does not grow with the calls."""
    allocations = await list_allocations(connection, experiment.id, limit=ALL)
    rows = await matured_counts(connection, experiment, ("allocation_id", "variant_id"), now=now)
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
    return replace(known, cells=await matured_counts(connection, experiment, keys, now=now, periods=first))


async def matured_counts(
    connection: AsyncConnection,
    experiment: Experiment,
    keys: Sequence[CountColumn],
    *,
    now: dt.datetime,
    periods: Sequence[int] = (),
) -> list[CountRow]:
    """Counts of the units that are older than the maturity window; see `counts_by`."""
    if experiment.maturity_s <= 0:
        return await counts_by(connection, experiment.id, keys, periods=periods)
    since = now - dt.timedelta(seconds=experiment.maturity_s)
    return await matured_counts_by(connection, experiment.id, keys, since=since, periods=periods)
