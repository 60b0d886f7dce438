"""What Prometheus sees."""

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.metrics import ServerMetrics
from api.watched import GAUGES, Noted, Watched
from domain.standings import Judgement, Standing, Verification
from tests.api.metrics_text import Scrape, scrape, wait_for
from tests.api.tables import select
from tests.conftest import NOW
from tests.running_server import RunningServer

# Servers of several processes start, each of which imports for seconds; much longer where the machine is busy.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]
RESTART_S = 100.0  # a worker imports for seconds; much longer where the machine is busy


def judgement(**more: object) -> Judgement:
    fields = {
        "experiment_id": 1,
        "experiment": "greeting",
        "policy": "thompson",
        "at": NOW,
        "action": "keep_collecting",
        "recommended": None,
        "sample_ratio_e_value": 2.5,
        "sample_ratio_mismatch": False,
        "standings": (),
    }
    return Judgement(**(fields | more))  # type: ignore[arg-type]


def standing(**more: object) -> Standing:
    fields = {
        "variant_id": 1,
        "variant": "a",
        "share_bp": 5_000,
        "assigned": 120,
        "matured": 100,
        "told": 75,
        "probability_best": 0.25,
        "e_value": None,
        "e_needed": None,
    }
    return Standing(**(fields | more))  # type: ignore[arg-type]


def shown(metrics: ServerMetrics, noted: Noted | None = None) -> Scrape:
    return Scrape(metrics.text(Watched(None, noted or Noted(), NOW)).decode())


def test_two_servers_of_one_process_count_apart():
    one, other = ServerMetrics(), ServerMetrics()
    one.assignments.labels("SPLIT").inc(3)
    one.note(waiting=7, dropped=2, is_away=True)
    assert shown(one)("assignments_total", reason="SPLIT") == 3
    assert shown(other)("assignments_total", reason="SPLIT") == 0
    assert (shown(one)("backlog"), shown(one)("storage_up")) == (7, 0)
    assert (shown(other)("backlog"), shown(other)("assignments_dropped_total")) == (0, 0)


def test_a_worker_that_has_not_looked_yet_is_no_outage():
    """Others may be asked meanwhile, and the smallest value of all workers is shown."""
    assert shown(ServerMetrics())("storage_up") == 1


def test_what_was_dropped_is_counted_once_however_often_it_is_told():
    metrics = ServerMetrics()
    for dropped in (0, 2, 2, 5, 5):
        metrics.note(waiting=0, dropped=dropped, is_away=False)
    assert shown(metrics)("assignments_dropped_total") == 5


def test_every_reason_and_status_is_there_from_the_start():
    """The rate of a counter that appears with its first event does not know that event."""
    found = shown(ServerMetrics())
    assert {dict(labels)["reason"] for labels in found.labels_of("assignments_total")} == {
        "SPLIT",
        "STATIC",
        "STALE",
        "DEFAULT",
    }
    assert len(found.labels_of("outcomes_total")) == 5


def test_an_experiment_that_is_not_served_is_not_shown():
    """Its last standing is in the table for 90 days; Prometheus would alarm for ever."""
    noted = Noted(judgements=(judgement(standings=(standing(),)),))
    assert not [name for name in shown(ServerMetrics(), noted).names() if "missing" in name]


@pytest.mark.parametrize(("differences", "ok"), [(0, 1.0), (3, 0.0)])
def test_the_last_verification_is_shown_with_its_time(differences: int, ok: float):
    noted = Noted(verification=Verification(at=NOW, compared=10, differences=differences))
    found = shown(ServerMetrics(), noted)
    assert (found("verify_ok"), found("verify_timestamp_seconds")) == (ok, NOW.timestamp())


