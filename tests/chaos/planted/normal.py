"""A server whose SQLite does not wait for the disk (`synchronous=NORMAL`), as many run it."""

from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from tests.chaos.planted.serving import App, product, serve


def create_app() -> App:
    """The product on connections that were tampered with."""

    @event.listens_for(Pool, "checkout")
    def _weaken(connection: Any, _record: Any, _proxy: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    return product()


if __name__ == "__main__":
    serve("tests.chaos.planted.normal:create_app")
