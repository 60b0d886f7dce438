"""Each alert fires when it should, and is silent when it should be: two cases each, judged by promtool."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboards.grafana import DASHBOARDS
from tests.dashboards.prometheus import PROMTOOL, REASON

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason=REASON)

RULES = DASHBOARDS / "alerts.yml"
DAY_S = 86_400
DAY_MIN = 1_440

# Minute of the look; series by their values, one a minute from 0 (`a+bxn`: n steps of b from a), one an hour in
# the cases that take days; and the labels of the alert.
FIRES: dict[str, tuple[int, dict[str, str], dict[str, str]]] = {
    "PromptBanditDown": (
        3,
        {'up{job="promptbandit",instance="one"}': "0x10"},
        {"instance": "one", "job": "promptbandit"},
    ),
    "PromptBanditStorageAway": (
        3,
        {
            'promptbandit_storage_up{instance="one"}': "0x10",
            'promptbandit_storage_up{instance="two"}': "1x10",
        },
        {"instance": "one"},
    ),
    "PromptBanditFallbackShareHigh": (
        20,
        {
            'promptbandit_assignments_total{reason="SPLIT"}': "0+90x30",
            'promptbandit_assignments_total{reason="STALE"}': "0+6x30",
            'promptbandit_assignments_total{reason="DEFAULT"}': "0+4x30",
        },
        {},
    ),
    "PromptBanditAssignmentsDropped": (10, {"promptbandit_assignments_dropped_total": "0x5 1x10"}, {}),
    "PromptBanditSlow": (
        30,
        {
            'promptbandit_request_seconds_bucket{route="/assignments",le="0.3"}': "0+98x40",
            'promptbandit_request_seconds_bucket{route="/assignments",le="0.5"}': "0+100x40",
            'promptbandit_request_seconds_bucket{route="/assignments",le="+Inf"}': "0+100x40",
        },
        {},
    ),
    "PromptBanditSampleRatioMismatch": (
        1,
        {'promptbandit_sample_ratio_mismatch{experiment="x"}': "1x5"},
        {"experiment": "x"},
    ),
    "PromptBanditVerifyFailed": (1, {"promptbandit_verify_ok": "0x5"}, {}),
    "PromptBanditVerifyOld": (
        3 * DAY_MIN,
        {"promptbandit_verify_timestamp_seconds": f"0x{4 * 24}"},
        {},
    ),
    "PromptBanditNotJudged": (
        40,
        {'promptbandit_standing_timestamp_seconds{experiment="x"}': "0x60"},
        {"experiment": "x"},
    ),
    "PromptBanditAllocationTooOld": (
        30,
        {
            'promptbandit_allocation_age_seconds{experiment="x"}': f"{DAY_S + 1}+60x60",
            'promptbandit_split_moves{experiment="x"}': "1x60",
            'promptbandit_outcomes_total{status="accepted"}': "0+1x60",
        },
        {"experiment": "x"},
    ),
    "PromptBanditOutcomesRejected": (
        30,
        {
            'promptbandit_outcomes_total{status="accepted"}': "0+90x40",
            'promptbandit_outcomes_total{status="rejected"}': "0+10x40",
        },
        {},
    ),
    "PromptBanditMissingHigh": (
        90,
        {
            'promptbandit_missing_share{experiment="x",variant="b"}': "0.3x120",
            'promptbandit_matured_calls{experiment="x",variant="b"}': "100x120",
        },
        {"experiment": "x", "variant": "b"},
    ),
}
SILENT: dict[str, list[tuple[int, dict[str, str]]]] = {
    "PromptBanditDown": [(3, {'up{job="promptbandit",instance="one"}': "1x10"})],
    # One that comes back within two minutes.
    "PromptBanditStorageAway": [(4, {'promptbandit_storage_up{instance="one"}': "0 0 1 1 1"})],
    "PromptBanditFallbackShareHigh": [
        (
            20,
            {
                'promptbandit_assignments_total{reason="SPLIT"}': "0+96x30",
                'promptbandit_assignments_total{reason="STALE"}': "0+4x30",
            },
        ),
        # At night nobody calls: no share, no alarm.
        (20, {'promptbandit_assignments_total{reason="SPLIT"}': "5x30"}),
    ],
    "PromptBanditAssignmentsDropped": [(30, {"promptbandit_assignments_dropped_total": "7x40"})],
    "PromptBanditSlow": [
        (
            30,
            {
                'promptbandit_request_seconds_bucket{route="/assignments",le="0.3"}': "0+100x40",
                'promptbandit_request_seconds_bucket{route="/assignments",le="+Inf"}': "0+100x40",
                # A report may take longer.
                'promptbandit_request_seconds_bucket{route="/experiments/{key}/report",le="0.3"}': "0x40",
                'promptbandit_request_seconds_bucket{route="/experiments/{key}/report",le="+Inf"}': "0+9x40",
            },
        )
    ],
    "PromptBanditSampleRatioMismatch": [(1, {'promptbandit_sample_ratio_mismatch{experiment="x"}': "0x5"})],
    "PromptBanditVerifyFailed": [(1, {"promptbandit_verify_ok": "1x5"})],
    "PromptBanditVerifyOld": [
        (2 * DAY_MIN, {"promptbandit_verify_timestamp_seconds": f"0x{3 * 24}"}),
        # A new installation has an hour.
        (30, {"promptbandit_storage_up": "1x60"}),
    ],
    "PromptBanditNotJudged": [(30, {'promptbandit_standing_timestamp_seconds{experiment="x"}': "0+60x60"})],
    "PromptBanditAllocationTooOld": [
        # A fixed split stands still for ever,
        (
            30,
            {
                'promptbandit_allocation_age_seconds{experiment="x"}': f"{9 * DAY_S}+60x60",
                'promptbandit_split_moves{experiment="x"}': "0x60",
                'promptbandit_outcomes_total{status="accepted"}': "0+1x60",
            },
        ),
        # and any split while nothing new is told.
        (
            30,
            {
                'promptbandit_allocation_age_seconds{experiment="x"}': f"{9 * DAY_S}+60x60",
                'promptbandit_split_moves{experiment="x"}': "1x60",
                'promptbandit_outcomes_total{status="accepted"}': "8x60",
            },
        ),
    ],
    "PromptBanditOutcomesRejected": [
        (
            30,
            {
                'promptbandit_outcomes_total{status="accepted"}': "0+96x40",
                'promptbandit_outcomes_total{status="rejected"}': "0+4x40",
            },
        )
    ],
    "PromptBanditMissingHigh": [
        # Few calls say little.
        (
            90,
            {
                'promptbandit_missing_share{experiment="x",variant="b"}': "0.9x120",
                'promptbandit_matured_calls{experiment="x",variant="b"}': "99x120",
            },
        ),
        (
            90,
            {
                'promptbandit_missing_share{experiment="x",variant="b"}': "0.1x120",
                'promptbandit_matured_calls{experiment="x",variant="b"}': "1000x120",
            },
        ),
    ],
}


def rules() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROMTOOL), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )


def case(
    alert: str, minute: int, series: dict[str, str], *, fires: bool, labels: dict[str, str]
) -> dict[str, Any]:
    """One case in the form of promtool."""
    of_alert = rules()[alert]["labels"] | labels
    expected = [{"exp_labels": of_alert}] if fires else []
    return {
        "interval": "1h" if minute >= DAY_MIN else "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": expected}],
    }


def judge(folder: Path, test: dict[str, Any]) -> str:
    """What promtool finds wrong. It compares annotations, too: those are the rule's, filled in."""
    # The rules without their words, which hold numbers that no test here is about.
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    bare = [{name: value for name, value in rule.items() if name != "annotations"} for rule in group["rules"]]
    (folder / "rules.json").write_text(json.dumps({"groups": [{"name": "bare", "rules": bare}]}))
    document = {
        "rule_files": [str(folder / "rules.json")],
        "evaluation_interval": test["interval"],
        "tests": [test],
    }
    (folder / "tests.json").write_text(json.dumps(document))
    done = promtool("test", "rules", folder / "tests.json")
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_rules_are_valid():
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stderr
    assert f"{len(rules())} rules found" in done.stdout


def test_the_example_of_a_configuration_is_valid():
    done = promtool("check", "config", "--syntax-only", DASHBOARDS / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    assert set(FIRES) == set(SILENT) == set(rules())


@pytest.mark.parametrize("alert", FIRES)
def test_an_alert_fires(alert: str, tmp_path: Path):
    minute, series, labels = FIRES[alert]
    assert judge(tmp_path, case(alert, minute, series, fires=True, labels=labels)) == ""


@pytest.mark.parametrize("alert", SILENT)
def test_an_alert_is_silent(alert: str, tmp_path: Path):
    for minute, series in SILENT[alert]:
        assert judge(tmp_path, case(alert, minute, series, fires=False, labels={})) == ""


def test_promtool_tells_a_silent_alert_from_one_that_fires(tmp_path: Path):
    """The judge itself: a case turned round must fail."""
    minute, series, _ = FIRES["PromptBanditVerifyFailed"]
    turned = case("PromptBanditVerifyFailed", minute, series, fires=False, labels={})
    assert "FAILED" in judge(tmp_path, turned)


def test_every_alert_says_what_is_wrong_and_how_bad_it_is():
    for rule in rules().values():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
