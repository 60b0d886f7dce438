"""What health and metrics say while the database is away."""

import time
from collections.abc import Callable

import httpx

from tests.api.metrics_text import wait_for
from tests.outage.riding import wait_until_ready
from tests.proxy import Proxy
from tests.running_server import RunningServer

DEADLINE_S = 60.0


def status(server: RunningServer, path: str) -> int:
    return httpx.get(server.url + path, timeout=30.0, verify=False).status_code


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_without_its_database_is_alive_not_ready_and_tells_what_waits(
    far_server: RunningServer, proxy: Proxy, prompt: str
):
    """`live` must stay 200: whoever restarts the server for an outage loses what waits to be recorded."""
    far_server.create_version(prompt, "Old.")
    body = {"prompt": prompt, "unit_id": "before"}
    wait_until(lambda: far_server.manager.post("/assignments", json=body).status_code == 200)
    before = wait_for(far_server.manager, lambda seen: seen("storage_up") == 1 and seen("backlog") == 0)
    proxy.refuse()
    try:
        wait_until(lambda: status(far_server, "/health/ready") == 503)
        assert status(far_server, "/health/live") == 200
        answers = [far_server.assign(f"during-{number}", prompt) for number in range(5)]
        assert {answer["reason"] for answer in answers} == {"STALE"}
        away = wait_for(far_server.manager, lambda seen: seen("backlog") == 5)
        assert away("storage_up") == 0
        assert away("assignments_total", reason="STALE") == 5 + before("assignments_total", reason="STALE")
    finally:
        proxy.heal()
    wait_until_ready(far_server, DEADLINE_S)
    wait_for(far_server.manager, lambda seen: seen("storage_up") == 1 and seen("backlog") == 0)
    assert status(far_server, "/health/live") == 200
