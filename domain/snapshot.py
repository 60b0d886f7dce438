"""The last known state: everything needed to give a unit its variant without asking the database.

An assignment is a pure function of it, so any process that holds the same snapshot gives the same answer.
"""

import datetime as dt

from domain.allocations import Allocation
from domain.assignments import Assignment, Reason
from domain.experiments import Experiment
from domain.fields import BASIS_POINTS, Record
from domain.metrics import Metric
from domain.prompts import ServedVersion
from engine.assignment import arm_of, bucket


class ServedVariant(Record, frozen=True, kw_only=True):
    """A variant in the running split."""

    id: int
    key: str
    version: ServedVersion
    share_bp: int


class RunningExperiment(Record, frozen=True, kw_only=True):
    """The experiment that runs on a prompt, with its current allocation."""

    id: int
    key: str
    salt: str
    allocation_id: int
    served_since: dt.datetime
    variants: tuple[ServedVariant, ...]
    metrics: tuple[Metric, ...]


class PromptState(Record, frozen=True, kw_only=True):
    """What a prompt serves right now."""

    prompt_id: int
    prompt: str
    active: ServedVersion | None
    experiment: RunningExperiment | None


class Snapshot(Record, frozen=True, kw_only=True):
    """The state of every prompt by name, as read at `taken_at`."""

    prompts: dict[str, PromptState]
    taken_at: dt.datetime


def running_experiment(
    experiment: Experiment, allocation: Allocation, versions: dict[int, ServedVersion]
) -> RunningExperiment:
    """The experiment as `allocation` splits it; variants without a stored version cannot be served."""
    return RunningExperiment(
        id=experiment.id,
        key=experiment.key,
        salt=experiment.salt,
        served_since=allocation.created_at,
        allocation_id=allocation.id,
        variants=tuple(
            ServedVariant(
                id=variant.id,
                key=variant.key,
                version=versions[variant.version_id],
                share_bp=allocation.split.get(variant.key, 0),
            )
            for variant in experiment.variants
            if variant.version_id is not None
        ),
        metrics=experiment.metrics,
    )


def state_under(
    experiment: Experiment, allocation: Allocation, versions: dict[int, ServedVersion]
) -> PromptState:
    """What the prompt served while `allocation` stood; nothing for an experiment of imported calls."""
    running = running_experiment(experiment, allocation, versions)
    return PromptState(
        prompt_id=experiment.prompt_id,
        prompt=experiment.prompt,
        active=None,
        experiment=running if running.variants else None,
    )


def derive(
    state: PromptState, *, unit_id: str, segment: str | None, now: dt.datetime, reason: Reason | None = None
) -> Assignment | None:
    """What `unit_id` gets under this state; None when the prompt has nothing to serve.

    Parameters
    ----------
    state : the prompt's split or active version.
    segment : kept with the assignment, never used to choose.
    reason : overrides SPLIT / STATIC, for answers given while the database is away.
    """
    running = state.experiment
    if running is not None:
        arm = arm_of(bucket(running.salt, unit_id), [variant.share_bp for variant in running.variants])
        variant = running.variants[arm]
        return Assignment(
            prompt=state.prompt,
            prompt_id=state.prompt_id,
            unit_id=unit_id,
            version=variant.version,
            experiment=running.key,
            experiment_id=running.id,
            variant=variant.key,
            variant_id=variant.id,
            allocation=running.allocation_id,
            probability=variant.share_bp / BASIS_POINTS,
            segment=segment,
            reason=reason or "SPLIT",
            assigned_at=now,
        )
    if state.active is None:
        return None
    return Assignment(
        prompt=state.prompt,
        prompt_id=state.prompt_id,
        unit_id=unit_id,
        version=state.active,
        segment=segment,
        reason=reason or "STATIC",
        assigned_at=now,
    )
