"""What JSON values may hold before they come near a database.

SQLite and PostgreSQL differ on all of these (NUL, 2^63, NaN), so they are refused here, once.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from domain.errors import InvalidValue
from domain.fields import MAX_ID

MAX_DEPTH = 32
MAX_POINTER = 200

# The way to a value, innermost step first: (step, way to its parent). Written out only for an error,
# because a megabyte of small values under long keys would have a gigabyte of pointers.
type _Way = tuple[Any, _Way] | None


def check_json_value(value: Any, *, pointer: str = "") -> None:
    """Raise InvalidValue at the first NUL, lone surrogate, huge integer, NaN, or deep nesting in `value`."""
    stack: list[tuple[Any, _Way, int]] = [(value, None, 0)]
    while stack:
        item, way, depth = stack.pop()
        problem = (
            _problem(item) if depth <= MAX_DEPTH else f"is nested more than {MAX_DEPTH} deep; flatten it"
        )
        if problem:
            raise InvalidValue(pointer=pointer + _written(way), problem=problem)
        for step, child in _children(item):
            key_problem = _problem(step)
            if key_problem:
                raise InvalidValue(pointer=pointer + _written(way), problem=f"a key {key_problem}")
            stack.append((child, (step, way), depth + 1))


def _children(item: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(item, dict):
        yield from item.items()
    elif isinstance(item, list):
        yield from enumerate(item)


def _problem(item: Any) -> str | None:
    if isinstance(item, str):
        return _text_problem(item)
    if isinstance(item, int) and abs(item) > MAX_ID:
        return "is an integer beyond ±(2^63 - 1); send it as a string"
    if isinstance(item, float) and not math.isfinite(item):
        return "is not a finite number; leave unknown values out"
    return None


def _text_problem(text: str) -> str | None:
    if "\x00" in text:
        return "holds the character NUL (\\u0000); remove it"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair; send whole characters"
    return None


def _written(way: _Way) -> str:
    steps: list[str] = []
    while way is not None:
        step, way = way
        steps.append(str(step))
    return pointer_to(reversed(steps))


def pointer_to(steps: Iterable[str]) -> str:
    """A JSON pointer (RFC 6901), cut so that an error does not echo a megabyte."""
    return "".join(f"/{escape_pointer(step)}" for step in steps)[:MAX_POINTER]


def escape_pointer(part: str) -> str:
    """One step of a JSON pointer; half a surrogate pair, which no answer could hold, becomes `?`."""
    return part[:100].encode(errors="replace").decode().replace("~", "~0").replace("/", "~1")
