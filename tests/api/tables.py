"""What the database holds, read by plain SQL beside the server."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.running_server import RunningServer

COUNTED = (
    "prompts",
    "prompt_versions",
    "experiments",
    "variants",
    "allocations",
    "assignments",
    "outcomes",
    "outcome_revisions",
    "suggestions",
    "audit",
)


@contextmanager
def connected(server: RunningServer) -> Iterator[Any]:
    """A connection to the server's database."""
    url = server.database_url
    if url.startswith("sqlite"):
        connection: Any = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)
    else:
        connection = psycopg.connect(url.replace("+psycopg", ""))
    try:
        yield connection
    finally:
        connection.close()


def select(server: RunningServer, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with connected(server) as connection:
        return [tuple(row) for row in connection.execute(sql).fetchall()]


def state(server: RunningServer) -> dict[str, Any]:
    """The number of rows of each table, and all counts."""
    numbers = " UNION ALL ".join(f"SELECT '{name}', COUNT(*) FROM {name}" for name in COUNTED)
    columns = "experiment_id, allocation_id, variant_id, segment, metric"
    counts = f"SELECT {columns}, n, total, total_sq FROM counts ORDER BY {columns}"
    with connected(server) as connection:
        found = dict(connection.execute(numbers).fetchall())
        return found | {"counts": [tuple(row) for row in connection.execute(counts).fetchall()]}


def counted(server: RunningServer, metric: str) -> tuple[int, float]:
    """n and total of one metric over all experiments."""
    sql = f"SELECT COALESCE(SUM(n), 0), COALESCE(SUM(total), 0) FROM counts WHERE metric = '{metric}'"
    n, total = select(server, sql)[0]
    return int(n), float(total)
