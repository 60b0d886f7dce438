"""Every panel of the comparison shows the right numbers: its SQL runs on a real PostgreSQL as the reading role,
and what it returns is computed again from the calls themselves."""

import asyncio
import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.rows import dict_row

from domain.experiments import NewPolicy
from domain.metrics import NewMetric
from domain.standings import Judgement
from migrations import migrate
from service.judge import judge
from service.reallocate import reallocate_fully
from service.verify import note_verified
from storage.database import Database
from tests.dashboards.grafana import DASHBOARDS, INTERVAL_S, dashboards, expanded_sql, targets
from tests.postgres import Postgres
from tests.service.world import NOW, check, play, start, stop

FILE = "variant-comparison.json"
KEY = "greeting 2: the #best"
HOUR = dt.timedelta(hours=1)
# The dashboard shows a part of the time only: calls and judgements lie before, within and after.
START, END = NOW - 1.5 * HOUR, NOW + 2.5 * HOUR
RATES = {"a": (0.5, 0.6), "b": (0.7, 0.75), "c": (0.45, 0.5)}
READER = "promptbandit_reader"

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Call:
    """What a test knows of a call without asking the database; an empty outcome was never told."""

    variant: str
    at: dt.datetime
    outcome: dict[str, Any]


@dataclass(frozen=True)
class Story:
    """What happened."""

    dsn: str
    calls: list[Call] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    verified: list[tuple[dt.datetime, int]] = field(default_factory=list)

    @property
    def shown(self) -> list[Judgement]:
        return [item for item in self.judgements if START <= item.at <= END]

    def by_interval(self) -> dict[tuple[float, str], list[Call]]:
        groups = defaultdict(list)
        for call in self.calls:
            if START <= call.at <= END:
                groups[call.at.timestamp() // INTERVAL_S * INTERVAL_S, call.variant].append(call)
        return groups


@pytest.fixture(scope="module")
def story(postgres: Postgres) -> Iterator[Story]:
    url = postgres.create_database("compared")
    told = Story(dsn=postgres.dsn("compared"))
    asyncio.run(_play(url, told))
    with psycopg.connect(told.dsn) as connection:
        for _ in range(2):  # it may run after every migration
            connection.execute((DASHBOARDS / "reader.sql").read_bytes())
    yield told
    postgres.drop_database("compared")


async def _play(url: str, told: Story) -> None:
    database = Database(url)
    try:
        await migrate(database)
        await _other_experiments(database)
        policy = NewPolicy(name="thompson", every_s=0.0, burn_in=20)
        experiment = await start(
            database, key=KEY, arms="abc", policy=policy, maturity_s=60.0, now=NOW - 3 * HOUR
        )
        rng = np.random.default_rng(7)
        for part in range(-2, 4):
            now = NOW + part * HOUR
            outcomes: list[dict[str, Any]] = []

            def outcome_of(key: str, index: int, outcomes: list[dict[str, Any]] = outcomes) -> dict[str, Any]:
                outcomes.append(_outcome(rng, key, index))
                return outcomes[-1]

            given = await play(database, experiment, 90, outcome_of, prefix=f"p{part}", now=now, every_s=30.0)
            told.calls.extend(
                Call(variant=item.variant or "", at=item.assigned_at, outcome=outcome)
                for item, outcome in zip(given, outcomes, strict=True)
            )
            noted = await judge(database, experiment.id, lambda now=now: now, at_once=True)
            assert noted is not None
            told.judgements.append(noted)
            # Moves the split; it is judged again only when a minute is over.
            await reallocate_fully(database, experiment.id, lambda now=now: now + dt.timedelta(seconds=5))
            verified = await check(database)
            async with database.writing() as connection:
                await note_verified(connection, verified, now=now)
            told.verified.append((now, len(verified.differences)))
    finally:
        await database.close()


async def _other_experiments(database: Database) -> None:
    """Their calls must not appear: one of the same variants on another prompt, and an A/B test that ended."""
    other = await start(database, key="other", prompt="other")
    await play(database, other, 30, lambda key, index: {"resolved": True, "quality": 0.1}, prefix="other")
    await judge(database, other.id, lambda: NOW)
    amount = NewMetric(name="cost", kind="amount", direction="decrease", unit="usd", role="goal")
    await start(database, key="an amount", prompt="dear", metrics=[amount], now=NOW - 5 * HOUR)
    await stop(database, key="an amount", now=NOW - HOUR)


def _outcome(rng: np.random.Generator, key: str, index: int) -> dict[str, Any]:
    """One in ten is never told; one in seven has no quality."""
    resolved, quality = RATES[key]
    whole = {
        "resolved": bool(rng.random() < resolved),
        "quality": round(float(rng.uniform(quality - 0.3, quality + 0.2)), 3),
        "duration_s": round(float(rng.gamma(4.0, 50.0)), 1),
    }
    if index % 10 == 0:
        return {}
    if index % 7 == 0:
        del whole["quality"]
    return whole


def run(story: Story, query: str) -> Rows:
    """As Grafana runs it, by the role that may only read numbers."""
    statement = expanded_sql(query, start=START, end=END, variables={"experiment": KEY})
    with psycopg.connect(story.dsn.replace("test@", f"{READER}@"), row_factory=dict_row) as connection:
        return connection.execute(statement.encode()).fetchall()


# --- the same numbers from what the test knows --------------------------------------------------


def means_by_interval(story: Story, metric: str) -> dict[tuple[float, str], float]:
    values = {
        key: [float(call.outcome[metric]) for call in calls if metric in call.outcome]
        for key, calls in story.by_interval().items()
    }
    return {key: float(np.mean(found)) for key, found in values.items() if found}


def mean(metric: str) -> Callable[[Story], dict[tuple[float, str], float]]:
    return lambda story: means_by_interval(story, metric)


def number_of_calls(story: Story) -> dict[tuple[float, str], float]:
    return {key: float(len(calls)) for key, calls in story.by_interval().items()}


def of_standings(value: Callable[[Any], float | None]) -> Callable[[Story], dict[tuple[Any, str], float]]:
    def expected(story: Story) -> dict[tuple[Any, str], float]:
        found = {(j.at, s.variant): value(s) for j in story.shown for s in j.standings}
        return {key: number for key, number in found.items() if number is not None}

    return expected


def needed(story: Story) -> dict[tuple[Any, str], float]:
    """Two variants beside the control at alpha 0.05: 2 / 0.05."""
    return {(judgement.at, "needed"): 40.0 for judgement in story.shown}


def sample_ratio(story: Story) -> dict[tuple[Any, str], float | None]:
    return {(judgement.at, "e-value"): judgement.sample_ratio_e_value for judgement in story.shown}


def actions(story: Story) -> dict[tuple[Any, str], str]:
    return {(judgement.at, "recommendation"): judgement.action for judgement in story.shown}


SERIES: dict[str, Callable[[Story], dict[Any, Any]]] = {
    "Resolved without operator A": mean("resolved"),
    "Quality A": mean("quality"),
    "Duration A": mean("duration_s"),
    "Calls A": number_of_calls,
    "Share of new calls A": of_standings(lambda s: s.share_bp / 10_000),
    "Belief: probability to be the best A": of_standings(lambda s: s.probability_best),
    "Evidence: e-value against the control A": of_standings(lambda s: s.e_value),
    "Evidence: e-value against the control B": needed,
    "Missing outcomes A": of_standings(lambda s: s.missing),
    "Sample ratio: evidence against the split A": sample_ratio,
    "Recommendation over time A": actions,
}
TABLES = {"What to do A", "Are the numbers sound? A", "Variants A", "All A/B tests A"}
QUERIES = dict(targets(FILE))


def test_every_query_is_checked():
    assert set(QUERIES) == set(SERIES) | TABLES
    assert {name for name, target in QUERIES.items() if target["format"] == "table"} == TABLES


@pytest.mark.parametrize("name", SERIES)
def test_a_series_shows_what_happened(story: Story, name: str):
    rows = run(story, QUERIES[name]["rawSql"])
    assert set(rows[0]) == {"time", "metric", "value"}
    times = [row["time"] for row in rows]
    assert times == sorted(times)
    shown = {(_time(row["time"]), row["metric"]): row["value"] for row in rows}
    expected = SERIES[name](story)
    assert len(expected) > 1
    assert len(shown) == len(rows)  # a time and a name stand there once
    assert shown.keys() == expected.keys()
    for key, value in expected.items():
        assert shown[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-9)), key