def test_the_standing_of_an_experiment_is_shown_until_it_ends(shared: RunningServer):
    """Against the report: the server judges a new experiment in its first pass."""
    shared.create_version("standing", "Old.")
    shared.start_experiment("standing", "standing")
    metrics = wait_for(
        shared.manager, lambda s: s("standing_timestamp_seconds", experiment="standing") is not None
    )
    report = shared.manager.get("/experiments/standing/report").json()
    assert metrics("split_moves", experiment="standing") == 0
    assert metrics("sample_ratio_e_value", experiment="standing") == report["sample_ratio"]["e_value"] == 1
    assert metrics("sample_ratio_mismatch", experiment="standing") == 0
    at = metrics("standing_timestamp_seconds", experiment="standing")
    assert at == pytest.approx(dt.datetime.now(dt.UTC).timestamp(), abs=60)
    for variant in report["variants"]:
        labels = {"experiment": "standing", "variant": variant["key"]}
        assert metrics("probability_best", **labels) == variant["probability_best"] == pytest.approx(0.5)
        assert metrics("matured_calls", **labels) == metrics("missing_calls", **labels) == 0
        assert metrics("missing_share", **labels) is None  # nothing has matured: no share
    assert metrics("e_value", experiment="standing", variant="a") is None
    assert metrics("e_value", experiment="standing", variant="b") == 1
    assert metrics("e_value_needed", experiment="standing", variant="b") == pytest.approx(20)
    shared.manager.patch("/experiments/standing/stop")
    wait_for(shared.manager, lambda s: not [k for k in s.values if ("experiment", "standing") in k[1]])


def test_what_verify_found_reaches_the_metrics(sqlite_server: RunningServer):
    assert scrape(sqlite_server.manager)("verify_ok") is None
    assert sqlite_server.command("verify").returncode == 0
    found = wait_for(sqlite_server.manager, lambda s: s("verify_ok") == 1)
    assert found("verify_timestamp_seconds") == pytest.approx(time.time(), abs=120)
    assert select(sqlite_server, "SELECT differences, first_difference FROM verifications") == [(0, None)]


def test_no_label_grows_with_what_callers_send(shared: RunningServer):
    """Units, paths, prompts and keys are not bounded, so they are no labels."""
    shared.create_version("labels", "Old.")
    for number in range(3):
        shared.assign(f"labels-{number}", "labels")
        shared.manager.get(f"/no/such/path/{number}")
        shared.manager.get(f"/experiments/unknown-{number}")
        shared.manager.post("/assignments", json={"prompt": f"unknown-{number}", "unit_id": "1"})
    text = shared.manager.get("/metrics").text
    assert "unknown-" not in text
    assert "labels-" not in text
    labels = {label for _, of_one in Scrape(text).values for label, _ in of_one}
    bounded = {"reason", "status", "result", "route", "le", "experiment", "variant"}
    assert labels <= bounded


# --- several workers --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One `serve` with three workers."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "tmp").mkdir()
    environment = {"TMPDIR": str(folder / "tmp"), "PROMETHEUS_MULTIPROC_DIR": str(folder / "of another")}
    url = f"sqlite:///{folder / 'fleet.db'}"
    with RunningServer(url, folder, workers=3, environment=environment) as server:
        yield server


def metrics_folders(server: RunningServer) -> list[Path]:
    return list((server.folder / "tmp").glob("promptbandit-metrics-*"))


def workers_of(server: RunningServer) -> set[int]:
    """The process ids that told something."""
    (folder,) = metrics_folders(server)
    return {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_livesum_*.db")}


def ask(server: RunningServer, unit: str) -> None:
    """On a new connection, so that any worker may take it; one that has not seen the prompt yet is asked again."""
    body = {"prompt": "support", "unit_id": unit}
    headers = {"Authorization": f"Bearer {server.key('manager')}"}
    deadline = time.monotonic() + RESTART_S
    while True:
        answer = httpx.post(server.url + "/assignments", json=body, headers=headers, verify=False, timeout=30)
        if answer.status_code == 200:
            return
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)


