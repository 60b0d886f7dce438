"""What PostgreSQL alone can do with the same rows: pgbench, prepared statements, one transaction each."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psycopg

from benchmarks.load import CONNECTIONS, Rate
from benchmarks.served import postgres_programs

ASSIGNMENT = """
INSERT INTO assignments (prompt_id, unit_id, version_id, experiment_id, variant_id, allocation_id,
                         probability, reason, content_hash, assigned_at)
SELECT e.prompt_id, {unit}, v.version_id, e.id, v.id, a.id, 1.0 / 3, 'SPLIT', '', now()
FROM experiments e JOIN variants v ON v.experiment_id = e.id AND v.position = :arm
JOIN allocations a ON a.experiment_id = e.id AND a.number = 1 {numbers} RETURNING *
"""
OUTCOME = """
INSERT INTO outcomes (prompt_id, unit_id, metric, value, occurred_at, received_at, revision)
SELECT e.prompt_id, {unit}, 'resolved', 1.0, now(), now(), 0 FROM experiments e {numbers} RETURNING *
"""
COUNT = """
INSERT INTO counts (experiment_id, allocation_id, variant_id, segment, metric, n, total, total_sq)
SELECT e.id, a.id, v.id, '', '{metric}', {rows}, {rows}, {rows}
FROM experiments e JOIN variants v ON v.experiment_id = e.id AND v.position = :arm
JOIN allocations a ON a.experiment_id = e.id AND a.number = 1
ON CONFLICT (experiment_id, allocation_id, variant_id, segment, metric)
DO UPDATE SET n = counts.n + excluded.n, total = counts.total + excluded.total,
              total_sq = counts.total_sq + excluded.total_sq
"""
ONE = "'u-' || :unit"
BATCH = 100
MANY = {"unit": "'u-' || :unit || '-' || i", "numbers": f"CROSS JOIN generate_series(1, {BATCH}) AS s(i)"}
VARIABLES = "\\set unit random(1, 9223372036854775807)\n\\set arm random(0, 2)\n"
PLAIN_ROW = "INSERT INTO plain_rows VALUES ('u-' || :unit, 1.0)"
PLAIN_TABLE = "CREATE TABLE IF NOT EXISTS plain_rows (unit_id text PRIMARY KEY, value double precision)"


def _counted(row: str, metric: str, rows: int, **parts: str) -> str:
    """The row and its count in one statement, so in one transaction."""
    inserted = row.format(**{"unit": ONE, "numbers": ""} | parts)
    return f"WITH stored AS ({inserted}) {COUNT.format(metric=metric, rows=rows)}"


# By what is compared with it: statement, and rows that one transaction makes durable.
STATEMENTS: Mapping[str, tuple[str, int]] = {
    "one plain row": (PLAIN_ROW, 1),
    "an assignment": (_counted(ASSIGNMENT, "assigned", 1), 1),
    "an outcome": (_counted(OUTCOME, "resolved", 1), 1),
    "100 outcomes": (_counted(OUTCOME, "resolved", BATCH, **MANY), BATCH),
}


def script(statement: str) -> str:
    """A pgbench script: random variables, then the statement in one line."""
    return f"{VARIABLES}{' '.join(statement.split())};\n"


def read_pgbench(said: str, lines: list[str]) -> Rate:
    """Rate from what pgbench prints, quantiles from its log: client, transaction, time in µs, script, when."""
    per_s = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
    taken = sorted(int(line.split()[2]) / 1000 for line in lines if line.split()[2].isdigit())
    if per_s is None or not taken:
        raise ValueError(f"pgbench reported no transaction: {said.strip()[-500:]}")
    return Rate(
        requests=len(taken),
        seconds=len(taken) / float(per_s[1]),
        p50_ms=_quantile(taken, 0.5),
        p99_ms=_quantile(taken, 0.99),
        lost=len(lines) - len(taken),
    )


def _quantile(taken: list[float], share: float) -> float:
    return taken[min(len(taken) - 1, int(share * len(taken)))]


def run_pgbench(dsn: str, statement: str, *, seconds: float, clients: int = CONNECTIONS) -> Rate:
    """Clients that repeat the statement for that long; the tables must be there."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(PLAIN_TABLE)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "script.sql"
        file.write_text(script(statement))
        command = [postgres_programs() / "pgbench", dsn, "-n", "-M", "prepared", "-f", file]
        command += [
            "-c",
            clients,
            "-j",
            1,
            "-T",
            f"{seconds:.0f}",
            "-l",
            "--log-prefix",
            Path(folder) / "log",
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pgbench failed: {done.stderr[-1000:]}")
        logs = Path(folder).glob("log.*")
        return read_pgbench(done.stdout, [line for log in logs for line in log.read_text().splitlines()])
