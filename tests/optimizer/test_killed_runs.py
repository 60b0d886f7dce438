"""kill -9 at every state, and again: the next run goes on, pays nothing twice and ends with the same."""

import subprocess
import sys
from pathlib import Path

import pytest

from optimizer.local_analysts import good_analyst
from optimizer.local_provider import LocalProvider
from optimizer.requests import hash_of
from storage.database import Database
from tests.optimizer.shop_calls import open_shop, run, runs_of, shop_calls, suggested
from tests.service.conftest import EmptyDatabases

ROOT = Path(__file__).resolve().parents[2]
# The moment of the kill, and the state that is in the row then.
KILLS = [
    ("claimed", 0, "claimed"),
    ("sampled", 0, "sampled"),
    ("map", 3, "sampled"),
    ("mapped", 0, "mapped"),
    ("reduced", 0, "reduced"),
    ("proposed", 0, "proposed"),
    ("door", 1, "proposed"),
    ("gated", 0, "gated"),
]


def run_until_killed(url: str, provider: str, seed: str, state: str, done: int) -> int:
    arguments = [url, provider, seed, state, str(done)]
    return subprocess.run(
        [sys.executable, "-m", "tests.optimizer.killed_run", *arguments],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=300,
    ).returncode


@pytest.mark.parametrize(("state", "done", "stored"), KILLS)
async def test_a_run_that_is_killed_ends_as_one_that_was_not(
    sqlite_databases: EmptyDatabases, state: str, done: int, stored: str
):
    whole, killed = Database(sqlite_databases.sqlite()), Database(sqlite_databases.sqlite())
    for database in (whole, killed):
        await open_shop(database, shop_calls())
    with LocalProvider(good_analyst) as undisturbed:
        assert (await run(whole, undisturbed.url, seed="first")).status == "done"
    with LocalProvider(good_analyst) as local:
        url = killed.url.render_as_string(hide_password=False)
        assert run_until_killed(url, local.url, "first", state, done) == -9
        assert [row.status for row in await runs_of(killed)] == [stored]
        assert (await run(killed, local.url, seed="second")).status == "done"
    asked, reference = ([hash_of(q) for q in each.questions] for each in (local, undisturbed))
    assert asked == reference
    assert len(set(asked)) == len(asked)
    assert await suggested(killed) == await suggested(whole)
    assert len(await suggested(killed)) == 2
    for database in (whole, killed):
        await database.close()
