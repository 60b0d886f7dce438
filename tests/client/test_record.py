"""What an outcome says when it arrives, and how outcomes travel together."""

import datetime as dt
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from promptbandit import Client, Stats
from tests.client.servers import (
    NOBODY_LISTENS,
    HttpServer,
    acknowledged,
    assigned,
    patient,
    problem,
)

ENOUGH_S = 30.0


def answers(outcomes=acknowledged):
    """A server that gives assignments and answers outcomes as told."""
    return lambda request: assigned(request) if request.path == "/assignments" else outcomes(request)


def test_an_outcome_arrives():
    with HttpServer(acknowledged) as server, Client(server.url, "pb_key") as client:
        before = dt.datetime.now(dt.UTC)
        client.record("support", "call-1", {"resolved": True, "quality": 0.5, "csat": None})
        assert client.flush(ENOUGH_S)
        after = dt.datetime.now(dt.UTC)
    (request,) = server.requests
    assert (request.path, request.headers["authorization"]) == ("/outcomes", "Bearer pb_key")
    (outcome,) = request.body
    assert before <= dt.datetime.fromisoformat(outcome.pop("occurred_at")) <= after
    metrics = {"resolved": True, "quality": 0.5, "csat": None}
    assert outcome == {"prompt": "support", "unit_id": "call-1", "metrics": metrics}
    assert client.stats == Stats(sent=1, accepted=1, attempts=1)


def test_the_outcome_names_the_allocation_and_segment_of_its_unit():
    with HttpServer(answers()) as server, patient(server.url) as client:
        client.assign("support", "call-1", segment="billing")
        client.record("support", "call-1", {"resolved": True})
        client.record("support", "call-1", {"resolved": True}, allocation=9, segment="other")
        client.record("support", "call-2", {"resolved": True})
        assert client.flush(ENOUGH_S)
    told = [(o.get("allocation"), o.get("segment")) for body in server.bodies("/outcomes") for o in body]
    assert told == [(5, "billing"), (9, "other"), (None, None)]


def test_the_outcome_tells_the_hash_of_the_text_that_its_call_got():
    with HttpServer(answers()) as server, patient(server.url) as client:
        given = client.assign("support", "call-1")
        client.record("support", "call-1", {"resolved": True})
        client.record("support", "call-2", {"resolved": True})  # asked for by another process
        assert client.flush(ENOUGH_S)
    told = [outcome.get("content_hash") for body in server.bodies("/outcomes") for outcome in body]
    assert told == [given.version.content_hash, None]


def test_the_outcome_of_a_call_with_the_fallback_names_no_allocation():
    away = problem(503, "storage-away", "away")
    with (
        HttpServer(lambda r: away if r.path == "/assignments" else acknowledged(r)) as server,
        patient(server.url, "key", {"support": "Kind."}) as client,
    ):
        given = client.assign("support", "call-1")
        assert given.source == "fallback"
        client.record("support", "call-1", {"resolved": True})
        assert client.flush(ENOUGH_S)
    (told,) = server.bodies("/outcomes")[0]
    assert "allocation" not in told
    assert told["content_hash"] == given.version.content_hash


def test_the_time_of_the_outcome_may_be_told():
    when = dt.datetime(2026, 11, 22, 13, 0, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    with HttpServer(acknowledged) as server, Client(server.url, "key") as client:
        client.record("support", "call-1", {"resolved": True}, occurred_at=when)
        assert client.flush(ENOUGH_S)
    assert dt.datetime.fromisoformat(server.bodies("/outcomes")[0][0]["occurred_at"]) == when


def test_what_the_caller_changes_afterwards_does_not_change_the_outcome():
    metrics = {"resolved": True}
    with HttpServer(acknowledged) as server, Client(server.url, "key") as client:
        client.record("support", "call-1", metrics)
        metrics["resolved"] = False
        assert client.flush(ENOUGH_S)
    assert server.bodies("/outcomes")[0][0]["metrics"] == {"resolved": True}


BAD_OUTCOMES = [
    ({}, None, ValueError, "metrics is empty"),
    ({"quality": float("nan")}, None, ValueError, r"metrics\['quality'\] == nan, must be finite; write None"),
    ({"quality": float("inf")}, None, ValueError, "must be finite"),
    ({"quality": "0.7"}, None, TypeError, r"metrics\['quality'\] is of type str, must be bool"),
    ({"resolved": np.True_}, None, TypeError, r"bool\(\.\.\.\)"),
    ({"resolved": True}, dt.datetime(2026, 11, 22), ValueError, "must have a time zone"),  # noqa: DTZ001
    ({"\ud800": True}, None, ValueError, "half of a surrogate pair; send whole characters"),
]


@pytest.mark.parametrize(("metrics", "occurred_at", "error", "message"), BAD_OUTCOMES)
def test_an_outcome_that_cannot_be_sent_is_refused_at_once(metrics, occurred_at, error, message):
    with Client(NOBODY_LISTENS, "key") as client:
        with pytest.raises(error, match=message):
            client.record("support", "call-1", metrics, occurred_at=occurred_at)
        assert client.stats == Stats()


def test_numbers_of_numpy_are_numbers():
    with HttpServer(acknowledged) as server, Client(server.url, "key") as client:
        client.record("support", "call-1", {"quality": np.float64(0.25)})
        assert client.flush(ENOUGH_S)
    assert server.bodies("/outcomes")[0][0]["metrics"] == {"quality": 0.25}


def test_outcomes_arrive_in_their_order_in_batches_of_at_most_a_hundred():
    released = threading.Event()

    def after_release(request):
        released.wait(ENOUGH_S)
        return acknowledged(request)

    units = [f"call-{i}" for i in range(250)]
    with HttpServer(after_release) as server, Client(server.url, "key") as client:
        for unit_id in units:
            client.record("support", unit_id, {"resolved": True})
        assert client.stats.waiting == 250
        released.set()
        assert client.flush(ENOUGH_S)
    batches = server.delivered()
    assert [unit_id for batch in batches for unit_id in batch] == units
    assert max(map(len, batches)) == 100
    assert client.stats == Stats(sent=250, accepted=250, attempts=len(batches))


def test_one_sender_sends_for_all_threads():
    under_way, most = [], []

    def slow(request):
        under_way.append(request)
        most.append(len(under_way))
        time.sleep(0.01)
        under_way.remove(request)
        return acknowledged(request)

    with HttpServer(slow) as server, Client(server.url, "key") as client, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: client.record("support", f"call-{i}", {"resolved": True}), range(400)))
        assert client.flush(ENOUGH_S)
    assert max(most) == 1
    assert sorted(unit_id for batch in server.delivered() for unit_id in batch) == sorted(
        f"call-{i}" for i in range(400)
    )
