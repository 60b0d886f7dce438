"""Stories of a manager and an agent, told over HTTP on both databases."""

import datetime as dt
from statistics import fmean

import pytest

from engine.assignment import arm_of, bucket
from tests.api.tables import counted, select
from tests.running_server import RunningServer

VERSION = {
    *("id", "prompt", "name", "number", "system_prompt", "tools_config", "metadata", "content_hash"),
    *("is_active", "parent_id", "suggestion_id", "author", "created_at"),
}
SERVED = {"id", "number", "name", "system_prompt", "tools_config", "metadata", "content_hash"}
AB_TEST = {
    *("id", "test_name", "variant_a_id", "variant_b_id", "calls_a", "calls_b", "quality_a", "quality_b"),
    *("traffic_split", "status", "started_at", "significance", "recommended_variant"),
}


def test_a_version_is_created_listed_shown_and_activated(shared: RunningServer):
    """The first three of the user's own six paths."""
    tools = [{"name": "refund", "input_schema": {"type": "object"}}]
    first = shared.create_version(
        "versions", "One.", tools_config=tools, metadata={"ticket": 7}, author="Ada"
    )
    second = shared.create_version("versions", "Two.", parent_id=first["id"])
    assert set(first) == VERSION
    assert (first["number"], first["is_active"], first["tools_config"]) == (1, True, tools)
    assert (first["metadata"], first["author"]) == ({"ticket": 7}, "Ada")
    assert (second["number"], second["is_active"], second["parent_id"]) == (2, False, first["id"])
    activated = shared.manager.patch(f"/prompts/{second['id']}/activate")
    assert activated.json() == second | {"is_active": True}
    listed = shared.manager.get("/prompts", params={"prompt": "versions"}).json()
    assert listed == [first | {"is_active": False}, second | {"is_active": True}]
    assert shared.manager.get(f"/prompts/{first['id']}").json() == listed[0]
    assert shared.manager.patch(f"/prompts/{second['id']}/activate").json() == listed[1]


def test_pages_follow_each_other(shared: RunningServer):
    for number in range(3):
        shared.create_version("pages", f"Text {number}.")
    pages = [
        shared.manager.get("/prompts", params={"prompt": "pages", "limit": 2, "offset": o}).json()
        for o in (0, 2)
    ]
    assert [[version["number"] for version in page] for page in pages] == [[1, 2], [3]]


def test_the_same_content_twice_is_a_conflict_that_names_the_version(shared: RunningServer):
    first = shared.create_version("same", "Text.", tools_config={"b": 1, "a": 2})
    body = {
        "name": "same",
        "system_prompt": "Text.",
        "tools_config": {"a": 2, "b": 1},
        "metadata": {"new": 1},
    }
    answer = shared.manager.post("/prompts", json=body)
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/same-content"
    assert f"id {first['id']}" in answer.json()["detail"]


def test_two_versions_are_compared_line_by_line(shared: RunningServer):
    old, new = (shared.create_version("compared", text)["id"] for text in ("Hello.\nBye.", "Hello!\nBye."))
    diff = shared.manager.get(f"/prompts/{old}/diff/{new}").json()
    assert "-Hello.\n+Hello!\n Bye." in diff["system_prompt"]
    assert (diff["tools_config"], diff["metadata"]) == ("", "")
    other = shared.create_version("not-compared", "Hello.")["id"]
    assert (
        shared.manager.get(f"/prompts/{old}/diff/{other}").json()["type"]
        == "/problems/version-of-other-prompt"
    )


