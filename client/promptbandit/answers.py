"""What a server's answer says: the record that was asked for, or a problem document (RFC 9457)."""

from typing import Any

import msgspec

_LONGEST = 500  # characters of a server's text in a log line


def read_json[T](body: bytes, type_: type[T]) -> T | None:
    """`body` as a `type_`; None where it is none, such as a proxy's page."""
    try:
        return msgspec.json.decode(body, type=type_)
    except (ValueError, RecursionError):  # ValueError: msgspec's own errors, and bytes that are not UTF-8
        return None


def read_problem(body: bytes) -> dict[str, Any]:
    """The problem document in `body`; empty where it holds none."""
    return read_json(body, dict[str, Any]) or {}


def describe(problem: dict[str, Any]) -> str:
    """One line for people."""
    text = problem.get("detail") or problem.get("title") or "no reason given"
    return " ".join(str(text)[:_LONGEST].split())
