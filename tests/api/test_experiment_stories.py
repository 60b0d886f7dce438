"""Experiments over HTTP: started, changed while they run, read, stopped."""

import csv
import io
from typing import Any

import pytest

from tests.running_server import RunningServer

REPORT = {
    *("experiment", "prompt", "status", "as_of", "policy", "goal", "planned", "variants", "comparisons"),
    *("sample_ratio", "evidence", "guardrails", "calls", "recommendation"),
}
VARIANT = {
    *("key", "version_id", "live", "is_control", "assigned", "share", "missing", "metrics"),
    *("probability_best", "expected_loss", "missing_differs", "paused", "prior"),
}
COMPARISON = {
    *("variant", "control", "metric", "role", "n", "z_test", "welch_test", "always_valid", "bayes"),
    *("adaptive", "seed_rule"),
}
TEST = {"estimate", "interval", "statistic", "p_value", "p_value_adjusted"}
ACTIONS = {"keep_collecting", "switch", "keep_control", "equivalent", "pause_variant", "investigate"}


def start(server: RunningServer, name: str, **more: Any) -> dict[str, Any]:
    server.create_version(name, "Active text.")
    return server.start_experiment(name, name, **more)


def share(server: RunningServer, key: str) -> dict[str, float]:
    variants = server.manager.get(f"/experiments/{key}/report").json()["variants"]
    return {variant["key"]: variant["share"] for variant in variants}


def test_an_experiment_says_all_that_was_asked_for(shared: RunningServer):
    ids = [shared.create_version("asked", text)["id"] for text in "abc"]
    costs = {"name": "cost_usd", "kind": "amount", "direction": "decrease", "unit": "USD"}
    metrics = [
        {"name": "resolved", "kind": "binary", "role": "goal"},
        costs | {"role": "guardrail", "margin": 0.1},
    ]
    policy = {"name": "top_two", "floor": 0.1, "burn_in": 50}
    shares = zip("abc", ids, (0.7, 0.2, 0.1), strict=True)
    body = {
        "key": "Asked #1",
        "prompt": "asked",
        "variants": [{"key": key, "version_id": id_, "share": share} for key, id_, share in shares],
        "control": "a",
        "policy": policy,
        "metrics": metrics,
        "alpha": 0.1,
        "baseline": 0.7,
        "minimum_detectable_effect": 0.1,
        "maturity_s": 60,
        "min_days": 2,
    }
    answer = shared.manager.post("/experiments", json=body)
    assert answer.status_code == 201
    made = answer.json()
    for name in ("key", "prompt", "alpha", "baseline", "minimum_detectable_effect", "maturity_s", "min_days"):
        assert made[name] == body[name]
    assert made["goal"] == "resolved"
    assert made["policy"] == {
        **policy,
        "control_floor": 0.1,
        "cap": 0.9,
        "every_s": 300,
        "half_life_calls": None,
    }
    assert [metric["role"] for metric in made["metrics"]] == ["goal", "guardrail"]
    assert [v["version_id"] for v in made["variants"]] == ids
    assert [v["is_control"] for v in made["variants"]] == [True, False, False]
    assert shared.manager.get("/experiments/Asked %231").json() == made
    split = shared.manager.get("/experiments/Asked %231/allocations").json()[0]["split"]
    assert split == {"a": 7000, "b": 2000, "c": 1000}


def test_experiments_are_listed_by_status(shared: RunningServer):
    for key in ("listed-running", "listed-stopped"):
        start(shared, key)
    shared.manager.patch("/experiments/listed-stopped/stop")
    for status, other in (("running", "stopped"), ("stopped", "running")):
        found = shared.manager.get("/experiments", params={"status": status}).json()
        assert {item["status"] for item in found} == {status}
        keys = {item["key"] for item in found}
        assert f"listed-{status}" in keys
        assert f"listed-{other}" not in keys


