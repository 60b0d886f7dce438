"""The commands as a person or a cron job runs them: real processes, both databases."""

import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.main import COMMANDS, promptbandit
from tests.commands import run_command
from tests.personal_data import corpus

ROOT = Path(__file__).resolve().parents[2]

LINES = [
    {"unit_id": f"call-{i}", "trial": i % 2, "metrics": {"resolved": i % 3 == 0, "quality": 0.5}}
    for i in range(20)
]


def run(database_url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PROMPTBANDIT_")}
    own = {"PROMPTBANDIT_DATABASE_URL": database_url, "COLUMNS": "100"}
    return run_command(*arguments, environment=clean | own | environment)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'cli.db'}"


@pytest.fixture
def calls_file(tmp_path: Path) -> Path:
    file = tmp_path / "calls.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return file


def import_variants(database_url: str, file: Path) -> subprocess.CompletedProcess[str]:
    variants = ("--variant-from", "trial", "--variant", "a=0", "--variant", "b=1")
    return run(database_url, "import", str(file), "--prompt", "airline", "--experiment", "aa", *variants)


def test_every_command_shows_its_help_with_an_example():
    for name in COMMANDS:
        command = promptbandit.get_command(click.Context(promptbandit), name)
        assert command is not None
        children = command.commands.values() if isinstance(command, click.Group) else [command]
        for child in children:
            assert "Example:" in (child.help or ""), f"{name} {child.name}"


def test_a_new_key_stands_alone_on_standard_output(database_url):
    done = run(database_url, "keys", "create", "--scope", "agent", "--name", "phone")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pb_agent_")
    assert len(done.stdout.split()) == 1
    listed = run(database_url, "keys", "list").stdout
    assert "phone" in listed
    assert done.stdout.strip() not in listed


def test_a_revoked_key_is_shown_as_revoked_and_an_unknown_one_is_an_error(sqlite_url):
    key = run(sqlite_url, "keys", "create", "--scope", "agent").stdout.strip()
    assert run(sqlite_url, "keys", "revoke", key.split("_")[2]).returncode == 0
    again = run(sqlite_url, "keys", "revoke", "000000000000")
    assert again.returncode == 1
    assert "no API key" in again.stderr


def test_migrate_may_run_any_number_of_times(database_url):
    first, second = run(database_url, "migrate"), run(database_url, "migrate")
    assert (first.returncode, second.returncode) == (0, 0)
    assert "empty" in first.stdout
    newest = max(path.name[:4] for path in (ROOT / "migrations" / "versions").glob("0*.py"))
    assert f"was {newest}" in second.stdout


def test_an_imported_file_gives_a_report_and_importing_it_again_changes_nothing(database_url, calls_file):
    first = import_variants(database_url, calls_file)
    assert first.returncode == 0, first.stderr
    assert "20 accepted" in first.stdout
    assert "20 unchanged" in import_variants(database_url, calls_file).stdout
    report = json.loads(run(database_url, "report", "aa", "--json").stdout)
    assert [variant["assigned"] for variant in report["variants"]] == [10, 10]
    resolved = [variant["metrics"]["resolved"]["mean"] for variant in report["variants"]]
    # i % 3 == 0 for i in 0..19: 0, 6, 12, 18 are even, 3, 9, 15 odd
    assert resolved == [0.4, 0.3]
    assert report["evidence"]["units"] == 20  # each is read once
    assert run(database_url, "verify").returncode == 0
    exported = run(database_url, "export", "aa").stdout.splitlines()
    assert len(exported) == 21
    assert exported[0].startswith("unit_id,segment,variant,")


