"""What is exported is what SQL says, read back by polars and DuckDB; from both databases."""

import datetime as dt
import json
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from domain.experiments import Experiment
from domain.metrics import NewMetric
from domain.outcomes import Turn
from domain.redaction import RedactedTranscript
from service.arrow_calls import FIRST, PAGE, ArrowFormat, metric_columns
from service.export_days import Exported, export_days, is_settled
from storage.database import Database
from storage.schema import assignments as a
from storage.schema import outcomes as o
from storage.schema import prompt_versions as n
from storage.schema import variants as v
from storage.transcripts import write_transcripts
from storage.types import UtcDateTime
from tests.service.world import DAY, NOW, call, outcome, plain, play, read_experiment, start, tell

KEY = "größe: 1"
SEGMENTS = ("Rückgabe", "возврат", None, 'a,"b"\\', "🛒")
MIDNIGHT = NOW.replace(hour=0)


async def three_days(database: Database) -> Experiment:
    """Calls on the 20th, 21st and 22nd: the last microsecond of a day, outcomes missing and corrected."""
    await start(
        database,
        key=KEY,
        metrics=[
            NewMetric(name="resolved", kind="binary"),
            NewMetric(name="quality", kind="score"),
            NewMetric(name="segment", kind="amount"),
        ],
        now=MIDNIGHT - 2 * DAY,
    )
    moment = dt.timedelta(microseconds=1)
    for index, when in enumerate((MIDNIGHT - 2 * DAY, MIDNIGHT - DAY - moment, MIDNIGHT - DAY, MIDNIGHT)):
        for number, segment in enumerate(SEGMENTS):
            await call(database, f"call-{index}-{number} ü", segment=segment, now=when)
    await tell(
        database,
        outcome("call-0-0 ü", resolved=True, quality=0.1 + 0.2),
        outcome("call-0-1 ü", resolved=False),
        outcome("call-3-4 ü", quality=1.0),
        now=NOW,
    )
    await tell(database, outcome("call-0-0 ü", quality=0.75), now=NOW + dt.timedelta(minutes=1))
    return await read_experiment(database, KEY)


async def export(database: Database, folder: Path, experiment: Experiment, **more) -> Exported:
    settings = {"file_format": "parquet", "start": FIRST, "now": NOW} | more
    return await export_days(database, experiment, folder, **settings)


async def by_sql(database: Database, experiment: Experiment) -> pl.DataFrame:
    """The same rows by one statement that shares nothing with ours."""

    def metric(name: str, column: str):
        told = sa.select(o.c.value).where(o.c.prompt_id == a.c.prompt_id, o.c.unit_id == a.c.unit_id)
        return told.where(o.c.metric == name).scalar_subquery().label(column)

    query = (
        sa.select(
            a.c.unit_id,
            sa.literal("support").label("prompt"),
            n.c.number.label("prompt_version"),
            v.c.key.label("variant"),
            a.c.allocation_id.label("allocation"),
            a.c.probability,
            a.c.segment,
            a.c.assigned_at,
            a.c.reason,
            a.c.content_hash,
            *(metric(name, column) for name, column in metric_columns(experiment).items()),
        )
        .join_from(a, v, a.c.variant_id == v.c.id)
        .join(n, a.c.version_id == n.c.id)
    )
    async with database.reading() as connection:
        rows = [dict(row._mapping) for row in await connection.execute(query)]
    types = {
        "prompt_version": pl.Int32,
        "allocation": pl.Int64,
        "assigned_at": pl.Datetime("us", "UTC"),
        "segment": pl.String,
        **dict.fromkeys(metric_columns(experiment).values(), pl.Float64),
    }
    return pl.DataFrame(rows, schema_overrides=types).sort("unit_id")


def files(folder: Path, pattern: str = "*.parquet") -> list[Path]:
    """Also those whose names begin with a dot."""
    return sorted(path for path in folder.rglob(pattern) if path.is_file())


def lake(folder: Path, ending: str = "parquet") -> pl.DataFrame:
    where = str(folder / "**" / f"*.{ending}")
    scan = pl.scan_parquet if ending == "parquet" else pl.scan_ipc
    return scan(where, hive_partitioning=True).collect().sort("unit_id")


