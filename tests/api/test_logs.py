"""Logs are JSON lines that name the request, and hold nothing of what callers, agents and managers said."""

import io
import json
import logging
import logging.config
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from api.log import LIBRARIES, JsonLines
from tests.api.tables import connected
from tests.running_server import RunningServer

PROMPT_TEXT = "Xylophone-prompt-text"
TOOL_TEXT = "Xylophone-tool-text"
METADATA_TEXT = "Xylophone-metadata-text"
TRANSCRIPT_TEXT = "Xylophone-transcript-text"
PATH_TEXT = "Xylophone-path-text"
QUERY_TEXT = "Xylophone-query-text"
BAD_KEY = "pb_agent_0123456789ab_XylophoneKeyXylophoneKeyXylophoneKey"
SPOKEN = (PROMPT_TEXT, TOOL_TEXT, METADATA_TEXT, TRANSCRIPT_TEXT, PATH_TEXT, QUERY_TEXT, BAD_KEY, "Xylophone")


pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def talkative(database_url: str, tmp_path: Path) -> Iterator[RunningServer]:
    """A server that logs everything it has to say."""
    environment = {"PROMPTBANDIT_LOG_LEVEL": "debug", "PROMPTBANDIT_SOFT_DEADLINE_MS": "30000"}
    with RunningServer(database_url, tmp_path, environment=environment) as server:
        yield server


def lines_of(server: RunningServer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def good_requests(server: RunningServer) -> set[str]:
    """The main job, with words that are easily found; the ids of the requests."""
    version = {
        "name": "support",
        "system_prompt": PROMPT_TEXT,
        "tools_config": [{"name": "lookup", "description": TOOL_TEXT}],
        "metadata": {"note": METADATA_TEXT},
    }
    turns = [{"role": "user", "content": TRANSCRIPT_TEXT}]
    outcome = {"prompt": "support", "unit_id": "1", "metrics": {"resolved": True}, "transcript": turns}
    answers = [
        server.manager.post("/prompts", json=version),
        server.manager.post("/assignments", json={"prompt": "support", "unit_id": "1"}),
        server.manager.post("/outcomes", json=outcome),
        server.manager.get("/prompts"),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 200, 200]
    return {answer.headers["X-Request-Id"] for answer in answers}


def refused_requests(server: RunningServer) -> set[str]:
    """The same words where they do not belong."""
    wrong = {"Authorization": f"Bearer {BAD_KEY}"}
    body = {"prompt": PROMPT_TEXT, "unit_id": "1", "metrics": {PROMPT_TEXT: 1}}
    answers = [
        server.manager.post("/assignments", content=f'{{"prompt": "{PROMPT_TEXT}'),
        server.manager.post("/assignments", json={"prompt": "Xylophone", "unit_id": "1"}),
        server.manager.post("/assignments", json={"prompt": "support", "unit_id": {"text": PROMPT_TEXT}}),
        server.manager.post("/outcomes", json=body),
        server.manager.post("/outcomes", json=[body, {"transcript": TRANSCRIPT_TEXT}]),
        server.manager.post("/prompts", json={"name": PATH_TEXT, "system_prompt": "x", PROMPT_TEXT: 1}),
        server.manager.get(f"/prompts/{PATH_TEXT}", params={"key": BAD_KEY}),
        server.manager.get(f"/{PATH_TEXT}", params={"q": QUERY_TEXT}),
        server.manager.get(f"/experiments/{PATH_TEXT}/report"),
        server.manager.get("/prompts", headers=wrong),
        server.manager.get("/prompts", headers={"Authorization": BAD_KEY, "X-Request-Id": QUERY_TEXT}),
    ]
    assert {answer.status_code // 100 for answer in answers[:4] + answers[5:]} == {4}
    return {answer.headers["X-Request-Id"] for answer in answers}


def no_http(server: RunningServer) -> None:
    """Bytes that no HTTP parser takes."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as line:
        line.sendall(f"{PROMPT_TEXT} \x00 {BAD_KEY}\r\n\r\n".encode())
        assert b"400" in line.recv(1_000)


def refuse_versions(server: RunningServer) -> None:
    """The database refuses the row; its error then quotes it, and SQLAlchemy's the parameters."""
    statement = (
        "CREATE TRIGGER refuse BEFORE INSERT ON prompt_versions BEGIN SELECT RAISE(ABORT, 'refused'); END"
        if server.database_url.startswith("sqlite")
        else "ALTER TABLE prompt_versions ADD CONSTRAINT refuse CHECK (number < 2)"
    )
    with connected(server) as connection:
        connection.execute(statement)
        connection.commit()


def test_logs_hold_no_prompt_no_transcript_and_no_key(talkative: RunningServer):
    """Whatever goes wrong, and at every level: also where the database's own error quotes the prompt."""
    ids = good_requests(talkative) | refused_requests(talkative)
    no_http(talkative)
    refuse_versions(talkative)
    failed = talkative.manager.post("/prompts", json={"name": "support", "system_prompt": PROMPT_TEXT + "2"})
    assert failed.status_code == 500
    talkative.stop()
    text = talkative.log.read_text()
    for word in (*SPOKEN, talkative.key("manager"), talkative.key("manager").rpartition("_")[2]):
        assert word not in text, word
    lines = lines_of(talkative)
    assert all({"at", "level", "event"} <= set(line) for line in lines)
    assert ids <= {line.get("request_id") for line in lines if line["event"] == "request"}
    assert "uvicorn.error" in {line.get("logger") for line in lines}  # "Invalid HTTP request received."
    mine = [line for line in lines if line.get("request_id") == failed.headers["X-Request-Id"]]
    assert {line["event"] for line in mine} == {"request", "internal_error"}
    assert {line["route"] for line in mine if line["event"] == "request"} == {"/prompts"}


def test_a_request_that_went_well_is_no_line_unless_one_debugs(sqlite_server: RunningServer):
    sqlite_server.create_version("support", "Old.")
    sqlite_server.assign("1")
    assert sqlite_server.manager.get("/experiments/none").status_code == 404
    sqlite_server.stop()
    requests = [line for line in lines_of(sqlite_server) if line["event"] == "request"]
    told = [(line["route"], line["status"]) for line in requests]
    # The first one is `RunningServer`'s: it asks for a report that is not there, until reports can be made.
    assert told == [("/experiments/{key}/report", 404), ("/experiments/{key}", 404)]


def test_the_text_of_an_exception_is_not_logged_its_kind_and_place_are():
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines())
    logger = logging.Logger("some.library")
    logger.addHandler(handler)
    try:
        raise ValueError(PROMPT_TEXT)
    except ValueError:
        logger.exception("it %s", "failed")
    line = json.loads(out.getvalue())
    assert (line["level"], line["logger"], line["message"]) == ("error", "some.library", "it failed")
    assert line["error"] == "ValueError"
    assert "test_logs.py" in line["trace"][-1]
    assert PROMPT_TEXT not in out.getvalue()


def test_the_logging_of_the_libraries_is_a_configuration_that_python_takes():
    assert logging.config.DictConfigurator(LIBRARIES).config["root"]["level"] == "WARNING"
    assert LIBRARIES["formatters"]["json"]["()"] is JsonLines
