"""Digits in words, mixed with digits: `nine double seven, 62 oh five`, `восемь девятьсот шестнадцать ...`.

What an agent's speech recognition writes down is seldom a number in digits.
"""

import re
from collections.abc import Iterator

from domain.redaction.folded import Span, fold_value
from domain.redaction.number_words import NUMBER_WORDS, Word
from domain.redaction.numbers import number_kind

LEAST_SPOKEN = 5  # digits of words alone
LEAST_MIXED = 7  # digits of words and figures together
_TOKEN = re.compile(r"\d+|[^\W\d_]+")
_PIECE = re.compile(r"[\s\w,.;:()+/?!#-]*")
_NODS = frozenset(fold_value("yes yeah ok okay right mm hm hmm да так ага угу итак").split())
_GAP = re.compile(r"[\s,.;:()+/#-]{0,4}")


class _Run:
    """Number words that follow each other, and the digits they mean."""

    def __init__(self) -> None:
        self.start: int | None = None
        self.end = 0
        self._groups: list[str] = []
        self._room = 1  # what the last group leaves: `twenty` takes a unit more, `six` does not
        self._times = 1
        self._spoken = 0
        self._figures = 0

    def take(self, start: int, end: int, word: Word | str) -> None:
        """One token more; fillers count only between others."""
        if isinstance(word, str):
            self._groups.append(word)
            self._figures += len(word) == 1
            self._room = 1
        elif word.sort == "number":
            self._say(word)
        elif word.sort == "hundred" and self._groups and len(self._groups[-1]) == 1:
            self._groups[-1] += "00"
            self._spoken += 2
            self._room = 100
        elif word.sort == "times":
            self._times = word.value
        is_filler = not isinstance(word, str) and word.sort in ("filler", "hundred") and not self._groups
        if is_filler:
            return
        if self.start is None:
            self.start = start
        if isinstance(word, str) or word.sort != "filler":
            self.end = end

    def _say(self, word: Word) -> None:
        if word.value < self._room and self._groups and self._times == 1 and word.value > 0:
            self._groups[-1] = str(int(self._groups[-1]) + word.value)  # as long as before
        else:
            self._groups += [str(word.value)] * self._times
            self._spoken += len(str(word.value)) * self._times
        self._room = word.room
        self._times = 1

    @property
    def digits(self) -> str:
        """The digits meant so far."""
        return "".join(self._groups)

    def spans(self) -> Iterator[Span]:
        """One where there are digits enough, else none."""
        digits = self.digits
        by_figures = len(self._groups) == len(digits) >= LEAST_MIXED  # 9, 7, 7, 6, 2, 5, 1
        singly = self._spoken and self._spoken + self._figures >= LEAST_SPOKEN  # nine 7 seven 6 two
        enough = singly or (len(digits) >= LEAST_MIXED and (self._spoken or by_figures))
        if enough and self.start is not None:
            yield Span(self.start, self.end, number_kind(digits), digits)


def find_spoken_numbers(text: str) -> Iterator[Span]:
    """Runs of at least five digits said in words, or seven where figures are among them."""
    run = None
    end = 0
    for token in _TOKEN.finditer(text):
        said = token.group()
        word = said if said.isdigit() else NUMBER_WORDS.get(said)
        if run is not None and (word is None or not _GAP.fullmatch(text, end, token.start())):
            yield from run.spans()
            run = None
        if word is not None:
            run = run or _Run()
            run.take(token.start(), token.end(), word)
            end = token.end()
    if run is not None:
        yield from run.spans()


def digits_of_piece(text: str) -> str:
    """The digits of a text that holds nothing else; empty where it holds more."""
    if not _PIECE.fullmatch(text):
        return ""
    run = _Run()
    for token in _TOKEN.finditer(text):
        said = token.group()
        word = said if said.isdigit() else NUMBER_WORDS.get(said)
        if word is not None:
            run.take(token.start(), token.end(), word)
        elif said not in _NODS:
            return ""
    return run.digits
