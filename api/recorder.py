"""Outcomes: acknowledged after their commit, or refused with 503 so that they are sent again."""

import asyncio
import time
from collections.abc import Sequence
from itertools import batched

from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.group_commit import GroupCommit, TooLate, TooMany
from api.last_known import LastKnown
from api.problems import StorageAway
from api.settings import Settings
from service.outcome_batch import Recorded
from service.record import record
from service.transcripts import Told
from storage.away import is_storage_away
from storage.database import Database

# Outcomes of a request that stay together, and of a transaction: they bound how long its locks are held.
CHUNK = 100
LARGEST = 500
MAX_WAITING = 2_000  # chunks; more are told at once to come back
DRAIN_S = 5.0

Chunk = tuple[Told, ...]


class Recorder:
    """Answers `POST /outcomes`: what arrives together shares a transaction.

    Parameters
    ----------
    calls : connections of which it takes two; the assigner and the backlog have the others.
    """

    def __init__(self, calls: Database, last_known: LastKnown, settings: Settings, clock: Clock) -> None:
        self._calls = calls
        self._last_known = last_known
        self._deadline_s = settings.outcome_deadline_ms / 1000
        self._clock = clock
        self._groups = GroupCommit(self._store, largest=LARGEST, most_waiting=MAX_WAITING)

    async def take(self, outcomes: list[Told]) -> list[Recorded]:
        """Store the outcomes; StorageAway when they are not known to be committed in time.

        What was committed all the same is `unchanged` when it is sent again.
        """
        if self._last_known.is_away:
            raise StorageAway
        try:
            answers = [
                self._groups.add(chunk, within_s=self._deadline_s, weight=len(chunk))
                for chunk in batched(outcomes, CHUNK)
            ]
        except TooMany:
            raise StorageAway("too many outcomes are waiting for the database; send them again") from None
        # Stop waiting, do not cancel: a commit under way may still arrive, and a cancelled one costs the connection.
        await asyncio.wait(answers, timeout=self._deadline_s)
        return [recorded for answer in answers for recorded in _result_of(answer)]

    async def _store(self, chunks: Sequence[Chunk]) -> list[list[Recorded]]:
        if self._last_known.is_away:
            raise StorageAway
        told = [item for chunk in chunks for item in chunk]
        outcomes = [item.outcome for item in told]
        transcripts = {i: item.transcript for i, item in enumerate(told) if item.transcript is not None}

        async def work(connection: AsyncConnection) -> list[Recorded]:
            snapshot = self._last_known.snapshot
            return await record(
                connection, outcomes, now=self._clock(), snapshot=snapshot, transcripts=transcripts
            )

        began_at = time.monotonic()
        try:
            recorded = iter(await self._calls.write(work))
        except Exception as error:
            self._last_known.note_failure(error, began_at=began_at)
            raise
        return [[next(recorded) for _ in chunk] for chunk in chunks]

    async def drain(self) -> None:
        """Store what waits; for the shutdown."""
        await self._groups.drain(within_s=DRAIN_S)


def _result_of(answer: asyncio.Future[list[Recorded]]) -> list[Recorded]:
    if not answer.done() or answer.cancelled():
        raise StorageAway("the database did not commit in time; send the outcomes again")
    try:
        return answer.result()
    except TooLate:
        raise StorageAway("the database did not commit in time; send the outcomes again") from None
    except Exception as error:
        if is_storage_away(error):
            raise StorageAway from error
        raise
