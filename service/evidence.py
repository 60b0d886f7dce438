"""Let the always-valid tests read the units that have settled since the last pass.

Units are read once, in the order of their assignment, so a pass costs what is new. A unit has settled when
it is older than the maturity window: its outcome is there by then, or counts as missing. Without a window a
unit settles with its outcome, and the units behind it wait, up to an hour.
"""

import asyncio
import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.evidence import Evidence, Process
from domain.experiments import Experiment, Variant
from domain.metrics import Metric
from engine.evidence import begin, claims_about, possible, read_pair
from engine.metrics import Claim
from engine.sequential import EProcess
from storage.allocations import allocations_by_id
from storage.evidence import UnitOutcome, find_evidence, store_evidence, units_after

PATIENCE = dt.timedelta(hours=1)  # for an outcome that has no maturity window
# A transaction that began before the pass may commit a little later; its unit must not be read past.
COMMITTING = dt.timedelta(seconds=2)
UNITS_AT_ONCE = 5_000


async def gather_evidence(
    connection: AsyncConnection,
    experiment: Experiment,
    *,
    now: dt.datetime,
    ended: bool = False,
    anew: bool = False,
) -> bool:
    """Let the tests of every metric read on. The caller holds the experiment's lock.

    Parameters
    ----------
    ended : nothing more will come: everything is read, and units without an outcome are not waited for.
    anew : read every unit again, from the first; for imported calls, which come in any order of time.

    Returns
    -------
    Whether settled units are left for another pass: a transaction reads at most 5 000, since on SQLite
    calls wait for its end.
    """
    ended = ended or experiment.status == "stopped"
    known = {} if anew else await find_evidence(connection, experiment.id)
    is_behind = False
    for metric in experiment.metrics:
        if not claims_about(metric.measure):
            continue  # without an upper bound there is no bet that cannot be lost
        before = known.get(metric.name, Evidence(metric=metric.name))
        after, has_more = await _read_on(connection, experiment, metric, before, now=now, ended=ended)
        while has_more and ended:
            after, has_more = await _read_on(connection, experiment, metric, after, now=now, ended=ended)
        if after.units != before.units or anew or ended:
            await store_evidence(connection, experiment.id, after, now=now)
        is_behind |= has_more
    return is_behind


async def _read_on(
    connection: AsyncConnection,
    experiment: Experiment,
    metric: Metric,
    evidence: Evidence,
    *,
    now: dt.datetime,
    ended: bool,
) -> tuple[Evidence, bool]:
    """The tests after the next units, and whether there are more."""
    until = now - dt.timedelta(seconds=experiment.maturity_s)
    patience = dt.timedelta(0) if experiment.maturity_s > 0 or ended else PATIENCE
    newest = until if ended else min(until, now - COMMITTING)
    units = await units_after(connection, experiment.id, evidence, until=newest, limit=UNITS_AT_ONCE)
    settled = _settled(units, until - patience)
    if not settled:
        return evidence, False
    allocations = await allocations_by_id(connection, {unit.allocation_id for unit in settled})
    splits = {allocation.id: allocation.split for allocation in allocations.values()}
    # In a thread: calls wait for the loop.
    after = await asyncio.to_thread(read_units, experiment, metric, evidence, settled, splits)
    return after, len(settled) == UNITS_AT_ONCE


def _settled(units: Sequence[UnitOutcome], given_up: dt.datetime) -> Sequence[UnitOutcome]:
    """The units before the first one that is still waited for."""
    for index, unit in enumerate(units):
        if unit.value is None and unit.reason == "SPLIT" and unit.assigned_at > given_up:
            return units[:index]
    return units


def read_units(
    experiment: Experiment,
    metric: Metric,
    evidence: Evidence,
    units: Sequence[UnitOutcome],
    splits: dict[int, dict[str, int]],
) -> Evidence:
    """The tests of one metric after these units; a pure function.

    Parameters
    ----------
    units : settled, in the order of their assignment, at least one.
    splits : of their allocations, in basis points by variant key.
    """
    measure = metric.measure
    value = possible(measure, np.array([np.nan if unit.value is None else unit.value for unit in units]))
    variant = np.array([unit.variant_id for unit in units])
    # Given while the database was away: known late or from its outcome, so not in the order of assignment.
    bets = np.array([unit.reason == "SPLIT" for unit in units])
    control = experiment.control
    processes = []
    for other in experiment.variants:
        if other.is_control:
            continue
        pair = (variant == other.id) | (variant == control.id)
        share = np.where(bets, _shares(other, control, units, splits), 0.0)
        tests = {
            claim: _restore(evidence.process(other.key, claim), claim, metric, experiment)
            for claim in claims_about(measure)
        }
        after = read_pair(measure, tests, value[pair], variant[pair] == other.id, share[pair])
        processes += [_keep(other.key, claim, test) for claim, test in after.items()]
    last = units[-1]
    return Evidence(
        metric=metric.name,
        read_until=last.assigned_at,
        unit_id=last.unit_id,
        units=evidence.units + len(units),
        missing=evidence.missing + int(np.isnan(value).sum()),
        processes=tuple(processes),
    )


def _shares(
    variant: Variant, control: Variant, units: Sequence[UnitOutcome], splits: dict[int, dict[str, int]]
) -> np.ndarray:
    """Probability of the variant among variant and control, per unit; 0 where neither was served."""
    of_allocation = {}
    for allocation_id, split in splits.items():
        mine, theirs = split.get(variant.key, 0), split.get(control.key, 0)
        of_allocation[allocation_id] = mine / (mine + theirs) if mine + theirs else 0.0
    return np.array([of_allocation[unit.allocation_id] for unit in units])


def _restore(process: Process | None, claim: Claim, metric: Metric, experiment: Experiment) -> EProcess:
    fresh = begin(claim, metric.measure, effect=experiment.minimum_detectable_effect)
    if process is None:
        return fresh
    return replace(
        fresh,
        n=np.array(process.n),
        total=np.array(process.total),
        total_sq=np.array(process.total_sq),
        log_wealth=np.array(process.log_wealth),
        log_e_max=np.array(process.log_e_max),
    )


def _keep(variant: str, claim: Claim, test: EProcess) -> Process:
    return Process(
        variant=variant,
        claim=claim,
        n=(float(test.n[0]), float(test.n[1])),
        total=(float(test.total[0]), float(test.total[1])),
        total_sq=float(test.total_sq),
        log_wealth=tuple(float(value) for value in test.log_wealth),
        log_e_max=float(test.log_e_max),
    )
