"""A server whose connections go through pgbouncer in transaction mode."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from storage.database import Database
from storage.leases import take_lease
from tests.deploy.pgbouncer import Pgbouncer
from tests.outage.judge import rows
from tests.postgres import Postgres
from tests.running_server import RunningServer
from tests.servers.calls import post, wait_for

pytestmark = pytest.mark.timeout(600)
POOL = 4  # connections to PostgreSQL; the server itself opens up to 22
EAGER = {"name": "thompson", "burn_in": 0, "every_s": 0.0}


def test_a_server_serves_and_records_through_few_connections(postgres: Postgres, tmp_path: Path):
    name = f"pooled_{tmp_path.name}"
    postgres.create_database(name)
    environment = {
        "PROMPTBANDIT_SOFT_DEADLINE_MS": "30000",
        "PROMPTBANDIT_OUTCOME_DEADLINE_MS": "30000",
        "PROMPTBANDIT_REALLOCATE_EVERY_S": "0.3",
    }
    with (
        Pgbouncer(postgres, name, pool_size=POOL) as pgbouncer,
        RunningServer(pgbouncer.url, tmp_path, environment=environment) as server,
    ):
        server.start_experiment(policy=EAGER)
        units = [f"call-{number}" for number in range(40)]
        outcomes = [{"prompt": "support", "unit_id": unit, "metrics": {"resolved": True}} for unit in units]
        with ThreadPoolExecutor(8) as pool:
            list(
                pool.map(
                    lambda unit: post(server, "/assignments", {"prompt": "support", "unit_id": unit}), units
                )
            )
            list(pool.map(lambda one: post(server, "/outcomes", one), outcomes * 2))
        query = "SELECT sum(n) FROM counts WHERE metric = 'resolved'"
        wait_for("every outcome's count", lambda: rows(postgres.url(name), query) == [(len(units),)])
        with psycopg.connect(postgres.dsn("postgres")) as admin:
            query = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
            )
            assert 1 <= admin.execute(query, (name,)).fetchone()[0] <= POOL
        verified = server.command("verify")
        assert verified.returncode == 0, verified.stderr
        asyncio.run(_one_of_eight_gets_the_lease(pgbouncer.url))
        assert server.command("migrate").returncode == 0
    postgres.drop_database(name)


async def _one_of_eight_gets_the_lease(url: str) -> None:
    """A session lock would be granted to every client that shares the connection."""
    database = Database(url)

    async def take(holder: str) -> bool:
        async with database.writing() as connection:
            return await take_lease(connection, "optimize", holder=holder, for_s=3_600.0)

    try:
        assert sum(await asyncio.gather(*(take(f"holder-{number}") for number in range(8)))) == 1
    finally:
        await database.close()
