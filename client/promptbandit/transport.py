"""One HTTP exchange, bounded in total: against a server that refuses, freezes, drips or talks nonsense."""

import asyncio
import datetime as dt
import functools
import ssl
import threading
from typing import NamedTuple

import httpx

from promptbandit.backoff import read_retry_after_s

MAX_IN_FLIGHT = 64  # the bulkhead: what a frozen server can tie up
KEEPALIVE_S = 4.0  # uvicorn closes idle connections after 5 s; a request must not meet that moment
TRANSIENT = frozenset({408, 429})  # the statuses below 500 that pass by themselves


class Answer(NamedTuple):
    """A complete answer, whatever its status; `retry_after_s` is 0 where the server asks for nothing."""

    status: int
    body: bytes
    retry_after_s: float


class Unreachable(Exception):
    """No complete answer; the text says why. Stays inside the client."""


class ConnectionDied(Unreachable):
    """The server closed the connection under way, for example one it had kept open until that moment."""


class Transport:
    """Connections to one server. Used from one event loop only."""

    def __init__(self, base_url: str, key: str, ssl_context: ssl.SSLContext) -> None:
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            verify=ssl_context,
            timeout=None,  # one limit for everything together instead of one for every read
            # httpx must never queue requests itself: a request that ends while it waits for a connection
            # can leak the place for good (encode/httpcore issue 1093), and an outage would outlast itself.
            limits=httpx.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_S),
        )
        self._places = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def ask(self, path: str, body: bytes, *, queue_s: float, timeout_s: float) -> Answer:
        """`post` for a call that waits: once more on a fresh connection when the first one died under way.

        Parameters
        ----------
        queue_s : how long to wait for one of the `MAX_IN_FLIGHT` places, in seconds.
        timeout_s : for each try.

        Raises
        ------
        Unreachable : no place, or no complete answer in time.
        """
        try:
            async with asyncio.timeout(queue_s):
                await self._places.acquire()
        except TimeoutError:
            raise Unreachable(f"{MAX_IN_FLIGHT} requests are waiting for an answer already") from None
        try:
            return await self.post(path, body, timeout_s=timeout_s)
        except ConnectionDied:
            return await self.post(path, body, timeout_s=timeout_s)
        finally:
            self._places.release()

    async def post(self, path: str, body: bytes, *, timeout_s: float) -> Answer:
        """Send `body` and read the whole answer within `timeout_s` seconds; else the connection is closed.

        Raises
        ------
        Unreachable : no complete answer in time; ConnectionDied where another try may help.
        """
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._http.post(path, content=body)
        except TimeoutError:
            raise Unreachable(f"no complete answer within {timeout_s:g} s") from None
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
            raise ConnectionDied(f"{type(error).__name__}: {error}") from error
        except Exception as error:  # httpx lets some pass unwrapped, such as UnicodeError for a host name
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        asked_s = read_retry_after_s(response.headers.get("Retry-After"), now=dt.datetime.now(dt.UTC))
        return Answer(response.status_code, response.content, asked_s)

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