def test_any_worker_tells_what_all_have_counted(fleet: RunningServer):
    fleet.create_version("support", "Old.")
    before = sum(scrape_reasons(fleet.manager).values())
    for number in range(30):
        ask(fleet, f"counted-{number}")
    for _ in range(10):
        with fleet.client("manager") as client:  # a new connection each, so that several workers answer
            assert sum(scrape_reasons(client).values()) == before + 30


def scrape_reasons(client: httpx.Client) -> dict[str, float]:
    found = scrape(client)
    return {reason: found("assignments_total", reason=reason) or 0.0 for reason in ("STATIC", "STALE")}


def test_a_worker_that_dies_leaves_what_it_counted_and_no_gauge(fleet: RunningServer):
    fleet.create_version("dying", "Old.")
    wait_for(fleet.manager, lambda _: len(workers_of(fleet)) == 3)
    with fleet.client("manager") as client:
        before = sum(scrape_reasons(client).values())
    victim = max(workers_of(fleet))
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + RESTART_S
    # The supervisor starts another one; its gauges come, those of the dead one go.
    while victim in workers_of(fleet) or len(workers_of(fleet)) != 3:
        assert time.monotonic() < deadline, workers_of(fleet)
        try:
            with fleet.client("manager") as client:
                found = scrape(client)
        except httpx.TransportError:  # the connection that the dead one had taken
            continue
        assert found("backlog") == 0
        time.sleep(0.1)
    with fleet.client("manager") as client:  # a new connection: the other one may have been the dead one's
        wait_for(client, lambda found: found("storage_up") == 1)
        assert sum(scrape_reasons(client).values()) == before


def test_the_folder_of_the_metrics_goes_with_the_server(tmp_path: Path):
    (tmp_path / "tmp").mkdir()
    url = f"sqlite:///{tmp_path / 'short.db'}"
    environment = {"TMPDIR": str(tmp_path / "tmp")}
    with RunningServer(url, tmp_path, workers=2, environment=environment) as server:
        (folder,) = metrics_folders(server)
        assert folder.stat().st_mode & 0o077 == 0  # nobody else reads or writes there
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_gauge_of_a_dead_worker_goes_although_its_process_id_lives(tmp_path: Path):
    """A process id is given out again; the lock that the worker held is not."""
    program = """
import os
from api.metrics import ServerMetrics
ServerMetrics().note(waiting=5, dropped=1, is_away=True)
print(os.getpid())
"""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    dead = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.strip()
    for path in tmp_path.glob(f"*_{dead}.*"):  # as if the process that the system gave its id to were it
        path.rename(path.with_name(path.name.replace(dead, str(os.getpid()))))
    living = """
from api.metrics import ServerMetrics
from api.watched import Noted, Watched
import datetime as dt
metrics = ServerMetrics()
metrics.note(waiting=2, dropped=0, is_away=False)
print(metrics.text(Watched(None, Noted(), dt.datetime.now(dt.UTC))).decode())
"""
    said = subprocess.run(
        [sys.executable, "-c", living],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    found = Scrape(said)
    assert (found("backlog"), found("storage_up")) == (2, 1)
    assert found("assignments_dropped_total") == 1


def test_every_gauge_of_an_experiment_is_filled_from_its_standing():
    """None is listed that nothing sets."""
    from api import watched

    whole = judgement(
        standings=(standing(e_value=3.0, e_needed=20.0),),
        sample_ratio_e_value=None,
        sample_ratio_mismatch=True,
    )
    of_one = {name: value for name, _, value in watched._standings(whole)}
    assert of_one["sample_ratio_e_value"] == float("inf")  # beyond 1e300
    assert (of_one["missing_calls"], of_one["missing_share"]) == (25.0, 0.25)
    of_splits = {"split_share", "allocation_age_seconds", "verify_ok", "verify_timestamp_seconds"}
    assert set(of_one) | of_splits == set(GAUGES)
    assert None not in of_one.values()
