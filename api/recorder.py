"""Outcomes: acknowledged after their commit, or refused with 503 so that they are sent again."""

import asyncio
from itertools import batched
from typing import Any

import msgspec
from litestar import Request

from api.clock import Clock
from api.problems import (
    VALIDATION,
    FieldError,
    Problem,
    RequestProblem,
    StorageAway,
    is_storage_away,
    problem_of,
)
from api.reading import convert, read_json
from api.settings import Settings
from domain.errors import DomainError
from domain.outcomes import MAX_OUTCOMES, NewOutcome, OutcomeResult
from service.record import Recorded, record
from storage.database import Database

# One transaction an outcome batch of this size: it bounds how long its locks are held.
CHUNK = 100
MAX_BATCHES = 6


class Recorder:
    """Takes outcomes; at most a few batches are in the database at once, the others wait their turn."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._deadline_s = settings.outcome_deadline_ms / 1000
        self._clock = clock
        self._places = asyncio.Semaphore(MAX_BATCHES)
        self._tasks: set[asyncio.Task[list[Recorded]]] = set()

    async def take(self, outcomes: list[NewOutcome]) -> list[Recorded]:
        """Store the outcomes; StorageAway when they are not known to be committed in time.

        What was committed all the same is `unchanged` when it is sent again.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._places.acquire()
        except TimeoutError:
            raise StorageAway("too many outcomes are waiting for the database; send them again") from None
        task = asyncio.create_task(self._store(outcomes))
        self._tasks.add(task)
        task.add_done_callback(self._leave)
        done, _ = await asyncio.wait({task}, timeout=self._deadline_s)
        if not done:
            raise StorageAway("the database did not commit in time; send the outcomes again")
        try:
            return task.result()
        except Exception as error:
            if is_storage_away(error):
                raise StorageAway from error
            raise

    def _leave(self, task: asyncio.Task[list[Recorded]]) -> None:
        self._tasks.discard(task)
        self._places.release()
        if not task.cancelled():
            task.exception()  # whoever stopped waiting was told to send again; nothing is lost here

    async def _store(self, outcomes: list[NewOutcome]) -> list[Recorded]:
        results: list[Recorded] = []
        for chunk in batched(outcomes, CHUNK):
            async with self._database.writing() as connection:
                results += await record(connection, chunk, now=self._clock())
        return results

    async def drain(self) -> None:
        """Wait for the transactions under way; for the shutdown."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)


async def read_outcomes(request: Request[Any, Any, Any]) -> tuple[list[NewOutcome | RequestProblem], bool]:
    """The outcomes of the body and whether it was a list; in a list, a bad one does not spoil the others."""
    body = await read_json(request)
    if not isinstance(body, list):
        return [convert(body, NewOutcome)], False
    if not 1 <= len(body) <= MAX_OUTCOMES:
        detail = f"holds {len(body)} outcomes, must be 1 to {MAX_OUTCOMES}"
        raise RequestProblem(VALIDATION, detail, errors=[FieldError(pointer="", detail=detail)])
    return [_outcome(item, index) for index, item in enumerate(body)], True


def _outcome(item: Any, index: int) -> NewOutcome | RequestProblem:
    try:
        return convert(item, NewOutcome, pointer=f"/{index}")
    except RequestProblem as problem:
        return problem


def rejected(raw: Any, problem: Problem) -> OutcomeResult:
    """The result of an outcome that was not stored."""
    found = raw if isinstance(raw, dict) else {}
    prompt, unit_id = (str(found.get(name, ""))[:200] for name in ("prompt", "unit_id"))
    document = msgspec.to_builtins(problem)
    return OutcomeResult(prompt=prompt, unit_id=unit_id, status="rejected", problem=document)


def result_of(outcome: NewOutcome, recorded: Recorded) -> OutcomeResult:
    """The result of an outcome that reached the verb."""
    if isinstance(recorded, DomainError):
        return rejected({"prompt": outcome.prompt, "unit_id": outcome.unit_id}, problem_of(recorded))
    return OutcomeResult(prompt=outcome.prompt, unit_id=outcome.unit_id, status=recorded)
