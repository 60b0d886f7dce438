"""What msgspec says about a broken rule, as a problem with a JSON pointer and in words."""

import re
from typing import Any

from api.problems import UNKNOWN_FIELD, VALIDATION, FieldError, RequestProblem
from domain.fields import PATTERNS_IN_WORDS
from domain.json_rules import escape_pointer, pointer_to

MAX_DETAIL = 200
_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
_FREE_VALUES: dict[str, Any] = {"metrics": bool | int | float | None, "known_values": str | int | None}
_AT, _KEY = " - at `", "key` in `"
_UNKNOWN, _ENUM = "Object contains unknown field `", "Invalid enum value '"


def broken_rule(message: str, value: Any, prefix: str = "") -> RequestProblem:
    """The problem of the first rule that `value` breaks, as `message` tells it."""
    said, path, of_key = _place(message)
    pointer = prefix + _pointer(path, value)
    if said.startswith(_UNKNOWN):
        name = escape_pointer(said.removeprefix(_UNKNOWN).removesuffix("`"))
        error = FieldError(pointer=f"{pointer}/{name}", detail="is not known")
        detail = f"unknown field {name!r}; the fields are listed in /schema"
        return RequestProblem(UNKNOWN_FIELD, detail, errors=[error])
    detail = ("a key: " if of_key else "") + _in_words(said)
    error = FieldError(pointer=pointer, detail=detail)
    return RequestProblem(VALIDATION, f"{pointer or 'body'}: {detail}", errors=[error])


def _place(message: str) -> tuple[str, str, bool]:
    """What is said, the path, and whether it is about a key; by the last mark, a value may hold another."""
    said, at, place = message.rpartition(_AT)
    if not at or not place.endswith("`"):
        return message, "", False
    path = place.removeprefix(_KEY)
    return said, path.removeprefix("$").removesuffix("`"), path != place


def _in_words(said: str) -> str:
    expected, matching, pattern = said.partition(" matching regex ")
    if matching:
        words = next((words for raw, words in PATTERNS_IN_WORDS.items() if repr(raw) == pattern), "")
        return f"must be {words}" if words else expected
    if said.startswith(_ENUM):
        value = said.removeprefix(_ENUM).removesuffix("'")[:50]
        return f"{value!r} is not one of the values listed in /schema"
    return said[:MAX_DETAIL]


def _pointer(path: str, value: Any) -> str:
    """The path as a JSON pointer; msgspec writes `...` for a key of an object, here it gets its name."""
    steps: list[str] = []
    for name, index in _STEP.findall(path):
        step = name or index
        if step == "..." and isinstance(value, dict):
            # Of our objects with free keys and bound values: the first that is no value.
            fitting = _FREE_VALUES.get(steps[-1] if steps else "", object)
            step = next((k for k, item in value.items() if not isinstance(item, fitting)), "")
        steps.append(step)
        value = value.get(step) if isinstance(value, dict) else _item(value, step)
    return pointer_to(step for step in steps if step)


def _item(value: Any, step: str) -> Any:
    return value[int(step)] if isinstance(value, list) and step.isdigit() and int(step) < len(value) else None
