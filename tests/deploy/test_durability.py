"""A PostgreSQL that may forget what it has committed is named in the log."""

import json
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from storage.database import Database
from storage.durability import NEEDED, weak_settings
from tests.postgres import Postgres
from tests.running_server import RunningServer
from tests.servers.calls import DEADLINE_S, wait_for


async def weak(url: str) -> list[str]:
    database = Database(url)
    try:
        async with database.reading() as connection:
            return await weak_settings(connection)
    finally:
        await database.close()


async def test_a_database_as_it_comes_is_durable(own_postgres: Postgres, tmp_path: Path):
    assert await weak(own_postgres.url("postgres")) == []
    assert await weak(f"sqlite:///{tmp_path / 'test.db'}") == []


@pytest.mark.parametrize("name", NEEDED)
async def test_each_setting_that_is_off_is_named(own_postgres: Postgres, name: str):
    url = own_postgres.url("postgres")
    with psycopg.connect(own_postgres.dsn("postgres"), autocommit=True) as admin:
        admin.execute(f"ALTER SYSTEM SET {name} = off".encode())
        admin.execute("SELECT pg_reload_conf()")
        try:
            await _wait_until(url, [name])
        finally:
            admin.execute(f"ALTER SYSTEM RESET {name}".encode())
            admin.execute("SELECT pg_reload_conf()")
            await _wait_until(url, [])


async def _wait_until(url: str, expected: list[str]) -> None:
    until = time.monotonic() + DEADLINE_S
    while (found := await weak(url)) != expected:  # the server reads its settings when it comes to it
        assert time.monotonic() < until, found


def warnings(server: RunningServer) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "not_durable"]


def test_the_server_warns_once_when_it_starts(own_postgres: Postgres, tmp_path: Path):
    name = f"weak_{tmp_path.name}"
    url = own_postgres.create_database(name)
    with psycopg.connect(own_postgres.dsn("postgres"), autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off'.encode())
    with RunningServer(url, tmp_path) as server:
        wait_for("the warning", lambda: bool(warnings(server)))
        server.create_version()
        server.assign("call-1")
        (warning,) = warnings(server)
    assert warning["level"] == "warning"
    assert warning["off"] == ["synchronous_commit"]
    own_postgres.drop_database(name)
