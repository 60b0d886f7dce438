"""What stands on every answer, whatever it is."""

import httpx
import pytest

from tests.api.reference_cases import World

SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'",
    "cache-control": "no-store",
}


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/health/live", None, 200),
        ("GET", "/schema", None, 200),
        ("GET", "/metrics", None, 200),
        ("GET", "/experiments/greeting/calls", None, 200),
        ("HEAD", "/prompts", None, 200),
        ("OPTIONS", "/prompts", None, 204),
        ("POST", "/outcomes", b"{", 400),
        ("GET", "/prompts/%00", None, 400),
        ("GET", "/no/such/path", None, 404),
        ("DELETE", "/prompts", None, 405),
        ("POST", "/assignments", b" " * 70_000, 413),
        ("GET", "/prompts?" + "a" * 9_000, None, 414),
        ("POST", "/assignments", b"{}", 422),
    ],
)
def test_every_answer_forbids_browsers_to_run_anything(
    method: str, path: str, content: bytes | None, status: int, worlds: dict[str, World]
):
    manager = worlds["sqlite"].server.manager
    headers = {"Content-Type": "application/json"} if content else {}
    check(manager.request(method, path, content=content, headers=headers), status)


def test_so_do_refused_keys(worlds: dict[str, World]):
    server = worlds["sqlite"].server
    with server.client(None) as nobody, server.client("agent") as agent:
        check(nobody.get("/prompts"), 401)
        check(agent.get("/prompts"), 403)


def check(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in SAFE} == SAFE
    assert [name for name in answer.headers if name in ("server", "x-powered-by")] == []
