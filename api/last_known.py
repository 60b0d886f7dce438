"""The last known state of every prompt, read again and again in the background.

Assignments are derived from it, so the answer is ready before the database is asked.
"""

import asyncio
import time

from api.clock import Clock
from api.log import log
from domain.snapshot import PromptState, Snapshot
from storage.away import is_storage_away
from storage.database import Database
from storage.snapshots import read_snapshot


class LastKnown:
    """Holds the newest snapshot; None until the database answered for the first time."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._one_reader = asyncio.Lock()
        self.snapshot: Snapshot | None = None
        self.is_away = False
        self.read_at = 0.0

    def state(self, prompt: str) -> PromptState | None:
        """What is known of the prompt."""
        return self.snapshot.prompts.get(prompt) if self.snapshot else None

    async def refresh(self) -> bool:
        """Read the state; False when the database does not answer (the old state stays)."""
        asked_at = time.monotonic()
        async with self._one_reader:
            if self.read_at > asked_at:
                return not self.is_away  # somebody read it while we waited
            started = time.monotonic()
            try:
                async with self._database.reading() as connection:
                    snapshot = await read_snapshot(connection, now=self._clock())
            except Exception as error:
                if not is_storage_away(error):
                    raise
                self.note_away(error)
                return False
            self.snapshot = snapshot
            self.read_at = started
            if self.is_away:
                log("storage_back")
            self.is_away = False
            return True

    def note_away(self, error: BaseException) -> None:
        """The database did not answer; until it does, assignments are answered from memory at once."""
        if not self.is_away:
            log("storage_away", level="warning", error=type(error).__name__)
        self.is_away = True
