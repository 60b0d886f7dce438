"""Transcripts are data: one line of JSON between two marker lines that they cannot contain.

A line break inside the data would be needed to begin a marker line, and JSON writes line breaks as `\\n`;
beside that the delimiter is random and drawn again when a text holds it.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from itertools import count
from typing import Any

import msgspec

# Characters that are not seen, or that some readers take for line breaks: sent as \uXXXX, in plain sight.
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def delimiter_for(texts: Iterable[str], *, seed: str) -> str:
    """96 bits drawn from `seed` (secret and new for each run); drawn again while a text holds them."""
    held = list(texts)
    drawn = (hashlib.sha256(f"{seed}/{attempt}".encode()).hexdigest()[:24] for attempt in count())
    return next(mark for mark in drawn if not any(mark in text for text in held))


def as_data(value: Any) -> str:
    """`value` as one line of JSON, its hidden characters written as escapes."""
    text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in HIDDEN_CATEGORIES:
        return character
    units = character.encode("utf-16-be", errors="surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def fenced(name: str, data: str, *, delimiter: str) -> str:
    """The block as it is sent; `data` comes from `as_data`."""
    return f"BEGIN {name} {delimiter}\n{data}\nEND {name} {delimiter}"


def unfenced(block: str) -> tuple[str, Any]:
    """The name and the value of a block: what a faithful reader of a request does."""
    begin, data, end = block.split("\n")
    word, name, delimiter = begin.split(" ")
    if word != "BEGIN" or end != f"END {name} {delimiter}":
        raise ValueError(f"not a block: begins with {begin[:80]!r}, ends with {end[:80]!r}")
    return name, json.loads(data)
