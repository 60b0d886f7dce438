"""What a reviewer would not see in a diff: characters that draw nothing, text out of sight, false letters."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

from domain.text_forms import is_invisible

# A reviewer's screen shows neither what stands 40 blanks to the right nor what stands 6 lines further down.
_OUT_OF_SIGHT = re.compile(r"[^\S\n]{40,}|(?:[^\S\n]*\n){6,}")
_WORD = re.compile(r"[^\W\d_]+")
_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU")
MAX_MARKS = 2  # accents on one letter; more of them draw over the lines around


def added_invisible(before: str, after: str) -> list[str]:
    """Unseen characters, by code point, and gaps that push text out of sight, more often than before."""
    return sorted(Counter(_unseen(after)) - Counter(_unseen(before)))


def _unseen(text: str) -> Iterator[str]:
    marks = 0
    for position, character in enumerate(text):
        if character == "\r" and text[position + 1 : position + 2] == "\n":
            continue  # an ordinary line end
        if is_invisible(character):
            yield f"U+{ord(character):04X} {unicodedata.name(character, unicodedata.category(character))}"
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > MAX_MARKS:
            yield "accents upon accents"
    for gap in _OUT_OF_SIGHT.finditer(text):
        yield f"a gap of {len(gap[0])} blanks"


def added_mixed_words(before: str, after: str) -> list[str]:
    """Words with letters of two alphabets (`pаypal` with a Cyrillic `а`), more often than before."""
    return sorted(Counter(_mixed(after)) - Counter(_mixed(before)))


def _mixed(text: str) -> Iterator[str]:
    for word in _WORD.findall(text):
        if word.isascii():
            continue
        scripts = {_script(letter) for letter in word} - {""}
        if len(scripts) > 1:
            yield word


def _script(letter: str) -> str:
    first = unicodedata.name(letter, "").split(" ", 1)[0]
    return first if first in _SCRIPTS else ""
