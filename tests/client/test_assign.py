"""A call always gets a prompt: the server's in time, else the fallback."""

import gc
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from domain.prompts import content_hash
from promptbandit import Client, NoPromptAvailable, Refused
from promptbandit.worker import LEFT_BEHIND_S
from tests.client.servers import (
    CONTENT_HASH,
    DrippingServer,
    FrozenServer,
    HttpServer,
    Reply,
    ResettingServer,
    assigned,
    failing_log,
    in_turn,
    nobody_listens,
    problem,
)

FALLBACKS = {"support": "You are our support."}
RETURNS_AT_ALL_S = 2.0  # the promise is 0.35 s; a loaded machine must not fail the test

MISBEHAVING = {
    "accepts and never answers": FrozenServer,
    "drips its headers": lambda: DrippingServer(b"HTTP/1.1 200 OK\r\nX-Header: "),
    "drips its body": lambda: DrippingServer(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
    "drips a line that is not HTTP": lambda: DrippingServer(b"hello "),
    "resets": ResettingServer,
    "says 503": lambda: HttpServer(lambda request: problem(503, "storage-away", "away")),
    "says 429": lambda: HttpServer(lambda request: Reply(429, b"")),
    "says 200 with a page": lambda: HttpServer(lambda request: Reply(200, b"<html>Welcome</html>")),
    "says 200 with bytes": lambda: HttpServer(lambda request: Reply(200, b'{"prompt":"\xff"}')),
    "says 200 with another record": lambda: HttpServer(lambda request: Reply(200, {"status": "ok"})),
    "says 204": lambda: HttpServer(lambda request: Reply(204, b"")),
    "hangs up": lambda: HttpServer(lambda request: None),
}


def test_the_servers_answer_is_the_assignment():
    with HttpServer(assigned) as server, Client(server.url, "pb_key", FALLBACKS) as client:
        given = client.assign("support", "call-1", segment="billing")
    assert given.source == "server"
    assert (given.prompt, given.unit_id, given.reason) == ("support", "call-1", "SPLIT")
    assert (given.experiment, given.variant) == ("greeting", "b")
    assert (given.allocation, given.probability) == (5, 0.25)
    assert (given.version.id, given.version.number, given.version.name) == (7, 2, "support")
    assert given.version.system_prompt == "From the server."
    assert given.version.tools_config == [{"name": "lookup"}]
    assert given.version.content_hash == CONTENT_HASH
    request = server.requests[0]
    assert request.headers["authorization"] == "Bearer pb_key"
    assert request.headers["content-type"] == "application/json"
    assert request.body == {"prompt": "support", "unit_id": "call-1", "segment": "billing"}


def test_what_a_newer_server_adds_does_not_disturb():
    def newer(request):
        return assigned(request, reason="HOLDOUT", namespace={"id": 1})

    with HttpServer(newer) as server, Client(server.url, "key") as client:
        assert client.assign("support", "call-1").reason == "HOLDOUT"


def test_a_base_url_may_have_a_path():
    with HttpServer(assigned) as server, Client(f"{server.url}/bandit/", "key") as client:
        client.assign("support", "call-1")
    assert server.requests[0].path == "/bandit/assignments"


@pytest.mark.parametrize("kind", MISBEHAVING)
def test_a_call_gets_the_fallback_when_the_server(kind):
    with MISBEHAVING[kind]() as server, Client(server.url, "key", FALLBACKS) as client:
        started = time.monotonic()
        given = client.assign("support", "call-1")
        took_s = time.monotonic() - started
    assert (given.source, given.reason) == ("fallback", "DEFAULT")
    assert took_s < RETURNS_AT_ALL_S


@pytest.mark.parametrize(
    "base_url", [nobody_listens(), "http://host.invalid", f"http://{'a' * 64}.example", "http://127.0.0.1:0"]
)
def test_a_call_gets_the_fallback_when_there_is_no_server(base_url):
    with Client(base_url, "key", FALLBACKS) as client:
        assert client.assign("support", "call-1").source == "fallback"


def test_a_fallback_is_the_same_record_as_the_servers():
    tools = [{"name": "lookup"}]
    fallbacks = {
        "support": {"system_prompt": "Kind.", "tools_config": tools, "metadata": {"from": "code"}},
        "sales": "Brief.",
    }
    with Client(nobody_listens(), "key", fallbacks) as client:
        support, sales = client.assign("support", "call-1"), client.assign("sales", "call-1")
    assert (support.prompt, support.unit_id, support.version.name) == ("support", "call-1", "support")
    assert (support.experiment, support.variant, support.allocation, support.probability) == (None,) * 4
    assert (support.version.id, support.version.number) == (None, None)
    assert support.version.metadata == {"from": "code"}
    assert support.version.content_hash == content_hash("Kind.", tools)  # as the server computes it
    assert (sales.version.tools_config, sales.version.metadata) == ([], {})
    assert sales.version.content_hash == content_hash("Brief.", [])


def test_an_agent_that_changes_its_tools_does_not_change_another_calls():
    tools = [{"name": "lookup"}]
    fallbacks = {"support": {"system_prompt": "Kind.", "tools_config": tools}}
    with Client(nobody_listens(), "key", fallbacks) as client:
        client.assign("support", "call-1").version.tools_config.append({"name": "mine"})
        tools.append({"name": "mine"})
        assert client.assign("support", "call-2").version.tools_config == [{"name": "lookup"}]


@pytest.mark.parametrize("kind", MISBEHAVING)
def test_without_a_fallback_it_says_what_to_do_when_the_server(kind):
    with MISBEHAVING[kind]() as server, Client(server.url, "key", {"sales": "Brief."}) as client:
        with pytest.raises(NoPromptAvailable, match=r"fallbacks=\{'support'") as raised:
            client.assign("support", "call-1")
        assert raised.value.prompt == "support"
        assert server.url in raised.value.reason


REFUSALS = {
    401: ("unauthenticated", "keys create"),
    403: ("insufficient-scope", "scope agent"),
    404: ("prompt-not-found", "prompt's name"),
    422: ("validation", "arguments"),
    405: ("method-not-allowed", "base_url"),
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_without_a_fallback_carries_the_problem(status):
    slug, next_step = REFUSALS[status]
    with (
        HttpServer(lambda request: problem(status, slug, "because {so}")) as server,
        Client(server.url, "k") as client,
        pytest.raises(Refused, match=next_step) as raised,
    ):
        client.assign("support", "call-1")
    assert raised.value.status == status
    assert raised.value.problem["type"] == f"/problems/{slug}"
    assert "because {so}" in str(raised.value)


def test_a_refusal_that_is_no_problem_document_is_a_refusal():
    with (
        HttpServer(lambda request: Reply(301, b"moved", {"Location": "https://elsewhere/"})) as server,
        Client(server.url, "key") as client,
        pytest.raises(Refused, match="base_url") as raised,
    ):
        client.assign("support", "call-1")
    assert raised.value.problem == {}


def test_a_refusal_with_a_fallback_is_logged_once_and_the_call_goes_on(caplog):
    with (
        HttpServer(lambda request: problem(404, "prompt-not-found", "There is no prompt")) as server,
        Client(server.url, "key", FALLBACKS) as client,
        caplog.at_level(logging.WARNING, "promptbandit"),
    ):
        sources = {client.assign("support", f"call-{i}").source for i in range(3)}
    assert sources == {"fallback"}
    assert len(server.requests) == 3
    assert [record.message for record in caplog.records if "There is no prompt" in record.message] != []
    assert len(caplog.records) == 1


def test_an_outage_is_logged_once_until_the_server_answers_again(caplog):
    away = problem(503, "storage-away", "away")
    with (
        HttpServer(in_turn(away, away, assigned, away, away)) as server,
        Client(server.url, "key", FALLBACKS) as client,
        caplog.at_level(logging.WARNING, "promptbandit"),
    ):
        sources = [client.assign("support", f"call-{i}").source for i in range(5)]
    assert sources == ["fallback", "fallback", "server", "fallback", "fallback"]
    assert len(caplog.records) == 2
    assert "fallbacks=" not in caplog.text  # there is one: nothing to do about that


def test_half_a_character_in_the_unit_id_is_refused_like_other_bad_arguments():
    with HttpServer(assigned) as server, Client(server.url, "key", FALLBACKS) as client:
        assert client.assign("support", "call-\ud800").source == "fallback"
        with pytest.raises(Refused, match="surrogates"):
            client.assign("sales", "call-\ud800")


def test_a_unit_asked_again_keeps_its_prompt_when_the_server_changes_its_mind():
    def changing(request):
        return assigned(request, variant=f"v{len(server.requests)}")

    with HttpServer(changing) as server, Client(server.url, "key") as client:
        first = client.assign("support", "call-1")
        assert client.assign("support", "call-1") == first
        assert client.assign("support", "call-2").variant == "v2"
        assert client.assign("sales", "call-1").variant == "v3"


def test_a_unit_that_got_the_fallback_keeps_it_when_the_server_comes_back():
    away = problem(503, "storage-away", "away")
    with (
        HttpServer(in_turn(away, assigned)) as server,
        Client(server.url, "key", FALLBACKS) as client,
    ):
        assert client.assign("support", "call-1").source == "fallback"
        assert client.assign("support", "call-2").source == "server"
        assert client.assign("support", "call-1").source == "fallback"


def test_a_unit_without_any_prompt_asks_again():
    with (
        HttpServer(in_turn(problem(503, "x", "away"), assigned)) as server,
        Client(server.url, "k") as client,
    ):
        with pytest.raises(NoPromptAvailable):
            client.assign("support", "call-1")
        assert client.assign("support", "call-1").source == "server"


def test_only_the_units_seen_last_are_remembered():
    with HttpServer(assigned) as server, Client(server.url, "key", remembered_units=2) as client:
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
        Client(server.url, "key", timeout_s=10) as client,
        ThreadPoolExecutor(32) as threads,
    ):
        given = list(threads.map(lambda i: client.assign("support", f"call-{i}"), range(500)))
    assert [item.unit_id for item in given] == [f"call-{i}" for i in range(500)]
    assert {item.source for item in given} == {"server"}
    assert server.connections <= 64


def test_a_late_answer_changes_nothing_and_its_connection_is_used_again():
    """Cancelling at the deadline would break a connection a call on a server that is merely slow."""
    late = threading.Event()

    def slow_at_first(request):
        if not late.is_set():
            server.stopping.wait(0.6)
            late.set()
        return assigned(request)

    with HttpServer(slow_at_first) as server, Client(server.url, "key", FALLBACKS, timeout_s=0.2) as client:
        assert client.assign("support", "call-1").source == "fallback"
        assert late.wait(10)
        time.sleep(0.2)
        assert client.assign("support", "call-1").source == "fallback"
        assert client.assign("support", "call-2").source == "server"
        assert server.connections == 1


def test_a_connection_that_the_server_closed_meanwhile_costs_no_fallback():
    with HttpServer(in_turn(assigned, lambda request: None, assigned)) as server:
        with Client(server.url, "key", FALLBACKS, timeout_s=5) as client:
            sources = [client.assign("support", f"call-{i}").source for i in range(2)]
        assert sources == ["server", "server"]
        assert server.connections == 2


def test_requests_left_behind_end_and_their_connections_close():
    with FrozenServer() as server, Client(server.url, "key", FALLBACKS, timeout_s=0.05) as client:
        with ThreadPoolExecutor(20) as threads:
            list(threads.map(lambda i: client.assign("support", f"call-{i}"), range(200)))
        assert server.connections <= 64
        life = client._worker._life
        deadline = time.monotonic() + LEFT_BEHIND_S + 5
        while life.transport._http._transport._pool.connections and time.monotonic() < deadline:
            time.sleep(0.05)
        assert life.transport._http._transport._pool.connections == []
        assert threading.active_count() < 100


def test_closing_does_not_wait_for_a_frozen_server():
    with FrozenServer() as server:
        client = Client(server.url, "key", FALLBACKS, timeout_s=0.05)
        client.assign("support", "call-1")
        started = time.monotonic()
        client.close()
        assert time.monotonic() - started < 1.0
        assert not [thread for thread in threading.enumerate() if thread.name == "promptbandit"]
        gc.collect()  # an unclosed socket or loop would be a ResourceWarning, that is, an error here


def test_a_closed_client_still_gives_what_it_knows():
    with HttpServer(assigned) as server:
        client = Client(server.url, "key", FALLBACKS)
        known = client.assign("support", "call-1")
        client.close()
        client.close()
        assert client.assign("support", "call-1") is known
        assert client.assign("support", "call-2").source == "fallback"
        with pytest.raises(NoPromptAvailable, match="closed"):
            client.assign("sales", "call-1")


def test_a_log_handler_that_fails_costs_no_call_its_prompt():
    with failing_log(), Client(nobody_listens(), "key", FALLBACKS) as client:
        assert client.assign("support", "call-1").source == "fallback"
