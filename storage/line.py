"""A PostgreSQL connection that hangs up on a server that does not answer."""

import asyncio
import os
import socket
import time
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import waiting
from psycopg.pq import TransactionStatus

_INTERVAL_S = 0.1  # psycopg looks for interrupts that often


class Line(psycopg.AsyncConnection[Any]):
    """Every round trip is bounded by `patience_s`; what is cancelled or overdue costs the connection.

    `statement_timeout` is kept by the server, and a frozen one keeps nobody's time. psycopg answers a
    cancelled wait by asking the server to cancel: on a frozen connection that took 10.5 s.
    """

    patience_s = 60.0
    _since: float | None = None

    @property
    def waited_s(self) -> float:
        """How long the statement under way has waited for its answer; below 0 where none is."""
        return -1.0 if self._since is None else time.monotonic() - self._since

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits and no transaction is open."""
        return self._since is None and self.pgconn.transaction_status == TransactionStatus.IDLE

    async def wait(self, gen: Any, interval: float = _INTERVAL_S, timeout: float | None = None) -> Any:
        """psycopg's one place to wait for the server, with our bound."""
        timer = asyncio.get_running_loop().call_later(self.patience_s, self.hang_up)
        self._since = time.monotonic()
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except asyncio.CancelledError:
            self.drop()
            raise
        finally:
            self._since = None
            timer.cancel()

    def hang_up(self) -> None:
        """End the wait: whoever waits sees a closed connection. The server learns of it when it can."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.pgconn.socket)) as line:
            line.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """Close at once; whoever uses it next gets an error."""
        self.pgconn.finish()