def test_fields_that_are_not_imported_are_named(sqlite_url, calls_file):
    done = run(sqlite_url, "import", str(calls_file), "--prompt", "airline")
    assert done.returncode == 0, done.stderr
    assert "field 'trial' of 20 lines was not imported" in done.stdout


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("not json", "not JSON"),
        ('{"unit_id": "x", "metrics": {"resolved": "yes"}}', "/metrics/resolved"),
        ('{"unit_id": "x", "metrics": {"resolved": true, "quality": 7}}', "/metrics/quality"),
        ('{"metrics": {"resolved": true}}', "unit_id"),
        ('{"unit_id": "call-0", "metrics": {"resolved": true}}', "line 1 already"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_imported(sqlite_url, calls_file, line, problem):
    calls_file.write_text(calls_file.read_text() + line + "\n")
    done = run(sqlite_url, "import", str(calls_file), "--prompt", "airline")
    assert done.returncode == 1
    assert "line 21" in done.stderr
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
    calls_file.write_text("".join(json.dumps(item) + "\n" for item in LINES))
    assert "20 accepted" in run(sqlite_url, "import", str(calls_file), "--prompt", "airline").stdout


def test_an_unknown_experiment_is_one_sentence_and_exit_code_1(sqlite_url):
    done = run(sqlite_url, "report", "nope")
    assert done.returncode == 1
    assert done.stderr.strip() == "promptbandit: There is no experiment 'nope'; GET /experiments lists all."


def test_a_database_that_does_not_answer_is_one_sentence():
    done = run("postgresql+psycopg://nobody@127.0.0.1:1/none", "verify")
    assert done.returncode == 1
    assert "the database does not answer" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROMPTBANDIT_POOL_SIZE", "many"),
        ("PROMPTBANDIT_TYPO", "1"),
        ("PROMPTBANDIT_DATABASE_URL", "mysql://x"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_or_value(sqlite_url, name, value):
    done = run(sqlite_url, "serve", **{name: value})
    assert done.returncode == 1
    assert value in done.stderr or name in done.stderr
    assert "Traceback" not in done.stderr


def test_verify_names_the_first_difference_and_exits_1(sqlite_url, tmp_path, calls_file):
    import_variants(sqlite_url, calls_file)
    with sqlite3.connect(tmp_path / "cli.db") as connection:
        connection.execute("UPDATE counts SET n = n + 1 WHERE metric = 'resolved'")
    connection.close()
    done = run(sqlite_url, "verify")
    assert done.returncode == 1
    assert "metric resolved" in done.stderr


def test_verify_checks_the_audit_and_a_head_that_was_kept(sqlite_url, tmp_path):
    for name in ("one", "two"):
        assert run(sqlite_url, "keys", "create", "--scope", "agent", "--name", name).returncode == 0
    done = run(sqlite_url, "verify")
    told = re.search(r"^audit is as written \(2 entries, head ([0-9a-f]{64})\)$", done.stdout, re.MULTILINE)
    assert told is not None, done.stdout + done.stderr
    assert run(sqlite_url, "verify", "--audit-head", told[1]).returncode == 0
    with sqlite3.connect(tmp_path / "cli.db") as connection:
        connection.execute("DROP TRIGGER audit_no_delete")
        connection.execute("DELETE FROM audit WHERE id = 2")
    connection.close()
    assert run(sqlite_url, "verify").returncode == 0
    done = run(sqlite_url, "verify", "--audit-head", told[1])
    assert (done.returncode, "entries were removed" in done.stderr) == (1, True)
    assert run(sqlite_url, "verify", "--audit-head", "nonsense").returncode == 2
    with sqlite3.connect(tmp_path / "cli.db") as connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("UPDATE audit SET actor = 'nobody'")
    connection.close()
    done = run(sqlite_url, "verify")
    assert done.returncode == 1
    assert "the audit is broken after 0 entries: entry 1 is not what was written" in done.stderr
    assert "counts equal outcomes" in done.stdout


@pytest.fixture
def transcripts(sqlite_url, tmp_path, calls_file) -> Callable[[], set[str]]:
    """Three imported calls have a transcript, of today or of some days ago; whose are left?"""
    import_variants(sqlite_url, calls_file)
    file = tmp_path / "cli.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        for unit, days in (("call-0", 0), ("call-1", 89), ("call-2", 91)):
            connection.execute(
                "INSERT INTO transcripts (prompt_id, unit_id, turns, redactions, stored_at)"
                " SELECT id, ?, '[]', '{}', datetime('now', ?) || '.000000' FROM prompts",
                (unit, f"-{days} days"),
            )

    def left() -> set[str]:
        with closing(sqlite3.connect(file)) as connection:
            return {row[0] for row in connection.execute("SELECT unit_id FROM transcripts")}

    return left


def test_forget_deletes_the_transcript_of_a_call(sqlite_url, transcripts):
    done = run(sqlite_url, "forget", "--prompt", "airline", "--unit", "call-0")
    assert (done.returncode, done.stdout) == (0, "1 transcript forgotten\n"), done.stderr
    assert transcripts() == {"call-1", "call-2"}
    unknown = run(sqlite_url, "forget", "--prompt", "no such", "--unit", "call-1")
    assert unknown.returncode == 1
    assert "There is no prompt" in unknown.stderr


def test_forget_deletes_what_is_older_than_an_age(sqlite_url, transcripts):
    done = run(sqlite_url, "forget", "--transcripts-older-than", "90d")
    assert (done.returncode, done.stdout) == (0, "1 transcript forgotten\n"), done.stderr
    assert transcripts() == {"call-0", "call-1"}
    done = run(sqlite_url, "forget", "--transcripts-older-than", "12h")
    assert (done.returncode, done.stdout) == (0, "1 transcript forgotten\n"), done.stderr
    assert transcripts() == {"call-0"}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--prompt", "airline"),
        ("--unit", "call-0"),
        ("--transcripts-older-than", "90"),
        ("--transcripts-older-than", "-1d"),
        ("--transcripts-older-than", "90d", "--prompt", "airline", "--unit", "call-0"),
        ("--transcripts-older-than", "90d", "--prompt", "airline"),
    ],
)
def test_forget_asks_to_be_told_clearly_what(arguments):
    """Refused before a database is opened."""
    refused = CliRunner().invoke(promptbandit, ["forget", *arguments])
    assert refused.exit_code == 2
    assert "90d" in refused.output or "--prompt and --unit" in refused.output


