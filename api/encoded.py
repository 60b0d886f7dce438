"""Answers of the routes that calls wait for: encoded at once, without what Litestar can do besides."""

from typing import Any

import msgspec
from litestar import Response
from litestar.types import Receive, Scope, Send

_encode = msgspec.json.Encoder().encode


class Encoded[T](Response[T]):
    """200 and a record as JSON; no cookies, no headers, no background work.

    Litestar's own way makes a response, copies its headers and settings into a second one, and costs a tenth of
    what a recorded assignment costs altogether.
    """

    def __init__(self, record: T) -> None:
        self._body = _encode(record)

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """What Litestar calls to send it."""
        return self._send

    async def _send(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(self._body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})
