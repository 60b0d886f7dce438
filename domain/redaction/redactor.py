"""What a redactor is, so that another one can be plugged in."""

from collections.abc import Sequence
from typing import Protocol

from domain.fields import Record
from domain.outcomes import Turn
from domain.redaction.known_values import KnownValues


class RedactedTranscript(Record, frozen=True, kw_only=True):
    """Turns that may be stored, and how many things were taken out of them, by kind.

    `caller` is a mark of who called; whoever redacts leaves it out, it is put there afterwards.
    """

    turns: tuple[Turn, ...]
    redactions: dict[str, int]
    caller: str | None = None


class Redactor(Protocol):
    """Takes out of a transcript what is personal; called from threads, so it keeps no state between calls."""

    def __call__(self, turns: Sequence[Turn], known: KnownValues) -> RedactedTranscript:
        """The turns that may be stored."""
        ...
