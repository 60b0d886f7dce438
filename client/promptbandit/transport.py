"""One HTTP exchange, bounded in total: against a server that refuses, freezes, drips or talks nonsense."""

import asyncio
import datetime as dt
import functools
import ssl
import threading
from typing import NamedTuple

import httpx

from promptbandit.backoff import read_retry_after_s

MAX_CONNECTIONS = 64  # the bulkhead: what a frozen server can tie up
KEEPALIVE_S = 4.0  # uvicorn closes idle connections after 5 s; a request must not meet that moment
TRANSIENT = frozenset({408, 429})  # the statuses below 500 that pass by themselves

_DIED_UNDER_WAY = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


class Answer(NamedTuple):
    """A complete answer, whatever its status; `retry_after_s` is 0 where the server asks for nothing."""

    status: int
    body: bytes
    retry_after_s: float


class Unreachable(Exception):
    """No complete answer; the text says why. Stays inside the client."""


class Transport:
    """Connections to one server. Used from one event loop only."""

    def __init__(self, base_url: str, key: str, ssl_context: ssl.SSLContext) -> None:
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            verify=ssl_context,
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEPALIVE_S),
        )

    async def post(
        self,
        path: str,
        body: bytes,
        *,
        timeout_s: float,
        queue_s: float | None = None,
        ask_twice: bool = False,
    ) -> Answer:
        """Send `body` and read the whole answer.

        Parameters
        ----------
        timeout_s : for everything together; then the connection is closed.
        queue_s : how long to wait for a free connection at most; None: as long as for the rest.
        ask_twice : once more, on a fresh connection, when the first one died under way.

        Raises
        ------
        Unreachable : no complete answer in time.
        """
        timeout = httpx.Timeout(timeout_s, pool=timeout_s if queue_s is None else queue_s)
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._send(path, body, timeout, ask_twice)
        except TimeoutError:
            raise Unreachable(f"no complete answer within {timeout_s:g} s") from None
        except Exception as error:  # httpx lets some pass unwrapped, such as UnicodeError for a host name
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        asked_s = read_retry_after_s(response.headers.get("Retry-After"), now=dt.datetime.now(dt.UTC))
        return Answer(response.status_code, response.content, asked_s)

    async def _send(self, path: str, body: bytes, timeout: httpx.Timeout, ask_twice: bool) -> httpx.Response:
        try:
            return await self._http.post(path, content=body, timeout=timeout)
        except _DIED_UNDER_WAY:
            if not ask_twice:
                raise
        return await self._http.post(path, content=body, timeout=timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


@functools.cache
def load_lazy_modules() -> None:
    """Make httpx import its network backend now, not while a call waits: it takes 0.1 to 0.2 s.

    Port 0 of this machine refuses every connection, so nothing is sent.
    """

    async def knock() -> None:
        async with httpx.AsyncClient(trust_env=False, verify=False) as http:
            try:
                await http.get("http://127.0.0.1:0/")
            except Exception:
                return

    # A thread of its own, for the caller may be inside a running event loop.
    thread = threading.Thread(target=lambda: asyncio.run(knock()), name="promptbandit-load", daemon=True)
    thread.start()
    thread.join()
