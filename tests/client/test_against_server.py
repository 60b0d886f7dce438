"""The client and the real server; the promises about storage on both databases."""

import logging

import pytest

from promptbandit import Client, Refused
from tests.api.tables import select
from tests.client.servers import NOBODY_LISTENS

ENOUGH_S = 30.0
PATIENT_S = 20.0  # these stories are about answers, not about deadlines


def connect(server, **more):
    return Client(server.url, server.key("agent"), **({"timeout_s": PATIENT_S} | more))


def counted(server, experiment):
    """How many values of `resolved` the report knows, per variant."""
    report = server.manager.get(f"/experiments/{experiment}/report").json()
    return {v["key"]: v["metrics"].get("resolved", {"n": 0})["n"] for v in report["variants"]}


def test_a_call_gets_the_variant_that_the_server_recorded(shared_server, prompt):
    shared_server.start_experiment(prompt, prompt)
    with connect(shared_server) as client:
        given = [client.assign(prompt, f"call-{i}", segment="billing") for i in range(20)]
    assert {item.reason for item in given} == {"SPLIT"}
    assert {item.source for item in given} == {"server"}
    for item in given:
        assert item.version.system_prompt == f"{prompt} variant {item.variant}"
        told = shared_server.assign(item.unit_id, prompt)
        assert told["variant"] == item.variant
        assert told["version"]["content_hash"] == item.version.content_hash
        assert (told["allocation"], told["probability"]) == (item.allocation, item.probability)


def test_a_prompt_without_an_experiment_gives_its_active_version(shared_server, prompt):
    created = shared_server.create_version(prompt, tools_config=[{"name": "lookup"}], metadata={"by": "Ann"})
    with connect(shared_server) as client:
        given = client.assign(prompt, "call-1")
    assert (given.reason, given.variant, given.allocation, given.probability) == ("STATIC", None, None, None)
    version = given.version
    assert (version.id, version.number, version.name) == (created["id"], 1, prompt)
    assert (version.tools_config, version.metadata) == ([{"name": "lookup"}], {"by": "Ann"})


def test_a_fallback_has_the_content_hash_that_the_server_computes(shared_server, prompt):
    text, tools = "Sei freundlich. 😀", [{"type": "function", "name": "größe", "strict": True, "max": 1.5}]
    created = shared_server.create_version(prompt, text, tools_config=tools)
    fallback = {"system_prompt": text, "tools_config": tools}
    with Client(NOBODY_LISTENS, "key", {prompt: fallback}) as client:
        given = client.assign(prompt, "call-1")
    assert given.source == "fallback"
    assert given.version.content_hash == created["content_hash"]


def test_an_outcome_told_again_is_unchanged_and_a_later_value_revises_it(shared_server, prompt):
    shared_server.start_experiment(prompt, prompt)
    with connect(shared_server) as client:
        client.assign(prompt, "call-1")
        for resolved in (True, True, False):
            client.record(prompt, "call-1", {"resolved": resolved})
            assert client.flush(ENOUGH_S)
        stats = client.stats
    assert (stats.accepted, stats.unchanged, stats.revised) == (1, 1, 1)
    assert sum(counted(shared_server, prompt).values()) == 1


def test_an_outcome_of_an_unknown_call_is_parked_until_its_assignment_appears(shared_server, prompt):
    shared_server.start_experiment(prompt, prompt)
    with connect(shared_server) as client:
        client.record(prompt, "call-1", {"resolved": True})
        assert client.flush(ENOUGH_S)
        assert client.stats.parked == 1
        assert sum(counted(shared_server, prompt).values()) == 0
        client.assign(prompt, "call-1")
    assert sum(counted(shared_server, prompt).values()) == 1


def test_an_allocation_that_is_told_places_the_outcome_of_an_unknown_call(shared_server, prompt):
    """What a client tells that assigned on its own: the server derives the same variant again."""
    shared_server.start_experiment(prompt, prompt)
    with connect(shared_server) as client:
        known = client.assign(prompt, "call-1")
        client.record(prompt, "call-2", {"resolved": True}, allocation=known.allocation)
        assert client.flush(ENOUGH_S)
        assert client.stats.accepted == 1
    assert sum(counted(shared_server, prompt).values()) == 1


def test_a_rejected_outcome_is_logged_with_the_servers_reason_and_the_others_count(
    shared_server, prompt, caplog
):
    shared_server.start_experiment(prompt, prompt)
    outcomes = [
        {"resolved": True},
        {"quality": 7.0},
        {"unheard": 1.0},
        {"Not A Name": 1.0},
        {"resolved": False},
    ]
    with connect(shared_server) as client:
        for i, metrics in enumerate(outcomes):
            client.assign(prompt, f"call-{i}")
            client.record(prompt, f"call-{i}", metrics)
        assert client.flush(ENOUGH_S)
        stats = client.stats
    assert (stats.accepted, stats.rejected, stats.dropped) == (2, 3, 0)
    rejected = [record.message for record in caplog.records if "was rejected" in record.message]
    assert len(rejected) == 3
    assert "must be in [0, 1]" in rejected[0]
    assert "is not a metric of this experiment" in rejected[1]


