"""Personal data of a call never arrives in the database, a log or an answer: shown with 224 synthetic strings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from storage.schema import metadata
from tests.api.tables import connected, select
from tests.personal_data import corpus
from tests.running_server import RunningServer

TOLD = list(corpus())
NAMES = ["Konstantin Vasilevsky", "Wilhelmina Oyelaran", "Ксения Мстиславская"]


def turns_of(sentences: list[str], name: str) -> list[dict[str, Any]]:
    """A call in which everything is said, noted by a tool and greeted by name."""
    said = [{"role": "user", "content": sentence} for sentence in sentences]
    noted = {
        "role": "assistant",
        "tool_calls": [{"name": "note", "arguments": json.dumps({"said": sentences})}],
    }
    return [
        *said,
        noted,
        {"role": "assistant", "content": f"Thank you, {name}!", "name": name.split(maxsplit=1)[0]},
    ]


def outcomes_of(prompt: str, units: str) -> list[dict[str, Any]]:
    """All strings of the corpus, seven a call."""
    calls = [TOLD[i : i + 7] for i in range(0, len(TOLD), 7)]
    return [
        {
            "prompt": prompt,
            "unit_id": f"{units}-{number}",
            "metrics": {"resolved": True},
            "transcript": turns_of([told.sentence for told in call], NAMES[number % 3]),
            "known_values": {"caller_name": NAMES[number % 3], "order_id": 40_000 + number},
            "caller": call[0].text,
        }
        for number, call in enumerate(calls)
    ]


def dump(server: RunningServer) -> str:
    """Every value of every table as text."""
    with connected(server) as connection:
        rows = [row for table in metadata.tables for row in connection.execute(f'SELECT * FROM "{table}"')]
    return json.dumps(rows, ensure_ascii=False, default=str) + json.dumps(rows, default=str)


def personal() -> Iterator[str]:
    for told in TOLD:
        yield told.text
    for name in NAMES:
        yield from name.split()


def left_in(text: str) -> list[str]:
    """What of the corpus stands in a text, as it is or as JSON writes it."""
    return [item for item in personal() if item in text or json.dumps(item)[1:-1] in text]


def test_nothing_personal_arrives_in_the_database_or_the_log(shared: RunningServer):
    shared.create_version("private", "Be kind.")
    outcomes = outcomes_of("private", "private")
    assert len(left_in(json.dumps(outcomes, ensure_ascii=False))) >= 200
    for item in outcomes[::2]:
        shared.assign(item["unit_id"], "private")
    answer = shared.manager.post("/outcomes", json=outcomes)
    assert {result["status"] for result in answer.json()["results"]} == {"accepted", "parked"}
    rows = select(shared, "SELECT unit_id FROM transcripts WHERE unit_id LIKE 'private-%'")
    assert len(rows) == len(outcomes)
    marks = select(shared, "SELECT caller FROM transcripts WHERE unit_id LIKE 'private-%'")
    assert len({mark for (mark,) in marks}) == len({item["caller"] for item in outcomes})
    stored = dump(shared)
    assert "<PHONE_1>" in stored
    assert left_in(stored) == []
    assert left_in(answer.text) == []
    assert left_in(shared.log.read_text()) == []
    if shared.database_url.startswith("sqlite"):
        files = Path(shared.database_url.removeprefix("sqlite:///")).parent.glob("*.db*")
        raw = "".join(file.read_bytes().decode(errors="replace") for file in files)
        assert left_in(raw) == []


def test_what_is_refused_leaves_nothing_either(shared: RunningServer):
    """A prompt that is unknown, a time that is impossible, fields that break a rule: no answer or log repeats."""
    shared.create_version("private-refused", "Be kind.")
    good = outcomes_of("private-refused", "refused")[0]
    first, *rest = good["transcript"]
    name = NAMES[0]
    hostile = [
        good | {"prompt": "no-such-prompt"},
        good | {"occurred_at": "1999-01-01T00:00:00Z"},
        good | {"metrics": {"resolved": 0.5}},
        good | {"metrics": {"resolved": name}},
        good | {"transcript": [first | {"role": 5}, *rest]},
        good | {"transcript": [first | {"content": [name]}, *rest]},
        good | {"transcript": [first | {"name": name * 50}, *rest]},
        good | {"transcript": name},
        good | {"transcript": [*good["transcript"]] * 200},
        good | {"known_values": {"caller_name": [name]}},
        good | {"known_values": {"caller_name": 1.5}},
        good | {"known_values": {"caller_name": name * 50}},
        good | {"known_values": name},
        good | {"caller": [name]},
        good | {"caller": name * 50},
    ]
    for body in hostile:
        for sent in (body, [body]):
            answer = shared.manager.post("/outcomes", json=sent)
            told = answer.json()
            refused = answer.status_code in (404, 422) or told["results"][0]["status"] == "rejected"
            assert refused, answer.text
            assert left_in(answer.text) == [], answer.text
    assert left_in(shared.log.read_text()) == []
    assert select(shared, "SELECT unit_id FROM transcripts WHERE unit_id LIKE 'refused-%'") == []


def test_a_transcript_that_is_too_long_is_refused_with_its_bound(shared: RunningServer):
    shared.create_version("private-long", "Be kind.")
    body = {"prompt": "private-long", "unit_id": "long-1", "metrics": {"resolved": True}}
    long = [{"role": "user", "content": "words " * 25_000}]
    answer = shared.manager.post(
        "/outcomes", json=[body | {"transcript": long}, body | {"unit_id": "long-2"}]
    )
    refused, accepted = answer.json()["results"]
    assert accepted["status"] == "parked"
    assert refused["problem"]["errors"][0]["pointer"] == "/0/transcript"
    assert "131072" in refused["problem"]["errors"][0]["detail"]


def test_the_pointer_of_a_bad_known_value_names_its_field(shared: RunningServer):
    body = {"prompt": "support", "unit_id": "call-1", "metrics": {"resolved": True}}
    known = {"caller_name": "x", "order_id": None, "note": 1.5}
    answer = shared.manager.post("/outcomes", json=body | {"known_values": known})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/known_values/note"


def test_a_server_with_a_redactor_that_fails_keeps_the_outcome_and_says_so(
    tmp_path: Path,
):
    """Also at the most talkative level nothing of the call is logged; a wrong redactor stops the start."""
    environment = {
        "PROMPTBANDIT_REDACTOR": "tests.plugged_redactor:redact",
        "PROMPTBANDIT_LOG_LEVEL": "debug",
        "PROMPTBANDIT_OUTCOME_DEADLINE_MS": "30000",
    }
    with RunningServer(f"sqlite:///{tmp_path / 'test.db'}", tmp_path, environment=environment) as server:
        server.create_version("support", "Be kind.")
        body = {"prompt": "support", "metrics": {"resolved": True}, "known_values": {"caller_name": NAMES[0]}}
        told = [
            body | {"unit_id": "fails", "transcript": turns_of(["please fail", NAMES[0]], NAMES[0])},
            body | {"unit_id": "works", "transcript": turns_of([TOLD[0].sentence], NAMES[0])},
        ]
        answer = server.manager.post("/outcomes", json=told)
        assert [result["status"] for result in answer.json()["results"]] == ["parked", "parked"]
        assert [unit for (unit,) in select(server, "SELECT unit_id FROM transcripts")] == ["works"]
        assert '"PLUGGED"' in dump(server).replace("\\", "")
        metrics = server.manager.get("/metrics").text
        assert 'promptbandit_transcripts_total{result="failed"} 1.0' in metrics
        assert 'promptbandit_transcripts_total{result="redacted"} 1.0' in metrics
        log = server.log.read_text()
        assert "redaction_failed" in log
        assert left_in(log) == []
        environment["PROMPTBANDIT_REDACTOR"] = "tests.plugged_redactor:no_such_name"
        done = server.command("serve", "--port", "0")
        assert done.returncode == 1
        assert "no redactor at 'tests.plugged_redactor:no_such_name'" in done.stderr
        assert "Traceback" not in done.stderr
