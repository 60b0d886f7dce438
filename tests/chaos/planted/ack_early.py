"""A server that acknowledges outcomes before they are committed, as a queue in memory does."""

import asyncio

import msgspec

from tests.chaos.planted.serving import (
    App,
    Caught,
    Receive,
    Scope,
    Send,
    answer,
    is_post,
    product,
    read_body,
    replay,
    serve,
)

LATER_S = 0.5


def create_app() -> App:
    """The product behind a queue."""
    inner = product()
    queued: set[asyncio.Task[None]] = set()

    async def store(scope: Scope, body: bytes) -> None:
        await asyncio.sleep(LATER_S)
        await inner(scope, replay(body), Caught().send)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if not is_post(scope, "/outcomes"):
            await inner(scope, receive, send)
            return
        body = await read_body(receive)
        task = asyncio.create_task(store(scope, body))
        queued.add(task)
        task.add_done_callback(queued.discard)
        results = [
            {"prompt": item["prompt"], "unit_id": item["unit_id"], "status": "accepted"}
            for item in msgspec.json.decode(body)
        ]
        await answer(send, msgspec.json.encode({"results": results}))

    return app


if __name__ == "__main__":
    serve("tests.chaos.planted.ack_early:create_app")