@pytest.mark.parametrize("file_format", ["parquet", "arrow"])
async def test_a_lake_holds_what_sql_says(database: Database, tmp_path: Path, file_format: ArrowFormat):
    experiment = await three_days(database)
    done = await export(database, tmp_path, experiment, file_format=file_format)
    days = tuple((MIDNIGHT - back * DAY).date() for back in (2, 1, 0))
    assert done == Exported(calls=20, written=days, kept=())
    found = lake(tmp_path, file_format)
    assert set(found["experiment"]) == {KEY}
    assert found["day"].to_list() == found["assigned_at"].dt.date().to_list()
    expected = await by_sql(database, experiment)
    assert expected.columns[-3:] == ["resolved", "quality", "metric_segment"]
    assert found.select(expected.columns).equals(expected)
    assert found.schema["assigned_at"] == pl.Datetime("us", "UTC")
    first = found.row(0, named=True)
    assert (first["unit_id"], first["resolved"], first["quality"]) == ("call-0-0 ü", 1.0, 0.75)
    assert first["metric_segment"] is None
    assert set(found["segment"]) == set(SEGMENTS)


async def test_duckdb_reads_the_folders_as_columns(database: Database, tmp_path: Path):
    experiment = await three_days(database)
    await export(database, tmp_path, experiment)
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT experiment, day, count(*), count(resolved), sum(resolved) "
            f"FROM read_parquet('{tmp_path}/**/*.parquet', hive_partitioning = true) GROUP BY ALL ORDER BY day"
        ).fetchall()
    assert [row[0] for row in rows] == [KEY] * 3
    assert [row[1] for row in rows] == [(MIDNIGHT - back * DAY).date() for back in (2, 1, 0)]
    assert [row[2:] for row in rows] == [(10, 2, 1.0), (5, 0, None), (5, 0, None)]


async def test_finished_days_stand_and_the_others_are_written_anew(database: Database, tmp_path: Path):
    """At the noon of the 22nd the 20th was over for a day, the 21st for twelve hours."""
    experiment = await three_days(database)
    await export(database, tmp_path, experiment)
    late = outcome("call-0-2 ü", resolved=True)
    await tell(database, late, now=NOW + DAY)
    oldest, *others = done_days = [(MIDNIGHT - back * DAY).date() for back in (2, 1, 0)]
    again = await export(database, tmp_path, experiment)
    assert (again.kept, again.written) == ((oldest,), tuple(others))
    assert lake(tmp_path)["resolved"].count() == 2
    forced = await export(database, tmp_path, experiment, again=True)
    assert forced.written == tuple(done_days)
    assert lake(tmp_path)["resolved"].count() == 3
    since = await export(database, tmp_path, experiment, start=MIDNIGHT - DAY, now=NOW + 9 * DAY)
    assert since.written == tuple(others)
    later = await export(database, tmp_path, experiment, now=NOW + 9 * DAY)
    # The oldest was written last by force, at a time when it was finished.
    assert later == Exported(calls=0, written=(), kept=tuple(done_days))


def test_a_day_is_settled_when_it_was_over_for_a_day_or_the_maturity_window():
    experiment, _ = plain()
    slow, _ = plain(maturity_s=3 * 86_400.0)
    end = MIDNIGHT + DAY
    moment = dt.timedelta(microseconds=1)
    assert not is_settled(experiment, MIDNIGHT, end + DAY - moment)
    assert is_settled(experiment, MIDNIGHT, end + DAY)
    assert not is_settled(slow, MIDNIGHT, end + 3 * DAY - moment)
    assert is_settled(slow, MIDNIGHT, end + 3 * DAY)


async def test_a_file_has_its_name_only_when_it_is_whole(database: Database, tmp_path: Path):
    experiment = await three_days(database)

    def stop(calls: int) -> None:
        assert calls == 10
        assert files(tmp_path) == []
        assert [path.name[:8] for path in files(tmp_path, "*")] == [".part-0."]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await export(database, tmp_path, experiment, tell=stop)
    assert files(tmp_path, "*") == []
    await export(database, tmp_path, experiment)
    assert lake(tmp_path).height == 20
    with pytest.raises(KeyboardInterrupt):
        await export(database, tmp_path, experiment, again=True, tell=raise_at_once)
    assert lake(tmp_path).height == 20


def raise_at_once(calls: int) -> None:
    raise KeyboardInterrupt


async def test_what_is_no_file_of_ours_is_written_anew(database: Database, tmp_path: Path):
    experiment = await three_days(database)
    await export(database, tmp_path, experiment, now=NOW + 9 * DAY)
    first, second, third = files(tmp_path)
    first.write_bytes(b"half a file")
    pq.write_table(pa.table({"unit_id": ["x"]}), second)
    done = await export(database, tmp_path, experiment, now=NOW + 9 * DAY)
    assert [day.day for day in done.kept] == [int(third.parent.name[-2:])]
    assert lake(tmp_path).height == 20


