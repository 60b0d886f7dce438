"""One form for what looks or sounds the same, and where each of its characters stood.

Digits of any script become ASCII, invisible characters and combining marks disappear, spaces and dashes become
plain ones, case goes, and what JSON escaped inside a string is read. Patterns see this form only; what they
find is replaced in the text as it was told.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

TAKEN = "\x00"  # what is a pseudonym already
KEPT = "\x01"  # what stays although it has many digits: dates, prices

_PLAIN = re.compile(r"[ -$&-\[\]-~\t\n\r]*")  # ASCII without a backslash or a percent sign
_ESCAPE = re.compile(r"\\{1,4}(?:u([0-9a-fA-F]{4})|([bfnrt\"/]))|%40")
_HIDDEN = {"Cf", "Mn", "Me"}


class Span(NamedTuple):
    """Something personal at [start, end) of the folded text; equal values get the same pseudonym."""

    start: int
    end: int
    kind: str
    value: str


class Folded(NamedTuple):
    """The folded text; `origin[i]` is where character i stood, with one entry more for the end."""

    text: str
    origin: Sequence[int]


def fold(text: str) -> Folded:
    """The form in which patterns are sought."""
    if _PLAIN.fullmatch(text):
        return Folded(text.lower(), range(len(text) + 1))
    characters: list[str] = []
    origin: list[int] = []
    for place, character in _characters(text):
        for part in _fold_character(character):
            characters.append(part)
            origin.append(place)
    origin.append(len(text))
    return Folded("".join(characters), origin)


def fold_value(value: str) -> str:
    """The folded form of a value on its own."""
    return fold(value).text


def pattern(source: str) -> re.Pattern[str]:
    """A pattern over folded text: Russian letters lose their marks there, too."""
    return re.compile(source.replace("й", "и").replace("ё", "е"))


def masked(text: str, spans: Iterable[Span], mask: str = TAKEN) -> str:
    """The text with the spans blotted out, as long as before."""
    parts: list[str] = []
    end = 0
    for span in sorted(spans):
        parts += [text[end : span.start], mask * (span.end - span.start)]
        end = span.end
    return "".join([*parts, text[end:]])


def _characters(text: str) -> Iterator[tuple[int, str]]:
    """Each character and its place; one that JSON escaped is read."""
    at = 0
    for escape in _ESCAPE.finditer(text):
        yield from enumerate(text[at : escape.start()], at)
        yield escape.start(), _meant(*escape.groups())
        at = escape.end()
    yield from enumerate(text[at:], at)


def _meant(code: str | None, letter: str | None) -> str:
    """What an escape stands for: a character of JSON, or the `@` of an address in a link."""
    if code:
        return chr(int(code, 16))
    return "@" if letter is None else letter if letter in '"/' else "\n"


@lru_cache(maxsize=65_536)
def _fold_character(character: str) -> str:
    return "".join(_plain(part) for part in unicodedata.normalize("NFKD", character)).casefold()


def _plain(character: str) -> str:
    category = unicodedata.category(character)
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    if category in _HIDDEN or (category == "Cc" and character not in "\t\n\r\x85"):
        return ""
    if category in ("Zl", "Zp") or character == "\x85":
        return "\n"
    if category == "Zs":
        return " "
    return "-" if category == "Pd" or character == "\N{MINUS SIGN}" else character
