"""Names for what was taken out: the same value has the same name throughout a call."""

import re
from collections import Counter
from collections.abc import Iterator

from domain.redaction.folded import Folded, Span
from domain.redaction.numbers import same_number

KINDS = ("EMAIL", "IBAN", "BIRTH_DATE", "ADDRESS", "PHONE", "CARD", "NUMBER", "KNOWN")
_NUMBERS = frozenset({"PHONE", "CARD", "NUMBER"})
_PSEUDONYM = re.compile(r"<([a-z][a-z0-9_]{0,39})_(\d{1,4})>")


class Pseudonyms:
    """`<PHONE_1>`, `<PHONE_2>`, ... of one call, and how often something was replaced by each kind."""

    def __init__(self, kinds: frozenset[str]) -> None:
        self._kinds = kinds.union(KINDS)
        self._names: dict[tuple[str, str], str] = {}
        self._last: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def standing(self, folded: Folded, original: str) -> Iterator[Span]:
        """Pseudonyms that the text holds already: they stay, and their numbers are taken."""
        if "<" not in folded.text:
            return
        for found in _PSEUDONYM.finditer(folded.text):
            kind, number = found[1].upper(), int(found[2])
            written = original[folded.origin[found.start()] : folded.origin[found.end()]]
            if kind in self._kinds and written == found.group().upper():
                self._last[kind] = max(self._last[kind], number)
                yield Span(found.start(), found.end(), kind, written)

    def also(self, span: Span, other: Span) -> None:
        """Give a second way of telling a value the name of the first."""
        self._names.setdefault(_identity(other), self._name(span))

    def replace(self, span: Span) -> str:
        """The name to write instead of it."""
        self.counts[span.kind] += 1
        return self._name(span)

    def _name(self, span: Span) -> str:
        identity = _identity(span)
        name = self._names.get(identity)
        if name is None:
            self._last[span.kind] += 1
            name = self._names[identity] = f"<{span.kind}_{self._last[span.kind]}>"
        return name


def _identity(span: Span) -> tuple[str, str]:
    if span.kind in _NUMBERS:
        return "number", same_number(span.value)
    return span.kind, span.value
