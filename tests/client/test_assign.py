"""What a call gets: the server's answer, the fallback, or the reason why there is neither."""

import logging

import pytest

from domain.prompts import content_hash
from promptbandit import Client, Refused
from tests.client.servers import (
    CONTENT_HASH,
    NOBODY_LISTENS,
    HttpServer,
    Reply,
    assigned,
    failing_log,
    in_turn,
    patient,
    problem,
)

FALLBACKS = {"support": "You are our support."}


def test_the_servers_answer_is_the_assignment():
    with HttpServer(assigned) as server, patient(server.url, "pb_key", FALLBACKS) as client:
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

    with HttpServer(newer) as server, patient(server.url, "key") as client:
        assert client.assign("support", "call-1").reason == "HOLDOUT"


def test_a_base_url_may_have_a_path():
    with HttpServer(assigned) as server, patient(f"{server.url}/bandit/", "key") as client:
        client.assign("support", "call-1")
    assert server.requests[0].path == "/bandit/assignments"


def test_a_fallback_is_the_same_record_as_the_servers():
    tools = [{"name": "lookup"}]
    fallbacks = {
        "support": {"system_prompt": "Kind.", "tools_config": tools, "metadata": {"from": "code"}},
        "sales": "Brief.",
    }
    with Client(NOBODY_LISTENS, "key", fallbacks) as client:
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
    with Client(NOBODY_LISTENS, "key", fallbacks) as client:
        client.assign("support", "call-1").version.tools_config.append({"name": "mine"})
        tools.append({"name": "mine"})
        assert client.assign("support", "call-2").version.tools_config == [{"name": "lookup"}]


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
        patient(server.url, "k") as client,
        pytest.raises(Refused, match=next_step) as raised,
    ):
        client.assign("support", "call-1")
    assert raised.value.status == status
    assert raised.value.problem["type"] == f"/problems/{slug}"
    assert "because {so}" in str(raised.value)


def test_a_refusal_that_is_no_problem_document_is_a_refusal():
    with (
        HttpServer(lambda request: Reply(301, b"moved", {"Location": "https://elsewhere/"})) as server,
        patient(server.url, "key") as client,
        pytest.raises(Refused, match="base_url") as raised,
    ):
        client.assign("support", "call-1")
    assert raised.value.problem == {}


def test_a_refusal_with_a_fallback_is_logged_once_and_the_call_goes_on(caplog):
    with (
        HttpServer(lambda request: problem(404, "prompt-not-found", "There is no prompt")) as server,
        patient(server.url, "key", FALLBACKS) as client,
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
        patient(server.url, "key", FALLBACKS) as client,
        caplog.at_level(logging.WARNING, "promptbandit"),
    ):
        sources = [client.assign("support", f"call-{i}").source for i in range(5)]
    assert sources == ["fallback", "fallback", "server", "fallback", "fallback"]
    assert len(caplog.records) == 2
    assert "fallbacks=" not in caplog.text  # there is one: nothing to do about that


def test_half_a_character_in_the_unit_id_is_refused_like_other_bad_arguments():
    with HttpServer(assigned) as server, patient(server.url, "key", FALLBACKS) as client:
        assert client.assign("support", "call-\ud800").source == "fallback"
        with pytest.raises(Refused, match="surrogates"):
            client.assign("sales", "call-\ud800")


def test_a_log_handler_that_fails_costs_no_call_its_prompt():
    with failing_log(), Client(NOBODY_LISTENS, "key", FALLBACKS) as client:
        assert client.assign("support", "call-1").source == "fallback"
