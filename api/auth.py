"""Who is asking, and may they: `Authorization: Bearer pb_...`, scopes, a short cache, default deny."""

import asyncio
import datetime as dt
import hashlib
import time
from dataclasses import dataclass
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.clock import Clock
from api.problems import INSUFFICIENT_SCOPE, UNAUTHENTICATED, RequestProblem, StorageAway
from api.rate_limits import RateLimits
from domain.keys import ApiKey, Scope, grants, matches, prefix_of
from storage.away import is_storage_away
from storage.database import Database
from storage.keys import find_key, touch_keys

MAX_CACHED = 10_000
MAX_LOOKUPS = 2  # at once; the other connections of the watch are for the state
MAX_WAITING = 200
RETRY_S = 0.25  # after a lookup that failed
# A call that brings a key of old does not wait longer for the database; one with an unknown key has to.
KNOWN_PATIENCE_S = 0.05
UNKNOWN_PATIENCE_S = 2.0
SETTINGS_LABEL = "key:settings"
OPEN = "open"  # opt["scope"] of a route that needs no key


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a key: `label` is the name in the audit."""

    label: str
    scopes: tuple[Scope, ...]


class Keyring:
    """Checks keys against the database, remembering good ones for `cache_s` seconds.

    While the database does not answer a key that was good before stays good, and keys whose SHA-256
    stands in the settings are always good for an agent: the call still gets a prompt. A key in use is
    looked up again before its time is over, so that calls do not wait for it.
    """

    def __init__(
        self, database: Database, *, cache_s: float, agent_hashes: frozenset[str], clock: Clock
    ) -> None:
        self._database = database
        self._cache_s = cache_s
        self._agent_hashes = agent_hashes
        self._clock = clock
        # By the hash of the whole key: a cache by its public part would let a wrong secret in.
        self._good: dict[str, tuple[float, Caller]] = {}
        self._used: dict[str, dt.datetime] = {}
        self._lookups: dict[str, tuple[float, asyncio.Task[Caller | None]]] = {}
        self._places = asyncio.Semaphore(MAX_LOOKUPS)

    def was_good(self, text: str) -> bool:
        """Whether this key opened something on this worker before, or stands in the settings."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        return digest in self._good or digest in self._agent_hashes

    async def caller_of(self, text: str) -> Caller | None:
        """Who holds this key; None if nobody does. StorageAway when that cannot be known now."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        known = self._good.get(digest)
        left_s = known[0] - time.monotonic() if known else 0.0
        if known is not None and left_s > self._cache_s / 2:
            return known[1]
        prefix = prefix_of(text)
        if prefix is None:
            return None
        if digest not in self._lookups and len(self._lookups) >= MAX_WAITING:
            return self._without_database(digest)
        began_at, lookup = self._lookup(digest, prefix, text)
        if known is not None and left_s > 0:
            return known[1]
        is_old = known is not None or digest in self._agent_hashes
        # From when the lookup began, not from now: of all the calls that bring this key, one waits.
        until = began_at + (KNOWN_PATIENCE_S if is_old else UNKNOWN_PATIENCE_S)
        await asyncio.wait({lookup}, timeout=max(0.0, until - time.monotonic()))
        if not lookup.done():
            return self._without_database(digest)
        try:
            return lookup.result()
        except Exception as error:
            if not is_storage_away(error):
                raise
            return self._without_database(digest)

    def _lookup(self, digest: str, prefix: str, text: str) -> tuple[float, asyncio.Task[Caller | None]]:
        if digest not in self._lookups:
            began_at = time.monotonic()
            task = asyncio.create_task(self._find(digest, prefix, text, began_at))
            self._lookups[digest] = began_at, task
            task.add_done_callback(lambda done: self._forget(digest, done))
        return self._lookups[digest]

    def _forget(self, digest: str, done: asyncio.Task[Caller | None]) -> None:
        if not done.cancelled() and done.exception() is None:
            del self._lookups[digest]
            return
        # An absent database is not asked anew for every call.
        asyncio.get_running_loop().call_later(RETRY_S, self._lookups.pop, digest)

    async def _find(self, digest: str, prefix: str, text: str, began_at: float) -> Caller | None:
        async with self._places, self._database.reading() as connection:
            key = await find_key(connection, prefix)
        return self._remember(digest, key, text, began_at)

    def _without_database(self, digest: str) -> Caller:
        known = self._good.get(digest)
        if known is not None:
            return known[1]
        if digest in self._agent_hashes:
            return Caller(label=SETTINGS_LABEL, scopes=("agent",))
        raise StorageAway("the database does not answer, so the key cannot be checked; try again")

    def _remember(self, digest: str, key: ApiKey | None, text: str, asked_at: float) -> Caller | None:
        if key is None or key.revoked_at is not None or not matches(key, text):
            self._good.pop(digest, None)
            return None
        if len(self._good) >= MAX_CACHED:
            self._good.clear()
        caller = Caller(label=key.label, scopes=key.scopes)
        self._good[digest] = (asked_at + self._cache_s, caller)
        self._used[key.prefix] = self._clock()
        return caller

    async def note_use(self, database: Database) -> None:
        """Write down when keys were last used; called now and then, not on the path of a call."""
        used, self._used = self._used, {}
        if used:
            async with database.writing() as connection:
                await touch_keys(connection, used)


async def authorize(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of every route: the key's scopes must grant `opt["scope"]`."""
    needed = handler.opt["scope"]
    if needed == OPEN or connection.scope.get("method") == "OPTIONS":  # which methods there are is no secret
        return
    text = _bearer(connection)
    caller = await _find_caller(connection, text) if text else None
    if caller is None:
        raise RequestProblem(UNAUTHENTICATED, "send a valid key: Authorization: Bearer pb_...")
    limits: RateLimits = connection.app.state.parts.rate_limits
    limits.count_request(prefix_of(text) or "", needed)
    if not grants(caller.scopes, needed):
        if caller.label == SETTINGS_LABEL:  # what else its holder may do only the database knows
            raise StorageAway("the database does not answer, so the key's scopes are not known; try again")
        detail = f"this needs a key of scope {needed}; yours has {', '.join(caller.scopes)}"
        raise RequestProblem(INSUFFICIENT_SCOPE, detail)
    connection.scope["promptbandit_caller"] = caller  # type: ignore[typeddict-unknown-key]


async def _find_caller(connection: ASGIConnection[Any, Any, Any, Any], text: str) -> Caller | None:
    keyring: Keyring = connection.app.state.parts.keyring
    limits: RateLimits = connection.app.state.parts.rate_limits
    client = connection.scope["client"]
    address = client[0] if client else ""
    if not keyring.was_good(text):
        limits.check_address(address)
    caller = await keyring.caller_of(text)
    if caller is None:
        limits.count_failure(address)
    return caller


def _bearer(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    # As they came: a dictionary of all headers costs more than the key's check.
    values = [value for name, value in connection.scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return ""
    kind, _, text = values[0].decode("latin-1").partition(" ")
    return text.strip() if kind.lower() == "bearer" else ""


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """The caller that the guard let in."""
    caller: Caller = connection.scope["promptbandit_caller"]  # type: ignore[typeddict-item]
    return caller
