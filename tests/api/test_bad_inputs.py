"""Every case of shared/reference/bad_inputs.json, on both databases: the right answer, and nothing stored."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.problems import ALL_KINDS, PROBLEM_JSON
from tests.api import reference_cases as reference
from tests.api import test_concurrency, test_raw_requests
from tests.api.reference_cases import World, translate
from tests.api.tables import counted, select, state
from tests.running_server import RunningServer

CASES = {case["id"]: case for case in reference.cases()}
NOT_HERE = reference.NO_COUNTERPART | reference.CONCURRENT | reference.RAW
RUN = [case_id for case_id in CASES if case_id not in NOT_HERE]
KNOWN_TYPES = {f"/problems/{kind.slug}" for kind in ALL_KINDS}

ROOT = Path(__file__).resolve().parents[2]
needs_the_file = pytest.mark.skipif(not CASES, reason=f"{reference.FILE} is not on this machine")


@needs_the_file
def test_every_case_of_the_file_is_mapped_or_listed_with_a_reason():
    lists = (reference.NO_COUNTERPART, reference.CONCURRENT, reference.RAW, reference.DIFFERENT)
    listed = [case_id for cases in lists for case_id in cases]
    assert len(listed) == len(set(listed))
    assert set(listed) <= set(CASES)
    assert len(CASES) == len(RUN) + len(NOT_HERE) == json.loads(reference.FILE.read_text())["count"]
    for module, names in ((test_concurrency, reference.CONCURRENT), (test_raw_requests, reference.RAW)):
        assert [name for name in names.values() if not hasattr(module, name)] == []


@needs_the_file
@pytest.mark.parametrize("case_id", RUN)
def test_a_bad_input_gets_its_answer_on_both_databases(case_id: str, worlds: dict[str, World]):
    case = CASES[case_id]
    statuses = {}
    for dialect, world in worlds.items():
        unit_id = f"unit-{case_id}"
        world.server.assign(unit_id)
        if case_id in ("out-14", "out-21"):
            world.server.record(unit_id, metrics={"resolved": True, "quality": 0.8, "duration_s": 31.5})
        answer, before, after = _send(case, world, unit_id)
        _check_answer(case, answer)
        if answer.is_error:
            assert after == before
        assert world.server.assign(f"after-{case_id}")["reason"] == "SPLIT"
        statuses[dialect] = answer.status_code
    assert len(set(statuses.values())) == 1, statuses


def _send(case: dict[str, Any], world: World, unit_id: str) -> tuple[httpx.Response, Any, Any]:
    sent = translate(case, world, unit_id)
    before = state(world.server)
    with world.server.client(None) as client:
        request = client.build_request(sent.method, sent.path, headers=sent.headers, content=sent.content)
        answer = client.send(request)
    return answer, before, state(world.server)


def _check_answer(case: dict[str, Any], answer: httpx.Response) -> None:
    expected = case["expect"]
    statuses, _ = reference.DIFFERENT.get(case["id"], (None, ""))
    if statuses is None:
        accepted = expected["status"] + expected.get("also_acceptable", [])
        # Nothing is created by an outcome: where the file says 201, a stored one is our 200.
        statuses = {200 if s == 201 and "outcomes" in case["request"]["path"] else s for s in accepted}
    assert answer.status_code in statuses, answer.text
    if not answer.is_error:
        return
    check_problem(answer.status_code, dict(answer.headers), answer.content)
    if answer.status_code in expected["status"] and expected["problem_type"]:
        theirs = expected["problem_type"]
        assert answer.json()["type"] == reference.TYPES.get(theirs, theirs)
    if answer.status_code == 405:
        assert "POST" in answer.headers["allow"]


def check_problem(status: int, headers: dict[str, str], content: bytes) -> dict[str, Any]:
    """What every problem document has to be."""
    assert status < 500
    assert headers["content-type"] == PROBLEM_JSON
    problem: dict[str, Any] = json.loads(content)
    assert problem["type"] in KNOWN_TYPES
    assert problem["status"] == status
    assert problem["title"]
    assert len(problem["request_id"]) == 16
    assert headers["x-request-id"] == problem["request_id"]
    assert len(problem["detail"]) <= 500
    if status == 422:
        assert problem["errors"]
    for secret in ("Traceback", str(ROOT), ".py", "sqlalchemy", "INSERT", "SELECT"):
        assert secret not in content.decode()
    return problem


@needs_the_file
def test_a_missing_quality_is_missing_and_not_zero(worlds: dict[str, World]):
    for world in worlds.values():
        world.server.assign("missing")
        n_quality, n_resolved = (counted(world.server, name)[0] for name in ("quality", "resolved"))
        answer, _, _ = _send(CASES["out-05"], world, "missing")
        assert answer.json()["results"][0]["status"] == "accepted"
        assert counted(world.server, "quality")[0] == n_quality
        assert counted(world.server, "resolved")[0] == n_resolved + 1


@needs_the_file
def test_an_outcome_of_an_unknown_unit_is_parked_and_not_counted(worlds: dict[str, World]):
    for world in worlds.values():
        before = counted(world.server, "resolved")
        answer, _, _ = _send(CASES["out-12"], world, "never-assigned")
        assert answer.json()["results"][0]["status"] in ("parked", "unchanged")
        assert counted(world.server, "resolved") == before


@needs_the_file
def test_a_later_value_is_a_revision_and_the_old_one_is_kept(worlds: dict[str, World]):
    for world in worlds.values():
        world.server.assign("revised")
        world.server.record("revised", metrics={"resolved": True, "quality": 0.8, "duration_s": 31.5})
        n, total = counted(world.server, "resolved")
        answer, _, _ = _send(CASES["out-14"], world, "revised")
        assert answer.json()["results"][0]["status"] == "revised"
        assert counted(world.server, "resolved") == (n, total - 1)
        kept = "SELECT value FROM outcome_revisions WHERE unit_id = 'revised' AND metric = 'resolved'"
        assert select(world.server, kept) == [(1.0,)]


@needs_the_file
def test_text_that_browsers_would_run_is_stored_as_it_is_and_served_as_json(worlds: dict[str, World]):
    sent = CASES["adm-03"]["request"]["json"]["system_prompt"]
    for world in worlds.values():
        name = "scripts"
        version = world.server.create_version(name, sent)
        answer = world.server.manager.get(f"/prompts/{version['id']}")
        assert answer.json()["system_prompt"] == sent
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'"


@needs_the_file
def test_ids_are_compared_byte_for_byte(worlds: dict[str, World]):
    """asg-06: blanks at the ends and the two Unicode forms of é make four calls."""
    for world in worlds.values():
        units = ["caf\u00e9", "cafe\u0301", " caf\u00e9", "caf\u00e9 "]
        assert [world.server.assign(unit)["unit_id"] for unit in units] == units
        sql = "SELECT COUNT(*) FROM assignments WHERE unit_id LIKE '%caf_%' AND unit_id NOT LIKE '%-%'"
        assert select(world.server, sql)[0][0] >= 4


@needs_the_file
def test_a_wrong_secret_is_refused_like_noise_even_after_the_right_key(worlds: dict[str, World]):
    """auth-03: a cache by the key's public part would let it in."""
    for world in worlds.values():
        body = {"prompt": "support", "unit_id": "auth"}
        with world.server.client("agent") as agent:
            assert agent.post("/assignments", json=body).status_code == 200
        refused = [_send(CASES[name], world, "auth")[0] for name in ("auth-03", "auth-02", "auth-01")]
        assert [answer.status_code for answer in refused] == [401, 401, 401]
        told = [{**answer.json(), "request_id": ""} for answer in refused]
        assert told[0] == told[1] == told[2]
        assert {answer.headers["www-authenticate"] for answer in refused} == {"Bearer"}


