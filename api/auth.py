"""Who is asking, and may they: `Authorization: Bearer pb_...`, scopes, a short cache, default deny."""

import datetime as dt
import hashlib
import time
from dataclasses import dataclass
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.clock import Clock
from api.problems import INSUFFICIENT_SCOPE, UNAUTHENTICATED, RequestProblem, StorageAway
from domain.keys import ApiKey, Scope, grants, matches, prefix_of
from storage.away import is_storage_away
from storage.database import Database
from storage.keys import find_key, touch_keys

MAX_CACHED = 10_000
OPEN = "open"  # opt["scope"] of a route that needs no key


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a key: `label` is the name in the audit."""

    label: str
    scopes: tuple[Scope, ...]


class Keyring:
    """Checks keys against the database, remembering good ones for `cache_s` seconds.

    While the database is away a key that was good before stays good, and keys whose SHA-256 stands in
    the settings are always good for an agent: the call still gets a prompt.
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

    async def caller_of(self, text: str) -> Caller | None:
        """Who holds this key; None if nobody does. StorageAway when that cannot be known now."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        known = self._good.get(digest)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        prefix = prefix_of(text)
        if prefix is None:
            return None
        try:
            async with self._database.reading() as connection:
                key = await find_key(connection, prefix)
        except Exception as error:
            if not is_storage_away(error):
                raise
            return self._without_database(digest, known)
        return self._remember(digest, key, text)

    def _without_database(self, digest: str, known: tuple[float, Caller] | None) -> Caller:
        if known is not None:
            return known[1]
        if digest in self._agent_hashes:
            return Caller(label="key:settings", scopes=("agent",))
        raise StorageAway("the database does not answer, so the key cannot be checked; try again")

    def _remember(self, digest: str, key: ApiKey | None, text: str) -> Caller | None:
        if key is None or key.revoked_at is not None or not matches(key, text):
            self._good.pop(digest, None)
            return None
        if len(self._good) >= MAX_CACHED:
            self._good.clear()
        caller = Caller(label=key.label, scopes=key.scopes)
        self._good[digest] = (time.monotonic() + self._cache_s, caller)
        self._used[key.prefix] = self._clock()
        return caller

    async def note_use(self) -> None:
        """Write down when keys were last used; called now and then, not on the path of a call."""
        used, self._used = self._used, {}
        if used:
            async with self._database.writing() as connection:
                await touch_keys(connection, used)


async def authorize(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of every route: the key's scopes must grant `opt["scope"]`."""
    needed = handler.opt["scope"]
    if needed == OPEN or connection.scope.get("method") == "OPTIONS":  # which methods there are is no secret
        return
    text = _bearer(connection)
    keyring: Keyring = connection.app.state.parts.keyring
    caller = await keyring.caller_of(text) if text else None
    if caller is None:
        raise RequestProblem(UNAUTHENTICATED, "send a valid key: Authorization: Bearer pb_...")
    if not grants(caller.scopes, needed):
        detail = f"this needs a key of scope {needed}; yours has {', '.join(caller.scopes)}"
        raise RequestProblem(INSUFFICIENT_SCOPE, detail)
    connection.scope["promptbandit_caller"] = caller  # type: ignore[typeddict-unknown-key]


def _bearer(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    values = connection.headers.getall("authorization", [])
    if len(values) != 1:
        return ""
    kind, _, text = values[0].partition(" ")
    return text.strip() if kind.lower() == "bearer" else ""


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """The caller that the guard let in."""
    caller: Caller = connection.scope["promptbandit_caller"]  # type: ignore[typeddict-item]
    return caller
