"""Everything put together: the one place where parts are made."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.datastructures import State

from api import openapi
from api.assigner import Assigner
from api.auth import Keyring, authorize
from api.background import keep_fresh, keep_reallocating, stop
from api.clock import Clock, utc_now
from api.context import Parts
from api.fallback import load_fallbacks
from api.gate import Gate
from api.last_known import LastKnown
from api.log import configure_logging, log
from api.metrics import ServerMetrics
from api.problems import EXCEPTION_HANDLERS
from api.reading import check_address
from api.recorder import Recorder
from api.routes import ab_tests, agent, experiments, operations, prompts
from api.settings import Settings, load_settings
from migrations import migrate_if_empty
from storage.away import is_storage_away
from storage.database import Database

VERSION = "0.1.0"
ROUTES = [*agent.ROUTES, *prompts.ROUTES, *ab_tests.ROUTES, *experiments.ROUTES, *operations.ROUTES]


def create_app(settings: Settings | None = None, *, clock: Clock = utc_now) -> Gate:
    """The ASGI application; `.app` is the Litestar object inside.

    Parameters
    ----------
    settings : default: from the environment.
    clock : where the time comes from.

    Raises
    ------
    ValueError : a setting or the fallback file is wrong.
    """
    settings = settings or load_settings()
    configure_logging(settings.log_level)
    parts = _make_parts(settings, clock)

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        await _start(parts)
        loops = [
            asyncio.create_task(keep_fresh(settings, parts.last_known, parts.assigner, parts.keyring)),
            asyncio.create_task(keep_reallocating(settings, parts.database, parts.last_known, clock)),
        ]
        try:
            yield
        finally:
            await stop(loops)
            await parts.recorder.drain()
            await parts.assigner.drain()
            await parts.database.close()

    app = Litestar(
        route_handlers=ROUTES,
        opt={"scope": "manager"},  # a route that forgets its scope is for managers only
        guards=[authorize, check_address],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=[lifespan],
        state=State({"parts": parts}),
        request_max_body_size=settings.max_body_bytes,
        openapi_config=openapi.config(VERSION),
        logging_config=None,
    )
    # Around Litestar, not inside: a path that no route takes is logged and timed, too.
    return Gate(app, parts.metrics, body_deadline_s=settings.body_deadline_ms / 1000)


def _make_parts(settings: Settings, clock: Clock) -> Parts:
    database = Database(
        settings.database_url,
        pool_size=settings.pool_size,
        statement_timeout_ms=settings.statement_timeout_ms,
        lock_timeout_ms=settings.lock_timeout_ms,
    )
    last_known = LastKnown(database, clock)
    hashes = frozenset(part.strip() for part in settings.agent_key_hashes.split(",") if part.strip())
    return Parts(
        settings=settings,
        database=database,
        clock=clock,
        last_known=last_known,
        assigner=Assigner(database, last_known, load_fallbacks(settings.fallback_file), settings, clock),
        recorder=Recorder(database, settings, clock),
        keyring=Keyring(database, cache_s=settings.key_cache_s, agent_hashes=hashes, clock=clock),
        metrics=ServerMetrics(),
    )


async def _start(parts: Parts) -> None:
    """Migrate an empty database and read the state; a database that is away does not stop the start."""
    try:
        before = await migrate_if_empty(parts.database)
    except Exception as error:
        if not is_storage_away(error):
            raise
        parts.last_known.note_away(error)
        return
    if before is None:
        log("migrated_empty_database")
    await parts.last_known.refresh()
