"""`promptbandit export` into a lake, as a cron job runs it."""

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from cli.export import export
from tests.cli.test_commands import calls_file, import_variants, run

__all__ = ["calls_file"]


def test_an_export_may_run_again_and_again(calls_file: Path, tmp_path: Path):
    """On SQLite alone: a process takes seconds to start, and both databases are read in tests/service."""
    url, lake = f"sqlite:///{tmp_path / 'cli.db'}", tmp_path / "lake"
    assert import_variants(url, calls_file).returncode == 0
    for _ in range(2):
        done = run(url, "export", "aa", "--format", "parquet", "-o", str(lake))
        assert done.returncode == 0, done.stderr
        # The calls are of today, and today is not over.
        assert "20 calls of 1 days written" in done.stdout
        assert "0 finished days kept" in done.stdout
    found = pl.read_parquet(lake / "**" / "*.parquet", hive_partitioning=True)
    assert found.height == 20
    assert set(found["experiment"]) == {"aa"}
    assert found["resolved"].sum() == 7  # i % 3 == 0 for i in 0..19


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["aa", "--format", "parquet"], "name it with --output"),
        (["aa", "--again"], "go with --format parquet or arrow"),
        (["aa", "--format", "xlsx"], "'xlsx' is not one of"),
        (["aa", "--format", "arrow", "-o", "lake", "--since", "yesterday"], "does not match"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_opened(arguments: list[str], problem: str):
    done = CliRunner().invoke(export, arguments)
    assert done.exit_code == 2
    assert problem in done.stderr
