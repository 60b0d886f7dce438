"""The same experiment gives the same numbers, whichever way it is asked."""

import asyncio
import doctest
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl
import pytest

import engine as ab
from domain.errors import ExperimentNotFound
from service.report import report
from service.study import read_study
from storage.database import Database
from tests.running_server import RunningServer
from tests.service.conftest import migrated
from tests.service.same_numbers import IN_ORDER, KEY, STUDY, fill, flat, shared, units_of
from tests.service.world import DAY, NOW

ROOT = Path(__file__).resolve().parents[2]


class Told:
    """The experiment in its database, served by HTTP, and exported as a frame."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = migrated(f"sqlite:///{folder / 'told.db'}")
        self.units = asyncio.run(self._fill())
        self.server = RunningServer(self.url, folder)

    async def _fill(self) -> pl.DataFrame:
        database = Database(self.url)
        await fill(database)
        frame = await units_of(database)
        await database.close()
        return frame

    def by_http(self) -> dict[str, Any]:
        return dict(self.server.manager.get(f"/experiments/{KEY}/report").raise_for_status().json())

    def by_command(self) -> dict[str, Any]:
        done = self.server.command("report", KEY, "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def by_study(self, data: Any) -> dict[str, Any]:
        return STUDY.analyze(data).to_dict()

    def by_counts(self) -> dict[str, Any]:
        """Rows as in the table `counts`, added up by hand."""
        rows, keys = [], ["variant", "allocation", "intent"]
        for metric in ("resolved", "quality", "duration_s"):
            value = pl.col(metric).cast(pl.Float64)
            sums = {"n": value.count(), "total": value.sum(), "total_sq": (value * value).sum()}
            found = self.units.group_by(keys).agg(**sums).with_columns(metric=pl.lit(metric))
            rows += found.rename({"intent": "segment"}).rows(named=True)
        units = self.units.group_by(keys).agg(n=pl.len()).with_columns(metric=pl.lit("assigned"))
        units = units.with_columns(total=0.0, total_sq=0.0).rename({"intent": "segment"})
        rows += units.rows(named=True)
        splits: dict[int, dict[str, float]] = {}
        for row in self.units.unique(["allocation", "variant"]).rows(named=True):
            splits.setdefault(row["allocation"], {})[row["variant"]] = row["probability"]
        return self.by_study(ab.Counts.from_rows(rows, splits=splits))

    @cached_property
    def by_spark(self) -> dict[str, Any]:
        if shutil.which("java") is None:
            pytest.skip("PySpark needs Java, and there is none")
        file = self.folder / "units.parquet"
        self.units.write_parquet(file)
        command = [sys.executable, "-m", "tests.service.on_spark", str(file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
        assert done.returncode == 0, done.stderr[-3000:]
        return dict(json.loads(done.stdout.splitlines()[-1]))


WAYS: dict[str, Callable[[Told], dict[str, Any]]] = {
    "command": Told.by_command,
    "database": lambda told: read_study(told.url, KEY).to_dict(),
    "counts": Told.by_counts,
    "polars": lambda told: told.by_study(told.units),
    "polars, lazy": lambda told: told.by_study(told.units.lazy()),
    "pandas": lambda told: told.by_study(told.units.to_pandas()),
    "pyarrow": lambda told: told.by_study(told.units.to_arrow()),
    "DuckDB": lambda told: told.by_study(duckdb.connect().from_arrow(told.units.to_arrow())),
    "PySpark": lambda told: told.by_spark,
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    experiment = Told(tmp_path_factory.mktemp("told"))
    with experiment.server:
        yield experiment


@pytest.fixture(scope="module")
def by_http(told: Told) -> dict[str, Any]:
    return told.by_http()


@pytest.mark.timeout(600)  # a Java machine starts within, on a busy one
@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_numbers_of_the_http_report(way: str, told: Told, by_http: dict[str, Any]):
    mine, theirs = flat(shared(WAYS[way](told))), flat(shared(by_http))
    assert mine.keys() == theirs.keys()
    for path, value in theirs.items():
        if isinstance(value, float):
            assert mine[path] == pytest.approx(value, rel=1e-12, abs=1e-15), path
        else:
            assert mine[path] == value, path


FRAMES: dict[str, Callable[[pl.DataFrame], Any]] = {
    "polars": lambda units: units,
    "polars, lazy": lambda units: units.lazy(),
    "pandas": lambda units: units.to_pandas(),
    "pyarrow": lambda units: units.to_arrow(),
    "DuckDB": lambda units: duckdb.connect().from_arrow(units.to_arrow()),
    "PySpark": lambda units: None,
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", FRAMES)
def test_units_in_order_give_the_e_values_of_the_http_report_too(
    kind: str, told: Told, by_http: dict[str, Any]
):
    if kind == "PySpark":
        found = told.by_spark
    else:
        found = IN_ORDER.analyze(FRAMES[kind](told.units), in_order=True, ended=True).to_dict()
    for part in ("comparisons", "recommendation"):
        mine, theirs = flat(found[part]), flat(by_http[part])
        assert mine.keys() == theirs.keys()
        for path, value in theirs.items():
            if isinstance(value, float):
                assert mine[path] == pytest.approx(value, rel=1e-10, abs=1e-13), path
            else:
                assert mine[path] == value, path


def test_the_guide_for_data_scientists_is_true(told: Told):
    guide = ROOT / "docs" / "data-science.md"
    failures, tried = doctest.testfile(str(guide), module_relative=False, globs={"database_url": told.url})
    assert tried > 15
    assert failures == 0


def test_the_experiment_is_one_that_could_differ(told: Told, by_http: dict[str, Any]):
    """A split that moved, more than one segment, outcomes missing: else the test above would prove little."""
    frame = told.units
    assert frame.unique(["allocation", "variant", "probability"]).height == 9
    assert frame["intent"].n_unique() == 3
    assert 0 < frame["quality"].null_count() < 200
    comparison = by_http["comparisons"][0]
    assert comparison["adaptive"]["segment_adjusted"]["estimate"] != comparison["adaptive"]["estimate"]
    assert abs(comparison["adaptive"]["estimate"] - comparison["z_test"]["estimate"]) > 1e-4


def test_the_database_knows_the_order_of_the_units_and_so_the_e_values(told: Told, by_http: dict[str, Any]):
    found = read_study(told.url, KEY).to_dict()
    plain = json.loads(json.dumps(found, allow_nan=False))
    for name in ("comparisons", "recommendation", "guardrails"):
        assert plain[name] == by_http[name]


async def test_a_notebook_that_runs_a_loop_can_read_a_study(told: Told):
    found = read_study(told.url, KEY)
    assert list(found.segments()) == ["delivery", "order", "refund"]
    assert found.to_polars().height == 3 * 3 * 4
    database = Database(told.url)
    async with database.reading() as connection:
        whole = await report(connection, KEY, now=NOW + 4 * DAY)
    await database.close()
    assert json.loads(msgspec.json.encode(whole.recommendation)) == found.to_dict()["recommendation"]


def test_what_is_not_there_is_said(told: Told, tmp_path: Path):
    with pytest.raises(ExperimentNotFound, match="nothing"):
        read_study(told.url, "nothing")
    missing = tmp_path / "elsewhere.db"
    with pytest.raises(FileNotFoundError, match=r"elsewhere\.db"):
        read_study(f"sqlite:///{missing}", KEY)
    assert not missing.exists()
