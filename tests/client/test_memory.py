"""A unit keeps its prompt as long as this process remembers it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from promptbandit import Client, NoPromptAvailable
from tests.client.servers import (
    HttpServer,
    assigned,
    in_turn,
    patient,
    problem,
)

FALLBACKS = {"support": "You are our support."}


def test_a_unit_asked_again_keeps_its_prompt_when_the_server_changes_its_mind():
    def changing(request):
        return assigned(request, variant=f"v{len(server.requests)}")

    with HttpServer(changing) as server, patient(server.url, "key") as client:
        first = client.assign("support", "call-1")
        assert client.assign("support", "call-1") == first
        assert client.assign("support", "call-2").variant == "v2"
        assert client.assign("sales", "call-1").variant == "v3"


def test_a_unit_that_got_the_fallback_keeps_it_when_the_server_comes_back():
    away = problem(503, "storage-away", "away")
    with (
        HttpServer(in_turn(away, assigned)) as server,
        patient(server.url, "key", FALLBACKS) as client,
    ):
        assert client.assign("support", "call-1").source == "fallback"
        assert client.assign("support", "call-2").source == "server"
        assert client.assign("support", "call-1").source == "fallback"


def test_a_unit_without_any_prompt_asks_again():
    with (
        HttpServer(in_turn(problem(503, "x", "away"), assigned)) as server,
        patient(server.url, "k") as client,
    ):
        with pytest.raises(NoPromptAvailable):
            client.assign("support", "call-1")
        assert client.assign("support", "call-1").source == "server"


def test_units_that_were_given_one_version_share_it():
    with HttpServer(assigned) as server, patient(server.url, "key") as client:
        first, second = (client.assign("support", unit_id) for unit_id in ("call-1", "call-2"))
        assert first.unit_id != second.unit_id
        assert client.assign("support", "call-2").version is client.assign("support", "call-1").version


def test_only_the_units_seen_last_are_remembered():
    with HttpServer(assigned) as server, patient(server.url, "key", remembered_units=2) as client:
        for unit_id in ["call-1", "call-2", "call-1", "call-3", "call-1", "call-2"]:
            client.assign("support", unit_id)
    asked = [body["unit_id"] for body in server.bodies("/assignments")]
    assert asked == ["call-1", "call-2", "call-3", "call-2"]


def test_threads_that_ask_for_one_unit_at_once_get_one_answer():
    """Every second request is answered too late, so about half of the threads get the fallback."""
    turn = iter(range(1_000))

    def every_second_late(request):
        if next(turn) % 2:
            server.stopping.wait(0.4)
        return assigned(request)

    with (
        HttpServer(every_second_late) as server,
        Client(server.url, "key", FALLBACKS) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        for unit in range(5):
            barrier = threading.Barrier(8)

            def ask(_, unit=unit, barrier=barrier):
                barrier.wait()
                return client.assign("support", f"call-{unit}")

            given = list(threads.map(ask, range(8)))
            assert all(item is given[0] for item in given)


def test_many_threads_get_their_own_units():
    with (
        HttpServer(assigned) as server,
        patient(server.url) as client,
        ThreadPoolExecutor(32) as threads,
    ):
        given = list(threads.map(lambda i: client.assign("support", f"call-{i}"), range(500)))
    assert [item.unit_id for item in given] == [f"call-{i}" for i in range(500)]
    assert {item.source for item in given} == {"server"}
    assert server.connections <= 64


def test_a_closed_client_still_gives_what_it_knows():
    with HttpServer(assigned) as server:
        client = patient(server.url, "key", FALLBACKS)
        known = client.assign("support", "call-1")
        client.close()
        client.close()
        assert client.assign("support", "call-1") is known
        assert client.assign("support", "call-2").source == "fallback"
        with pytest.raises(NoPromptAvailable, match="closed"):
            client.assign("sales", "call-1")
