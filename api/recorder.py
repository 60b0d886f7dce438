"""Outcomes: acknowledged after their commit, or refused with 503 so that they are sent again."""

import asyncio
import time
from itertools import batched

from api.clock import Clock
from api.finishing import finish
from api.last_known import LastKnown
from api.problems import StorageAway
from api.settings import Settings
from domain.outcomes import NewOutcome
from service.record import Recorded, record
from storage.away import is_storage_away
from storage.database import Database

# One transaction an outcome batch of this size: it bounds how long its locks are held.
CHUNK = 100
MAX_WAITING = 200  # requests; more are told at once to come back
DRAIN_S = 5.0


class Recorder:
    """Takes outcomes; at most a few batches are in the database at once, the others wait their turn.

    Parameters
    ----------
    calls : connections of which it takes half; the assigner and the backlog have the others.
    """

    def __init__(self, calls: Database, last_known: LastKnown, settings: Settings, clock: Clock) -> None:
        self._calls = calls
        self._last_known = last_known
        self._deadline_s = settings.outcome_deadline_ms / 1000
        self._clock = clock
        self._places = asyncio.Semaphore(settings.pool_size // 2)
        self._tasks: set[asyncio.Task[list[Recorded]]] = set()

    async def take(self, outcomes: list[NewOutcome]) -> list[Recorded]:
        """Store the outcomes; StorageAway when they are not known to be committed in time.

        What was committed all the same is `unchanged` when it is sent again.
        """
        if self._last_known.is_away:
            raise StorageAway
        if len(self._tasks) >= MAX_WAITING:
            raise StorageAway("too many outcomes are waiting for the database; send them again")
        until = time.monotonic() + self._deadline_s
        # Stop waiting, do not cancel: a commit under way may still arrive, and a cancelled one costs the connection.
        task = asyncio.create_task(self._store(outcomes, until))
        self._tasks.add(task)
        task.add_done_callback(self._leave)
        await asyncio.wait({task}, timeout=self._deadline_s)
        if not task.done():
            raise StorageAway("the database did not commit in time; send the outcomes again")
        try:
            return task.result()
        except Exception as error:
            if is_storage_away(error):
                raise StorageAway from error
            raise

    def _leave(self, task: asyncio.Task[list[Recorded]]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever stopped waiting was told to send again; nothing is lost here

    async def _store(self, outcomes: list[NewOutcome], until: float) -> list[Recorded]:
        async with self._places:
            began_at = time.monotonic()
            if began_at > until or self._last_known.is_away:
                raise StorageAway
            try:
                results: list[Recorded] = []
                for chunk in batched(outcomes, CHUNK):
                    async with self._calls.writing() as connection:
                        results += await record(connection, chunk, now=self._clock())
            except Exception as error:
                self._last_known.note_failure(error, began_at=began_at)
                raise
            return results

    async def drain(self) -> None:
        """Wait for the transactions under way; for the shutdown."""
        await finish(self._tasks, within_s=DRAIN_S)