async def test_transcripts_come_along_when_they_are_asked_for(database: Database, tmp_path: Path):
    experiment = await three_days(database)
    turns = (Turn(role="user", content="Ich bin <NAME_1> 🛒"),)
    told = {(experiment.prompt_id, "call-0-0 ü"): RedactedTranscript(turns=turns, redactions={})}
    async with database.writing() as connection:
        await write_transcripts(connection, told, now=NOW)
    await export(database, tmp_path, experiment, now=NOW + 9 * DAY)
    assert "transcript" not in lake(tmp_path).columns
    # Finished files without that column are not what is asked for now.
    done = await export(database, tmp_path, experiment, now=NOW + 9 * DAY, with_turns=True)
    assert len(done.written) == 3
    found = lake(tmp_path)["transcript"].to_list()
    assert json.loads(found[0]) == [{"role": "user", "content": "Ich bin <NAME_1> 🛒"}]
    assert found[1:] == [None] * 19


MANY = 100_000
_CALLS = sa.text(
    "INSERT INTO assignments (prompt_id, unit_id, version_id, experiment_id, variant_id, allocation_id,"
    " probability, segment, reason, content_hash, assigned_at)"
    " WITH RECURSIVE numbers(i) AS (SELECT CAST(:first AS INTEGER) UNION ALL SELECT i + 1 FROM numbers WHERE i < :last)"
    " SELECT :prompt, 'many-' || i, :version, :experiment, :variant, :allocation,"
    " 0.5, NULL, 'SPLIT', 'hash', :at FROM numbers"
).bindparams(sa.bindparam("at", type_=UtcDateTime))
_OUTCOMES = sa.text(
    "INSERT INTO outcomes SELECT prompt_id, unit_id, 'quality', length(unit_id) / 16.0, assigned_at, assigned_at, 0"
    " FROM assignments WHERE unit_id LIKE '%7'"
)


async def test_many_calls_of_a_few_moments_come_in_pages(database: Database, tmp_path: Path):
    """100 000 calls at four times: pages end in the middle of a time, and no call is left out or told twice."""
    experiment = await start(database)
    variant = experiment.variants[0]
    seed = await call(database, "seed")
    told = {
        "prompt": experiment.prompt_id,
        "version": variant.version_id,
        "experiment": experiment.id,
        "variant": variant.id,
        "allocation": seed.allocation,
    }
    # On a busy machine a second of PostgreSQL's takes ten.
    patient = database.aside(statement_timeout_ms=600_000)
    async with patient.writing() as connection:
        if not database.is_sqlite:  # 400 000 checks of foreign keys are not what is tested
            await connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for quarter in range(4):
            first, last = quarter * MANY // 4 + 1, (quarter + 1) * MANY // 4
            moment = {"first": first, "last": last, "at": NOW + quarter * dt.timedelta(microseconds=1)}
            await connection.execute(_CALLS, told | moment)
        await connection.execute(_OUTCOMES)
    pages: list[int] = []
    done = await export(patient, tmp_path, experiment, tell=pages.append)
    await patient.close()
    assert done.calls == sum(pages) == MANY + 1
    assert max(pages) == PAGE
    (path,) = files(tmp_path)
    metadata = pq.ParquetFile(path).metadata
    assert metadata.num_row_groups == len(pages) == 11
    found = lake(tmp_path)
    assert found["unit_id"].n_unique() == MANY + 1
    assert found["quality"].count() == MANY // 10
    # Of i = 7, 17, ... 'many-7' has 6 letters, 9 numbers have 2 digits, 90 have 3, and so on.
    expected = sum(count * (5 + digits) / 16 for digits, count in enumerate((1, 9, 90, 900, 9_000), 1))
    assert found["quality"].sum() == pytest.approx(expected)


async def test_the_calls_of_another_experiment_stay_out(database: Database, tmp_path: Path):
    experiment = await start(database)
    other = await start(database, key="other", prompt="elsewhere")
    await play(database, experiment, 3, lambda key, index: {"resolved": True})
    await play(database, other, 4, lambda key, index: {"resolved": True})
    assert (await export(database, tmp_path, experiment)).calls == 3
    assert (await export(database, tmp_path, other)).calls == 4
    assert lake(tmp_path)["experiment"].value_counts().sort("experiment").rows() == [
        ("greeting", 3),
        ("other", 4),
    ]
