"""The time by the database's clock: servers that share a database share its time, whatever their own clocks say."""

import datetime as dt
import time
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.locks import is_sqlite


class DatabaseClock:
    """PostgreSQL's time, told without asking it: its offset against this machine's monotonic clock.

    Nobody moves a monotonic clock, so a wrong or a corrected clock of this machine changes nothing. Until the
    first comparison, and on SQLite, which is on this machine, it is the local clock.

    Parameters
    ----------
    local : the clock of this machine.
    """

    def __init__(self, local: Callable[[], dt.datetime]) -> None:
        self._local = local
        self._offset_s: float | None = None

    def now(self) -> dt.datetime:
        """The time, in UTC."""
        if self._offset_s is None:
            return self._local()
        return dt.datetime.fromtimestamp(self._offset_s + time.monotonic(), dt.UTC)

    async def compare(self, connection: AsyncConnection) -> None:
        """Ask PostgreSQL for its time, and correct ours as far as the answer proves it wrong."""
        if is_sqlite(connection):
            return
        asked_at = time.monotonic()
        told = (await connection.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
        self._offset_s = nearest_offset(
            self._offset_s, told.timestamp(), asked_at=asked_at, answered_at=time.monotonic()
        )


def nearest_offset(known: float | None, told: float, *, asked_at: float, answered_at: float) -> float:
    """The offset nearest to `known` that agrees with an answer.

    The database said `told` at some moment between question and answer. A slow answer proves little and
    changes little; so time does not jump to and fro with the network.

    Examples
    --------
    >>> nearest_offset(None, 100.0, asked_at=7.0, answered_at=9.0)
    92.0
    >>> nearest_offset(92.5, 110.0, asked_at=17.0, answered_at=19.0)
    92.5
    >>> nearest_offset(99.0, 110.0, asked_at=17.0, answered_at=19.0)
    93.0
    """
    lowest, highest = told - answered_at, told - asked_at
    if known is None:
        return (lowest + highest) / 2
    return min(max(known, lowest), highest)
