"""The last known state of every prompt, read in four statements."""

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.snapshot import PromptState, Snapshot, running_experiment
from storage.allocations import current_allocations
from storage.experiments import list_experiments
from storage.prompts import list_prompts, served_versions


async def read_snapshot(connection: AsyncConnection, *, now: dt.datetime) -> Snapshot:
    """What every prompt serves at this moment."""
    prompts = await list_prompts(connection)
    running = await list_experiments(connection, status="running", limit=100_000)
    allocations = await current_allocations(connection, {experiment.id for experiment in running})
    wanted = {active for _, _, active in prompts if active is not None}
    wanted |= {
        v.version_id for experiment in running for v in experiment.variants if v.version_id is not None
    }
    versions = await served_versions(connection, wanted)
    by_prompt = {
        experiment.prompt_id: running_experiment(experiment, allocations[experiment.id], versions)
        for experiment in running
    }
    states = [
        PromptState(
            prompt_id=prompt_id,
            prompt=name,
            active=versions.get(active) if active is not None else None,
            experiment=by_prompt.get(prompt_id),
        )
        for prompt_id, name, active in prompts
    ]
    return Snapshot(prompts={state.prompt: state for state in states}, taken_at=now)
