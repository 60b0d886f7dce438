"""Outcomes are delivered until they are acknowledged; what is lost is counted and logged."""

import logging
import threading
import time

import pytest

from promptbandit import Client, ClientClosed, Stats, backoff
from tests.client.servers import (
    NOBODY_LISTENS,
    DrippingServer,
    HttpServer,
    Reply,
    acknowledged,
    failing_log,
    in_turn,
    problem,
)

ENOUGH_S = 30.0


NO_ACKNOWLEDGEMENT = {
    "hangs up": lambda request: None,
    "says 503": problem(503, "storage-away", "away"),
    "says 500": Reply(500, b"oops"),
    "says 408": Reply(408, b""),
    "says 429": Reply(429, b""),
    "says 200 with a page": Reply(200, b"<html>Welcome</html>"),
    "says 200 for fewer outcomes": Reply(200, {"results": []}),
    "says 200 for more outcomes": Reply(200, {"results": [{"status": "accepted"}, {"status": "accepted"}]}),
    "says 204": Reply(204, b""),
}


@pytest.mark.parametrize("kind", NO_ACKNOWLEDGEMENT)
def test_the_same_outcomes_are_sent_again_when_the_server(kind):
    not_yet = NO_ACKNOWLEDGEMENT[kind]
    with (
        HttpServer(in_turn(not_yet, not_yet, acknowledged)) as server,
        Client(server.url, "key") as client,
    ):
        client.record("support", "call-1", {"resolved": True})
        assert client.flush(ENOUGH_S)
    first, second, third = server.bodies("/outcomes")
    assert first == second == third
    assert client.stats == Stats(sent=1, accepted=1, attempts=3)


def test_a_server_that_drips_is_left_and_asked_again(monkeypatch):
    monkeypatch.setattr("promptbandit.sender.TIMEOUT_S", 0.2)
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    with DrippingServer(start) as server, Client(server.url, "key") as client:
        client.record("support", "call-1", {"resolved": True})
        deadline = time.monotonic() + ENOUGH_S
        while client.stats.attempts < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.stats.attempts >= 3
        assert client.stats.waiting == 1
        client.close(timeout_s=0)


def test_the_sender_waits_as_long_as_the_server_asks():
    times = []

    def busy_once(request):
        times.append(time.monotonic())
        if len(times) == 1:
            return Reply(503, b"", {"Retry-After": "1"})
        return acknowledged(request)

    with HttpServer(busy_once) as server, Client(server.url, "key") as client:
        client.record("support", "call-1", {"resolved": True})
        assert client.flush(ENOUGH_S)
    assert times[1] - times[0] >= 1.0


def test_an_outage_does_not_become_a_retry_storm():
    """reliability.md, §2.2: at most 2 attempts an outcome; one retry loop per outcome needs over 20."""
    back = threading.Event()

    def away_for_a_while(request):
        return acknowledged(request) if back.is_set() else Reply(503, b"")

    with HttpServer(away_for_a_while) as server, Client(server.url, "key") as client:
        for i in range(100):
            client.record("support", f"call-{i}", {"resolved": True})
            time.sleep(0.02)
        back.set()
        assert client.flush(ENOUGH_S)
    assert client.stats.accepted == 100
    assert client.stats.attempts <= 50


def test_an_outage_is_logged_once_and_its_end(caplog):
    away = Reply(503, b"")
    caplog.set_level(logging.INFO, "promptbandit")
    with HttpServer(in_turn(away, away, away, acknowledged)) as server, Client(server.url, "key") as client:
        for unit_id in ("call-1", "call-2"):
            client.record("support", unit_id, {"resolved": True})
            assert client.flush(ENOUGH_S)
    told = [record for record in caplog.records if record.name == "promptbandit"]
    assert [record.levelname for record in told] == ["WARNING", "INFO"]
    assert "503" in told[0].message
    assert "after 3 failed attempts" in told[1].message


def test_every_answer_has_its_count():
    statuses = ["accepted", "unchanged", "revised", "parked", "rejected", "postponed"]
    blocked = threading.Event()

    def by_unit(request):
        blocked.wait(ENOUGH_S)
        return acknowledged(request, [item["unit_id"] for item in request.body])

    with HttpServer(by_unit) as server, Client(server.url, "key") as client:
        for status in statuses:
            client.record("support", status, {"resolved": True})
        blocked.set()
        assert client.flush(ENOUGH_S)
    stats = client.stats
    assert (stats.accepted, stats.unchanged, stats.revised, stats.parked, stats.rejected) == (1,) * 5
    assert (stats.sent, stats.dropped, stats.waiting) == (6, 0, 0)


def test_a_rejected_outcome_is_logged_with_its_reason_and_without_its_values(caplog):
    document = {"type": "/problems/validation", "title": "Request breaks a rule", "detail": "csat is unknown"}

    def reject(request):
        item = {"prompt": "support", "unit_id": "call-1", "status": "rejected", "problem": document}
        return Reply(200, {"results": [item]})

    with HttpServer(reject) as server, Client(server.url, "pb_key") as client:
        client.record("support", "call-1", {"csat": 4.25}, segment="billing")
        assert client.flush(ENOUGH_S)
    (record,) = (record for record in caplog.records if record.name == "promptbandit")
    assert record.levelname == "WARNING"
    assert "'call-1' was rejected: csat is unknown" in record.message
    assert "4.25" not in caplog.text
    assert "pb_key" not in caplog.text


