"""152 real calls of a real agent (tau-bench, airline) as a true A/A test; the exact command of docs/importing.md."""

import json
from pathlib import Path

import pytest

from tests.cli.test_commands import run

FILE = Path(__file__).resolve().parents[3] / "shared" / "data" / "tau_bench" / "airline_calls.jsonl.gz"
pytestmark = pytest.mark.skipif(
    not FILE.exists(), reason="the calls of tau-bench do not lie beside the project"
)


def test_an_a_a_test_on_real_calls_shows_no_difference(database_url):
    variants = ("--variant-from", "trial", "--variant", "a=0,2", "--variant", "b=1,3")
    done = run(
        database_url, "import", str(FILE), "--prompt", "airline", "--experiment", "airline-aa", *variants
    )
    assert done.returncode == 0, done.stderr
    assert "152 accepted" in done.stdout
    report = json.loads(run(database_url, "report", "airline-aa", "--json").stdout)
    assert [variant["assigned"] for variant in report["variants"]] == [76, 76]
    # 54 of the 152 calls were resolved: the file's own README.
    resolved = [variant["metrics"]["resolved"] for variant in report["variants"]]
    assert round(sum(item["mean"] * item["n"] for item in resolved)) == 54
    goal = next(item for item in report["comparisons"] if item["metric"] == "resolved")
    lower, upper = goal["z_test"]["interval"]
    assert lower < 0 < upper
    assert goal["z_test"]["p_value"] > 0.05
    assert not goal["seed_rule"]["declares_winner"]
    assert goal["always_valid"]["e_value"] < 20
    assert goal["always_valid"]["n"] == 152
    plain, adjusted = goal["adaptive"], goal["adaptive"]["segment_adjusted"]
    assert adjusted["standard_error"] < 0.8 * plain["standard_error"]  # the task explains .43 of the variance
    table = run(database_url, "report", "airline-aa").stdout
    assert all(word in table for word in ("e-value", "P(better)", "P(best)", "keep control"))
    assert report["recommendation"]["action"] == "keep_control"
    assert any("no difference shown" in reason for reason in report["recommendation"]["because"])
    assert run(database_url, "verify").returncode == 0


def test_the_whole_file_is_history_when_no_variant_is_told(database_url):
    done = run(database_url, "import", str(FILE), "--prompt", "airline")
    assert done.returncode == 0, done.stderr
    assert "152 accepted" in done.stdout
    assert "field 'trial' of 152 lines was not imported" in done.stdout
