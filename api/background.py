"""What a server does by itself: read the state, record late assignments, move splits, note what it did."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from api import numerics
from api.auth import Keyring
from api.backlog import Backlog
from api.clock import Clock
from api.last_known import LastKnown
from api.log import log
from api.lookout import Lookout
from api.metrics import ServerMetrics
from api.settings import Settings
from storage.away import is_storage_away
from storage.database import Database
from storage.durability import weak_settings

LOOK_EVERY_S = 0.2  # at most; so often an absent database is asked whether it is back
HANGING_S = 0.5  # a call that waits longer for an absent database is told so
RECORD_EVERY_S = 0.2
NOTE_KEYS_EVERY_S = 30.0
LOOK_OUT_EVERY_S = 5.0
TELL_EVERY_S = 0.5  # another worker may be the one that Prometheus asks
STOPPING_S = 2.0  # for the work under way when the server stops


async def keep_fresh(
    settings: Settings,
    last_known: LastKnown,
    open_database: Callable[[], Awaitable[None]],
    others: Sequence[Database],
) -> None:
    """For ever: read the state, often while the database is away; let go of what hangs there.

    Parameters
    ----------
    open_database : called until the state was read for the first time; gives an empty database its tables.
    others : the sets of connections that may hang with the database.
    """
    while True:
        try:
            if last_known.snapshot is None:
                await _whole(open_database())
            await last_known.refresh()
            if last_known.is_away:
                for database in others:
                    database.let_go(waited_s=HANGING_S)
        except Exception as error:
            log("state_not_read", level="error", error=error)
        if not last_known.is_away:
            await last_known.wait_for_doubt(settings.refresh_ms / 1000 - LOOK_EVERY_S)
        await asyncio.sleep(LOOK_EVERY_S)


async def warn_when_not_durable(last_known: LastKnown, database: Database) -> None:
    """Once, when the database is there: say which of its settings break the promise to lose nothing."""
    while last_known.snapshot is None:
        await last_known.wait_until_known(NOTE_KEYS_EVERY_S)
    try:
        async with database.reading() as connection:
            weak = await weak_settings(connection)
    except Exception as error:  # it went away again; a warning is not worth more
        _survive("durability_not_known", error)
        return
    if weak:
        advice = "what was acknowledged can be lost in a power cut; turn them on"
        log("not_durable", level="warning", off=weak, advice=advice)


async def keep_recording(last_known: LastKnown, backlog: Backlog) -> None:
    """For ever: record what was given while the database was away."""
    await _repeat("backlog_failed", RECORD_EVERY_S, last_known, backlog.record)


async def keep_noting_keys(last_known: LastKnown, keyring: Keyring, database: Database) -> None:
    """For ever: write down when keys were last used."""
    await _repeat("key_use_not_noted", NOTE_KEYS_EVERY_S, last_known, lambda: keyring.note_use(database))


async def keep_looking_out(last_known: LastKnown, lookout: Lookout) -> None:
    """For ever: read how the experiments stand, for whoever watches."""
    await _repeat("standings_not_read", LOOK_OUT_EVERY_S, last_known, lookout.look)


async def keep_telling(metrics: ServerMetrics, last_known: LastKnown, backlog: Backlog) -> None:
    """For ever: tell the other workers what only this one knows, also while the database is away."""
    while True:
        metrics.note(waiting=len(backlog), dropped=backlog.dropped, is_away=last_known.is_away)
        await asyncio.sleep(TELL_EVERY_S)


async def keep_reallocating(
    settings: Settings, database: Database, last_known: LastKnown, clock: Clock
) -> None:
    """For ever: one pass over the running experiments, if the settings want any."""

    async def reallocate_and_refresh() -> None:
        if await reallocate_all(database, clock):
            await last_known.refresh()

    if settings.reallocate_every_s > 0:
        await _repeat("reallocation_failed", settings.reallocate_every_s, last_known, reallocate_and_refresh)


async def reallocate_all(database: Database, clock: Clock) -> bool:
    """One pass, each experiment in its own transaction; whether any split moved."""
    await numerics.loaded()
    async with database.reading() as connection:
        ids = await numerics.ids_to_pass(connection)
    moved = False
    for experiment_id in ids:
        try:
            result = await numerics.reallocate_fully(database, experiment_id, clock)
        except Exception as error:  # one experiment must not stop the others
            _survive("reallocation_failed", error)
            continue
        if result.outcome in ("moved", "paused"):
            moved = True
            log("reallocated", experiment=result.experiment, outcome=result.outcome, split=result.split)
    return moved


async def _repeat(
    failure: str, every_s: float, last_known: LastKnown, work: Callable[[], Awaitable[None]]
) -> None:
    """For ever, while the database is there: a loop outlives its errors."""
    while True:
        await asyncio.sleep(every_s)
        if last_known.is_away:
            continue
        try:
            await _whole(work())
        except Exception as error:
            _survive(failure, error)


def _survive(event: str, error: Exception) -> None:
    """An absent database is no news here."""
    if not is_storage_away(error):
        log(event, level="error", error=error)


async def _whole(work: Awaitable[None]) -> None:
    """Do the work; who is cancelled meanwhile waits a little for its end, so that no transaction is torn."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=STOPPING_S)
        task.cancel()
        raise


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    """End the loops."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