def test_an_outcome_that_the_server_cannot_read_takes_no_other_with_it(shared_server, prompt, caplog):
    """A NUL may be refused for the outcome or, with 422, for the whole list: the others count in both cases."""
    shared_server.start_experiment(prompt, prompt)
    units = [f"call-{i}" for i in range(29)]
    with connect(shared_server) as client:
        for unit_id in units:
            client.assign(prompt, unit_id)
        for unit_id in [*units[:17], "call\x00", *units[17:]]:
            client.record(prompt, unit_id, {"resolved": True})
        assert client.flush(ENOUGH_S)
        stats = client.stats
    assert (stats.accepted, stats.rejected + stats.dropped) == (29, 1)
    assert "NUL" in caplog.text


REFUSED_BY_THE_SERVER = {
    "an unknown prompt": ("agent", "unknown", "call-1", 404, "/problems/prompt-not-found"),
    "a key of another scope": ("optimizer", "support", "call-1", 403, "/problems/insufficient-scope"),
    "an unknown key": (None, "support", "call-1", 401, "/problems/unauthenticated"),
    "a NUL in the unit": ("agent", "support", "call\x00", 422, "/problems/validation"),
    "a unit of 201 characters": ("agent", "support", "c" * 201, 422, "/problems/validation"),
    "a prompt that is no name": ("agent", "not a name", "call-1", 422, "/problems/validation"),
}


@pytest.mark.parametrize("case", REFUSED_BY_THE_SERVER)
def test_a_refusal_carries_the_servers_problem_or_gives_the_fallback_for(case, shared_server, caplog):
    scope, prompt, unit_id, status, kind = REFUSED_BY_THE_SERVER[case]
    key = shared_server.key(scope) if scope else "pb_agent_unknown"
    with Client(shared_server.url, key, timeout_s=PATIENT_S) as client:
        with pytest.raises(Refused) as raised:
            client.assign(prompt, unit_id)
        assert (raised.value.status, raised.value.problem["type"]) == (status, kind)
        assert key not in str(raised.value)
    with (
        Client(shared_server.url, key, {prompt: "Kind."}, timeout_s=PATIENT_S) as client,
        caplog.at_level(logging.WARNING, "promptbandit"),
    ):
        assert client.assign(prompt, unit_id).source == "fallback"
    assert len([record for record in caplog.records if record.name == "promptbandit"]) == 1


def test_a_transcript_arrives_without_what_is_personal(server):
    """Long ones, too: a batch of a hundred would be more than a server takes."""
    server.create_version()
    turns = [{"role": "user", "content": "Ann Smith here, 212 555 0147. " + "It is about my order. " * 1_000}]
    with connect(server) as client:
        for i in range(60):
            client.assign("support", f"call-{i}")
            known = {"caller_name": "Ann Smith"}
            told = {"transcript": turns, "known_values": known, "caller": "+1 212 555 0147"}
            client.record("support", f"call-{i}", {"resolved": True}, **told)
        assert client.flush(60)
        assert (client.stats.accepted, client.stats.dropped) == (60, 0)
    stored = [turn for (turn,) in select(server, "SELECT turns FROM transcripts")]
    assert len(stored) == 60
    assert not any("Smith" in str(turn) or "0147" in str(turn) for turn in stored)
    assert "<PHONE_1>" in str(stored[0])
    ((callers,),) = select(server, "SELECT COUNT(DISTINCT caller) FROM transcripts")
    assert callers == 1


def test_outcomes_are_counted_once_for_the_variant_of_their_call(server):
    server.start_experiment("greeting")
    with connect(server) as client:
        variants = [client.assign("support", f"call-{i}").variant for i in range(120)]
        for i in range(120):
            client.record("support", f"call-{i}", {"resolved": i % 2 == 0, "duration_s": 60.0 + i})
        assert client.flush(ENOUGH_S)
        stats = client.stats
    assert (stats.sent, stats.accepted, stats.dropped, stats.waiting) == (120, 120, 0, 0)
    assert counted(server, "greeting") == {key: variants.count(key) for key in "ab"}


def test_nothing_is_lost_or_counted_twice_when_the_server_is_killed(server):
    """kill -9 in the middle of 300 calls, and a new start: all outcomes arrive, each counts once."""
    server.start_experiment("greeting")
    sources = []
    # A dead server refuses at once: patience costs nothing, and no answer comes too late.
    with connect(server, fallbacks={"support": "Kind."}) as client:
        for i in range(300):
            sources.append(client.assign("support", f"call-{i}").source)
            client.record("support", f"call-{i}", {"resolved": True})
            if i == 150:
                server.kill()
        assert client.assign("support", "call-0").source == "server"  # remembered
        assert client.assign("support", "call-299").source == "fallback"
        server.start()
        assert client.flush(60)
        assert client.assign("support", "call-new").source == "server"
        stats = client.stats
    assert (stats.sent, stats.rejected, stats.dropped) == (300, 0, 0)
    for i in range(300):  # asked again by an agent that knows of no fallback
        server.assign(f"call-{i}")
    # A call that got the fallback spoke no variant's text, so it counts for none.
    assert sum(counted(server, "greeting").values()) == sources.count("server") > 100
