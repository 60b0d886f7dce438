"""Record the assignments of outcomes that tell their allocation.

An assignment is a pure function of it, so what a client derived without a server is derived again here.
"""

import datetime as dt
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment
from domain.errors import AllocationNotFound, DomainError
from domain.metrics import Metric
from domain.outcomes import NewOutcome, check_time, settle
from domain.snapshot import PromptState, derive, state_under
from service.recording import keep_assignments
from storage.allocations import allocations_by_id
from storage.experiments import experiments_by_id
from storage.outcomes import Unit
from storage.prompts import served_versions


async def rederive(
    connection: AsyncConnection,
    unplaced: dict[int, tuple[Unit, NewOutcome]],
    *,
    now: dt.datetime,
) -> tuple[dict[Unit, Assignment], dict[int, DomainError]]:
    """Record what these outcomes' units were given, where they tell it; the units have no assignment yet.

    Returns
    -------
    The assignments that stand now, and the outcomes (by index) whose allocation is none of their prompt's or
    that will be rejected anyway: those leave no assignment behind.
    """
    told = {index: item for index, item in unplaced.items() if item[1].allocation is not None}
    if not told:
        return {}, {}
    states = await _states(connection, {new.allocation for _, new in told.values() if new.allocation})
    failures: dict[int, DomainError] = {}
    proposals: dict[Unit, Assignment] = {}
    for index, (unit, new) in told.items():
        proposal = _proposal(unit, new, states, now=now)
        if isinstance(proposal, DomainError):
            failures[index] = proposal
        else:
            proposals.setdefault(unit, proposal)
    if not proposals:
        return {}, failures
    return await keep_assignments(connection, list(proposals.values())), failures


def _proposal(
    unit: Unit, new: NewOutcome, states: dict[int, PromptState], *, now: dt.datetime
) -> Assignment | DomainError:
    assert new.allocation is not None
    state = states.get(new.allocation)
    if state is None or state.prompt_id != unit[0]:
        return AllocationNotFound(allocation=new.allocation)
    when = min(new.occurred_at or now, now)
    proposal = derive(state, unit_id=new.unit_id, segment=new.segment, now=when, reason="STALE")
    if proposal is None or state.experiment is None:
        return AllocationNotFound(allocation=new.allocation)
    # An outcome that will be rejected must not leave an assignment behind.
    return problem_with(new, state.experiment.metrics, now=now) or proposal


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
    allocations = await allocations_by_id(connection, allocation_ids)
    experiments = await experiments_by_id(connection, {item.experiment_id for item in allocations.values()})
    wanted = {v.version_id for e in experiments.values() for v in e.variants if v.version_id is not None}
    versions = await served_versions(connection, wanted)
    return {
        id_: state_under(experiments[allocation.experiment_id], allocation, versions)
        for id_, allocation in allocations.items()
    }
