"""What units were given in this process, so that a unit asked again keeps its prompt."""

import threading
from collections import OrderedDict
from typing import NamedTuple

from promptbandit.records import Assignment


class Given(NamedTuple):
    """An answer and the segment it was asked for with."""

    assignment: Assignment
    segment: str | None


class Memory:
    """The answers of the `capacity` units seen last; any number of threads may use it."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._given: OrderedDict[tuple[str, str], Given] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, prompt: str, unit_id: str) -> Given | None:
        """What the unit was given, if it is remembered."""
        with self._lock:
            given = self._given.get((prompt, unit_id))
            if given is not None:
                self._given.move_to_end((prompt, unit_id))
            return given

    def keep(self, prompt: str, unit_id: str, given: Given) -> Given:
        """Remember an answer, and return the one that stands: of two threads that ask at once for the
        same unit, one may get the server's answer and the other the fallback, but both return the first."""
        with self._lock:
            standing = self._given.setdefault((prompt, unit_id), given)
            self._given.move_to_end((prompt, unit_id))
            while len(self._given) > self._capacity:
                self._given.popitem(last=False)
            return standing
