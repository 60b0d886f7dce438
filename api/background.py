"""What a server does by itself: read the state, record late assignments, move splits, note key use."""

import asyncio
from contextlib import suppress

from api.assigner import Assigner
from api.auth import Keyring
from api.clock import Clock
from api.last_known import LastKnown
from api.log import log
from api.settings import Settings
from service.reallocate import reallocate, running_ids
from storage.away import is_storage_away
from storage.database import Database

NOTE_KEYS_EVERY = 30  # refreshes


async def keep_fresh(settings: Settings, last_known: LastKnown, assigner: Assigner, keyring: Keyring) -> None:
    """For ever: refresh the state and record what is late."""
    turn = 0
    while True:
        turn += 1
        try:
            if await last_known.refresh():
                await assigner.record_backlog()
                if turn % NOTE_KEYS_EVERY == 0:
                    await keyring.note_use()
        except Exception as error:
            _survive("refresh_failed", error)
        await asyncio.sleep(settings.refresh_ms / 1000)


async def keep_reallocating(
    settings: Settings, database: Database, last_known: LastKnown, clock: Clock
) -> None:
    """For ever: one pass over the running experiments, if the settings want any."""
    while settings.reallocate_every_s > 0:
        await asyncio.sleep(settings.reallocate_every_s)
        if last_known.is_away:
            continue
        try:
            if await reallocate_all(database, clock):
                await last_known.refresh()
        except Exception as error:
            _survive("reallocation_failed", error)


async def reallocate_all(database: Database, clock: Clock) -> bool:
    """One pass, each experiment in its own transaction; whether any split moved."""
    async with database.reading() as connection:
        ids = await running_ids(connection)
    moved = False
    for experiment_id in ids:
        try:
            async with database.writing() as connection:
                result = await reallocate(connection, experiment_id, now=clock())
        except Exception as error:  # one experiment must not stop the others
            _survive("reallocation_failed", error)
            continue
        if result.outcome in ("moved", "looked"):
            moved = True
            log("reallocated", experiment=result.experiment, outcome=result.outcome, split=result.split)
    return moved


def _survive(event: str, error: Exception) -> None:
    """A background loop outlives its errors; an absent database is no news here."""
    if not is_storage_away(error):
        log(event, level="error", error=error)


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    """End the loops."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
