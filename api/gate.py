"""The outermost layer: limits, a request id, security headers, one log line and one timing per request."""

import itertools
import secrets
import time
from typing import Any, cast

import msgspec
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import HTTPScope, Message, Receive, Scope, Send

from api.limits import in_time, refusal
from api.log import REQUEST_ID, log
from api.metrics import ServerMetrics
from api.problems import PROBLEM_JSON, Kind

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'"),
]


class Gate:
    """ASGI application around the whole app."""

    def __init__(self, app: Litestar, metrics: ServerMetrics, *, body_deadline_s: float) -> None:
        self.app = app
        self._metrics = metrics
        self._body_deadline_s = body_deadline_s
        # Random once a process: asking the system for random bytes at every request costs more than routing it.
        self._process_id = secrets.token_hex(4)
        self._numbers = itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        await self._serve(scope, receive, send)

    async def _serve(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        request_id = f"{self._process_id}{next(self._numbers):08x}"
        REQUEST_ID.set(request_id)  # each request is a task of its own, so nobody else sees it
        method = scope["method"]
        if method == "HEAD":  # GET whose body the HTTP server drops
            scope = cast("HTTPScope", {**scope, "method": "GET"})
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

        await self._answer(scope, receive, send_with_headers, request_id)
        self._note(scope, method, status, time.perf_counter() - started)

    async def _answer(self, scope: HTTPScope, receive: Receive, send: Send, request_id: str) -> None:
        refused = refusal(scope)
        if refused is not None:
            await _refuse(send, *refused, request_id)
        else:
            await self.app(scope, in_time(receive, self._body_deadline_s), send)

    def _note(self, scope: HTTPScope, method: str, status: int, seconds: float) -> None:
        route = _route_of(scope)
        self._metrics.seconds.labels(route).observe(seconds)
        log(
            "request",
            level="debug" if status < 400 else "info" if status < 500 else "warning",
            method=method,
            route=route,
            status=status,
            ms=round(seconds * 1000, 2),
        )


def _route_of(scope: HTTPScope) -> str:
    """The template of the path: bounded in number, and free of keys and ids."""
    template: Any = scope.get("path_template")
    return str(template) if template else "unknown"


async def _refuse(send: Send, kind: Kind, detail: str, request_id: str) -> None:
    body = msgspec.json.encode(kind.document(detail, request_id=request_id))
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": kind.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
