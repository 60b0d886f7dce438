"""A server that gives some calls the prompt of another unit, as one with a wrong cache key does."""

import random

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

SHARE = 0.3


def create_app() -> App:
    """The product behind a cache that mixes units up."""
    inner = product()
    chance = random.Random()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if not is_post(scope, "/assignments") or chance.random() >= SHARE:
            await inner(scope, receive, send)
            return
        asked = msgspec.json.decode(await read_body(receive))
        other = asked | {"unit_id": f"other-{chance.random()}"}
        caught = Caught()
        body = msgspec.json.encode(other)
        headers = [(k, v) for k, v in scope["headers"] if k != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await inner({**scope, "headers": headers}, replay(body), caught.send)
        if caught.status != 200:
            await caught.pass_on(send)
            return
        given = msgspec.json.decode(caught.body) | {"unit_id": asked["unit_id"]}
        await answer(send, msgspec.json.encode(given))

    return app


if __name__ == "__main__":
    serve("tests.chaos.planted.unsticky:create_app")
