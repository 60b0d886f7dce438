"""Add an arm to a running experiment, or retire one: the split changes, the data stay."""

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import (
    ExperimentStopped,
    InvalidValue,
    LastVariants,
    VariantExists,
    VariantNotFound,
    VariantRetired,
    VersionOfOtherPrompt,
)
from domain.experiments import MAX_VARIANTS, Experiment, NewVariant, Variant, check_bounds
from engine.version import ENGINE_VERSION
from service.claims import claims_of, running_mask
from service.find import allocation_now, experiment_of, version_of
from service.known import read_known
from service.moves import entering_split, served_split_of
from service.split import live_variants
from storage.allocations import append_allocation
from storage.audit import append_audit
from storage.experiments import insert_variant
from storage.experiments import retire_variant as store_retired
from storage.locks import lock_experiment


async def add_variant(
    connection: AsyncConnection, key: str, new: NewVariant, *, actor: str, now: dt.datetime
) -> Experiment:
    """A new arm while the experiment runs, at `share` or the floor; the others keep their ratios.

    Raises
    ------
    ExperimentNotFound, ExperimentStopped, VariantExists, VersionNotFound, VersionOfOtherPrompt
    InvalidValue : no room for its share.
    """
    experiment = await _hold(connection, key)
    await _check_fits(connection, experiment, new)
    live = live_variants(experiment)
    check_bounds(experiment.policy, live=len(live) + 1)
    share = new.share if new.share is not None else _default_share(experiment)
    if not 0.0 < share < 1.0:
        raise InvalidValue(
            pointer="/share", problem=f"is {share:g}, must be in (0, 1); 0.05 gives it 5 % of calls"
        )
    await insert_variant(
        connection,
        experiment_id=experiment.id,
        key=new.key,
        position=len(experiment.variants),
        version_id=new.version_id,
        is_control=False,
        now=now,
    )
    current = (await allocation_now(connection, experiment)).split
    grown = await experiment_of(connection, key)
    served = await _served(connection, grown, now=now)
    split = entering_split(grown, served, current, key=new.key, share=share)
    await _serve(connection, grown, split, policy="variant added", now=now)
    await append_audit(
        connection,
        actor=actor,
        action="add_variant",
        record_type="experiment",
        record_id=key,
        now=now,
        after={"variant": new.key, "version_id": new.version_id, "share": share},
    )
    return grown


async def retire_variant(
    connection: AsyncConnection, key: str, variant_key: str, *, actor: str, now: dt.datetime
) -> Experiment:
    """Give a variant no more calls; the others share what it had in their ratios.

    Raises
    ------
    ExperimentNotFound, ExperimentStopped, VariantNotFound, VariantRetired
    LastVariants : it is the control, or the last one beside it.
    """
    experiment = await _hold(connection, key)
    variant = experiment.variant(variant_key)
    if variant is None:
        raise VariantNotFound(key=key, variant=variant_key)
    if not variant.live:
        raise VariantRetired(key=key, variant=variant_key)
    if variant.is_control:
        raise LastVariants(variant=variant_key, reason="it is the control that all others are compared with")
    rest = [other for other in live_variants(experiment) if other.key != variant_key]
    if len(rest) < 2:
        raise LastVariants(variant=variant_key, reason="only the control would be left")
    await store_retired(connection, variant.id, now)
    current = (await allocation_now(connection, experiment)).split
    # The others may have stood at 0 (shares 0, 0, 1): then they start even.
    left = sum(current[other.key] for other in rest)
    weights = {other.key: float(current[other.key]) if left else 1.0 for other in rest}
    shrunk = await experiment_of(connection, key)
    split = served_split_of(shrunk, await _served(connection, shrunk, now=now), weights)
    await _serve(connection, shrunk, split, policy="variant retired", now=now)
    await append_audit(
        connection,
        actor=actor,
        action="retire_variant",
        record_type="experiment",
        record_id=key,
        now=now,
        before={"variant": variant_key, "share_bp": current[variant_key]},
    )
    return shrunk


async def _hold(connection: AsyncConnection, key: str) -> Experiment:
    experiment = await experiment_of(connection, key)
    await lock_experiment(connection, experiment.id)
    experiment = await experiment_of(connection, key)
    if experiment.status != "running":
        raise ExperimentStopped(key=key)
    return experiment


async def _check_fits(connection: AsyncConnection, experiment: Experiment, new: NewVariant) -> None:
    if experiment.variant(new.key) is not None:
        raise VariantExists(key=experiment.key, what=f"a variant {new.key!r}")
    if any(variant.version_id == new.version_id for variant in experiment.variants):
        raise VariantExists(key=experiment.key, what=f"a variant with version {new.version_id}")
    if len(experiment.variants) >= MAX_VARIANTS:
        raise InvalidValue(
            pointer="/key", problem=f"an experiment has at most {MAX_VARIANTS} variants; start a new one"
        )
    version = await version_of(connection, new.version_id)
    if version.prompt != experiment.prompt:
        raise VersionOfOtherPrompt(version_id=new.version_id, other=version.prompt, prompt=experiment.prompt)


def _default_share(experiment: Experiment) -> float:
    if experiment.policy.name == "fixed":
        return 1.0 / (len(live_variants(experiment)) + 1)
    return experiment.policy.floor


async def _serve(
    connection: AsyncConnection,
    experiment: Experiment,
    split: dict[str, int],
    *,
    policy: str,
    now: dt.datetime,
) -> None:
    await append_allocation(
        connection,
        experiment_id=experiment.id,
        split=split,
        probability_best=None,
        policy=policy,
        counts={},
        engine_version=ENGINE_VERSION,
        now=now,
    )


async def _served(connection: AsyncConnection, experiment: Experiment, *, now: dt.datetime) -> list[Variant]:
    """Live variants but those that are proven worse or harmful: they stay at 0."""
    known = await read_known(connection, experiment, now=now, with_segments=False)
    running = running_mask(known, claims_of(known))
    return [variant for variant, is_running in zip(experiment.variants, running, strict=True) if is_running]