@pytest.mark.parametrize("status", [400, 413, 422])
def test_an_outcome_the_server_cannot_read_takes_no_other_with_it(status, caplog):
    def refuse_all_for_one(request):
        if any(item["unit_id"] == "bad" for item in request.body):
            return problem(status, "validation", "holds the character NUL")
        return acknowledged(request)

    units = [f"call-{i}" for i in range(60)] + ["bad"] + [f"call-{i}" for i in range(60, 99)]
    blocked = threading.Event()
    with (
        HttpServer(lambda r: blocked.wait(ENOUGH_S) and refuse_all_for_one(r)) as server,
        Client(server.url, "key") as client,
    ):
        for unit_id in ["first", *units]:
            client.record("support", unit_id, {"resolved": True})
        blocked.set()
        assert client.flush(ENOUGH_S)
    stats = client.stats
    assert (stats.accepted, stats.dropped, stats.sent) == (100, 1, 100)
    assert stats.attempts <= 2 + 2 * 7  # halving 100 takes 7 steps
    dropped = [record.message for record in caplog.records if "dropped" in record.message]
    assert len(dropped) == 1
    assert "'bad'" in dropped[0]
    assert "holds the character NUL" in dropped[0]


@pytest.mark.parametrize("status", [404, 405, 409, 415])
def test_a_batch_the_server_refuses_is_dropped_counted_and_logged(status, caplog):
    with (
        HttpServer(in_turn(problem(status, "no", "not here"), acknowledged)) as server,
        Client(server.url, "key") as client,
    ):
        client.record("support", "call-1", {"resolved": True})
        assert client.flush(ENOUGH_S)
        client.record("support", "call-2", {"resolved": True})
        assert client.flush(ENOUGH_S)
    assert client.stats == Stats(sent=1, accepted=1, dropped=1, attempts=2)
    assert f"answered {status}: not here" in caplog.text


@pytest.mark.parametrize("status", [401, 403, 301])
def test_a_refused_key_keeps_the_outcomes_and_asks_slowly(status, caplog, monkeypatch):
    monkeypatch.setattr(backoff, "SLOW_S", 0.6)
    no = problem(status, "unauthenticated", "the key is not valid")
    times = []

    def refuse_twice(request):
        times.append(time.monotonic())
        return no if len(times) <= 2 else acknowledged(request)

    with HttpServer(refuse_twice) as server, Client(server.url, "key") as client:
        client.record("support", "call-1", {"resolved": True})
        assert client.flush(ENOUGH_S)
    assert min(times[1] - times[0], times[2] - times[1]) >= 0.3
    assert client.stats == Stats(sent=1, accepted=1, attempts=3)
    assert len([record for record in caplog.records if "the key is not valid" in record.message]) == 1


def test_a_full_outbox_drops_the_oldest_counts_them_and_logs_once(caplog):
    blocked = threading.Event()

    def wait_first(request):
        blocked.wait(ENOUGH_S)
        return acknowledged(request)

    with HttpServer(wait_first) as server, Client(server.url, "key", outbox_capacity=3) as client:
        client.record("support", "on its way", {"resolved": True})
        while client.stats.attempts == 0:
            time.sleep(0.01)
        for i in range(10):
            client.record("support", f"call-{i}", {"resolved": True})
        assert (client.stats.waiting, client.stats.dropped) == (4, 7)
        blocked.set()
        assert client.flush(ENOUGH_S)
    assert server.delivered() == [["on its way"], ["call-7", "call-8", "call-9"]]
    assert client.stats == Stats(sent=4, accepted=4, dropped=7, attempts=2)
    assert len([record for record in caplog.records if "outbox is full" in record.message]) == 1


def test_recording_returns_at_once_while_the_server_is_away():
    with Client(NOBODY_LISTENS, "key") as client:
        started = time.monotonic()
        for i in range(1_000):
            client.record("support", f"call-{i}", {"resolved": True})
        assert time.monotonic() - started < 2.0  # 2 ms an outcome; measured 14 µs
        assert not client.flush(0.05)
        client.close(timeout_s=0)


def test_closing_while_the_server_is_away_says_what_was_lost(caplog):
    client = Client(NOBODY_LISTENS, "key")
    for i in range(3):
        client.record("support", f"call-{i}", {"resolved": True})
    client.close(timeout_s=0.1)
    assert (client.stats.dropped, client.stats.waiting) == (3, 0)
    assert "closed with 3 undelivered outcomes" in caplog.text
    with pytest.raises(ClientClosed, match="'call-4'"):
        client.record("support", "call-4", {"resolved": True})


def test_closing_delivers_what_waits():
    with HttpServer(acknowledged) as server:
        with Client(server.url, "key") as client:
            client.record("support", "call-1", {"resolved": True})
        assert client.stats == Stats(sent=1, accepted=1, attempts=1)
    assert server.delivered() == [["call-1"]]


def test_nothing_recorded_is_nothing_to_flush():
    with Client(NOBODY_LISTENS, "key") as client:
        assert client.flush(0)


def test_a_log_handler_that_fails_does_not_end_the_delivering():
    with (
        failing_log(),
        HttpServer(in_turn(lambda r: acknowledged(r, ["rejected"]), acknowledged)) as server,
        Client(server.url, "key") as client,
    ):
        client.record("support", "call-1", {"resolved": True})
        assert client.flush(ENOUGH_S)
        client.record("support", "call-2", {"resolved": True})
        assert client.flush(ENOUGH_S)
    assert client.stats.accepted == 1
