"""Record the assignments of outcomes that tell what their call was given.

An allocation is enough: an assignment is a pure function of it, so what a client derived without a server
is derived again here. The hash of the text alone tells that the call was in no experiment.
"""

import datetime as dt
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment, Given
from domain.errors import AllocationNotFound, ContentMismatch, DomainError
from domain.metrics import Metric
from domain.outcomes import NewOutcome, check_time, settle
from domain.prompts import ServedVersion
from domain.snapshot import PromptState, derive, state_under
from service.recording import keep_assignments
from storage.allocations import allocations_by_id
from storage.experiments import experiments_by_id
from storage.outcomes import Unit
from storage.prompts import served_versions, version_ids_of


async def rederive(
    connection: AsyncConnection,
    unplaced: Mapping[int, tuple[Unit, NewOutcome]],
    *,
    now: dt.datetime,
) -> tuple[dict[Unit, Given], dict[int, DomainError]]:
    """Record what these outcomes' units were given, where they tell it; the units have no assignment yet.

    Returns
    -------
    The assignments that stand now, and the outcomes (by index) whose allocation is none of their prompt's or
    that will be rejected anyway: those leave no assignment behind.
    """
    told = {
        index: item
        for index, item in unplaced.items()
        if item[1].allocation is not None or item[1].content_hash is not None
    }
    if not told:
        return {}, {}
    found = await _propose(connection, told, now=now)
    failures = {index: item for index, item in found.items() if isinstance(item, DomainError)}
    proposals: dict[Unit, Assignment] = {}
    for index, item in found.items():
        if isinstance(item, Assignment):
            proposals.setdefault(told[index][0], item)
    if not proposals:
        return {}, failures
    standing = await keep_assignments(connection, list(proposals.values()))
    return {unit: assignment.given() for unit, assignment in standing.items()}, failures


async def _propose(
    connection: AsyncConnection, told: Mapping[int, tuple[Unit, NewOutcome]], *, now: dt.datetime
) -> dict[int, Assignment | DomainError]:
    states = await _states(connection, {new.allocation for _, new in told.values() if new.allocation})
    texts = {
        (unit[0], new.content_hash) for unit, new in told.values() if not new.allocation and new.content_hash
    }
    versions = await version_ids_of(connection, texts) if texts else {}
    return {
        index: _under_allocation(unit, new, states, now=now)
        if new.allocation is not None
        else _outside(unit, new, versions, now=now)
        for index, (unit, new) in told.items()
    }


def _under_allocation(
    unit: Unit, new: NewOutcome, states: dict[int, PromptState], *, now: dt.datetime
) -> Assignment | DomainError:
    """What the unit was given under the allocation that its outcome tells."""
    assert new.allocation is not None
    state = states.get(new.allocation)
    if state is None or state.prompt_id != unit[0]:
        return AllocationNotFound(allocation=new.allocation)
    when = min(new.occurred_at or now, now)
    proposal = derive(state, unit_id=new.unit_id, segment=new.segment, now=when, reason="STALE")
    if proposal is None or state.experiment is None:
        return AllocationNotFound(allocation=new.allocation)
    if new.content_hash is not None and new.content_hash != proposal.version.content_hash:
        return ContentMismatch(
            unit_id=new.unit_id, recorded=proposal.version.content_hash, told=new.content_hash
        )
    # An outcome that will be rejected must not leave an assignment behind.
    return problem_with(new, state.experiment.metrics, now=now) or proposal


def _outside(
    unit: Unit, new: NewOutcome, versions: Mapping[tuple[int, str], int], *, now: dt.datetime
) -> Assignment | DomainError:
    """What a call got that was in no experiment: a version served from memory, or somebody's fallback.

    It is recorded, so that an answer that came too late for the call cannot take its outcome.
    """
    assert new.content_hash is not None
    version_id = versions.get((unit[0], new.content_hash))
    version = ServedVersion(
        id=version_id,
        number=None,
        name=new.prompt,
        system_prompt="",
        tools_config=[],
        metadata={},
        content_hash=new.content_hash,
    )
    return problem_with(new, None, now=now) or Assignment(
        prompt=new.prompt,
        prompt_id=unit[0],
        unit_id=new.unit_id,
        version=version,
        segment=new.segment,
        reason="DEFAULT" if version_id is None else "STALE",
        assigned_at=min(new.occurred_at or now, now),
    )


def problem_with(
    new: NewOutcome, declared: Sequence[Metric] | None, *, now: dt.datetime
) -> DomainError | None:
    """Why this outcome will be rejected whatever is stored of its unit; None where it may be taken.

    Parameters
    ----------
    declared : the experiment's metrics; None where the unit is in no experiment.
    """
    metrics = None if declared is None else {metric.name: metric for metric in declared}
    try:
        check_time(new, assigned_at=None, now=now)
        settle(new, stored={}, superseded={}, metrics=metrics, assigned=True, counted=False, now=now)
    except DomainError as error:
        return error
    return None


async def _states(connection: AsyncConnection, allocation_ids: set[int]) -> dict[int, PromptState]:
    if not allocation_ids:
        return {}
    allocations = await allocations_by_id(connection, allocation_ids)
    experiments = await experiments_by_id(connection, {item.experiment_id for item in allocations.values()})
    wanted = {v.version_id for e in experiments.values() for v in e.variants if v.version_id is not None}
    versions = await served_versions(connection, wanted)
    return {
        id_: state_under(experiments[allocation.experiment_id], allocation, versions)
        for id_, allocation in allocations.items()
    }
