"""Requests that schemathesis makes up from /schema: none is a fault of ours, and all answers are as described.

What is made up is the same in every run (a seed); what is left unchecked stands in schemathesis.toml.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.api.reference_cases import set_up
from tests.running_server import RunningServer

CONFIG = Path(__file__).with_name("schemathesis.toml")
TIMEOUT_S = 800  # takes 25 s on a busy machine with two cores
PER_OPERATION = 5  # beside those that try every bound of every field
ENVIRONMENT = {
    "PROMPTBANDIT_DESK_REQUESTS_PER_S": "0",
    "PROMPTBANDIT_FAILED_KEYS_PER_MINUTE": "0",
    "PROMPTBANDIT_SOFT_DEADLINE_MS": "30000",
    "PROMPTBANDIT_BODY_DEADLINE_MS": "60000",
}


def run(
    url: str, folder: Path, *options: str, phases: str = "coverage,fuzzing"
) -> subprocess.CompletedProcess[str]:
    """Make up requests for the server that describes itself at `url`."""
    command = [
        Path(sys.executable).parent / "st",
        "--no-color",
        "--config-file",
        CONFIG,
        "run",
        url,
        *options,
    ]
    bounds = ["--request-retries", "3", "--request-timeout", "60", "--suppress-health-check", "all"]
    made = ["--seed", "1", "--max-examples", str(PER_OPERATION), "--generation-database", "none"]
    return subprocess.run(
        [*command, "--phases", phases, *made, *bounds],
        cwd=folder,
        env=os.environ | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S - 100,
    )


@pytest.mark.timeout(TIMEOUT_S)
def test_no_made_up_request_finds_a_fault(database_url: str, tmp_path: Path):
    with RunningServer(database_url, tmp_path, environment=ENVIRONMENT) as server:
        set_up(server)
        key = f"Authorization: Bearer {server.key('manager')}"
        # Every bound of every field once, on the database that minds more of them.
        phases = "fuzzing" if database_url.startswith("sqlite") else "coverage,fuzzing"
        done = run(f"{server.url}/schema", tmp_path, "--header", key, phases=phases)
        assert done.returncode == 0, done.stdout
        assert "28 selected / 28 total" in done.stdout
        assert '"event":"internal_error"' not in server.log.read_text()


class Liar(BaseHTTPRequestHandler):
    """Describes a number and answers a text; promises 200 or 422 and fails on long names."""

    def do_GET(self) -> None:
        if self.path == "/schema":
            self._answer(200, _described())
        elif self.path.startswith("/numbers"):
            self._answer(200, {"number": "three"})
        else:
            self._answer(500 if len(self.path) > 50 else 200, {"number": 3})

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def _described() -> dict[str, Any]:
    number = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
    answer = {"description": "a number", "content": {"application/json": {"schema": number}}}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 100}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "liar", "version": "1"},
        "paths": {
            "/numbers": {"get": {"responses": {"200": answer}}},
            "/names/{name}": {"get": {"parameters": [name], "responses": {"200": answer}}},
        },
    }


@pytest.fixture
def liar() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/schema"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.timeout(TIMEOUT_S)
def test_a_server_that_is_not_as_it_says_is_found(liar: str, tmp_path: Path):
    """With the same settings: what is not checked above must not be what matters."""
    done = run(liar, tmp_path)
    assert done.returncode == 1, done.stdout
    assert "Response violates schema" in done.stdout
    assert "Server error" in done.stdout