def test_an_ab_test_is_started_fed_read_and_stopped(shared: RunningServer):
    """The other three of the six paths, with all fields of the contract."""
    a, b = (shared.create_version("ab", text)["id"] for text in ("A.", "B."))
    new = {"test_name": "AB 1", "variant_a_id": a, "variant_b_id": b, "traffic_split": 0.3}
    started = shared.manager.post("/prompts/ab-tests", json=new)
    assert started.status_code == 201
    test = started.json()
    assert set(test) == AB_TEST
    assert {name: test[name] for name in new} == new
    assert (test["calls_a"], test["quality_a"], test["status"]) == (0, None, "running")
    quality: dict[int, list[float]] = {a: [], b: []}
    for number in range(40):
        version = shared.assign(f"ab-{number}", "ab")["version"]["id"]
        quality[version].append(number / 40)
        shared.record(f"ab-{number}", "ab", metrics={"quality": number / 40, "resolved": True})
    test = next(t for t in shared.manager.get("/prompts/ab-tests").json() if t["test_name"] == "AB 1")
    assert (test["calls_a"], test["calls_b"]) == (len(quality[a]), len(quality[b]))
    assert test["quality_a"] == pytest.approx(fmean(quality[a]))
    assert test["quality_b"] == pytest.approx(fmean(quality[b]))
    seen = test["significance"]
    assert seen["action"] == "keep_collecting"
    # Evidence and belief side by side; every call was resolved, so nothing speaks for either.
    assert 0.0 < seen["e_value"] < 20.0
    assert seen["always_valid_p_value"] == 1.0
    assert seen["always_valid_interval"] == [None, None]
    assert 0.0 < seen["probability_better"] < 1.0
    assert any("e-value" in reason for reason in seen["because"])
    stopped = shared.manager.patch(f"/prompts/ab-tests/{test['id']}/stop").json()
    assert (stopped["status"], stopped["calls_a"]) == ("stopped", test["calls_a"])
    again = shared.manager.patch(f"/prompts/ab-tests/{test['id']}/stop")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/experiment-stopped")


def test_an_ab_test_needs_versions_of_one_prompt(shared: RunningServer):
    a, b = (shared.create_version(name, "Text.")["id"] for name in ("left", "right"))
    body = {"test_name": "left-right", "variant_a_id": a, "variant_b_id": b}
    answer = shared.manager.post("/prompts/ab-tests", json=body)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/version-of-other-prompt")


def test_a_call_without_an_experiment_gets_the_active_version(shared: RunningServer):
    version = shared.create_version("static", "Text.")
    answer = shared.assign("static-1", "static")
    assert set(answer) == {
        *("prompt", "unit_id", "version", "experiment", "variant", "allocation", "probability", "reason")
    }
    assert answer["version"] == {name: version[name] for name in SERVED}
    assert (answer["reason"], answer["experiment"], answer["probability"]) == ("STATIC", None, None)


def test_a_call_that_asks_again_keeps_its_variant(shared: RunningServer):
    """Through a new active version, a new split, and the end of the experiment."""
    old = shared.create_version("sticky", "Old.")
    shared.start_experiment("sticky", "sticky")
    given = [shared.assign(f"sticky-{number}", "sticky") for number in range(20)]
    assert {answer["variant"] for answer in given} == {"a", "b"}
    assert {(answer["reason"], answer["probability"]) for answer in given} == {("SPLIT", 0.5)}
    shared.manager.patch(f"/prompts/{old['id']}/activate")
    shared.manager.post("/experiments/sticky/variants", json={"key": "c", "version_id": old["id"]})
    shared.manager.patch("/experiments/sticky/stop", json={"winner": "b"})
    assert [shared.assign(f"sticky-{number}", "sticky") for number in range(20)] == given
    kept = select(
        shared, "SELECT COUNT(*), COUNT(DISTINCT unit_id) FROM assignments WHERE unit_id LIKE 'sticky-%'"
    )
    assert kept == [(20, 20)]


def test_anyone_who_knows_the_split_can_derive_the_assignment(shared: RunningServer):
    shared.create_version("derived", "Old.")
    experiment = shared.start_experiment("derived", "derived")
    split = shared.manager.get("/experiments/derived/allocations").json()[0]["split"]
    for number in range(20):
        arm = arm_of(bucket(experiment["salt"], f"derived-{number}"), list(split.values()))
        assert shared.assign(f"derived-{number}", "derived")["variant"] == list(split)[arm]


def test_an_outcome_waits_for_its_assignment(shared: RunningServer):
    shared.create_version("waiting", "Old.")
    shared.start_experiment("waiting", "waiting")
    n, total = counted(shared, "quality")
    assert shared.record("waiting-1", "waiting", metrics={"quality": 0.75}) == "parked"
    assert counted(shared, "quality") == (n, pytest.approx(total))  # rows are summed in any order
    variant = shared.assign("waiting-1", "waiting")["variant"]
    assert counted(shared, "quality") == (n + 1, pytest.approx(total + 0.75))
    assert shared.record("waiting-1", "waiting", metrics={"quality": 0.75}) == "unchanged"
    report = shared.manager.get("/experiments/waiting/report").json()
    assert report["calls"][variant]["quality_mean"] == pytest.approx(0.75)


