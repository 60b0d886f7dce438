"""Problem documents (RFC 9457): why the server says no."""

from typing import Any

import msgspec

_LONGEST = 500  # characters of a server's text in a log line


def read_problem(body: bytes) -> dict[str, Any]:
    """The problem document in `body`; empty where it holds none, such as a proxy's error page."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def describe(problem: dict[str, Any]) -> str:
    """One line for people."""
    text = problem.get("detail") or problem.get("title") or "no reason given"
    return " ".join(str(text)[:_LONGEST].split())
