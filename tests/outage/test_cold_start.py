"""The server starts while its database is away."""

import hashlib
import json
import time
from pathlib import Path

import httpx
import pytest

from tests.outage.judge import rows
from tests.outage.riding import wait_until_ready
from tests.postgres import Postgres
from tests.running_server import RunningServer


@pytest.fixture
def agent_key() -> str:
    """An agent's key that no database has seen."""
    from domain.keys import mint

    return mint("agent", prefix_bytes=bytes(8), secret_bytes=bytes(range(32)))[0]


def test_a_server_without_its_database_serves_the_fallback_until_it_comes(
    own_postgres: Postgres, tmp_path: Path, agent_key: str
) -> None:
    """DEFAULT at first; tables, readiness and a record of what was given as soon as there is a database."""
    fallback = tmp_path / "fallback.json"
    fallback.write_text(json.dumps({"support": "You help, even now."}))
    url = own_postgres.create_database("late")
    own_postgres.kill()
    server = RunningServer(
        url,
        tmp_path,
        environment={
            "PROMPTBANDIT_FALLBACK_FILE": str(fallback),
            "PROMPTBANDIT_AGENT_KEY_HASHES": hashlib.sha256(agent_key.encode()).hexdigest(),
        },
    )
    try:
        server.start(ready=False)
        assert httpx.get(server.url + "/health/ready", verify=False).status_code == 503
        given = _assign(server, agent_key, "early")
        assert (given.status_code, given.json()["reason"]) == (200, "DEFAULT")
        assert given.json()["version"]["system_prompt"] == "You help, even now."
        own_postgres.start()
        assert wait_until_ready(server) < 3.0
        manager = {"Authorization": f"Bearer {server.key('manager')}"}
        new = {"name": "support", "system_prompt": "Be kind."}
        assert httpx.post(server.url + "/prompts", json=new, headers=manager, verify=False).status_code == 201
        _wait_for_row(url, "early")
        assert rows(url, "SELECT unit_id, reason, content_hash FROM assignments") == [
            ("early", "DEFAULT", given.json()["version"]["content_hash"])
        ]
        assert _assign(server, server.key("manager"), "early").json()["version"] == given.json()["version"]
        assert _assign(server, server.key("manager"), "late").json()["reason"] == "STATIC"
    finally:
        server.stop()
        server.manager.close()


def test_a_server_without_its_database_and_without_a_fallback_says_when_to_come_back(
    own_postgres: Postgres, tmp_path: Path, agent_key: str
) -> None:
    """503 and Retry-After, for assignments and for outcomes; ready when the frozen database thaws."""
    url = own_postgres.create_database("frozen")
    own_postgres.freeze()
    hashes = {"PROMPTBANDIT_AGENT_KEY_HASHES": hashlib.sha256(agent_key.encode()).hexdigest()}
    server = RunningServer(url, tmp_path, environment=hashes)
    try:
        server.start(ready=False)
        for _ in range(3):
            started = time.monotonic()
            refused = _assign(server, agent_key, "early")
            assert time.monotonic() - started < 1.0
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["type"] == "/problems/storage-away"
        outcome = {"prompt": "support", "unit_id": "early", "metrics": {"resolved": True}}
        headers = {"Authorization": f"Bearer {agent_key}"}
        assert (
            httpx.post(server.url + "/outcomes", json=outcome, headers=headers, verify=False).status_code
            == 503
        )
        own_postgres.thaw()
        assert wait_until_ready(server) < 3.0
    finally:
        own_postgres.thaw()
        server.stop()
        server.manager.close()


def _assign(server: RunningServer, key: str, unit: str) -> httpx.Response:
    body = {"prompt": "support", "unit_id": unit}
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(server.url + "/assignments", json=body, headers=headers, verify=False)


def _wait_for_row(url: str, unit: str) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if rows(url, f"SELECT 1 FROM assignments WHERE unit_id = '{unit}'"):
            return
        time.sleep(0.05)
    raise AssertionError(f"{unit} was not recorded")
