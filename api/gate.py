"""The outermost layer: a request id, security headers, one log line and one timing per request."""

import re
import secrets
import time
from typing import Any

import msgspec
from litestar import Litestar
from litestar.types import Message, Receive, Scope, Send

from api.log import log
from api.metrics import ServerMetrics
from api.problems import MALFORMED_REQUEST, PROBLEM_JSON

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'"),
]


class Gate:
    """ASGI application around the whole app."""

    def __init__(self, app: Litestar, metrics: ServerMetrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope["promptbandit_request_id"] = request_id  # type: ignore[typeddict-unknown-key]
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [*_HEADERS, (b"x-request-id", request_id.encode())]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        if _CONTROL.search(scope["path"]):
            await _refuse(send_with_headers, request_id)
        else:
            await self.app(scope, receive, send_with_headers)
        seconds = time.perf_counter() - started
        route = _route_of(scope)
        self._metrics.seconds.labels(route).observe(seconds)
        log(
            "request",
            level="debug" if status < 400 else "info" if status < 500 else "warning",
            request_id=request_id,
            method=scope["method"],
            route=route,
            status=status,
            ms=round(seconds * 1000, 2),
        )


def _route_of(scope: Scope) -> str:
    """The template of the path: bounded in number, and free of keys and ids."""
    template: Any = scope.get("path_template")
    return str(template) if template else "unknown"


async def _refuse(send: Send, request_id: str) -> None:
    problem = MALFORMED_REQUEST.document("the path holds control characters", request_id=request_id)
    body = msgspec.json.encode(problem)
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
