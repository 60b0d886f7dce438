"""The experiment that imported variants become: stopped from the start, its variants without a version."""

import datetime as dt
import secrets
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import InvalidValue, NameTaken
from domain.experiments import Experiment, Policy
from domain.fields import BASIS_POINTS, ExperimentKey, Record
from domain.metrics import Metric
from engine.allocation import largest_remainder
from engine.version import ENGINE_VERSION
from service.find import allocation_now, experiment_of
from storage.allocations import append_allocation
from storage.audit import append_audit
from storage.experiments import find_experiment, insert_experiment, insert_variant, is_key_taken


class ImportedExperiment(Record, frozen=True, kw_only=True):
    """The experiment that imported variants become; `variants` are in order, the first is the control."""

    key: ExperimentKey
    variants: tuple[str, ...]
    metrics: tuple[Metric, ...]


async def find_or_store_experiment(
    connection: AsyncConnection,
    experiment: ImportedExperiment,
    *,
    prompt: str,
    prompt_id: int,
    shares: Sequence[float],
    actor: str,
    now: dt.datetime,
) -> Experiment:
    """The experiment of an earlier import, or a new one.

    Raises
    ------
    InvalidValue : the key belongs to an experiment of other variants.
    NameTaken : it belongs to one in another case.
    """
    found = await find_experiment(connection, experiment.key)
    if found is not None:
        _check_same(found, experiment, prompt)
        await _append_split(connection, found, experiment, shares, now=now)
        return found
    if await is_key_taken(connection, experiment.key):
        raise NameTaken(name=experiment.key)
    await _insert(connection, experiment, prompt_id=prompt_id, prompt=prompt, shares=shares, now=now)
    await append_audit(
        connection,
        actor=actor,
        action="import_experiment",
        record_type="experiment",
        record_id=experiment.key,
        now=now,
        after={"prompt": prompt, "variants": list(experiment.variants)},
    )
    return await experiment_of(connection, experiment.key)


def _check_same(found: Experiment, wanted: ImportedExperiment, prompt: str) -> None:
    if found.prompt != prompt or any(variant.version_id is not None for variant in found.variants):
        raise InvalidValue(
            pointer="/experiment", problem=f"{wanted.key!r} is another experiment; choose a new key"
        )
    missing = sorted(set(wanted.variants) - {variant.key for variant in found.variants})
    if missing:
        raise InvalidValue(
            pointer="/variant", problem=f"{missing} are not variants of {wanted.key!r}; choose a new key"
        )


async def _insert(
    connection: AsyncConnection,
    experiment: ImportedExperiment,
    *,
    prompt_id: int,
    prompt: str,
    shares: Sequence[float],
    now: dt.datetime,
) -> None:
    goal = next(metric for metric in experiment.metrics if metric.role == "goal")
    draft = Experiment(
        id=0,
        key=experiment.key,
        prompt_id=prompt_id,
        prompt=prompt,
        status="stopped",
        policy=Policy(name="fixed"),
        goal=goal.name,
        alpha=0.05,
        minimum_detectable_effect=0.05,
        baseline=0.5,
        maturity_s=0.0,
        min_days=0.0,
        salt=secrets.token_hex(16),
        metrics=experiment.metrics,
        variants=(),
        started_at=now,
        stopped_at=now,
    )
    experiment_id = await insert_experiment(connection, draft)
    for position, key in enumerate(experiment.variants):
        await insert_variant(
            connection,
            experiment_id=experiment_id,
            key=key,
            position=position,
            version_id=None,
            is_control=position == 0,
            now=now,
        )
    split = _split(experiment, shares)
    await append_allocation(
        connection,
        experiment_id=experiment_id,
        split=split,
        probability_best=None,
        policy="imported",
        counts={},
        engine_version=ENGINE_VERSION,
        now=now,
    )


async def _append_split(
    connection: AsyncConnection,
    found: Experiment,
    wanted: ImportedExperiment,
    shares: Sequence[float],
    *,
    now: dt.datetime,
) -> None:
    """Another file's shares are another allocation, for its new calls."""
    split = {variant.key: 0 for variant in found.variants} | _split(wanted, shares)
    if split != (await allocation_now(connection, found)).split:
        await append_allocation(
            connection,
            experiment_id=found.id,
            split=split,
            probability_best=None,
            policy="imported",
            counts={},
            engine_version=ENGINE_VERSION,
            now=now,
        )


def _split(experiment: ImportedExperiment, shares: Sequence[float]) -> dict[str, int]:
    """A variant that has calls was served, so its share is at least a basis point."""
    bounded = largest_remainder([max(share, 1.0 / BASIS_POINTS) for share in shares])
    return {key: int(bp) for key, bp in zip(experiment.variants, bounded, strict=True)}
