"""The last known state of every prompt, read in a few statements."""

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.snapshot import PromptState, Snapshot, running_experiment
from storage.allocations import running_allocations
from storage.experiments import experiments_by_id
from storage.prompts import list_prompts, served_versions


async def read_snapshot(connection: AsyncConnection, *, now: dt.datetime) -> Snapshot:
    """What every prompt serves at this moment."""
    prompts = await list_prompts(connection)
    # Splits before variants: a variant that comes between the two has no share yet. The other way round
    # the split would give calls to a variant that nobody knows.
    allocations = await running_allocations(connection)
    known = await experiments_by_id(connection, set(allocations))
    running = [experiment for experiment in known.values() if experiment.status == "running"]
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