def test_a_prompt_has_one_running_experiment_and_a_key_one_experiment(shared: RunningServer):
    """adm-13: keys are compared without case; a stopped experiment keeps its key."""
    start(shared, "one")
    ids = [shared.create_version("one", text)["id"] for text in "xy"]
    variants = [{"key": key, "version_id": i} for key, i in zip("xy", ids, strict=True)]
    body = {"key": "two", "prompt": "one", "control": "x", "variants": variants}
    refused = shared.manager.post("/experiments", json=body).json()
    assert refused["type"] == "/problems/experiment-running"
    assert "'one'" in refused["detail"]
    shared.manager.patch("/experiments/one/stop")
    taken = shared.manager.post("/experiments", json=body | {"key": "ONE"})
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/name-taken")
    assert shared.manager.post("/experiments", json=body).status_code == 201


def test_an_arm_is_added_and_retired_while_it_runs(shared: RunningServer):
    start(shared, "arms")
    version = shared.create_version("arms", "A third.")
    added = shared.manager.post("/experiments/arms/variants", json={"key": "c", "version_id": version["id"]})
    assert added.status_code == 201
    assert share(shared, "arms") == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, abs=1e-4)
    given = {shared.assign(f"arms-{number}", "arms")["variant"] for number in range(60)}
    assert given == {"a", "b", "c"}
    before = shared.manager.get("/experiments/arms/report").json()["variants"]
    assert shared.manager.patch("/experiments/arms/variants/b/retire").status_code == 200
    assert share(shared, "arms") == pytest.approx({"a": 0.5, "b": 0.0, "c": 0.5}, abs=1e-4)
    later = {shared.assign(f"arms-later-{number}", "arms")["variant"] for number in range(40)}
    assert later == {"a", "c"}
    after = shared.manager.get("/experiments/arms/report").json()["variants"]
    assert (after[1]["live"], after[1]["assigned"]) == (False, before[1]["assigned"])
    policies = [item["policy"] for item in shared.manager.get("/experiments/arms/allocations").json()]
    assert policies == ["start", "variant added", "variant retired"]


@pytest.mark.parametrize(
    ("variant", "status", "slug"),
    [("a", 409, "last-variants"), ("b", 409, "last-variants"), ("z", 404, "variant-not-found")],
)
def test_an_experiment_always_serves(shared: RunningServer, variant: str, status: int, slug: str):
    """asg-07: the control and one more arm stay, so a call always finds one."""
    name = f"serving-{variant}"
    start(shared, name)
    answer = shared.manager.patch(f"/experiments/{name}/variants/{variant}/retire")
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")


def test_an_arm_that_does_not_fit_is_refused(shared: RunningServer):
    made = start(shared, "fit")
    other = shared.create_version("unfit", "Of another prompt.")["id"]
    fresh = shared.create_version("fit", "Fresh.")["id"]
    refused = {
        "variant-exists": {"key": "a", "version_id": fresh},
        "version-of-other-prompt": {"key": "c", "version_id": other},
        "version-not-found": {"key": "c", "version_id": 10**9},
        "validation": {"key": "c", "version_id": fresh, "share": 1.0},
    }
    for slug, body in refused.items():
        assert (
            shared.manager.post("/experiments/fit/variants", json=body).json()["type"] == f"/problems/{slug}"
        )
    same = {"key": "c", "version_id": made["variants"][0]["version_id"]}
    assert (
        shared.manager.post("/experiments/fit/variants", json=same).json()["type"]
        == "/problems/variant-exists"
    )
    assert shared.manager.get("/experiments/fit").json() == made


def test_an_arm_can_be_retired_under_a_tight_cap_and_from_an_empty_share(shared: RunningServer):
    """Two arms cannot hold a cap of 0.4, and two of share 0 have no ratio: retiring a bad arm goes all the same."""
    tight = {"policy": {"name": "thompson", "cap": 0.4}}
    for name, shares, more in (("tight", (0.4, 0.3, 0.3), tight), ("empty", (0.0, 0.0, 1.0), {})):
        ids = [shared.create_version(name, text)["id"] for text in "abc"]
        variants = [
            {"key": k, "version_id": i, "share": s} for k, i, s in zip("abc", ids, shares, strict=True)
        ]
        shared.start_experiment(name, name, variants=variants, **more)
        assert shared.manager.patch(f"/experiments/{name}/variants/c/retire").status_code == 200
        assert share(shared, name) == {"a": 0.5, "b": 0.5, "c": 0.0}


