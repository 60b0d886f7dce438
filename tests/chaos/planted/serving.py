"""Serve the product's application with something around it."""

import argparse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from api.app import create_app

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def product() -> App:
    """The application as `promptbandit serve` runs it."""
    return create_app()


def is_post(scope: Scope, path: str) -> bool:
    return scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == path


async def read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def replay(body: bytes) -> Receive:
    """A request's body once more."""

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class Caught:
    """An answer that is kept instead of sent."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.messages: list[MutableMapping[str, Any]] = []

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")

    async def pass_on(self, send: Send) -> None:
        for message in self.messages:
            await send(message)


async def answer(send: Send, body: bytes) -> None:
    """200 with this JSON."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve(app: str) -> None:
    """What `promptbandit serve` does, for another application."""
    parser = argparse.ArgumentParser()
    parser.add_argument("serve")
    parser.add_argument("--port", type=int)
    parser.add_argument("--workers", type=int)
    chosen = parser.parse_args()
    uvicorn.run(
        app,
        factory=True,
        host="127.0.0.1",
        port=chosen.port,
        workers=chosen.workers if chosen.workers > 1 else None,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=10,
    )
