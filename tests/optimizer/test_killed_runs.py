"""kill -9 at every state, and again: the next run goes on, pays nothing twice and ends with the same."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="module")
def run_until_killed() -> Iterator[Callable[..., int]]:
    """Run the optimizer in a process of its own until it kills itself; the exit code."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.optimizer.killed_run"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def go(*arguments: object) -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{' '.join(map(str, arguments))}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield go


@pytest.fixture(scope="module")
def undisturbed(sqlite_databases: EmptyDatabases) -> tuple[list[str], list[dict[str, Any]]]:
    """What a run that nobody kills asks and suggests."""

    async def go() -> tuple[list[str], list[dict[str, Any]]]:
        database = Database(sqlite_databases.sqlite())
        await open_shop(database, shop_calls())
        with LocalProvider(good_analyst) as local:
            assert (await run(database, local.url, seed="first")).status == "done"
        found = [hash_of(question) for question in local.questions], await suggested(database)
        await database.close()
        return found

    return asyncio.run(go())


@pytest.mark.parametrize(("state", "done", "stored"), KILLS)
async def test_a_run_that_is_killed_ends_as_one_that_was_not(
    sqlite_databases: EmptyDatabases,
    run_until_killed: Callable[..., int],
    undisturbed: tuple[list[str], list[dict[str, Any]]],
    state: str,
    done: int,
    stored: str,
):
    killed = Database(sqlite_databases.sqlite())
    await open_shop(killed, shop_calls())
    with LocalProvider(good_analyst) as local:
        url = killed.url.render_as_string(hide_password=False)
        assert run_until_killed(url, local.url, "first", state, done) == -9
        assert [row.status for row in await runs_of(killed)] == [stored]
        assert (await run(killed, local.url, seed="second")).status == "done"
    asked = [hash_of(question) for question in local.questions]
    assert (asked, await suggested(killed)) == undisturbed
    assert len(set(asked)) == len(asked)
    assert len(await suggested(killed)) == 2
    await killed.close()