def test_stopping_with_a_winner_makes_it_active(shared: RunningServer):
    made = start(shared, "won")
    stopped = shared.manager.patch("/experiments/won/stop", json={"winner": "b"}).json()
    winner = made["variants"][1]["version_id"]
    assert (stopped["status"], stopped["decision"]["winner"]) == ("stopped", "b")
    assert stopped["decision"]["version_id"] == winner
    answer = shared.assign("won-1", "won")
    assert (answer["reason"], answer["version"]["id"]) == ("STATIC", winner)
    listed = shared.manager.get("/prompts", params={"prompt": "won"}).json()
    assert [version["id"] for version in listed if version["is_active"]] == [winner]


def test_stopping_without_a_winner_leaves_the_active_version(shared: RunningServer):
    active = shared.create_version("drawn", "Active text.")
    shared.start_experiment("drawn", "drawn")
    shared.manager.patch("/experiments/drawn/stop")
    assert shared.assign("drawn-1", "drawn")["version"]["id"] == active["id"]
    for path in ("stop", "variants/b/retire"):
        answer = shared.manager.patch(f"/experiments/drawn/{path}")
        assert answer.json()["type"] == "/problems/experiment-stopped"


def test_the_report_has_the_fields_of_the_contract(shared: RunningServer):
    metrics = [
        {"name": "resolved", "kind": "binary", "role": "goal"},
        {"name": "quality", "kind": "score"},
        {"name": "duration_s", "kind": "amount", "direction": "decrease", "role": "guardrail", "margin": 5},
    ]
    start(shared, "reported", metrics=metrics)
    for number in range(60):
        shared.assign(f"reported-{number}", "reported")
        told = {"resolved": number % 3 > 0, "quality": number / 60, "duration_s": 30 + number}
        shared.record(f"reported-{number}", "reported", metrics=told)
    report = shared.manager.get("/experiments/reported/report").json()
    assert set(report) == REPORT
    assert [set(variant) for variant in report["variants"]] == [VARIANT] * 2
    assert [set(item) for item in report["comparisons"]] == [COMPARISON] * 3
    assert report["recommendation"]["action"] in ACTIONS
    for item in report["comparisons"]:
        assert set(item["z_test"] or item["welch_test"]) >= TEST
        assert (item["z_test"] is None) is (item["metric"] != "resolved")
        assert {"probability_better", "lift", "relative_lift", "expected_loss"} <= set(item["bayes"])
    assert sum(variant["assigned"] for variant in report["variants"]) == 60
    assert {variant["missing"] for variant in report["variants"]} == {0.0}
    assert [item["metric"] for item in report["guardrails"]] == ["duration_s"]
    assert report["planned"]["sample_size_per_variant"] > 0


def test_a_report_without_calls_knows_nothing_and_says_so(shared: RunningServer):
    start(shared, "silent")
    report = shared.manager.get("/experiments/silent/report").json()
    assert report["recommendation"]["action"] == "keep_collecting"
    assert report["recommendation"]["still_needed"]
    for variant in report["variants"]:
        assert (variant["assigned"], variant["missing"]) == (0, None)
        assert variant["metrics"]["quality"]["mean"] is None


def test_calls_are_exported_as_csv_that_no_spreadsheet_runs(shared: RunningServer):
    start(shared, "exported")
    shared.assign("=1+1", "exported", segment='@night, "late"')
    shared.record("=1+1", "exported", metrics={"quality": 0.5})
    answer = shared.manager.get("/experiments/exported/calls")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["unit_id"], row["segment"]) for row in rows] == [("'=1+1", '\'@night, "late"')]
    assert (rows[0]["quality"], rows[0]["resolved"], rows[0]["probability"]) == ("0.5", "", "0.5")


def test_the_audit_names_who_did_what(shared: RunningServer):
    start(shared, "audited")
    shared.manager.patch("/experiments/audited/stop", json={"winner": "a"})
    entries = shared.manager.get("/audit", params={"limit": 6}).json()
    assert [entry["action"] for entry in entries] == [
        "activate_version", "stop_experiment", "start_experiment", *["create_version"] * 3
    ]  # fmt: skip
    assert {entry["actor"].startswith("key:") for entry in entries} == {True}
    assert entries[1]["after"]["winner"] == "a"
    assert shared.key("manager") not in str(entries)
