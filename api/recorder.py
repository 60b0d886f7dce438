"""Outcomes: acknowledged after their commit, or refused with 503 so that they are sent again."""

import asyncio
from itertools import batched

from api.clock import Clock
from api.problems import (
    StorageAway,
)
from api.settings import Settings
from domain.outcomes import NewOutcome
from service.record import Recorded, record
from storage.away import is_storage_away
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
