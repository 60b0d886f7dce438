"""`promptbandit optimize` as cron runs it."""

import asyncio
import datetime as dt
import gzip
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from cli.main import promptbandit
from cli.optimize import lease_s
from domain.optimizer_settings import OptimizerSettings
from domain.outcomes import Turn
from migrations import migrate
from optimizer.local_analysts import good_analyst
from optimizer.local_provider import LocalProvider
from optimizer.local_replies import FAULTS
from service.approve import approve
from storage.clock import DatabaseClock
from storage.database import Database
from storage.prompts import active_version_id, find_version
from storage.suggestions import list_suggestions
from tests.optimizer.asking import KEY
from tests.optimizer.shop_calls import Call, llm_calls_of, open_shop, runs_of, shop_calls

FILE = Path(__file__).resolve().parents[3] / "shared" / "data" / "tau_bench" / "airline_calls.jsonl.gz"


def opened(url: str, calls: Sequence[Call]) -> str:
    """A database with calls of just now: the command goes by the real clock."""
    from api.clock import utc_now

    async def go() -> None:
        database = Database(url)
        await migrate(database)
        clock = DatabaseClock(utc_now)
        await open_shop(database, calls, at=clock.now())
        await database.close()

    asyncio.run(go())
    return url


def stored(url: str) -> tuple[list[Any], list[Any]]:
    async def go() -> tuple[list[Any], list[Any]]:
        database = Database(url)
        found = await runs_of(database), await llm_calls_of(database)
        await database.close()
        return found

    return asyncio.run(go())


def invoke(url: str, *arguments: str, **settings: str) -> Result:
    ours = {name: None for name in os.environ if name.startswith("PROMPTBANDIT_")}
    environment = {f"PROMPTBANDIT_{name.upper()}": value for name, value in settings.items()}
    return CliRunner().invoke(
        promptbandit,
        ["optimize", *arguments],
        env=ours | environment | {"PROMPTBANDIT_DATABASE_URL": url, "COLUMNS": "160"},
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'optimize.db'}"


def row(output: str, *beginning: str) -> list[str]:
    """The cells of the line of a table that begins with these."""
    lines = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in output.splitlines()]
    return next(cells for cells in lines if cells[: len(beginning)] == list(beginning))


def test_a_dry_run_shows_strata_sizes_and_cost_and_neither_sends_nor_stores(url: str):
    opened(url, shop_calls())
    with LocalProvider(good_analyst) as local:
        done = invoke(
            url,
            "--prompt",
            "support",
            "--limit",
            "20",
            "--dry-run",
            anthropic_base_url=local.url,
            anthropic_api_key=KEY,
        )
        assert local.asked == []
    assert done.exit_code == 0, done.output
    assert "support: would run: 40 callers with a failing call, 12 with a good one" in done.output
    # Two strata of 20 callers each share 20 seats.
    assert row(done.output, "returns", "v1") == ["returns", "v1", "20", "10"]
    assert row(done.output, "sizes", "v1") == ["sizes", "v1", "20", "10"]
    assert int(row(done.output, "map", "claude-haiku-5-5")[2]) >= 10
    about, most = re.search(r"about ([\d.]+) USD, ([\d.]+) if every", done.output).groups()
    assert 0 < float(about) < float(most) < 5
    assert stored(url) == ([], [])


def test_a_dry_run_needs_no_key_and_says_why_a_run_would_be_skipped(url: str):
    opened(url, shop_calls(failing=5))
    done = invoke(url, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "support: would be skipped: 5 callers with a failing call" in done.output


def test_with_nothing_to_do_the_exit_code_is_0_and_a_sentence_says_why(url: str):
    opened(url, shop_calls(failing=5))
    done = invoke(url, anthropic_api_key=KEY)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("support: skipped: 5 callers with a failing call")


def test_a_run_that_fails_says_why_on_standard_error_and_not_the_key(url: str):
    opened(url, shop_calls())
    with LocalProvider(FAULTS["unauthenticated"]) as local:
        done = invoke(url, anthropic_api_key=KEY, anthropic_base_url=local.url)
    assert done.exit_code == 1
    assert "support: failed: map: unauthenticated" in done.stderr
    assert KEY not in done.output
    runs, calls = stored(url)
    assert [(run.status, run.resume_from) for run in runs] == [("failed", "sampled")]
    assert [call.http_status for call in calls] == [401]


def test_failing_calls_become_a_version_that_nobody_has_activated(url: str):
    """The circle, but for the calls that the new variant gets: a run, its suggestions, a manager's approval."""
    opened(url, shop_calls())
    with LocalProvider(good_analyst) as local:
        done = invoke(url, "--prompt", "support", anthropic_api_key=KEY, anthropic_base_url=local.url)
        asked = len(local.asked)
        again = invoke(url, "--prompt", "support", anthropic_api_key=KEY, anthropic_base_url=local.url)
        assert len(local.asked) == asked
    assert done.exit_code == 0, done.output
    assert "suggestion 1" in done.output
    assert again.exit_code == 0, again.output
    assert "support: skipped" in again.output

    async def review() -> None:
        database = Database(url)
        now = dt.datetime.now(dt.UTC)
        async with database.writing() as connection:
            (shown, *_) = await list_suggestions(connection, status="pending", prompt="support")
            assert shown.origin == "optimizer"
            before = await active_version_id(connection, 1)
            approval = await approve(
                connection, shown.id, text_hash=shown.text_hash, actor="manager", now=now
            )
            assert approval.suggestion.status == "approved"
            made = await find_version(connection, approval.version_id or 0)
            assert made is not None
            assert (made.is_active, made.parent_id, made.suggestion_id) == (False, before, shown.id)
            assert await active_version_id(connection, 1) == before
        await database.close()

    asyncio.run(review())


def test_a_lease_outlasts_every_attempt_of_a_question():
    settings = OptimizerSettings(
        optimizer_timeout_s=300, optimizer_max_retries=3, optimizer_max_retry_wait_s=30
    )
    assert lease_s(settings) > 4 * 300 + 3 * 30


@pytest.mark.skipif(not FILE.exists(), reason="the calls of tau-bench do not lie beside the project")
def test_a_dry_run_on_real_calls_shows_a_stratum_a_task(url: str):
    """152 calls of 38 tasks, 98 of them failed: docs/optimizer.md."""
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        told = [json.loads(line) for line in lines]
    calls: list[Call] = [
        (
            item["unit_id"],
            item["segment"],
            item["metrics"]["quality"],
            msgspec.convert(item["transcript"], list[Turn]),
        )
        for item in told
    ]
    opened(url, calls)
    done = invoke(url, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "would run: 98 callers with a failing call, 54 with a good one" in done.output
    assert "50 failing calls" in done.output
    assert row(done.output, "other", "(any)") == ["other", "(any)", "13", "2"]
    tasks = [line for line in done.output.splitlines() if re.match(r"│ task-\d+ ", line)]
    assert len(tasks) == 24
    _, _, requests, size, _, _ = row(done.output, "map", "claude-haiku-5-5")
    assert int(requests) >= 25
    assert int(size) > 25 * 5_000  # a failing call has 7 916 characters on average: the file's README
    # docs/optimizer.md, What it costs; which calls are drawn changes the second decimal.
    about, most = re.search(r"about ([\d.]+) USD, ([\d.]+) if every", done.output).groups()
    assert float(about) == pytest.approx(0.48, abs=0.05)
    assert float(most) == pytest.approx(1.98, abs=0.15)
