"""Everything put together: the one place where parts are made."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from litestar import Litestar
from litestar.datastructures import State

from api import numerics
from api.assigner import Assigner
from api.auth import Keyring, authorize
from api.background import (
    keep_fresh,
    keep_looking_out,
    keep_noting_keys,
    keep_reallocating,
    keep_recording,
    keep_telling,
    stop,
    warn_when_not_durable,
)
from api.backlog import Backlog
from api.clock import Clock, utc_now
from api.context import Parts
from api.fallback import load_fallbacks
from api.gate import Gate
from api.last_known import LastKnown
from api.log import configure_logging, log
from api.lookout import Lookout
from api.metrics import ServerMetrics
from api.openapi import schema_route
from api.options import options_routes
from api.problems import EXCEPTION_HANDLERS
from api.rate_limits import RateLimits
from api.reading import check_address
from api.recorder import Recorder
from api.redacting import Redacting
from api.routes import ab_tests, agent, calls, experiments, operations, prompts, suggestions
from api.settings import Settings, load_settings
from migrations import migrate_if_empty
from service.transcripts import load_redactor
from storage.away import is_storage_away
from storage.database import Database

VERSION = "0.1.0"
ROUTES = [
    *agent.ROUTES,
    *prompts.ROUTES,
    *ab_tests.ROUTES,
    *experiments.ROUTES,
    *calls.ROUTES,
    *suggestions.ROUTES,
    *operations.ROUTES,
]
# Sets of connections, so that whoever hangs on one hangs nobody on the others; calls have `pool_size`.
DESK_POOL_SIZE = 4  # managers, reports, reallocations
DESK_IDLE_MS = 60_000  # an export waits for whoever reads it
WATCH_POOL_SIZE = 6  # keys (two at most), and whether the database answers at all
WATCH_PATIENCE_S = 1.0
WATCH_STATEMENT_MS = 800  # less than the patience: a busy database says so itself and is not taken for absent
# A third of the time that outcomes have: their group can be tried again before their agents are told to.
CALL_STATEMENT_PART = 3
CALL_PATIENCE_S = 0.25  # beyond the statement's own bound
OPENING_S = 3.0  # then the server starts without its database


def create_app(settings: Settings | None = None, *, clock: Clock = utc_now) -> Gate:
    """The ASGI application; `.app` is the Litestar object inside.

    Parameters
    ----------
    settings : default: from the environment.
    clock : this machine's; on PostgreSQL the server goes by the database's.

    Raises
    ------
    ValueError : a setting, the fallback file or the redactor is wrong.
    """
    settings = settings or load_settings()
    configure_logging(settings.log_level)
    parts = _make_parts(settings, clock)

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        loops = [asyncio.create_task(loop) for loop in _loops(parts)]
        await parts.last_known.wait_until_known(OPENING_S)
        try:
            yield
        finally:
            await stop(loops)
            await _close(parts)

    routes = [*ROUTES, schema_route(ROUTES, VERSION)]
    app = Litestar(
        route_handlers=[*options_routes(routes), *routes],
        opt={"scope": "manager"},  # a route that forgets its scope is for managers only
        guards=[authorize, check_address],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=[lifespan],
        state=State({"parts": parts}),
        request_max_body_size=settings.max_body_bytes,
        openapi_config=None,  # `schema_route` serves the document
        logging_config=None,
    )
    # Around Litestar, not inside: a path that no route takes is logged and timed, too.
    return Gate(app, parts.metrics, body_deadline_s=settings.body_deadline_ms / 1000)


def _make_parts(settings: Settings, clock: Clock) -> Parts:
    database = Database(
        settings.database_url,
        pool_size=DESK_POOL_SIZE,
        statement_timeout_ms=settings.statement_timeout_ms,
        lock_timeout_ms=settings.lock_timeout_ms,
        idle_timeout_ms=DESK_IDLE_MS,
    )
    call_ms = min(settings.statement_timeout_ms, settings.outcome_deadline_ms // CALL_STATEMENT_PART)
    calls = database.aside(
        pool_size=settings.pool_size,
        statement_timeout_ms=call_ms,
        lock_timeout_ms=min(settings.lock_timeout_ms, call_ms),
        patience_s=call_ms / 1000 + CALL_PATIENCE_S,
        pre_ping=False,  # `Database.write` tries again instead
    )
    watch = database.aside(
        pool_size=WATCH_POOL_SIZE,
        pool_timeout_s=WATCH_PATIENCE_S,
        statement_timeout_ms=WATCH_STATEMENT_MS,
        lock_timeout_ms=WATCH_STATEMENT_MS,
        patience_s=WATCH_PATIENCE_S,
        pre_ping=False,  # a dead connection is news that is wanted here
    )
    last_known = LastKnown(watch, clock)
    clock = last_known.now  # servers whose own clocks differ must agree on what came first
    backlog = Backlog(calls, last_known, size=settings.backlog_size)
    fallbacks = load_fallbacks(settings.fallback_file)
    hashes = frozenset(part.strip() for part in settings.agent_key_hashes.split(",") if part.strip())
    metrics = ServerMetrics()
    redactor = load_redactor(settings.redactor)
    return Parts(
        settings=settings,
        database=database,
        calls=calls,
        watch=watch,
        clock=clock,
        last_known=last_known,
        backlog=backlog,
        assigner=Assigner(calls, last_known, backlog, fallbacks, settings, clock),
        redacting=Redacting(
            redactor,
            metrics,
            within_s=settings.outcome_deadline_ms / 1000,
            caller_key=settings.caller_key,
        ),
        recorder=Recorder(calls, last_known, settings, clock),
        keyring=Keyring(watch, cache_s=settings.key_cache_s, agent_hashes=hashes, clock=clock),
        metrics=metrics,
        rate_limits=RateLimits(settings),
        lookout=Lookout(database),
    )


def _loops(parts: Parts) -> list[Coroutine[Any, Any, None]]:
    settings, database, last_known = parts.settings, parts.database, parts.last_known
    return [
        keep_fresh(settings, last_known, partial(_open, parts), others=(parts.calls, database)),
        keep_recording(last_known, parts.backlog),
        keep_reallocating(settings, database, last_known, parts.clock),
        keep_noting_keys(last_known, parts.keyring, database),
        numerics.load_soon(),
        warn_when_not_durable(last_known, database),
        keep_looking_out(last_known, parts.lookout),
        keep_telling(parts.metrics, last_known, parts.backlog),
    ]


async def _open(parts: Parts) -> None:
    """Give an empty database its tables; an older schema is left to `promptbandit migrate`."""
    began_at = time.monotonic()
    try:
        if await migrate_if_empty(parts.watch) is None:
            log("migrated_empty_database")
    except Exception as error:
        parts.last_known.note_failure(error, began_at=began_at)
        if not is_storage_away(error):
            raise


async def _close(parts: Parts) -> None:
    await asyncio.gather(parts.recorder.drain(), parts.assigner.drain())
    parts.redacting.close()
    await parts.backlog.drain()
    await parts.last_known.drain()
    for database in (parts.calls, parts.watch, parts.database):
        await database.close()
    parts.metrics.close()
