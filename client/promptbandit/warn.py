"""Warnings that come once, not once a call."""

import contextlib
import logging
from collections.abc import Hashable

log = logging.getLogger("promptbandit")


class WarnOnce:
    """Logs the first warning of each kind; a kind that was forgotten may be told again."""

    def __init__(self) -> None:
        self._told: set[Hashable] = set()

    def __call__(self, kind: Hashable, message: str, *args: object) -> None:
        """Log `message % args` unless this kind was told before."""
        if kind not in self._told:
            self._told.add(kind)
            with contextlib.suppress(Exception):  # a log that fails must not cost a call its prompt
                log.warning(message, *args)

    def forget(self, kind: Hashable) -> None:
        """The trouble is over: its next time is news again."""
        self._told.discard(kind)

    def forget_all(self) -> None:
        """All trouble is over."""
        self._told.clear()
