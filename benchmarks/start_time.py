"""How long from the start of `promptbandit serve` to the first assignment that is stored?

A request is sent anew every 10 ms until one is answered with 200 and the reason SPLIT, so after its commit. The
tables are there, and so is the byte code, as on the second start of an installation.

    python -m benchmarks.start_time [--quick] [--rounds 9] [--write-docs]
"""

import asyncio
import datetime as dt
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count

from benchmarks.filling import begin
from benchmarks.rivals import Figures, Question, Rival, main, table, told
from benchmarks.served import DATABASES, environment, filled, fresh_database, ours, postgres_or_none
from storage.database import Database
from tests.postgres import free_port

WORKERS = (1, 2)
PAUSE_S = 0.01
GIVEN_UP_S = 60.0


async def _an_experiment(database: Database, _now: dt.datetime) -> None:
    await begin(database)


def measure(database: str, workers: int) -> Figures:
    with fresh_database(database) as url:
        key = asyncio.run(filled(url, _an_experiment))
        port, variables = free_port(), environment(url, {"PROMPTBANDIT_LOG_LEVEL": "warning"})
        _write_byte_code(variables)
        started = time.perf_counter()
        server = subprocess.Popen(ours(port, workers), env=variables)
        try:
            for number in count():
                if _is_stored(port, key, f"start-{number}"):
                    break
                if server.poll() is not None or time.perf_counter() > started + GIVEN_UP_S:
                    raise RuntimeError("the server did not answer")
                time.sleep(PAUSE_S)
            return {"seconds": time.perf_counter() - started}
        finally:
            server.terminate()
            server.wait(timeout=60)


def _write_byte_code(variables: Mapping[str, str]) -> None:
    code = "import cli.serve, uvicorn, api.app, api.numerics; api.numerics._load()"
    subprocess.run([sys.executable, "-c", code], env=dict(variables), check=True)


def _is_stored(port: int, key: str, unit_id: str) -> bool:
    """Whether the assignment of a new unit is answered after its commit."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = json.dumps({"prompt": "bench", "unit_id": unit_id})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/assignments", body, headers)
        answer = connection.getresponse()
        return answer.status == 200 and json.loads(answer.read())["reason"] == "SPLIT"
    except (ConnectionError, TimeoutError):
        return False
    finally:
        connection.close()


def tables(rounds: Mapping[str, Sequence[Figures]]) -> str:
    rows = [[name, told([figures["seconds"] for figures in found])] for name, found in rounds.items()]
    return table(["`promptbandit serve`", "to the first stored assignment"], rows)


QUESTION = Question(
    name="start_time",
    rivals={
        f"{database}, {workers} worker{'s' * (workers > 1)}": Rival(
            partial(measure, database, workers), ("litestar", "sqlalchemy", "uvicorn")
        )
        for database in DATABASES
        for workers in WORKERS
    },
    tables=tables,
    rounds=9,
)

if __name__ == "__main__":
    with postgres_or_none():
        main(QUESTION)
