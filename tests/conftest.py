"""Fixtures: both databases for real, and a real server process."""

import datetime as dt
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from storage.database import Database
from tests.postgres import Postgres, PostgresUnavailable
from tests.running_server import RunningServer

ROOT = Path(__file__).resolve().parents[1]
DIALECTS = ("sqlite", "postgresql")
# Files that last ten seconds and more, the longest first: begun last, one of them would keep a processor idle.
LONGEST_FIRST = (
    "tests/servers/test_two_servers.py",
    "tests/api/test_made_up_requests.py",
    "tests/client/test_against_server.py",
    "tests/optimizer/test_null_loops.py",
    "tests/engine/test_segment_sampling.py",
    "tests/engine/test_frequencies.py",
    "tests/service/test_same_numbers.py",
    "tests/engine/test_hierarchical.py",
    "tests/cli/test_circle.py",
    "tests/api/test_metrics.py",
    "tests/optimizer/test_hostile_runs.py",
    "tests/optimizer/test_run.py",
    "tests/outage/test_postgresql.py",
    "tests/dashboards/test_service_health.py",
    "tests/service/test_report.py",
    "tests/optimizer/test_killed_runs.py",
    "tests/service/test_ingestion.py",
    "tests/engine/test_coherence.py",
    "tests/benchmarks/test_yardsticks.py",
    "tests/engine/test_simulation.py",
    "tests/api/test_concurrency.py",
    "tests/service/test_evidence.py",
    "tests/service/test_export_days.py",
    "tests/service/test_verbs.py",
    "tests/domain/redaction/test_laws.py",
    "tests/cli/test_commands.py",
    "tests/outage/test_sqlite.py",
    "tests/outage/test_cold_start.py",
    "tests/outage/test_hanging.py",
)
NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
# For databases of tests that are not about deadlines: on a busy machine one waits longer than a server would.
PATIENT = {"pool_timeout_s": 60.0, "statement_timeout_ms": 60_000, "lock_timeout_ms": 60_000}

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others in their order, whatever it is."""
    places = {ROOT / file: place for place, file in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def _running_postgres(*settings: str) -> Iterator[Postgres]:
    try:
        server = Postgres(settings=settings)
    except PostgresUnavailable as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no PostgreSQL here: {reason}")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of this test session's own, on loopback.

    Nobody cuts its power, so it does not wait for the disk; those that are killed do (`own_postgres`).
    Nor does it look after hundreds of databases that are gone a moment later.
    """
    yield from _running_postgres("fsync=off", "autovacuum=off")


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that the tests of one file may kill or set wrongly."""
    yield from _running_postgres()


@pytest.fixture(params=DIALECTS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = f"test_{uuid.uuid4().hex}"
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open, migrated database."""
    from migrations import migrate

    opened = Database(database_url, **PATIENT)
    await migrate(opened)
    yield opened
    await opened.close()


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[RunningServer]:
    """A real server process on an empty database (each of the two), with keys."""
    with RunningServer(database_url, tmp_path) as running:
        yield running


@pytest.fixture
def sqlite_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A real server process on SQLite, for what does not depend on the database."""
    with RunningServer(f"sqlite:///{tmp_path / 'test.db'}", tmp_path) as running:
        yield running