def test_reallocate_with_nothing_to_do_exits_0(database_url):
    done = run(database_url, "reallocate")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_demo_plays_calls_and_counts_every_one(tmp_path):
    done = run("sqlite:///unused.db", "demo", "--calls", "60", "--seconds", "20")
    assert done.returncode == 0, done.stderr
    assert "60 calls in" in done.stdout
    assert "Recommendation" in done.stdout
    assert "counts equal outcomes" in done.stdout


def test_an_import_redacts_its_transcripts_and_says_how_many(sqlite_url: str, tmp_path: Path):
    told = list(corpus())
    turns = [{"role": "user", "content": item.sentence} for item in told]
    calls = [
        {"unit_id": "spoken", "metrics": {"resolved": True}, "transcript": turns},
        {
            "unit_id": "known",
            "metrics": {"resolved": True},
            "transcript": [{"role": "user", "content": "Ada Quist here"}],
            "known_values": {"caller_name": "Ada Quist"},
            "caller": "Ada Quist's telephone",
        },
        {"unit_id": "silent", "metrics": {"resolved": False}},
    ]
    file = tmp_path / "spoken.jsonl"
    file.write_text("".join(json.dumps(call) + "\n" for call in calls))
    done = run(sqlite_url, "import", str(file), "--prompt", "spoken")
    assert done.returncode == 0, done.stderr
    assert "2 transcripts were redacted" in done.stdout
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
        rows = dict(connection.execute("SELECT unit_id, turns FROM transcripts"))
        dump = "".join(connection.iterdump())
    connection.close()
    assert set(rows) == {"spoken", "known"}
    assert "INSERT INTO \"installation\" VALUES('callers'," in dump
    assert json.loads(rows["known"]) == [{"role": "user", "content": "<CALLER_NAME_1> here"}]
    written = [*(item.text for item in told), "Quist"]
    everywhere = (dump, done.stdout, done.stderr)
    assert [text for text in written if any(text in place for place in everywhere)] == []
    assert [text for text in written if json.dumps(text)[1:-1] in dump] == []


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        (
            {"PROMPTBANDIT_REDACTOR": "tests.plugged_redactor:redact"},
            "line 1: the redactor failed (RuntimeError)",
        ),
        ({"PROMPTBANDIT_REDACTOR": "tests.plugged_redactor:nothing"}, "no redactor at"),
        ({"PROMPTBANDIT_MAX_TRANSCRIPT_BYTES": "1024"}, "line 1: /transcript has"),
    ],
)
def test_an_import_that_cannot_redact_says_no_word_of_the_transcript(
    sqlite_url: str, tmp_path: Path, environment: dict[str, str], problem: str
):
    turns = [{"role": "user", "content": "please fail"}, {"role": "user", "content": "Ada Quist " * 200}]
    call = {"unit_id": "spoken", "metrics": {"resolved": True}, "transcript": turns}
    file = tmp_path / "spoken.jsonl"
    file.write_text(json.dumps(call) + "\n")
    done = run(sqlite_url, "import", str(file), "--prompt", "spoken", **environment)
    assert done.returncode == 1
    assert problem in done.stderr
    assert "Quist" not in done.stdout + done.stderr