def _time(value: Any) -> Any:
    return value if isinstance(value, dt.datetime) else float(value)


def test_the_table_of_variants_shows_all_calls_and_the_last_judgement(story: Story):
    rows = {row["Variant"]: row for row in run(story, QUERIES["Variants A"]["rawSql"])}
    assert list(rows) == ["a", "b", "c"]
    last = story.judgements[-1]
    for standing in last.standings:
        row = rows[standing.variant]
        mine = [call for call in story.calls if call.variant == standing.variant]
        assert row["Calls"] == len(mine)
        for column, metric in (("Resolved", "resolved"), ("Quality", "quality"), ("Duration", "duration_s")):
            values = [float(call.outcome[metric]) for call in mine if metric in call.outcome]
            assert float(row[column]) == pytest.approx(np.mean(values), rel=1e-9)
        told = [call for call in mine if call.at <= last.at - dt.timedelta(seconds=60)]
        missing = np.mean(["resolved" not in call.outcome for call in told])
        assert row["Missing"] == pytest.approx(missing, rel=1e-9)
        assert (row["P(best)"], row["e-value"], row["Needed"]) == (
            standing.probability_best,
            standing.e_value,
            standing.e_needed,
        )
        assert row["Share"] == standing.share_bp / 10_000
    assert sum(row["Share"] for row in rows.values()) == pytest.approx(1.0)


