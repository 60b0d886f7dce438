"""Stop an experiment: freeze its report, and make the winner active if one is named."""

import asyncio
import datetime as dt
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import ExperimentStopped, NoVersion, VariantNotFound
from domain.experiments import Experiment
from service.activate_version import activate_version
from service.evidence import gather_evidence
from service.find import experiment_of
from service.judge import judgement_of
from service.known import read_known
from service.report import build_report
from storage.audit import append_audit
from storage.experiments import stop_experiment as store_stopped
from storage.locks import lock_experiment, lock_prompt
from storage.standings import append_judgement, last_judged


async def stop_experiment(
    connection: AsyncConnection, key: str, *, winner: str | None, actor: str, now: dt.datetime
) -> Experiment:
    """Running becomes stopped; new units get the active version from now on.

    Raises
    ------
    ExperimentNotFound, ExperimentStopped, VariantNotFound, NoVersion
    """
    experiment = await experiment_of(connection, key)
    # The prompt before the experiment, as everybody who needs both: no circle of waiting.
    await lock_prompt(connection, experiment.prompt_id)
    await lock_experiment(connection, experiment.id)
    experiment = await experiment_of(connection, key)
    # Asked first: an imported experiment is stopped from the start, and its variants cannot win at all.
    version_id = _winning_version(experiment, winner)
    if experiment.status != "running":
        raise ExperimentStopped(key=key)
    await gather_evidence(connection, experiment, now=now, ended=True)
    known = await read_known(connection, experiment, now=now)
    frozen = await asyncio.to_thread(build_report, known, now=now)
    decision: dict[str, Any] = {
        "winner": winner,
        "version_id": version_id,
        "by": actor,
        "at": now.isoformat(),
    }
    await store_stopped(
        connection, experiment.id, decision=decision, final_report=msgspec.to_builtins(frozen), now=now
    )
    if await last_judged(connection, experiment.id) != now:
        await append_judgement(connection, judgement_of(known, frozen))
    await append_audit(
        connection,
        actor=actor,
        action="stop_experiment",
        record_type="experiment",
        record_id=key,
        now=now,
        after=decision | {"recommendation": frozen.recommendation.action},
    )
    if version_id is not None:
        await activate_version(connection, version_id, actor=actor, now=now)
    return await experiment_of(connection, key)


def _winning_version(experiment: Experiment, winner: str | None) -> int | None:
    if winner is None:
        return None
    variant = experiment.variant(winner)
    if variant is None:
        raise VariantNotFound(key=experiment.key, variant=winner)
    if variant.version_id is None:
        raise NoVersion(key=experiment.key, variant=winner)
    return variant.version_id