@needs_the_file
def test_prompt_names_are_no_paths_and_no_devices(worlds: dict[str, World]):
    """adm-19: names become file names in exports."""
    names = ["../../etc/x", "CON", "nul.txt", "a/b", "", "a" * 300, ".hidden", "a b", "a\n", "-rf", "a."]
    for world in worlds.values():
        for name in names:
            answer = world.server.manager.post("/prompts", json={"name": name, "system_prompt": "x"})
            assert answer.status_code == 422, name
            assert answer.json()["errors"][0]["pointer"] == "/name"


def _log_that_names(server: RunningServer, request_id: str) -> str:
    """The log once it has the request's line, which is written after its answer."""
    deadline = time.monotonic() + 30.0
    while request_id not in (log := server.log.read_text()):
        assert time.monotonic() < deadline, log[-2_000:]
        time.sleep(0.05)
    return log


def test_the_log_names_every_request_and_no_secret(worlds: dict[str, World]):
    for world in worlds.values():
        world.server.assign("a-unit-in-no-log")
        refused = world.server.manager.get("/prompts/999999?api_key=pb_agent_secret")
        log = _log_that_names(world.server, refused.json()["request_id"])
        for secret in ("pb_agent", "pb_manager", "a-unit-in-no-log", "Active text.", "Traceback"):
            assert secret not in log