def test_what_to_do_is_what_was_recommended_last(story: Story):
    (row,) = run(story, QUERIES["What to do A"]["rawSql"])
    last = story.judgements[-1]
    assert row == {
        "Recommendation": last.action,
        "Variant": last.recommended,
        "Experiment": "running",
        "Judged": last.at,
    }


def test_the_last_verification_is_shown(story: Story):
    (row,) = run(story, QUERIES["Are the numbers sound? A"]["rawSql"])
    assert row == {"Verified": "counts equal outcomes", "When": story.verified[-1][0]}


def test_every_ab_test_is_listed_and_nothing_else(story: Story):
    rows = run(story, QUERIES["All A/B tests A"]["rawSql"])
    assert [(row["Test"], row["Status"]) for row in rows] == [("other", "running"), ("an amount", "stopped")]
    assert rows[0]["Calls a"] + rows[0]["Calls b"] == 30
    assert float(rows[0]["Quality b"]) == pytest.approx(0.1)


def test_the_experiments_to_choose_from_begin_with_those_that_run(story: Story):
    (variable,) = dashboards()[FILE]["templating"]["list"]
    assert [row["key"] for row in run(story, variable["query"])] == ["other", KEY, "an amount"]


def test_a_key_cannot_break_out_of_its_query(story: Story):
    text = expanded_sql(
        QUERIES["What to do A"]["rawSql"], start=START, end=END, variables={"experiment": "x' OR 'x' = 'x"}
    )
    with psycopg.connect(story.dsn) as connection:
        assert connection.execute(text.encode()).fetchall() == []


# --- what the role may not ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM transcripts",
        "SELECT * FROM api_keys",
        "SELECT * FROM audit",
        "SELECT * FROM outcomes",
        "SELECT * FROM outcome_revisions",
        "SELECT * FROM assignments",
        "SELECT * FROM llm_calls",
        "SELECT * FROM suggestions",
        "SELECT system_prompt FROM prompt_versions",
        "SELECT unit_id FROM calls",
        "SELECT salt FROM experiments",
        "SELECT final_report FROM experiments",
    ],
)
def test_the_role_sees_no_transcript_no_prompt_no_call_and_no_key(story: Story, statement: str):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(story, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM counts",
        "UPDATE standings SET share_bp = 0",
        "INSERT INTO verifications (at, compared, differences) VALUES (now(), 1, 0)",
        "CREATE TABLE own (id int)",
        "SET default_transaction_read_only = off; DELETE FROM counts",
    ],
)
def test_the_role_changes_nothing(story: Story, statement: str):
    refused = (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)
    with pytest.raises(refused):
        run(story, statement)
