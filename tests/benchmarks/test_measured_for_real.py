"""The benchmarks' moving parts with the real thing: databases, wrk, a server."""

import asyncio
import json
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import msgspec
import psycopg
import pytest
import sqlalchemy as sa

from benchmarks.commit_ways import put_load
from benchmarks.filling import UNRIPE_S, fill
from benchmarks.load import ABSENT, KINDS, Kind, is_installed, run_wrk
from benchmarks.served import environment, filled, other, rows_of, serving
from benchmarks.ways_to_commit import CREATE, WAYS
from domain.assignments import NewAssignment
from domain.outcomes import NewOutcome
from tests.postgres import free_port

CALLED_S = 60.0


def _database_of(url: str) -> str:
    return "SQLite" if url.startswith("sqlite") else "PostgreSQL"


def _with_table(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(CREATE)
    engine.dispose()


async def test_what_each_way_acknowledges_is_stored(database_url: str):
    _with_table(database_url)
    acknowledged = 0
    for name, way in WAYS[_database_of(database_url)].items():
        async with way(database_url) as store:
            taken = await put_load(store, clients=5, seconds=0.05)
        acknowledged += len(taken)
        assert len(taken) >= 5, name  # a client that has begun a row waits for it
        assert await asyncio.to_thread(rows_of, database_url, "stored") == acknowledged, name


async def test_rows_that_wait_together_are_stored_together_and_nobody_waits_for_ever(database_url: str):
    """A row that is there already fails its whole group, and each of it is told so."""
    _with_table(database_url)
    refused = (sa.exc.IntegrityError, psycopg.errors.UniqueViolation, sqlite3.IntegrityError)
    grouped = {n: way for n, way in WAYS[_database_of(database_url)].items() if n.startswith("group")}
    for name, way in grouped.items():
        async with asyncio.timeout(60), way(database_url) as store:
            await store((name, "first", 1.0))
            rows = [(name, metric, 1.0) for metric in ("first", "second", "third")]
            found = await asyncio.gather(*map(store, rows), return_exceptions=True)
            assert all(isinstance(each, refused) for each in found), (name, found)
    assert await asyncio.to_thread(rows_of, database_url, "stored") == len(grouped)


async def test_filled_calls_wait_for_the_outcomes_that_the_load_tells(database):
    await fill(database, 30, waiting=5, maturity_s=UNRIPE_S)
    async with database.reading() as connection:
        told = (
            await connection.scalars(sa.text("SELECT DISTINCT unit_id FROM outcomes ORDER BY unit_id"))
        ).all()
        calls = (await connection.scalars(sa.text("SELECT unit_id FROM assignments"))).all()
    assert set(told) == {f"call-{i}" for i in range(10)}
    assert set(calls) == {f"call-{i}" for i in range(15)}


@pytest.fixture
def listener() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """A server that answers 200 to everything, and the (path, key, body) it was sent."""
    heard: list[tuple[str, str, bytes]] = []

    class Listener(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) == length:  # wrk hangs up at its end, in the middle of a body too
                heard.append((self.path, self.headers["Authorization"], body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # at the end all connections are closed

        def handle_error(self, _request: object, _address: object) -> None:
            """Wrk hangs up."""

    with Server(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()
        thread.join()


@pytest.mark.skipif(not is_installed(), reason=ABSENT)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_wrk_sends_what_the_server_takes_and_nothing_twice(kind: Kind, listener):
    url, heard = listener
    deadline = time.monotonic() + CALLED_S
    while len(heard) < 3:
        run_wrk(url, "pb_key", kind, seconds=1.0, first=100 + 1_000_000 * len(heard), connections=1)
        assert time.monotonic() < deadline
    assert {path for path, _, _ in heard} == {"/assignments" if kind.path == "assignment" else "/outcomes"}
    assert {key for _, key, _ in heard} == {"Bearer pb_key"}
    bodies = [json.loads(body) for _, _, body in heard]
    assert {isinstance(body, list) for body in bodies} == {kind.size > 0}
    assert {len(body) for body in bodies if isinstance(body, list)} <= {kind.size}
    items = [item for body in bodies for item in (body if isinstance(body, list) else [body])]
    record = NewAssignment if kind.path == "assignment" else NewOutcome
    units = [msgspec.convert(item, record).unit_id for item in items]
    assert len(set(units)) == len(units)
    if kind.path == "outcome":  # wrk makes a request or two before it sends the first
        assert units[0] in {f"call-{100 + made * kind.items}" for made in range(3)}


def test_the_constant_answers_as_the_real_server_does_and_asks_for_a_key(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'constant.db'}"
    key = asyncio.run(filled(url, lambda database, now: fill(database, 0, waiting=1, now=now)))
    unit = {"prompt": "bench", "unit_id": "call-0"}
    outcome = unit | {"metrics": {"resolved": True}}
    commands = {
        "real": lambda port: [sys.executable, "-m", "cli", "serve", "--port", str(port)],
        "constant": lambda port: other(sys.executable, "benchmarks.constant_app:create_app", port, 1),
    }
    shapes = {}
    for name, command in commands.items():
        port = free_port()
        with (
            serving(command(port), port, environment(url)) as served,
            httpx.Client(base_url=served, timeout=30.0, verify=False) as client,
        ):
            assert client.post("/assignments", json=unit).status_code == 401
            client.headers["Authorization"] = f"Bearer {key}"
            asked = [("/assignments", unit), ("/outcomes", outcome), ("/outcomes", [outcome] * 2)]
            answers = [client.post(path, json=body) for path, body in asked]
            assigned, one, two = (answer.raise_for_status().json() for answer in answers)
        shapes[name] = (set(assigned), set(assigned["version"]), set(one["results"][0]), len(two["results"]))
    assert shapes["constant"] == shapes["real"]
