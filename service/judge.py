"""Write down how an experiment stands, now and then, so that it can be seen how it came to stand so.

A report costs up to some tenths of a second. So it is made here, beside the calls, and whoever watches, be it
once a second, reads the rows.
"""

import asyncio
import datetime as dt
from collections.abc import Callable

from domain.experiments import Experiment
from domain.report import Report
from domain.standings import Judgement, Standing
from service.find import experiment_with_id
from service.known import Known, read_known
from service.plan import contrasts_of
from service.report import build_report
from storage.database import Database
from storage.locks import try_lock_experiment
from storage.standings import append_judgement, drop_standings, last_judged

LEAST_GAP_S = 60.0
MOST_GAP_S = 600.0  # whoever watches takes half an hour without a judgement for a fault
KEPT = dt.timedelta(days=90)


async def judge(
    database: Database, experiment_id: int, clock: Callable[[], dt.datetime], *, at_once: bool = False
) -> Judgement | None:
    """Note how a running experiment stands, if its policy's `every_s` is over: one minute to ten.

    Idempotent and one at a time an experiment, as the pass itself. Rows older than 90 days go.

    Parameters
    ----------
    at_once : do not wait.

    Returns
    -------
    What was noted; None where nothing was due.
    """
    now = clock()
    async with database.reading() as connection:
        experiment = await experiment_with_id(connection, experiment_id)
        last = await last_judged(connection, experiment_id)
        if not _is_due(experiment, last, now=now, at_once=at_once):
            return None
        known = await read_known(connection, experiment, now=now)
    # Not in the transaction that writes: on SQLite calls would wait for the end of the report.
    judgement = await asyncio.to_thread(lambda: judgement_of(known, build_report(known, now=now)))
    async with database.writing() as connection:
        held = await try_lock_experiment(connection, experiment_id)
        # Somebody else may have judged, or a manager may have stopped it, while the report was made.
        if not held or await last_judged(connection, experiment_id) != last:
            return None
        if (await experiment_with_id(connection, experiment_id)).status != "running":
            return None
        await append_judgement(connection, judgement)
        await drop_standings(connection, experiment_id, before=now - KEPT)
    return judgement


def _is_due(experiment: Experiment, last: dt.datetime | None, *, now: dt.datetime, at_once: bool) -> bool:
    if experiment.status != "running" or (last is not None and last >= now):
        return False
    gap = dt.timedelta(seconds=min(max(experiment.policy.every_s, LEAST_GAP_S), MOST_GAP_S))
    return at_once or last is None or now - last >= gap


def judgement_of(known: Known, report: Report) -> Judgement:
    """What a report says, as rows; a pure function."""
    ratio, recommendation = report.sample_ratio, report.recommendation
    return Judgement(
        experiment_id=known.experiment.id,
        experiment=report.experiment,
        policy=report.policy,
        at=report.as_of,
        action=recommendation.action,
        recommended=recommendation.variant,
        sample_ratio_e_value=ratio.e_value,
        sample_ratio_mismatch=ratio.mismatch,
        standings=tuple(_standing(known, report, index) for index in range(len(report.variants))),
    )


def _standing(known: Known, report: Report, index: int) -> Standing:
    experiment, said = known.experiment, report.variants[index]
    variant = experiment.variants[index]
    of_goal = {item.variant: item.always_valid for item in report.comparisons if item.metric == report.goal}
    test = of_goal.get(variant.key)
    return Standing(
        variant_id=variant.id,
        variant=variant.key,
        share_bp=known.current.split.get(variant.key, 0),
        assigned=said.assigned,
        matured=int(known.tally.units[:, index].sum()),
        told=said.metrics[report.goal].n,
        probability_best=said.probability_best,
        e_value=test.e_value if test else None,
        e_needed=contrasts_of(experiment, variant) / experiment.alpha if test else None,
    )
