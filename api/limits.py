"""What a request must look like before anybody reads it: its size, its encoding, its pace."""

import asyncio
import re
from typing import cast
from urllib.parse import unquote_to_bytes

from litestar.types import HTTPReceiveMessage, HTTPScope, Receive

from api.problems import (
    BODY_TOO_SLOW,
    HEADERS_TOO_LARGE,
    INCOMPLETE_BODY,
    MALFORMED_REQUEST,
    URI_TOO_LONG,
    Kind,
    RequestProblem,
)

MAX_URI_BYTES = 8_192
MAX_HEADER_BYTES = 65_536
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def refusal(scope: HTTPScope) -> tuple[Kind, str] | None:
    """Why the request line or the headers are refused, if they are."""
    raw_path, query = scope.get("raw_path") or scope["path"].encode(), scope["query_string"]
    if len(raw_path) + len(query) > MAX_URI_BYTES:
        return URI_TOO_LONG, f"path and query are larger than {MAX_URI_BYTES} bytes"
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        return HEADERS_TOO_LARGE, f"the headers are larger than {MAX_HEADER_BYTES} bytes"
    if scope["http_version"] == "1.1" and _hosts(scope) != 1:
        return MALFORMED_REQUEST, "HTTP/1.1 needs one Host header"
    if not (_is_utf8(raw_path) and _is_utf8(query)):
        return MALFORMED_REQUEST, "path or query is not UTF-8"
    if _CONTROL.search(scope["path"]):
        return MALFORMED_REQUEST, "the path holds control characters"
    return None


def _hosts(scope: HTTPScope) -> int:
    return sum(name == b"host" for name, _ in scope["headers"])


def _is_utf8(quoted: bytes) -> bool:
    try:
        unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        return False
    return True


def in_time(receive: Receive, seconds: float) -> Receive:
    """`receive` that gives a body `seconds` to arrive: a drip must not hold a place for ever."""
    loop = asyncio.get_running_loop()
    deadline: float | None = None
    is_complete = False

    async def receive_in_time() -> HTTPReceiveMessage:
        nonlocal deadline, is_complete
        if is_complete:  # now a handler only waits to hear that the client left
            return cast("HTTPReceiveMessage", await receive())
        deadline = deadline or loop.time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                message = cast("HTTPReceiveMessage", await receive())
        except TimeoutError:
            detail = f"the body did not arrive within {seconds:g} s; send it again"
            raise RequestProblem(BODY_TOO_SLOW, detail, headers={"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise RequestProblem(INCOMPLETE_BODY, "the connection ended before the body did; send it again")
        is_complete = not message.get("more_body", False)
        return message

    return receive_in_time
