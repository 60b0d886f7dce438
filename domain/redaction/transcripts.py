"""A transcript without what is personal in it: texts, names and tool calls of every turn."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from domain.outcomes import Turn
from domain.redaction.addresses import STREET_WORDS, find_addresses, find_russian_addresses
from domain.redaction.dates_of_birth import (
    MONTH_WORDS,
    asks_for_birth,
    find_dates_of_birth,
    find_named_dates,
    find_named_dates_of_birth,
)
from domain.redaction.dictation import dictated
from domain.redaction.emails import AT_WORDS, find_emails, find_spoken_emails
from domain.redaction.folded import KEPT, Folded, Span, fold, masked
from domain.redaction.known_values import Known, KnownValues, find_known, known_values
from domain.redaction.number_words import NUMBER_WORDS
from domain.redaction.numbers import find_ibans, find_kept, find_numbers, number_kind
from domain.redaction.pseudonyms import Pseudonyms
from domain.redaction.redactor import RedactedTranscript
from domain.redaction.spoken_numbers import find_spoken_numbers

# What is taken out may bring together what was apart, so a text is read until nothing is found; once and again
# is the rule, and the bound is for who tries to make it costly.
_MOST_PASSES = 8
_ROLES = frozenset(
    {"user", "assistant", "system", "developer", "tool", "function", "agent", "caller", "customer"}
)
_WORD = re.compile(r"[^\W\d_]+")
_DIGIT = re.compile(r"\d")
_SHORT = 200  # characters of an answer; a longer turn has dates of its own


def redact(turns: Sequence[Turn], known: KnownValues) -> RedactedTranscript:
    """The turns with pseudonyms such as `<PHONE_1>` for what is personal, and how many there are of each kind.

    Pure, in time linear in the text, and doing it twice is doing it once.

    Parameters
    ----------
    turns : the call as it was spoken.
    known : values that the agent knows of the call, by the name of the field; they are sought exactly.

    Examples
    --------
    >>> turns = [Turn(role="user", content="I'm Ann, call me at nine seven seven, 625 26 61")]
    >>> done = redact(turns, {"caller_name": "Ann"})
    >>> done.turns[0].content
    "I'm <CALLER_NAME_1>, call me at <PHONE_1>"
    >>> done.redactions
    {'CALLER_NAME': 1, 'PHONE': 1}
    """
    text = _Redaction(known_values(known))
    redacted = text.without_dictation([text.turn(turn) for turn in turns])
    return RedactedTranscript(turns=tuple(redacted), redactions=dict(sorted(text.names.counts.items())))


class _Redaction:
    """One call under way: the pseudonyms given so far, and whether a date of birth was asked for."""

    def __init__(self, known: Sequence[Known]) -> None:
        self._known = known
        self._asked = False  # for a date of birth, by the turn or the key before
        self._last_role = ""
        self.names = Pseudonyms(frozenset(item.kind for item in known))
        for item in known:
            self._take_aliases(item)

    def _take_aliases(self, known: Known) -> None:
        """A known number or address has its pseudonym also where a pattern finds it in another form."""
        first = Span(0, 0, known.kind, known.value)
        if "@" in known.value:
            self.names.also(first, Span(0, 0, "EMAIL", known.value))
        elif not any(character.isalpha() for character in known.value):
            digits = "".join(filter(str.isdigit, known.value))
            self.names.also(first, Span(0, 0, "NUMBER", digits))

    def turn(self, turn: Turn) -> Turn:
        self._asked = self._asked and turn.role != self._last_role and len(turn.content or "") <= _SHORT
        content = None if turn.content is None else self.text(turn.content)
        self._asked = False
        redacted = Turn(
            role=turn.role if turn.role in _ROLES else self.text(turn.role),
            content=content,
            name=None if turn.name is None else self.text(turn.name),
            tool_calls=None if turn.tool_calls is None else self._value(turn.tool_calls),
        )
        self._asked = content is not None and asks_for_birth(fold(content).text)
        self._last_role = turn.role
        return redacted

    def without_dictation(self, turns: list[Turn]) -> list[Turn]:
        """Numbers that were told over several turns; each of these becomes the number's name."""
        for digits, places in list(dictated(turns)):
            for place in places:
                name = self.names.replace(Span(0, 0, number_kind(digits), digits))
                turns[place] = msgspec.structs.replace(turns[place], content=name)
        return turns

    def _value(self, value: Any) -> Any:
        """A JSON value; a key stays unless it holds something personal itself."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self._field(key, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            written = msgspec.json.encode(value).decode()
            redacted = self.text(written)
            return value if redacted == written else redacted
        return value

    def _field(self, key: str, value: Any) -> Any:
        asked, self._asked = self._asked, self._asked or asks_for_birth(fold(key.replace("_", " ")).text)
        try:
            return self._value(value)
        finally:
            self._asked = asked

    def text(self, text: str) -> str:
        """The text with pseudonyms."""
        folded = fold(text)
        seen = masked(folded.text, self.names.standing(folded, text))
        found: list[Span] = []
        finders = list(self._finders(folded, text))
        for _ in range(_MOST_PASSES):
            before = len(found)
            for find in finders:
                spans = list(_apart(find(seen)))
                seen = masked(seen, spans)
                found += spans
            if len(found) == before:
                break
        return self._written(text, folded, found) if found else text

    def _finders(self, folded: Folded, original: str) -> Iterator[Callable[[str], Iterator[Span]]]:
        """In this order: an address before the name within it, what is exact before what is guessed.

        A finder is left out where a word that it needs is not there: most turns hold little of this.
        """
        words = set(_WORD.findall(folded.text))
        has_months = not words.isdisjoint(MONTH_WORDS)
        has_digits = _DIGIT.search(folded.text) is not None
        if "@" in folded.text:
            yield find_emails
        if "@" in folded.text or not words.isdisjoint(AT_WORDS):
            yield find_spoken_emails
        for known in self._known:
            yield partial(find_known, known=known)
        if has_digits:
            yield find_ibans
            yield partial(find_dates_of_birth, asked=self._asked)
        if has_months:
            yield partial(find_named_dates_of_birth, asked=self._asked)
        if not words.isdisjoint(STREET_WORDS):
            yield partial(find_addresses, folded=folded, original=original)
        if not folded.text.isascii():
            yield find_russian_addresses
        if has_digits or not words.isdisjoint(NUMBER_WORDS):
            yield partial(_find_all_numbers, has_months=has_months)

    def _written(self, text: str, folded: Folded, found: Sequence[Span]) -> str:
        parts: list[str] = []
        end = 0
        for span in sorted(found):
            parts += [text[end : folded.origin[span.start]], self.names.replace(span)]
            end = folded.origin[span.end]
        return "".join([*parts, text[end:]])


def _find_all_numbers(seen: str, *, has_months: bool) -> Iterator[Span]:
    """In words before figures: `nine seven seven 625 26 61` is one number."""
    plain = masked(seen, find_kept(seen), KEPT)
    if has_months:
        plain = masked(plain, find_named_dates(plain), KEPT)
    spoken = list(find_spoken_numbers(plain))
    yield from spoken
    yield from find_numbers(masked(plain, spoken))


def _apart(spans: Iterator[Span]) -> Iterator[Span]:
    """Without those that overlap an earlier one; the next pass sees what is left of them."""
    end = 0
    for span in sorted(spans):
        if span.start >= end:
            yield span
            end = span.end
