"""Assignments given while the database was away, until they are recorded."""

import asyncio
import time
from collections import defaultdict, deque
from itertools import islice

import msgspec
from sqlalchemy.exc import ProgrammingError

from api.finishing import finish
from api.last_known import LastKnown
from api.log import log
from domain.assignments import Assignment
from service.assign import record_late
from storage.away import is_storage_away
from storage.database import Database
from storage.prompts import find_prompt_ids

BATCH = 100
DRAIN_S = 5.0
DRAIN_RETRY_S = 0.2


class Backlog:
    """A bounded queue in memory.

    What does not fit or dies with the process can still be derived from the allocation that its
    outcome tells.

    Parameters
    ----------
    size : how many assignments are kept; later ones are dropped and counted.
    """

    def __init__(self, calls: Database, last_known: LastKnown, *, size: int) -> None:
        self._calls = calls
        self._last_known = last_known
        self._size = size
        self._waiting: deque[Assignment] = deque()
        # Served from the fallback file, by prompts that nobody has created yet.
        self._unplaced: dict[str, deque[Assignment]] = defaultdict(lambda: deque(maxlen=size))
        self.dropped = 0

    def __len__(self) -> int:
        """How many wait to be recorded."""
        return len(self._waiting)

    def add(self, assignment: Assignment) -> None:
        """Keep an assignment for later."""
        if len(self._waiting) >= self._size:
            self.dropped += 1
            if self.dropped == 1:
                log("backlog_full", level="error", size=self._size)
            return
        self._waiting.append(assignment)

    async def record(self) -> None:
        """Record what waits, as far as the database takes it; one at a time may run."""
        self._place()
        while self._waiting and not self._last_known.is_away:
            batch = list(islice(self._waiting, BATCH))
            done = await self._record(batch)
            for _ in range(done):  # only now: what is recorded at a shutdown must not be in nobody's hands
                self._waiting.popleft()
            if done < len(batch):
                return

    async def _record(self, batch: list[Assignment]) -> int:
        """How many of the batch, from its start, need not be kept any longer."""
        began_at = time.monotonic()
        try:
            await self._store(batch)
        except Exception as error:
            self._last_known.note_failure(error, began_at=began_at)
            if is_storage_away(error) or isinstance(
                error, ProgrammingError
            ):  # no tables of ours: no loss yet
                return 0
            if len(batch) == 1:
                log("late_assignment_lost", level="error", error=error)
                return 1
            # One bad assignment must not hold up the others.
            middle = len(batch) // 2
            done = await self._record(batch[:middle])
            return done if done < middle else middle + await self._record(batch[middle:])
        return len(batch)

    async def _store(self, batch: list[Assignment]) -> None:
        async with self._calls.writing() as connection:
            ids = await find_prompt_ids(connection, sorted({item.prompt for item in batch}))
            known = [
                msgspec.structs.replace(item, prompt_id=ids[item.prompt])
                for item in batch
                if item.prompt in ids
            ]
            differing = await record_late(connection, known) if known else []
        for item in batch:
            if item.prompt not in ids:
                self._unplaced[item.prompt].append(item)
        if differing:
            log("late_assignments_differ", level="warning", number=len(differing))

    def _place(self) -> None:
        """Take up again what was served for prompts that exist by now."""
        for prompt in [name for name in self._unplaced if self._last_known.state(name) is not None]:
            self._waiting.extend(self._unplaced.pop(prompt))

    async def drain(self) -> None:
        """Record what waits, for some seconds; for the shutdown."""
        await finish([asyncio.create_task(self._record_all())], within_s=DRAIN_S)
        if self._waiting:
            log("backlog_lost", level="error", number=len(self._waiting))

    async def _record_all(self) -> None:
        while self._waiting:
            if await self._last_known.refresh():
                await self.record()
            if self._waiting:
                await asyncio.sleep(DRAIN_RETRY_S)