def test_an_outcome_told_again_later_and_corrected(shared: RunningServer):
    shared.create_version("corrected", "Old.")
    shared.start_experiment("corrected", "corrected")
    shared.assign("corrected-1", "corrected")
    n, total = counted(shared, "duration_s")
    told_at = dt.datetime.now(dt.UTC).isoformat()
    told = [
        shared.record("corrected-1", "corrected", metrics={"duration_s": 30}, occurred_at=told_at),
        shared.record("corrected-1", "corrected", metrics={"duration_s": 30}),
        shared.record("corrected-1", "corrected", metrics={"duration_s": 40}),
        shared.record("corrected-1", "corrected", metrics={"duration_s": 30}, occurred_at=told_at),
        shared.record("corrected-1", "corrected", metrics={"duration_s": None, "quality": 0.5}),
    ]
    assert told == ["accepted", "unchanged", "revised", "unchanged", "accepted"]
    assert counted(shared, "duration_s") == (n + 1, pytest.approx(total + 40))
    old = select(shared, "SELECT value FROM outcome_revisions WHERE unit_id = 'corrected-1'")
    assert old == [(30.0,)]


def test_an_outcome_that_tells_its_allocation_brings_its_assignment(shared: RunningServer):
    """The call was assigned by a client while the server was away."""
    shared.create_version("offline", "Old.")
    experiment = shared.start_experiment("offline", "offline")
    allocation = shared.manager.get("/experiments/offline/allocations").json()[0]
    arm = arm_of(bucket(experiment["salt"], "offline-1"), list(allocation["split"].values()))
    told = {"metrics": {"resolved": True}, "allocation": allocation["id"], "segment": "night"}
    assert shared.record("offline-1", "offline", **told) == "accepted"
    assert shared.record("offline-1", "offline", **told) == "unchanged"
    answer = shared.assign("offline-1", "offline")
    assert (answer["variant"], answer["reason"]) == (list(allocation["split"])[arm], "STALE")


def test_a_bad_outcome_brings_no_assignment(shared: RunningServer):
    shared.create_version("refused", "Old.")
    shared.start_experiment("refused", "refused")
    allocation = shared.manager.get("/experiments/refused/allocations").json()[0]["id"]
    body = {"prompt": "refused", "unit_id": "refused-1", "metrics": {"quality": 7}, "allocation": allocation}
    assert shared.manager.post("/outcomes", json=body).status_code == 422
    assert select(shared, "SELECT COUNT(*) FROM assignments WHERE unit_id = 'refused-1'") == [(0,)]


def test_health_is_open_and_metrics_count_what_was_answered(shared: RunningServer):
    shared.create_version("measured", "Old.")
    shared.assign("measured-1", "measured")
    with shared.client(None) as nobody:
        assert nobody.get("/health/live").json() == {"status": "alive"}
        assert nobody.get("/health/ready", params={"probe": 7}).json() == {"status": "ready"}
    answer = shared.manager.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert float(lines['promptbandit_assignments_total{reason="STATIC"}']) >= 1
    assert float(lines["promptbandit_storage_up"]) == 1
    assert 'promptbandit_request_seconds_count{route="/assignments"}' in lines


def test_metrics_show_the_split_that_is_served_until_the_experiment_ends(shared: RunningServer):
    shared.create_version("watched", "Old.")
    shared.start_experiment("watched", "watched")
    allocation = shared.manager.get("/experiments/watched/allocations").json()[-1]
    served = ("promptbandit_split_share", "promptbandit_allocation_age_seconds")
    lines = dict(
        line.rsplit(" ", 1)
        for line in shared.manager.get("/metrics").text.splitlines()
        if 'experiment="watched"' in line and line.startswith(served)
    )
    for key, share_bp in allocation["split"].items():
        name = f'promptbandit_split_share{{experiment="watched",variant="{key}"}}'
        assert float(lines.pop(name)) == share_bp / 10_000
    assert 0.0 <= float(lines.pop('promptbandit_allocation_age_seconds{experiment="watched"}')) < 60.0
    assert lines == {}
    shared.manager.patch("/experiments/watched/stop")
    assert 'experiment="watched"' not in shared.manager.get("/metrics").text
