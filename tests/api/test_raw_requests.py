"""Requests that no HTTP client sends: half ones, dripping ones, ones with two of everything."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.api.raw_http import connect, drip, exchange, request_bytes
from tests.api.reference_cases import World
from tests.api.tables import state
from tests.running_server import RunningServer

JSON = ("Content-Type", "application/json")
GOOD = {"prompt": "support", "unit_id": "raw", "metrics": {"resolved": True}}


@pytest.fixture(autouse=True)
def _the_server_is_well_afterwards(shared: RunningServer, worlds: dict[str, World]) -> Iterator[None]:
    shared.assign("meanwhile")
    before = state(shared)
    yield
    assert state(shared) == before
    assert '"status":5' not in shared.log.read_text()
    shared.assign("afterwards")


def key(server: RunningServer, scope: str = "agent") -> tuple[str, str]:
    return "Authorization", f"Bearer {server.key(scope)}"


def posted(server: RunningServer, body: bytes, *more: tuple[str, str]) -> bytes:
    length = ("Content-Length", str(len(body)))
    headers = [key(server), JSON, *more, *([] if more else [length])]
    return request_bytes("POST", "/outcomes", headers, body)


def test_a_body_that_ends_early_is_not_stored(shared: RunningServer):
    """http-10: 500 bytes announced, fewer sent, then a half close."""
    sent = posted(shared, json.dumps(GOOD).encode(), ("Content-Length", "500"))
    assert exchange(shared, sent, half_close=True).status in (400, 408, None)


def test_a_body_that_stays_away_is_answered_in_time(shared: RunningServer):
    sent = posted(shared, b"", ("Content-Length", "500"))
    answer = exchange(shared, sent)
    assert answer.status == 408
    assert json.loads(answer.body)["type"] == "/problems/body-too-slow"
    assert answer.headers["connection"] == "close"


def test_a_dripping_body_is_ended_and_holds_up_nobody(shared: RunningServer):
    """http-13: chunks of one byte for ever."""
    head = posted(shared, b"", ("Transfer-Encoding", "chunked"))
    answers: list[int | None] = []
    dripping = threading.Thread(
        target=lambda: answers.append(drip(shared, head, b"1\r\n \r\n", every_s=0.2, at_most=100).status)
    )
    dripping.start()
    shared.assign("meanwhile")
    dripping.join()
    assert answers[0] in (408, None)


def test_two_hundred_half_requests_hold_up_nobody(shared: RunningServer):
    """http-14: the rest of the header never comes."""
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(shared)).sendall(b"POST /assignments HTTP/1.1\r\nHost: te")
        shared.assign("meanwhile")


def test_an_endless_path_is_refused(shared: RunningServer):
    """http-17: 100 kB."""
    sent = request_bytes("GET", f"/experiments/{'a' * 100_000}", [key(shared, "analyst")])
    assert exchange(shared, sent).status in (400, 414)


def test_a_long_path_is_refused_before_it_is_looked_up(shared: RunningServer):
    sent = request_bytes("GET", f"/experiments/{'a' * 10_000}", [key(shared, "analyst")])
    answer = exchange(shared, sent)
    assert answer.status == 414
    assert json.loads(answer.body)["type"] == "/problems/uri-too-long"


def test_a_line_break_in_a_header_reaches_no_answer(shared: RunningServer):
    """http-18: CR LF makes a second request header; nothing of it comes back."""
    sent = posted(shared, b"{}", ("X-A", "b\r\nX-Injected: 1"), ("Content-Length", "2"))
    answer = exchange(shared, sent)
    assert answer.status in (400, 422)
    assert "x-injected" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/static/../../pyproject.toml", "/../pyproject.toml", "/schema/../audit/.."]
)
def test_a_path_upwards_leads_nowhere(shared: RunningServer, path: str):
    """http-23, and the like."""
    answer = exchange(shared, request_bytes("GET", path, [key(shared, "analyst")]))
    assert answer.status == 404
    assert json.loads(answer.body)["type"] == "/problems/not-found"


def test_two_keys_are_no_key(shared: RunningServer):
    """auth-10: whose scopes would count?"""
    headers = [key(shared), key(shared, "manager"), JSON, ("Content-Length", "2")]
    answer = exchange(shared, request_bytes("POST", "/assignments", headers, b"{}"))
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("hosts", [0, 2])
def test_a_request_names_one_host(shared: RunningServer, hosts: int):
    """RFC 9112, section 3.2: HTTP/1.1 without exactly one Host header is answered with 400."""
    headers = [("Host", "again")] if hosts == 2 else []
    answer = exchange(shared, request_bytes("GET", "/health/live", headers, host=hosts == 2))
    assert answer.status == 400
    assert json.loads(answer.body)["type"] == "/problems/malformed-request"


def test_headers_of_a_hundred_kilobytes_are_refused(shared: RunningServer):
    answer = exchange(shared, request_bytes("GET", "/health/live", [("X-A", "a" * 100_000)]))
    assert answer.status == 431
    assert json.loads(answer.body)["type"] == "/problems/headers-too-large"


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Length", "2"), ("Transfer-Encoding", "chunked")],
        [("Content-Length", "2"), ("Content-Length", "3")],
        [("Content-Length", "-2")],
        [("Content-Length", "two")],
        [("Transfer-Encoding", "identity, chunked, rot13")],
    ],
    ids=str,
)
def test_a_body_has_one_length(shared: RunningServer, headers: list[tuple[str, str]]):
    """Two lengths are how one request is smuggled behind another."""
    sent = request_bytes("POST", "/assignments", [key(shared), JSON, *headers], b"{}")
    assert exchange(shared, sent).status == 400


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /health/live HTTP/9.9\r\nHost: test\r\n\r\n",
        b"GET /experiments/\xff HTTP/1.1\r\nHost: test\r\n\r\n",
        b"BREW /health/live HTTP/1.1\r\nHost: test\r\n\r\n",
    ],
    ids=["TLS", "no path", "HTTP/9.9", "bare byte", "unknown method"],
)
def test_noise_is_answered_with_400(shared: RunningServer, sent: bytes):
    assert exchange(shared, sent).status == 400


def test_a_websocket_is_not_spoken_here(shared: RunningServer):
    upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ]
    assert exchange(shared, request_bytes("GET", "/assignments", upgrade)).status in (400, 403, 404, 405, 426)
