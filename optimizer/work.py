"""What the steps of a run share: its means, one way to ask, one way to save."""

import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.fields import Record
from domain.optimizer_settings import OptimizerSettings
from optimizer.answers import Answer, Stage
from optimizer.candidates import Candidate
from optimizer.claude import Claude
from optimizer.provider import Answered, Failed
from optimizer.requests import LlmRequest
from optimizer.sending import Patience
from storage.database import Database
from storage.leases import renew_lease
from storage.llm_calls import spent_by
from storage.optimizer_runs import OptimizerRun, RunStatus, save_run

# Stores what was judged, in the transaction that it is given; its id, or a DomainError.
type Entry = Callable[[AsyncConnection], Awaitable[int]]
# Judges a candidate, before any transaction that writes: its entry, or a DomainError.
type Door = Callable[[Candidate], Awaitable[Entry]]
# Told of every step that is saved and every question that is answered: state, how many, of how many.
type Watch = Callable[[str, int, int], None]


class LeaseLost(Exception):
    """Somebody else works on this prompt now."""


class StillWorking(Exception):
    """The batch is not ready; a later run collects it."""


class Stopped(Exception):
    """The run cannot go on: what was asked, and what came instead of an answer."""

    def __init__(self, stage: Stage, failed: Failed) -> None:
        super().__init__(f"{stage}: {failed.status}: {failed.detail}")
        self.failed = failed

    @property
    def can_resume(self) -> bool:
        """Whether the same question can have an answer another time, and was not billed."""
        return self.failed.kind.ends_run and self.failed.kind.paid == "no"


class Lease(Record, frozen=True, kw_only=True):
    """Who may work on a prompt, and for how long without a sign of life."""

    name: str
    holder: str
    for_s: float


@dataclass(frozen=True, slots=True)
class Means:
    """What a run works with.

    `seed` is secret and new for each call of `optimize`: delimiters and the sample are drawn from it.
    `lease_s` is longer than the longest question.
    """

    database: Database
    settings: OptimizerSettings
    clock: Callable[[], dt.datetime]
    door: Door
    seed: str
    lease_s: float
    watch: Watch = lambda _state, _done, _total: None
    patience: Patience | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """A run under way."""

    means: Means
    lease: Lease
    prompt: str
    claude: Claude

    async def ask[A: Answer](self, request: LlmRequest[A]) -> Answered[A] | Failed:
        """The answer; no transaction is open meanwhile. What ends the run is raised as Stopped."""
        async with self.means.database.writing() as connection:
            await keep_lease(connection, self.lease)
        answer = await self.claude.ask(request)
        if isinstance(answer, Failed) and answer.kind.ends_run:
            raise Stopped(request.stage, answer)
        return answer

    async def ask_or_stop[A: Answer](self, request: LlmRequest[A]) -> A:
        """The answer, without which the run cannot go on."""
        answer = await self.ask(request)
        if isinstance(answer, Failed):
            raise Stopped(request.stage, answer)
        return answer.answer

    async def save(self, run: OptimizerRun, **values: Any) -> OptimizerRun:
        """Keep where the run has come to."""
        return await save(self.means, self.lease, run, **values)


async def keep_lease(connection: AsyncConnection, lease: Lease) -> None:
    """Go on holding it; LeaseLost where somebody else has taken it."""
    if not await renew_lease(connection, lease.name, holder=lease.holder, for_s=lease.for_s):
        raise LeaseLost


async def save(means: Means, lease: Lease, run: OptimizerRun, **values: Any) -> OptimizerRun:
    """Change the run's row, in one transaction with the sign of life."""
    async with means.database.writing() as connection:
        await keep_lease(connection, lease)
        usd, _ = await spent_by(connection, run.id)
        return await save_run(connection, run.id, cost_usd=usd, **values)


async def finish(
    means: Means,
    lease: Lease,
    run: OptimizerRun,
    status: RunStatus,
    reason: str,
    *,
    resume_from: RunStatus | None = None,
) -> OptimizerRun:
    """End the run with a sentence."""
    return await save(
        means,
        lease,
        run,
        status=status,
        reason=reason,
        resume_from=resume_from,
        finished_at=means.clock(),
    )
