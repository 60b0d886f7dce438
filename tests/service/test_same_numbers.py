"""The same experiment gives the same numbers, whichever way it is asked."""

import asyncio
import doctest
import json
import shutil
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import narwhals.stable.v2 as nw
import polars as pl
import pytest

import engine as ab
from domain.errors import ExperimentNotFound
from service.export_days import escaped
from service.report import report
from service.study import read_study
from storage.database import Database
from tests.conftest import DIALECTS, PATIENT
from tests.deploy.programs import postgres_program
from tests.postgres import Postgres
from tests.running_server import RunningServer
from tests.service.conftest import migrated
from tests.service.same_numbers import (
    GUIDE,
    IN_LAKE,
    IN_ORDER,
    KEY,
    STUDY,
    brought_into_memory,
    fill,
    flat,
    shared,
    units_of,
)
from tests.service.world import DAY, NOW

# Ibis 12 calls DuckDB 2 by a name of before.
pytestmark = pytest.mark.filterwarnings(r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning")
ROOT = Path(__file__).resolve().parents[2]
OTHER_KEY = "größe: 1"
GRANTS = ROOT / "deploy" / "grants.sql"


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
    def units_file(self) -> str:
        file = self.folder / "units.parquet"
        self.units.write_parquet(file)
        return str(file)

    @cached_property
    def lake(self) -> Path:
        """What `promptbandit export` writes, a file for each of three days, beside another experiment."""
        folder = self.folder / "lake"
        other = folder / f"experiment={escaped(OTHER_KEY)}" / "day=2026-11-22"
        other.mkdir(parents=True)
        pl.DataFrame({"unit_id": ["call-1"], "csat": [0.5]}).write_parquet(other / "part-0.parquet")
        done = self.server.command("export", KEY, "--format", "parquet", "-o", str(folder))
        assert done.returncode == 0, done.stderr
        assert len([*folder.glob(f"experiment={KEY}/day=*/part-0.parquet")]) == 3
        return folder

    @cached_property
    def on_spark(self) -> dict[str, Any]:
        """The findings of the units and of the lake, by one Java machine."""
        if shutil.which("java") is None:
            pytest.skip("PySpark needs Java, and there is none")
        command = [sys.executable, "-m", "tests.service.on_spark", self.units_file, str(self.lake)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
        assert done.returncode == 0, done.stderr[-3000:]
        return dict(json.loads(done.stdout.splitlines()[-1]))


def in_ibis(files: str, *, engine: str = "duckdb", **more: Any) -> Any:
    """A table of another engine's, through Ibis."""
    import ibis

    return getattr(ibis, engine).connect().read_parquet(files, **more)


WAYS: dict[str, Callable[[Told], dict[str, Any]]] = {
    "command": Told.by_command,
    "database": lambda told: read_study(told.url, KEY).to_dict(),
    "counts": Told.by_counts,
    "polars": lambda told: told.by_study(told.units),
    "polars, lazy": lambda told: told.by_study(told.units.lazy()),
    "pandas": lambda told: told.by_study(told.units.to_pandas()),
    "pyarrow": lambda told: told.by_study(told.units.to_arrow()),
    "DuckDB": lambda told: told.by_study(duckdb.connect().from_arrow(told.units.to_arrow())),
    "Ibis": lambda told: told.by_study(in_ibis(told.units_file)),
    "PySpark": lambda told: told.on_spark["units"],
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
    assert_same(shared(WAYS[way](told)), shared(by_http))


def assert_same(mine: Any, theirs: Any, *, within: float = 1e-12) -> None:
    """Every leaf, numbers to so many digits."""
    found, wanted = flat(mine), flat(theirs)
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        if isinstance(value, float):
            assert found[path] == pytest.approx(value, rel=within, abs=1e-3 * within), path
        else:
            assert found[path] == value, path


LAKES: dict[str, Callable[[str], Any]] = {
    "polars": lambda files: pl.scan_parquet(files, hive_partitioning=True),
    "DuckDB": lambda files: duckdb.connect().sql(f"FROM read_parquet('{files}', hive_partitioning = true)"),
    "Ibis": lambda files: in_ibis(files, hive_partitioning=True),
    "PySpark": lambda files: None,
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", LAKES)
def test_a_lake_gives_the_numbers_of_the_http_report_and_its_calls_stay_there(
    way: str, told: Told, by_http: dict[str, Any]
):
    """3 arms, 3 allocations, 3 segments: 27 rows come into memory of 1 200, and one that counts the units."""
    if way == "PySpark":
        found, heights = told.on_spark["lake"], told.on_spark["heights"]
    else:
        calls = LAKES[way](f"{told.lake}/experiment={KEY}/**/*.parquet")
        assert {"experiment", "day"} < set(nw.from_native(calls).collect_schema().names())
        with brought_into_memory() as heights:
            found = IN_LAKE.analyze(calls).to_dict()
    assert_same(shared(found), shared(by_http))
    assert sorted(heights) == [1, 27]


@pytest.mark.timeout(600)
def test_spark_gets_the_keys_of_experiments_back_from_the_folders(told: Told):
    """It takes %C3%B6 for two letters; what polars and DuckDB read is held in test_export_days.py."""
    assert told.on_spark["experiments"] == [KEY, OTHER_KEY]


FRAMES: dict[str, Callable[[Told], Any]] = {
    "polars": lambda told: told.units,
    "polars, lazy": lambda told: told.units.lazy(),
    "pandas": lambda told: told.units.to_pandas(),
    "pyarrow": lambda told: told.units.to_arrow(),
    "DuckDB": lambda told: duckdb.connect().from_arrow(told.units.to_arrow()),
    "Ibis": lambda told: in_ibis(told.units_file, engine="polars"),
    "PySpark": lambda told: None,
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", FRAMES)
def test_units_in_order_give_the_e_values_of_the_http_report_too(
    kind: str, told: Told, by_http: dict[str, Any]
):
    if kind == "PySpark":
        found = told.on_spark["units"]
    else:
        found = IN_ORDER.analyze(FRAMES[kind](told), in_order=True, ended=True).to_dict()
    for part in ("comparisons", "recommendation"):
        assert_same(found[part], by_http[part], within=1e-10)


def test_the_guide_for_data_scientists_is_true(told: Told):
    names = {"database_url": told.url, "lake": str(told.lake)}
    failures, tried = doctest.testfile(str(GUIDE), module_relative=False, globs=names)
    assert tried > 22
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


@pytest.fixture(scope="module", params=DIALECTS)
def readable_url(request: pytest.FixtureRequest, told: Told) -> Iterator[str]:
    """The experiment in each of the databases; on PostgreSQL by the account that `deploy/grants.sql` lets read."""
    if request.param == "sqlite":
        yield told.url
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = f"told_{uuid.uuid4().hex}"
    url = migrated(postgres.create_database(name))
    asyncio.run(_filled(url))
    accounts = {"serving": f"{name}_serve", "reading": f"{name}_read"}
    roles = [f'--command=CREATE ROLE "{role}" LOGIN' for role in accounts.values()]
    sets = [f"--set={variable}={role}" for variable, role in accounts.items()]
    postgres_program(postgres, "psql", *roles, *sets, f"--file={GRANTS}", f"--dbname={name}")
    yield url.replace("test@", f"{accounts['reading']}@")
    postgres.drop_database(name)
    gone = [f'--command=DROP ROLE "{role}"' for role in accounts.values()]
    postgres_program(postgres, "psql", *gone, "--dbname=postgres")


async def _filled(url: str) -> None:
    database = Database(url, **PATIENT)
    await fill(database)
    await database.close()


def test_the_database_knows_the_order_of_the_units_and_so_the_e_values(
    readable_url: str, by_http: dict[str, Any]
):
    """To the last digits alone: PostgreSQL adds in an order of its own."""
    found = json.loads(json.dumps(read_study(readable_url, KEY).to_dict(), allow_nan=False))
    for name in ("comparisons", "recommendation", "guardrails"):
        assert_same(found[name], by_http[name])


async def test_a_notebook_that_runs_a_loop_can_read_a_study(readable_url: str):
    found = read_study(readable_url, KEY)
    assert list(found.segments()) == ["delivery", "order", "refund"]
    assert found.to_polars().height == 3 * 3 * 4
    database = Database(readable_url, **PATIENT)
    async with database.reading() as connection:
        whole = await report(connection, KEY, now=NOW + 4 * DAY)
    await database.close()
    assert json.loads(msgspec.json.encode(whole.recommendation)) == found.to_dict()["recommendation"]


def test_reading_a_study_changes_nothing(told: Told, tmp_path: Path):
    """On PostgreSQL the account above may not; SQLite says whether another connection has committed."""
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(told.folder / "told.db")) as original:
        original.execute("VACUUM INTO ?", (str(copy),))
    with closing(sqlite3.connect(copy)) as watching:
        watching.execute("PRAGMA journal_mode = WAL")
        before = watching.execute("PRAGMA data_version").fetchall()
        read_study(f"sqlite:///{copy}", KEY)
        assert watching.execute("PRAGMA data_version").fetchall() == before


def test_what_is_not_there_is_said(told: Told, tmp_path: Path):
    with pytest.raises(ExperimentNotFound, match="nothing"):
        read_study(told.url, "nothing")
    missing = tmp_path / "elsewhere.db"
    with pytest.raises(FileNotFoundError, match=r"elsewhere\.db"):
        read_study(f"sqlite:///{missing}", KEY)
    assert not missing.exists()
