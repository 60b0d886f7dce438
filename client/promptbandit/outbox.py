"""Outcomes that wait for their acknowledgement, and the counts of those that no longer wait."""

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from itertools import accumulate, islice, takewhile
from typing import NamedTuple

from promptbandit.errors import ClientClosed
from promptbandit.records import Stats

MOST_BYTES = 64 * 1024 * 1024
_STATUSES = ("accepted", "unchanged", "revised", "parked", "rejected")


class Waiting(NamedTuple):
    """An outcome on its way: whose it is, and its JSON, which stays the same until it is acknowledged."""

    prompt: str
    unit_id: str
    body: bytes


class Outbox:
    """A bounded queue, oldest first: many threads put, one sender takes and settles.

    What the sender takes stays at the head until it is settled, so a sender that starts anew finds it.
    `capacity` bounds the number of what waits besides those, `most_bytes` the size of all: transcripts are long.
    """

    def __init__(self, capacity: int, most_bytes: int = MOST_BYTES) -> None:
        self._capacity = capacity
        self._most_bytes = most_bytes
        self._queue: deque[Waiting] = deque()
        self._taken = 0
        self._bytes = 0
        self._closed = False
        self._counts: Counter[str] = Counter()
        self._changed = threading.Condition()

    def put(self, item: Waiting) -> bool:
        """Add an outcome; False when the oldest had to make room for it. ClientClosed after `close`."""
        with self._changed:
            if self._closed:
                raise ClientClosed(unit_id=item.unit_id)
            self._queue.append(item)
            self._bytes += len(item.body)
            had_room = True
            while self._is_too_full():
                self._bytes -= len(self._queue[self._taken].body)
                del self._queue[self._taken]
                self._counts["dropped"] += 1
                had_room = False
            return had_room

    def _is_too_full(self) -> bool:
        idle = len(self._queue) - self._taken
        return idle > self._capacity or (idle > 1 and self._bytes > self._most_bytes)

    def take(self, limit: int, *, most_bytes: int) -> list[Waiting]:
        """The oldest outcomes, at most `limit` of them and as many bytes, but one at least.

        They are on their way until `settle` or `drop`.
        """
        with self._changed:
            sizes = accumulate(len(item.body) for item in self._queue)
            fitting = sum(1 for _ in takewhile(lambda size: size <= most_bytes, islice(sizes, limit)))
            batch = list(islice(self._queue, max(fitting, 1)))
            self._taken = len(batch)
            return batch

    def count_attempt(self) -> None:
        """Count a request."""
        with self._changed:
            self._counts["attempts"] += 1

    def settle(self, statuses: Sequence[str]) -> None:
        """The server answered for the oldest outcomes, in their order."""
        with self._changed:
            self._counts["sent"] += len(statuses)
            self._counts.update(status for status in statuses if status in _STATUSES)
            self._remove(len(statuses))

    def drop(self, number: int) -> None:
        """Give up the `number` oldest outcomes."""
        with self._changed:
            self._counts["dropped"] += number
            self._remove(number)

    def _remove(self, number: int) -> None:
        for _ in range(number):
            self._bytes -= len(self._queue.popleft().body)
        self._taken -= number
        if not self._queue:
            self._changed.notify_all()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Whether nothing waits any more, within `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue, max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Take no further outcome."""
        with self._changed:
            self._closed = True

    def abandon(self) -> int:
        """Give up whatever still waits; how many that were."""
        with self._changed:
            number = len(self._queue)
            self._taken = number
        self.drop(number)
        return number

    @property
    def stats(self) -> Stats:
        """The counts of this moment."""
        with self._changed:
            return Stats(**self._counts, waiting=len(self._queue))
