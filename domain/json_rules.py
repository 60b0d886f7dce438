"""What JSON values may hold before they come near a database.

SQLite and PostgreSQL differ on all of these (NUL, 2^63, NaN), so they are refused here, once.
"""

import math
from collections.abc import Iterator
from typing import Any

from domain.errors import InvalidValue

MAX_DEPTH = 32
_MAX_INTEGER = 2**63 - 1


def check_json_value(value: Any, *, pointer: str = "") -> None:
    """Raise InvalidValue at the first NUL, lone surrogate, huge integer, NaN, or deep nesting in `value`."""
    stack: list[tuple[str, Any, int]] = [(pointer, value, 0)]
    while stack:
        where, item, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise InvalidValue(pointer=where[:200], problem=f"nested more than {MAX_DEPTH} deep; flatten it")
        _check_scalar(where, item)
        stack.extend((f"{where}/{key}", child, depth + 1) for key, child in _children(where, item))


def _children(where: str, item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, dict):
        for key, child in item.items():
            _check_scalar(where, key)
            yield escape_pointer(key), child
    elif isinstance(item, list):
        yield from ((str(index), child) for index, child in enumerate(item))


def _check_scalar(where: str, item: Any) -> None:
    if isinstance(item, str):
        if "\x00" in item:
            raise InvalidValue(pointer=where, problem="holds the character NUL (\\u0000); remove it")
        if not item.isascii() and any("\ud800" <= character <= "\udfff" for character in item):
            raise InvalidValue(pointer=where, problem="holds half of a surrogate pair; send whole characters")
    elif isinstance(item, int) and not isinstance(item, bool) and abs(item) > _MAX_INTEGER:
        raise InvalidValue(pointer=where, problem="integer beyond ±(2^63 - 1); send it as a string")
    elif isinstance(item, float) and not math.isfinite(item):
        raise InvalidValue(pointer=where, problem="number is not finite; leave unknown values out")


def escape_pointer(part: str) -> str:
    """One step of a JSON pointer (RFC 6901), cut so that an error does not echo a megabyte."""
    return part[:100].replace("~", "~0").replace("/", "~1")
