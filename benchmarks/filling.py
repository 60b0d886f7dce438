"""Databases with a history: prompts, experiments, calls, outcomes and their counts, by bulk SQL.

The tables are the real ones, and `verify` says at the end that counts equal outcomes.
"""

import datetime as dt

import sqlalchemy as sa

from domain.evidence import Evidence
from domain.experiments import Experiment, NewExperiment, NewPolicy, NewVariant
from domain.prompts import NewVersion
from engine.version import ENGINE_VERSION
from migrations import migrate
from service.create_version import create_version
from service.start_experiment import start_experiment
from service.verify import verify
from storage.allocations import append_allocation
from storage.database import Database
from storage.evidence import store_evidence
from storage.types import UtcDateTime

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
PROMPT = "bench"
UNRIPE_S = 86_400.0  # a maturity of a day: the tests do not read the calls of the last minute

TIMES = ("then", "now")
NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < {stop})",
    "postgresql": "WITH numbers(i) AS (SELECT generate_series(0, {stop} - 1))",
}
CALLS = """
INSERT INTO assignments (prompt_id, unit_id, version_id, experiment_id, variant_id, allocation_id,
                         probability, segment, reason, content_hash, assigned_at)
{numbers}
SELECT e.prompt_id, 'call-' || i, v.version_id, e.id, v.id, a.id,
       1.0 / 3, 'intent-' || (i % 10), 'SPLIT', '', CASE WHEN i < :told THEN :then ELSE :now END
FROM numbers
JOIN experiments e ON e.id = :experiment
JOIN variants v ON v.experiment_id = e.id AND v.position = i % 3
JOIN allocations a ON a.experiment_id = e.id AND a.number = 1 + (i / 30) % :allocations
"""
OUTCOMES = """
INSERT INTO outcomes (prompt_id, unit_id, metric, value, occurred_at, received_at, revision)
{numbers}
SELECT e.prompt_id, 'call-' || i, '{metric}', {value}, :then, :then, 0
FROM numbers JOIN experiments e ON e.id = :experiment
"""
VALUES = {
    "resolved": "CASE WHEN i * 7 % 10 < 7 THEN 1.0 ELSE 0.0 END",
    "quality": "i % 17 / 16.0",
    "duration_s": "60.0 + i % 240",
}
COUNTS = """
INSERT INTO counts (experiment_id, allocation_id, variant_id, segment, metric, n, total, total_sq)
SELECT a.experiment_id, a.allocation_id, a.variant_id, a.segment, {metric}, COUNT(*), {total}, {total_sq}
FROM assignments a {outcomes}
GROUP BY a.experiment_id, a.allocation_id, a.variant_id, a.segment {by}
"""
JOINED = "JOIN outcomes o ON o.prompt_id = a.prompt_id AND o.unit_id = a.unit_id"


async def begin(
    database: Database,
    allocations: int = 1,
    name: str = PROMPT,
    *,
    now: dt.datetime = NOW,
    maturity_s: float = 0.0,
) -> Experiment:
    """A running experiment on a prompt of the same name, with three variants and that many allocations."""
    await migrate(database)
    async with database.writing() as connection:
        versions = [
            await create_version(connection, NewVersion(name=name, system_prompt=f"v{i}"), actor="b", now=now)
            for i in range(3)
        ]
        new = NewExperiment(
            key=name,
            prompt=name,
            control="a",
            variants=[NewVariant(key=k, version_id=v.id) for k, v in zip("abc", versions, strict=True)],
            policy=NewPolicy(name="thompson"),
            maturity_s=maturity_s,
        )
        experiment = await start_experiment(connection, new, actor="b", now=now)
        for _ in range(allocations - 1):
            await append_allocation(
                connection,
                experiment_id=experiment.id,
                split={"a": 3_334, "b": 3_333, "c": 3_333},
                probability_best=None,
                policy="thompson",
                counts={},
                engine_version=ENGINE_VERSION,
                now=now,
            )
    return experiment


async def fill(
    database: Database,
    outcomes: int,
    *,
    allocations: int = 1,
    waiting: int = 0,
    now: dt.datetime = NOW,
    maturity_s: float = 0.0,
) -> int:
    """That many stored outcomes, three a call, and their counts; how many rows of counts there are.

    Parameters
    ----------
    waiting : more calls, after those with outcomes: `call-<outcomes // 3>` and so on have none yet.
    now : when the waiting calls were assigned; the others were twice the maturity before.
    """
    then = now - 2 * dt.timedelta(seconds=maturity_s)
    experiment = await begin(database, allocations, now=then, maturity_s=maturity_s)
    told = outcomes // 3
    known = {"experiment": experiment.id, "allocations": allocations, "told": told, "then": then, "now": now}
    for step in _steps(database, told=told, calls=told + waiting):
        statement = sa.text(step).bindparams(
            *(
                sa.bindparam(name, value, type_=UtcDateTime() if name in TIMES else sa.BigInteger())
                for name, value in known.items()
                if f":{name}" in step
            )
        )
        async with database.writing() as connection:
            await connection.execute(statement)
    if maturity_s > 0:
        await _have_read(database, experiment, told, then)
    async with database.reading() as connection:
        found = await verify(connection)
    assert not found.differences, found.differences[0]
    return found.rows


async def _have_read(database: Database, experiment: Experiment, units: int, then: dt.datetime) -> None:
    """The tests have read what has matured, as in a shop where calls came over months and not at once.

    They stand a moment after it: from the very moment, whose calls are told apart by their names, every pass would
    skip three million of them, where a shop has one or two.
    """
    after = then + dt.timedelta(seconds=1)
    async with database.writing() as connection:
        for metric in experiment.metrics:
            read = Evidence(metric=metric.name, read_until=after, unit_id="", units=units)
            await store_evidence(connection, experiment.id, read, now=then)


def _steps(database: Database, *, told: int, calls: int) -> list[str]:
    numbers = NUMBERS["sqlite" if database.is_sqlite else "postgresql"]
    steps = [CALLS.format(numbers=numbers.format(stop=calls))] if calls else []
    if told:
        for name, value in VALUES.items():
            steps.append(OUTCOMES.format(numbers=numbers.format(stop=told), metric=name, value=value))
    steps.append(COUNTS.format(metric="'assigned'", total="0.0", total_sq="0.0", outcomes="", by=""))
    sums = {"total": "SUM(o.value)", "total_sq": "SUM(o.value * o.value)"}
    steps.append(COUNTS.format(metric="o.metric", outcomes=JOINED, by=", o.metric", **sums))
    return steps
