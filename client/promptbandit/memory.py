"""What units were given in this process, so that a unit asked again keeps its prompt."""

import threading
from collections import OrderedDict

import msgspec

from promptbandit.records import Assignment, Version

MOST_VERSIONS = 200  # remembered to be shared; a prompt that changes more often than that is none


class Given(msgspec.Struct, frozen=True, gc=False):
    """An answer and the segment it was asked for with; of no interest to the garbage collector."""

    assignment: Assignment
    segment: str | None


class Memory:
    """The answers of the `capacity` units seen last; any number of threads may use it.

    Units that were given one version share it: ten thousand copies of a prompt would fill memory, and the
    garbage collector, which stops every thread, would look at each of them.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._given: OrderedDict[tuple[str, str], Given] = OrderedDict()
        self._versions: dict[tuple[str, int | None, str], Version] = {}
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
            standing = self._given.setdefault((prompt, unit_id), self._sharing(given))
            self._given.move_to_end((prompt, unit_id))
            while len(self._given) > self._capacity:
                self._given.popitem(last=False)
            return standing

    def _sharing(self, given: Given) -> Given:
        """The same with the version that others have, where somebody has it."""
        version = given.assignment.version
        if len(self._versions) >= MOST_VERSIONS:
            self._versions.clear()
        known = self._versions.setdefault((version.name, version.id, version.content_hash), version)
        if known is version or known != version:
            return given
        return Given(msgspec.structs.replace(given.assignment, version=known), given.segment)
