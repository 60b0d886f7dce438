"""Look a record up or say that it is not there."""

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.allocations import Allocation
from domain.errors import (
    ExperimentNotFound,
    PromptNotFound,
    SuggestionDecided,
    SuggestionNotFound,
    VersionNotFound,
)
from domain.experiments import Experiment
from domain.prompts import PromptVersion
from domain.suggestions import Suggestion
from storage.allocations import current_allocation
from storage.experiments import find_experiment, find_experiment_by_id
from storage.locks import lock_prompt
from storage.prompts import find_prompt_id, find_version
from storage.suggestions import find_suggestion


async def prompt_id_named(connection: AsyncConnection, name: str) -> int:
    """The prompt's id, or PromptNotFound."""
    prompt_id = await find_prompt_id(connection, name)
    if prompt_id is None:
        raise PromptNotFound(name=name)
    return prompt_id


async def version_of(connection: AsyncConnection, version_id: int) -> PromptVersion:
    """The version, or VersionNotFound."""
    version = await find_version(connection, version_id)
    if version is None:
        raise VersionNotFound(version_id=version_id)
    return version


async def suggestion_of(connection: AsyncConnection, suggestion_id: int) -> Suggestion:
    """The suggestion, or SuggestionNotFound."""
    suggestion = await find_suggestion(connection, suggestion_id)
    if suggestion is None:
        raise SuggestionNotFound(suggestion_id=suggestion_id)
    return suggestion


async def pending_suggestion(connection: AsyncConnection, suggestion_id: int) -> Suggestion:
    """The suggestion, under its prompt's lock; SuggestionDecided unless it waits."""
    suggestion = await suggestion_of(connection, suggestion_id)
    await lock_prompt(connection, await prompt_id_named(connection, suggestion.prompt))
    suggestion = await suggestion_of(connection, suggestion_id)
    if suggestion.status != "pending":
        raise SuggestionDecided(suggestion_id=suggestion_id, status=suggestion.status)
    return suggestion


async def experiment_of(connection: AsyncConnection, key: str) -> Experiment:
    """The experiment, or ExperimentNotFound."""
    experiment = await find_experiment(connection, key)
    if experiment is None:
        raise ExperimentNotFound(key=key)
    return experiment


async def experiment_with_id(connection: AsyncConnection, experiment_id: int) -> Experiment:
    """The experiment, or ExperimentNotFound."""
    experiment = await find_experiment_by_id(connection, experiment_id)
    if experiment is None:
        raise ExperimentNotFound(key=str(experiment_id))
    return experiment


async def allocation_now(connection: AsyncConnection, experiment: Experiment) -> Allocation:
    """The allocation that serves now; every experiment has one from its first moment."""
    allocation = await current_allocation(connection, experiment.id)
    assert allocation is not None, f"experiment {experiment.key} has no allocation"
    return allocation
