"""Start an experiment: from now on every new unit of the prompt is randomised."""

import datetime as dt
import secrets

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import ExperimentRunning, InvalidValue, NameTaken, NotAnAbTest, VersionOfOtherPrompt
from domain.experiments import (
    Experiment,
    NewAbTest,
    NewExperiment,
    NewPolicy,
    NewVariant,
    check_new_experiment,
    policy_of,
    shares_of,
)
from domain.metrics import Metric, declare
from engine.allocation import largest_remainder
from engine.version import ENGINE_VERSION
from service.find import experiment_of, prompt_id_named, version_of
from storage.allocations import append_allocation
from storage.audit import append_audit
from storage.experiments import find_running, insert_experiment, insert_variant, is_key_taken
from storage.locks import lock_prompt
from storage.prompts import prompt_id_of


async def start_experiment(
    connection: AsyncConnection, new: NewExperiment, *, actor: str, now: dt.datetime, salt: str | None = None
) -> Experiment:
    """Store and start it, with its first allocation: the shares as given, or even ones.

    Parameters
    ----------
    salt : 128 random bits (hex) that make this experiment's assignments independent of any other's.

    Raises
    ------
    InvalidValue, PromptNotFound, VersionNotFound, VersionOfOtherPrompt : the request does not fit.
    NameTaken, ExperimentRunning : it conflicts with what is stored.
    """
    check_new_experiment(new)
    metrics = declare(new.metrics, goal=new.goal)
    _check_effect(new, metrics)
    prompt_id = await prompt_id_named(connection, new.prompt)
    await lock_prompt(connection, prompt_id)
    if await is_key_taken(connection, new.key):
        raise NameTaken(name=new.key)
    running = await find_running(connection, prompt_id)
    if running is not None:
        raise ExperimentRunning(key=running.key, prompt=new.prompt)
    for index, variant in enumerate(new.variants):
        await _check_version(connection, variant, index, new.prompt, prompt_id)
    draft = _draft(new, metrics, prompt_id=prompt_id, now=now, salt=salt or secrets.token_hex(16))
    experiment_id = await insert_experiment(connection, draft)
    for position, variant in enumerate(new.variants):
        await insert_variant(
            connection,
            experiment_id=experiment_id,
            key=variant.key,
            position=position,
            version_id=variant.version_id,
            is_control=variant.key == new.control,
            now=now,
        )
    shares = largest_remainder(shares_of(new.variants))
    await append_allocation(
        connection,
        experiment_id=experiment_id,
        split={v.key: int(bp) for v, bp in zip(new.variants, shares, strict=True)},
        probability_best=None,
        policy="start",
        counts={},
        engine_version=ENGINE_VERSION,
        now=now,
    )
    await append_audit(
        connection,
        actor=actor,
        action="start_experiment",
        record_type="experiment",
        record_id=new.key,
        now=now,
        after=msgspec.to_builtins(new),
    )
    return await experiment_of(connection, new.key)


async def start_ab_test(
    connection: AsyncConnection, new: NewAbTest, *, actor: str, now: dt.datetime
) -> Experiment:
    """Start an experiment with two variants a (the control) and b under a split that stands still."""
    version = await version_of(connection, new.variant_a_id)
    shares = {"a": 1.0 - new.traffic_split, "b": new.traffic_split}
    return await start_experiment(
        connection,
        NewExperiment(
            key=new.test_name,
            prompt=version.prompt,
            variants=[
                NewVariant(key="a", version_id=new.variant_a_id, share=shares["a"]),
                NewVariant(key="b", version_id=new.variant_b_id, share=shares["b"]),
            ],
            control="a",
            policy=NewPolicy(name="fixed"),
        ),
        actor=actor,
        now=now,
    )


async def ab_test_of(connection: AsyncConnection, key: str) -> Experiment:
    """The experiment seen as an A/B test; NotAnAbTest when it has more or fewer than two variants."""
    experiment = await experiment_of(connection, key)
    if len(experiment.variants) != 2:
        raise NotAnAbTest(key=experiment.key, variants=len(experiment.variants))
    return experiment


def _check_effect(new: NewExperiment, metrics: tuple[Metric, ...]) -> None:
    """The improvement that is planned for must be possible in the goal's direction, too."""
    goal = next(metric for metric in metrics if metric.role == "goal")
    if goal.kind == "binary" and goal.direction == "decrease":
        if new.baseline - new.minimum_detectable_effect > 0.0:
            return
        raise InvalidValue(
            pointer="/minimum_detectable_effect",
            problem=f"baseline {new.baseline:g} - effect {new.minimum_detectable_effect:g} must stay above 0: "
            f"less {goal.name!r} is better",
        )


async def _check_version(
    connection: AsyncConnection, variant: NewVariant, index: int, prompt: str, prompt_id: int
) -> None:
    owner = await prompt_id_of(connection, variant.version_id)
    if owner is None:
        raise InvalidValue(
            pointer=f"/variants/{index}/version_id",
            problem=f"there is no prompt version {variant.version_id}; GET /prompts lists all",
        )
    if owner != prompt_id:
        other = await version_of(connection, variant.version_id)
        raise VersionOfOtherPrompt(version_id=variant.version_id, other=other.prompt, prompt=prompt)


def _draft(
    new: NewExperiment, metrics: tuple[Metric, ...], *, prompt_id: int, now: dt.datetime, salt: str
) -> Experiment:
    return Experiment(
        id=0,
        key=new.key,
        prompt_id=prompt_id,
        prompt=new.prompt,
        status="running",
        policy=policy_of(new.policy, variants=len(new.variants)),
        goal=next(metric.name for metric in metrics if metric.role == "goal"),
        alpha=new.alpha,
        minimum_detectable_effect=new.minimum_detectable_effect,
        baseline=new.baseline,
        maturity_s=new.maturity_s,
        min_days=new.min_days,
        salt=salt,
        metrics=metrics,
        variants=(),
        started_at=now,
    )
