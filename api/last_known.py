"""The last known state of every prompt, read again and again in the background.

Assignments are derived from it, so the answer is ready before the database is asked.
"""

import asyncio
import datetime as dt
import time
from contextlib import suppress
from dataclasses import dataclass

from api.clock import Clock
from api.finishing import finish
from api.log import log
from domain.snapshot import PromptState, Snapshot
from storage.away import is_storage_away, is_unreachable
from storage.clock import DatabaseClock
from storage.database import Database
from storage.snapshots import read_snapshot

# A reading that takes longer is left to itself and the next one begins: after a partition the one
# under way may never end, and a new connection gets through at once.
STUCK_S = 0.3


@dataclass(frozen=True, slots=True)
class _Reading:
    """A reading of the state, under way or done; its task answers whether it succeeded."""

    began_at: float
    task: asyncio.Task[bool]

    @property
    def left_s(self) -> float:
        """How long it may still take; 0 when it is done or stuck."""
        return 0.0 if self.task.done() else max(0.0, self.began_at + STUCK_S - time.monotonic())


class LastKnown:
    """Holds the newest snapshot; None until the database answered for the first time.

    Parameters
    ----------
    watch : connections that only this and the keys use, so that its silence means the database's.
    clock : this machine's; `now` goes by the database's as soon as that is known.
    """

    def __init__(self, watch: Database, clock: Clock) -> None:
        self._watch = watch
        self._clock = DatabaseClock(clock)
        self._newest: _Reading | None = None
        self._tasks: set[asyncio.Task[bool]] = set()
        self._doubted = asyncio.Event()
        self._is_known = asyncio.Event()
        self.snapshot: Snapshot | None = None
        self.is_away = False
        self.read_at = 0.0

    def now(self) -> dt.datetime:
        """The time by the database's clock, which all servers share; each reading compares it."""
        return self._clock.now()

    def state(self, prompt: str) -> PromptState | None:
        """What is known of the prompt."""
        return self.snapshot.prompts.get(prompt) if self.snapshot else None

    async def refresh(self) -> bool:
        """Read the state as it is now; False when the database does not answer soon (the old state stays)."""
        asked_at = time.monotonic()
        while self._newest is None or self._newest.began_at < asked_at:
            if self._newest is None or not self._newest.left_s:
                self._newest = self._begin()
            else:  # it began before we were asked: what it brings may be older than that
                await asyncio.wait({self._newest.task}, timeout=self._newest.left_s)
        reading = self._newest
        await asyncio.wait({reading.task}, timeout=reading.left_s)
        return reading.task.done() and reading.task.result()

    def _begin(self) -> _Reading:
        began_at = time.monotonic()
        self._doubted.clear()  # this reading answers every doubt until now
        task = asyncio.create_task(self._read(began_at))
        self._tasks.add(task)  # asyncio forgets tasks that nobody holds
        task.add_done_callback(self._tasks.discard)
        return _Reading(began_at, task)

    async def _read(self, began_at: float) -> bool:
        try:
            async with self._watch.reading() as connection:
                await self._clock.compare(connection)
                snapshot = await read_snapshot(connection, now=self.now())
        except Exception as error:
            self.note_failure(error, began_at=began_at)
            if not is_storage_away(error):
                log("state_not_read", level="error", error=error)
            return False
        if began_at > self.read_at:
            self.snapshot, self.read_at = snapshot, began_at
            self._is_known.set()
        if self.is_away:
            log("storage_back")
        self.is_away = False
        return True

    def note_failure(self, error: BaseException, *, began_at: float) -> None:
        """Something that began then failed; if nobody answered, calls get answers from memory at once.

        What began before the newest reading is no news: the database has answered since.
        """
        if began_at < self.read_at or not is_unreachable(error):
            return
        if not self.is_away:
            reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
            log("storage_away", level="warning", error=type(error).__name__, reason=reason)
        self.is_away = True
        self.doubt()

    def doubt(self) -> None:
        """The database did not answer a call in time: look soon whether it is there."""
        self._doubted.set()

    async def wait_for_doubt(self, timeout_s: float) -> None:
        """Wait so long, or until somebody doubts that the database is there."""
        await _wait_for(self._doubted, timeout_s)

    async def wait_until_known(self, timeout_s: float) -> None:
        """Wait for the first reading that succeeds, or so long."""
        await _wait_for(self._is_known, timeout_s)

    async def drain(self) -> None:
        """Wait for the readings under way; for the shutdown."""
        await finish(self._tasks, within_s=STUCK_S)


async def _wait_for(event: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
