"""Experiments with their variants and metrics."""

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.experiments import Experiment, Policy, Variant
from domain.fields import folded
from domain.metrics import Metric
from storage.schema import experiments as e
from storage.schema import metrics as m
from storage.schema import prompts as p
from storage.schema import variants as v

_EXPERIMENTS = (
    sa.select(e, p.c.name.label("prompt"))
    .select_from(e.join(p, e.c.prompt_id == p.c.id))
    .order_by(e.c.started_at.desc(), e.c.id.desc())
)


def _variant(row: sa.Row[Any]) -> Variant:
    return Variant(
        id=row.id,
        key=row.key,
        position=row.position,
        version_id=row.version_id,
        is_control=row.is_control,
        live=row.status == "live",
        created_at=row.created_at,
        retired_at=row.retired_at,
    )


def _metric(row: sa.Row[Any]) -> Metric:
    return Metric(
        name=row.name,
        kind=row.kind,
        direction=row.direction,
        unit=row.unit,
        role=row.role,
        margin=row.margin,
    )


def _experiment(row: sa.Row[Any], variants: list[Variant], metrics: list[Metric]) -> Experiment:
    return Experiment(
        id=row.id,
        key=row.key,
        prompt_id=row.prompt_id,
        prompt=row.prompt,
        status=row.status,
        policy=msgspec.convert(row.policy, Policy),
        goal=row.goal,
        alpha=row.alpha,
        minimum_detectable_effect=row.minimum_detectable_effect,
        baseline=row.baseline,
        maturity_s=row.maturity_s,
        min_days=row.min_days,
        salt=row.salt,
        metrics=tuple(metrics),
        variants=tuple(variants),
        started_at=row.started_at,
        stopped_at=row.stopped_at,
        decision=row.decision,
    )


async def _whole(connection: AsyncConnection, rows: Sequence[sa.Row[Any]]) -> list[Experiment]:
    ids = [row.id for row in rows]
    variants: dict[int, list[Variant]] = defaultdict(list)
    metrics: dict[int, list[Metric]] = defaultdict(list)
    if ids:
        variant_rows = sa.select(v).where(v.c.experiment_id.in_(ids)).order_by(v.c.position)
        for row in await connection.execute(variant_rows):
            variants[row.experiment_id].append(_variant(row))
        metric_rows = sa.select(m).where(m.c.experiment_id.in_(ids)).order_by(m.c.position)
        for row in await connection.execute(metric_rows):
            metrics[row.experiment_id].append(_metric(row))
    return [_experiment(row, variants[row.id], metrics[row.id]) for row in rows]


async def find_experiment(connection: AsyncConnection, key: str) -> Experiment | None:
    """The experiment of exactly this key."""
    rows = (await connection.execute(_EXPERIMENTS.where(e.c.key == key))).all()
    return next(iter(await _whole(connection, rows)), None)


async def find_experiment_by_id(connection: AsyncConnection, experiment_id: int) -> Experiment | None:
    """The experiment of this id."""
    rows = (await connection.execute(_EXPERIMENTS.where(e.c.id == experiment_id))).all()
    return next(iter(await _whole(connection, rows)), None)


async def experiments_by_id(connection: AsyncConnection, ids: set[int]) -> dict[int, Experiment]:
    """Several experiments by id."""
    rows = (await connection.execute(_EXPERIMENTS.where(e.c.id.in_(ids)))).all()
    return {experiment.id: experiment for experiment in await _whole(connection, rows)}


async def metrics_of(connection: AsyncConnection, ids: set[int]) -> dict[int, dict[str, Metric]]:
    """The declared metrics of several experiments, by experiment and name."""
    found: dict[int, dict[str, Metric]] = {id_: {} for id_ in ids}
    for row in await connection.execute(sa.select(m).where(m.c.experiment_id.in_(ids))):
        found[row.experiment_id][row.name] = _metric(row)
    return found


async def is_key_taken(connection: AsyncConnection, key: str) -> bool:
    """Whether an experiment has this key, whatever the case."""
    return await connection.scalar(sa.select(e.c.id).where(e.c.key_folded == folded(key))) is not None


