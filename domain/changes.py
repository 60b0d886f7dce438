"""How much of a prompt its edits change, and the words that they bring."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from domain.edits import Edit, opcodes

# Two texts about one thing share pairs of words by chance; five in a row were kept on purpose.
KEPT_WORDS = 5
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")


class Changes(NamedTuple):
    """Characters of the prompt that do not stand in a kept block, and the pieces of text that are new."""

    removed: int
    added: tuple[str, ...]


def changes_of(edits: Sequence[Edit]) -> Changes:
    """What the edits remove and bring, summed; a replaced anchor is compared word by word with its text."""
    removed, added = 0, []
    for edit in edits:
        if edit.op in ("insert_after", "insert_before"):
            added.append(edit.text)
            continue
        for old, new in _changed(edit.anchor, edit.text):
            removed += len(old)
            added.append(new)
    return Changes(removed=removed, added=tuple(piece for piece in added if piece.strip()))


def _changed(before: str, after: str) -> Iterator[tuple[str, str]]:
    """The pieces that differ, as (old, new): by lines first, then by words inside changed lines."""
    old, new = before.split("\n"), after.split("\n")
    for kind, i, j, k, m in opcodes(old, new):
        if kind == "replace":
            yield from _changed_words("\n".join(old[i:j]), "\n".join(new[k:m]))
        elif kind != "equal":
            yield "\n".join(old[i:j]) + "\n" * (j > i), "\n".join(new[k:m])


def _changed_words(before: str, after: str) -> Iterator[tuple[str, str]]:
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    start, new_start = 0, 0
    for kind, i, j, k, m in opcodes(old, new):
        if kind == "equal" and _is_kept(old[i:j], at_an_end=i == 0 or j == len(old)):
            if start < i or new_start < k:
                yield "".join(old[start:i]), "".join(new[new_start:k])
            start, new_start = j, m
    if start < len(old) or new_start < len(new):
        yield "".join(old[start:]), "".join(new[new_start:])


def _is_kept(tokens: Sequence[str], *, at_an_end: bool) -> bool:
    return at_an_end or sum(token.strip().isalnum() for token in tokens) >= KEPT_WORDS
