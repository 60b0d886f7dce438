"""Every panel of the service's health is evaluated by a real Prometheus that scrapes a real server."""

import asyncio
import datetime as dt
import math
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from domain.keys import Scope
from migrations import migrate
from service.manage_keys import create_key
from service.reallocate import ids_to_pass, reallocate_fully
from service.verify import note_verified, verify
from storage.database import Database
from tests.dashboards.grafana import expanded_promql, targets
from tests.dashboards.prometheus import PROGRAM, PROMTOOL, REASON, Prometheus
from tests.postgres import Postgres
from tests.running_server import RunningServer

pytestmark = [
    pytest.mark.skipif(PROGRAM is None or PROMTOOL is None, reason=REASON),
    pytest.mark.timeout(600),  # three programs start, and everything is waited for
]

FILE = "service-health.json"
QUERIES = {name: expanded_promql(target["expr"]) for name, target in targets(FILE)}
DEADLINE_S = 90.0
KEY = "watched: #1"
TOLD_BEFORE = 20  # outcomes, before Prometheus began to look

Series = dict[str, float]


@dataclass
class Watched:
    """A server with two workers, and a Prometheus that scrapes it while calls go on."""

    server: RunningServer
    prometheus: Prometheus
    report: dict[str, Any]
    assigned: int = 0
    told: dict[str, int] = field(default_factory=lambda: {"accepted": TOLD_BEFORE})

    def call(self) -> None:
        """A call with its outcome, and an outcome that is refused."""
        unit = f"call-{self.assigned}"
        answer = self.server.assign(unit)
        assert answer["experiment"] == KEY
        self.assigned += 1
        good = {"prompt": "support", "unit_id": unit, "metrics": {"resolved": True}}
        bad = {"prompt": "support", "unit_id": unit, "metrics": {"resolved": 7}}
        results = self.server.manager.post("/outcomes", json=[good, bad]).json()["results"]
        for result in results:
            self.told[result["status"]] = self.told.get(result["status"], 0) + 1

    def series(self, query: str) -> Series:
        """The values of a query by the labels of the series."""
        return {_name(item["metric"]): float(item["value"][1]) for item in self.prometheus.query(query)}

    def wait_for(self, query: str, condition: Callable[[Series], bool]) -> Series:
        """Calls go on until the condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found = self.series(query)
            if condition(found):
                return found
            assert time.monotonic() < deadline, (query, found)
            self.call()
            time.sleep(0.2)


def _name(labels: dict[str, str]) -> str:
    return " ".join(value for label, value in sorted(labels.items()) if label not in ("job", "instance"))


@pytest.fixture(scope="module")
def watched(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    url = postgres.create_database("watched")
    # Nothing here is about deadlines; on a busy machine they would turn SPLIT into STALE.
    environment = {
        "PROMPTBANDIT_SOFT_DEADLINE_MS": "30000",
        "PROMPTBANDIT_OUTCOME_DEADLINE_MS": "30000",
        "PROMPTBANDIT_REALLOCATE_EVERY_S": "0",
    }
    made = RunningServer(url, folder, workers=2, environment=environment)
    made.take_keys(asyncio.run(_keys(url)))
    with made as server:
        server.start_experiment(KEY)
        _wait_until_every_worker_knows(server)
        report = _judged(server)
        target, key = server.url.removeprefix("http://"), server.key("analyst")
        with Prometheus(folder, target=target, key=key) as prometheus:
            found = Watched(server, prometheus, report)
            found.wait_for('up{job="promptbandit"}', lambda series: list(series.values()) == [1.0])
            yield found
    postgres.drop_database("watched")


async def _keys(url: str) -> dict[str, str]:
    database = Database(url)
    try:
        await migrate(database)
        async with database.writing() as connection:
            scopes: tuple[Scope, ...] = ("manager", "analyst")
            now = dt.datetime.now(dt.UTC)
            return {
                scope: await create_key(connection, scope, name="", actor="test", now=now) for scope in scopes
            }
    finally:
        await database.close()


async def _judge_and_verify(url: str) -> None:
    """What `promptbandit reallocate` and `promptbandit verify` do."""
    database = Database(url)

    def clock() -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    try:
        async with database.reading() as connection:
            (experiment_id,) = await ids_to_pass(connection)
        await reallocate_fully(database, experiment_id, clock)
        async with database.writing() as connection:
            await note_verified(connection, await verify(connection), now=clock())
    finally:
        await database.close()


def _wait_until_every_worker_knows(server: RunningServer) -> None:
    """Each reads the state once a second; before that it would refuse the prompt or serve no experiment."""
    deadline = time.monotonic() + DEADLINE_S
    in_a_row = 0
    while in_a_row < 20:
        body = {"prompt": "support", "unit_id": f"early-{time.monotonic_ns()}"}
        with server.client("manager") as client:  # a new connection, so that any worker may take it
            answer = client.post("/assignments", json=body)
        knows = answer.status_code == 200 and answer.json()["experiment"] == KEY
        in_a_row = in_a_row + 1 if knows else 0
        assert time.monotonic() < deadline, answer.text


def _judged(server: RunningServer) -> dict[str, Any]:
    """The only judgement of the experiment, and the report of that moment; every third call has no outcome."""
    for number in range(30):
        server.assign(f"judged-{number}")
        if number % 3:
            server.record(f"judged-{number}", metrics={"resolved": number % 2 == 0})
    asyncio.run(_judge_and_verify(server.database_url))
    answer = server.manager.get(f"/experiments/{urllib.parse.quote(KEY)}/report")
    return dict(answer.json())


def between(low: float, high: float) -> Callable[[Series], bool]:
    return lambda series: bool(series) and all(low <= value <= high for value in series.values())


def positive(*names: str) -> Callable[[Series], bool]:
    """These series are there, and above 0."""
    return lambda series: all(series.get(name, 0.0) > 0.0 for name in names)


def split(series: Series) -> bool:
    return series == {f"{KEY} a": 0.5, f"{KEY} b": 0.5}


# What each panel must come to show; while it does not, more calls are made.
SHOWN: dict[str, Callable[[Series], bool]] = {
    "Storage A": lambda series: series == {"": 1.0},
    "From memory A": lambda series: series == {"": 0.0},
    "Backlog A": lambda series: series == {"": 0.0},
    "Dropped in a day A": lambda series: series == {"": 0.0},
    "Counts verified A": lambda series: series == {"": 1.0},
    "Verified ago A": between(0.0, 3_600.0),
    "Requests per second A": positive("/assignments", "/outcomes", "/metrics"),
    "Time to answer A": positive("/assignments", "/outcomes"),
    "Time to answer B": positive("/assignments", "/outcomes"),
    "Assignments by reason A": lambda s: (
        positive("SPLIT")(s) and s["STALE"] == s["DEFAULT"] == s["STATIC"] == 0.0
    ),
    "Outcomes by status A": lambda s: positive("accepted", "rejected")(s) and s["parked"] == 0.0,
    "Backlog and storage A": lambda series: list(series.values()) == [0.0],
    "Backlog and storage B": lambda series: list(series.values()) == [1.0],
    "Split A": split,
    "Age of the split A": between(0.0, 3_600.0),
    "Judged ago A": between(0.0, 3_600.0),
    "Missing outcomes A": between(0.01, 0.99),  # exactly: below
    "Sample ratio: evidence against the split A": between(1e-9, 1_000.0),
}


def test_every_query_is_checked():
    assert set(SHOWN) == set(QUERIES)


@pytest.mark.parametrize("name", SHOWN)
def test_a_panel_shows_what_happens(watched: Watched, name: str):
    found = watched.wait_for(QUERIES[name], SHOWN[name])
    assert not any(math.isnan(value) for value in found.values())


def test_what_was_judged_is_what_the_report_said(watched: Watched):
    report = watched.report
    missing = {f"{KEY} {variant['key']}": variant["missing"] for variant in report["variants"]}
    name = "Missing outcomes A"
    assert watched.wait_for(QUERIES[name], SHOWN[name]) == pytest.approx(missing)
    name = "Sample ratio: evidence against the split A"
    ratio = {KEY: report["sample_ratio"]["e_value"]}
    assert watched.wait_for(QUERIES[name], SHOWN[name]) == pytest.approx(ratio)


def test_prometheus_has_counted_every_call_of_both_workers(watched: Watched):
    """Exactly: what the agents saw is what the sum over the workers says."""
    for _ in range(20):
        watched.call()
    before = watched.assigned
    query = 'sum by (status) (promptbandit_outcomes_total{status=~"accepted|rejected"})'
    deadline = time.monotonic() + DEADLINE_S
    while (found := watched.series(query)) != watched.told:
        assert time.monotonic() < deadline, (found, watched.told)
        time.sleep(0.2)
    assert watched.assigned == before
    assert watched.told == {"accepted": before + TOLD_BEFORE, "rejected": before}


def test_every_alert_rule_is_evaluated_without_an_error(watched: Watched):
    def evaluated() -> list[dict[str, Any]]:
        return [rule for rule in watched.prometheus.rules() if rule["health"] != "unknown"]

    deadline = time.monotonic() + DEADLINE_S
    while len(rules := evaluated()) < len(watched.prometheus.rules()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert rules
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"} == {}
