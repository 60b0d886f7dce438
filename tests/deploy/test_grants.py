"""deploy/grants.sql: each account can do its work and nothing else."""

import asyncio
import datetime as dt
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from cli.main import promptbandit
from optimizer.local_analysts import good_analyst
from optimizer.local_provider import LocalProvider
from storage.database import Database
from storage.schema import metadata
from tests.deploy.programs import postgres_program
from tests.optimizer.asking import KEY
from tests.optimizer.shop_calls import open_shop, shop_calls
from tests.postgres import Postgres
from tests.running_server import RunningServer

pytestmark = pytest.mark.timeout(600)
GRANTS = Path(__file__).resolve().parents[2] / "deploy" / "grants.sql"
REFUSED = psycopg.errors.InsufficientPrivilege
ACCOUNTS = {"serving": "serve", "reading": "read", "optimizing": "optimize"}


@pytest.fixture(scope="module")
def name(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database, its owner `test`, and accounts that serve, read and optimize."""
    folder = tmp_path_factory.mktemp("grants")
    name = f"{folder.name}_{os.getpid()}"
    server = RunningServer(postgres.create_database(name), folder)
    server.manager.close()
    assert server.command("migrate").returncode == 0
    roles = {variable: f"{name}_{role}" for variable, role in ACCOUNTS.items()}
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as admin:
        for role in roles.values():
            admin.execute(f'CREATE ROLE "{role}" LOGIN'.encode())
    sets = [f"--set={variable}={role}" for variable, role in roles.items()]
    for accounts in (sets, sets, sets[:2]):  # it may run again, also where nobody optimizes
        postgres_program(postgres, "psql", *accounts, f"--file={GRANTS}", f"--dbname={name}")
    yield name
    postgres.drop_database(name)
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as admin:
        for role in roles.values():
            admin.execute(f'DROP ROLE "{role}"'.encode())


def test_the_serving_account_does_all_that_servers_and_commands_do(
    postgres: Postgres, name: str, tmp_path: Path
):
    url = postgres.url(name).replace("test@", f"{name}_serve@")
    with RunningServer(url, tmp_path) as server:
        server.start_experiment(policy={"name": "thompson", "burn_in": 0, "every_s": 0.0})
        for number in range(6):
            server.assign(f"call-{number}", segment="refund")
            server.record(f"call-{number}", metrics={"resolved": True, "quality": 0.5})
        assert server.record("call-1", metrics={"quality": 0.75}) == "revised"
        version = server.create_version(text="a third one")
        added = server.manager.post(
            "/experiments/greeting/variants", json={"key": "c", "version_id": version["id"]}
        )
        assert added.status_code == 201, added.text
        assert server.manager.patch("/experiments/greeting/variants/b/retire").status_code == 200
        assert server.manager.patch("/experiments/greeting/stop", json={"winner": "c"}).status_code == 200
        assert server.manager.patch(f"/prompts/{version['id']}/activate").status_code == 200
        decide_suggestions(server)
        calls = tmp_path / "calls.jsonl"
        lines = [{"unit_id": f"old-{key}", "variant": key, "metrics": {"resolved": True}} for key in "xy"]
        calls.write_text("".join(json.dumps(line) + "\n" for line in lines))
        for command in (
            ("reallocate", "--force"),
            ("forget", "--prompt", "support", "--unit", "call-1"),
            ("forget", "--transcripts-older-than", "90d"),
            ("import", str(calls), "--prompt", "support"),
            ("migrate",),  # nothing to do
            ("verify",),
        ):
            done = server.command(*command)
            assert done.returncode == 0, f"{command}: {done.stderr}"


def decide_suggestions(server: RunningServer) -> None:
    """One is approved, one rejected."""
    server.create_version("review", "Be kind.\nBe brief.")
    for text, decision in (("Be quick.", "reject"), ("Be precise.", "approve")):
        edits = [{"op": "insert_after", "anchor": "Be kind.\n", "text": f"{text}\n"}]
        body = {"prompt": "review", "origin": "person", "title": text, "edits": edits}
        made = server.manager.post("/suggestions", json=body)
        assert made.status_code == 201, made.text
        told = {"reason": "No."} if decision == "reject" else {"text_hash": made.json()["text_hash"]}
        answer = server.manager.post(f"/suggestions/{made.json()['id']}/{decision}", json=told)
        assert answer.status_code == 200, answer.text


def test_the_serving_account_cannot_change_what_never_changes_or_how_things_are(
    postgres: Postgres, name: str
):
    refused = (
        "DELETE FROM assignments",
        "UPDATE assignments SET reason = 'STATIC'",
        "UPDATE prompt_versions SET system_prompt = ''",
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        "TRUNCATE outcomes",
        "DELETE FROM outcomes",
        "DROP TABLE leases",
        "CREATE TABLE mine (id int)",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "UPDATE alembic_version SET version_num = '0001'",
    )
    with psycopg.connect(postgres.dsn(name).replace("test@", f"{name}_serve@"), autocommit=True) as serving:
        for statement in refused:
            with pytest.raises(REFUSED):
                serving.execute(statement.encode())


def test_the_reading_account_sees_calls_and_no_secrets(postgres: Postgres, name: str):
    with psycopg.connect(postgres.dsn(name).replace("test@", f"{name}_read@"), autocommit=True) as reading:
        for view in ("calls", "prompt_ab_tests", "counts", "experiments"):
            reading.execute(f"SELECT count(*) FROM {view}".encode())
        for secret in ("api_keys", "transcripts", "audit"):
            with pytest.raises(REFUSED):
                reading.execute(f"SELECT count(*) FROM {secret}".encode())
        with pytest.raises(REFUSED):
            reading.execute("UPDATE prompts SET name = name")


def test_the_optimizers_account_reads_calls_and_proposes_and_can_decide_nothing(
    postgres: Postgres, name: str
):
    asyncio.run(_open_shop(postgres.url(name)))
    ours = dict.fromkeys(variable for variable in os.environ if variable.startswith("PROMPTBANDIT_"))
    url = postgres.url(name).replace("test@", f"{name}_optimize@")
    with LocalProvider(good_analyst) as local:
        told = {"DATABASE_URL": url, "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": local.url}
        environment = {f"PROMPTBANDIT_{variable}": value for variable, value in told.items()}
        done = CliRunner().invoke(promptbandit, ["optimize", "--prompt", "asked"], env=ours | environment)
    assert done.exit_code == 0, done.output
    assert "asked: done: 2 of 2 suggestions stored" in done.output
    refused = (
        "UPDATE suggestions SET status = 'approved'",
        "DELETE FROM suggestions",
        "INSERT INTO prompt_versions DEFAULT VALUES",
        "UPDATE prompts SET active_version_id = NULL",
        "INSERT INTO variants DEFAULT VALUES",
        "INSERT INTO allocations DEFAULT VALUES",
        "UPDATE outcomes SET value = 1",
        "DELETE FROM transcripts",
        "UPDATE audit SET actor = 'nobody'",
        "SELECT count(*) FROM api_keys",
    )
    with psycopg.connect(postgres.dsn(name).replace("test@", f"{name}_optimize@"), autocommit=True) as own:
        for statement in refused:
            with pytest.raises(REFUSED):
                own.execute(statement.encode())


async def _open_shop(url: str) -> None:
    database = Database(url)
    at = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
    await open_shop(database, shop_calls(), at=at, prompt="asked")
    await database.close()


def test_every_table_is_granted_to_the_serving_account():
    """A table that comes with a migration and not here could not be written."""
    text = GRANTS.read_text().partition("Rows that change.")[2].partition('TO :"reading"')[0]
    assert {table for table in metadata.tables if not re.search(rf"\b{table}\b", text)} == set()
