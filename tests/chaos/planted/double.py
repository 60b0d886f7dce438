"""A server that counts some outcomes twice, as one without an idempotency key does when it is told again."""

import os
import zlib

import msgspec
import psycopg

from tests.chaos.planted.serving import (
    App,
    Caught,
    Receive,
    Scope,
    Send,
    is_post,
    product,
    read_body,
    replay,
    serve,
)

ONE_IN = 3
_COUNT_AGAIN = (
    "UPDATE counts c SET n = c.n + 1, total = c.total + o.value, total_sq = c.total_sq + o.value * o.value"
    " FROM assignments a JOIN outcomes o ON o.prompt_id = a.prompt_id AND o.unit_id = a.unit_id"
    " WHERE a.unit_id = ANY(%s) AND o.metric = 'resolved' AND c.metric = o.metric"
    " AND c.experiment_id = a.experiment_id AND c.allocation_id = a.allocation_id"
    " AND c.variant_id = a.variant_id AND c.segment = COALESCE(a.segment, '')"
)


def create_app() -> App:
    """The product, and a second hand at its counts."""
    inner = product()
    dsn = os.environ["PROMPTBANDIT_DATABASE_URL"].replace("+psycopg", "")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if not is_post(scope, "/outcomes"):
            await inner(scope, receive, send)
            return
        body = await read_body(receive)
        caught = Caught()
        await inner(scope, replay(body), caught.send)
        units = [item["unit_id"] for item in msgspec.json.decode(body)]
        again = [unit for unit in units if zlib.crc32(unit.encode()) % ONE_IN == 0]
        if caught.status == 200 and again:
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
                await connection.execute(_COUNT_AGAIN, (again,))
        await caught.pass_on(send)

    return app


if __name__ == "__main__":
    serve("tests.chaos.planted.double:create_app")