async def list_experiments(
    connection: AsyncConnection, *, status: str | None = None, limit: int = 1_000, offset: int = 0
) -> list[Experiment]:
    """Experiments, the newest first."""
    query = _EXPERIMENTS.limit(limit).offset(offset)
    if status is not None:
        query = query.where(e.c.status == status)
    return await _whole(connection, (await connection.execute(query)).all())


async def list_two_variant_experiments(
    connection: AsyncConnection, *, limit: int = 1_000, offset: int = 0
) -> list[Experiment]:
    """Experiments that can be seen as an A/B test, the newest first."""
    pairs = sa.select(v.c.experiment_id).group_by(v.c.experiment_id).having(sa.func.count() == 2)
    query = _EXPERIMENTS.where(e.c.id.in_(pairs)).limit(limit).offset(offset)
    return await _whole(connection, (await connection.execute(query)).all())


async def find_running(connection: AsyncConnection, prompt_id: int) -> Experiment | None:
    """The experiment that runs on a prompt."""
    query = _EXPERIMENTS.where(e.c.prompt_id == prompt_id, e.c.status == "running")
    return next(iter(await _whole(connection, (await connection.execute(query)).all())), None)


async def insert_experiment(connection: AsyncConnection, experiment: Experiment) -> int:
    """Store the experiment with its metrics (not its variants); its id. `experiment.id` is ignored."""
    query = (
        sa.insert(e)
        .values(
            key=experiment.key,
            key_folded=folded(experiment.key),
            prompt_id=experiment.prompt_id,
            status=experiment.status,
            policy=msgspec.to_builtins(experiment.policy),
            goal=experiment.goal,
            alpha=experiment.alpha,
            minimum_detectable_effect=experiment.minimum_detectable_effect,
            baseline=experiment.baseline,
            maturity_s=experiment.maturity_s,
            min_days=experiment.min_days,
            salt=experiment.salt,
            started_at=experiment.started_at,
            stopped_at=experiment.stopped_at,
        )
        .returning(e.c.id)
    )
    experiment_id = int((await connection.execute(query)).scalar_one())
    rows = [
        {"experiment_id": experiment_id, "position": position, **msgspec.to_builtins(metric)}
        for position, metric in enumerate(experiment.metrics)
    ]
    insert = sa.insert(m).returning(m.c.name)  # RETURNING: see storage.database
    await connection.execute(insert, rows)
    return experiment_id


async def insert_variant(
    connection: AsyncConnection,
    *,
    experiment_id: int,
    key: str,
    position: int,
    version_id: int | None,
    is_control: bool,
    now: dt.datetime,
) -> int:
    """A live variant; its id."""
    query = (
        sa.insert(v)
        .values(
            experiment_id=experiment_id,
            key=key,
            position=position,
            version_id=version_id,
            is_control=is_control,
            status="live",
            created_at=now,
        )
        .returning(v.c.id)
    )
    return int((await connection.execute(query)).scalar_one())


async def retire_variant(connection: AsyncConnection, variant_id: int, now: dt.datetime) -> None:
    """The variant gets no more calls; its data stay."""
    await connection.execute(
        sa.update(v).where(v.c.id == variant_id).values(status="retired", retired_at=now)
    )


async def stop_experiment(
    connection: AsyncConnection,
    experiment_id: int,
    *,
    decision: dict[str, Any],
    final_report: dict[str, Any],
    now: dt.datetime,
) -> None:
    """Running becomes stopped, with the report as it was and the decision."""
    await connection.execute(
        sa.update(e)
        .where(e.c.id == experiment_id)
        .values(status="stopped", stopped_at=now, decision=decision, final_report=final_report)
    )


async def final_report(connection: AsyncConnection, experiment_id: int) -> dict[str, Any] | None:
    """The report as it was when the experiment was stopped."""
    return await connection.scalar(sa.select(e.c.final_report).where(e.c.id == experiment_id))
