"""The harness's own parts: the clock that can be wrong, the supervisor, the ledger, the processes of agents."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.clock import Clock, NoCompiler
from tests.chaos.crew import Crew
from tests.chaos.ledger import Ledger, Pen, Refused, read_ledger
from tests.chaos.report import figures, lines
from tests.chaos.run import Outcome
from tests.chaos.small import LEDGER, ROWS, rows
from tests.chaos.timing import Fault
from tests.postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
DAY_S = 86_400
TELL_TIME = "import time; input(); print(time.time(), time.monotonic())"


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


# --- the clock ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [400, -1, 0])
def test_only_the_wall_clock_of_a_process_is_shifted(tmp_path: Path, days: int):
    """And it is while the process runs: it is shifted before, set right, and shifted again."""
    try:
        clock = Clock(tmp_path)
    except NoCompiler as reason:
        pytest.skip(f"no clock to tamper with: {reason}")
    clock.shift(7 * DAY_S)
    environment = os.environ | clock.environment
    with subprocess.Popen(
        [sys.executable, "-c", TELL_TIME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        clock.shift(days * DAY_S)
        answer, _ = process.communicate(b"\n", timeout=PATIENCE_S)
    wall, monotonic = map(float, answer.split())
    assert wall - time.time() == pytest.approx(days * DAY_S, abs=PATIENCE_S)
    assert monotonic == pytest.approx(time.monotonic(), abs=PATIENCE_S)


# --- the supervisor -----------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """The state file of a supervisor whose server is a shell with a child."""
    path = tmp_path / "state"
    command = ["sh", "-c", "sleep 600 & echo $! > child; wait"]
    program = [sys.executable, str(ROOT / "tests" / "chaos" / "supervisor.py"), str(path), *command]
    with subprocess.Popen(program, cwd=tmp_path) as process:
        wait_until(lambda: (tmp_path / "child").exists() and bool((tmp_path / "child").read_text()))
        wait_until(path.exists)  # which the supervisor writes after it started the shell
        yield path
        process.terminate()


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_server_that_is_killed_is_started_again_and_leaves_no_orphan(state: Path):
    """The child of a parent that was killed would go on and keep the port."""
    child = int((state.parent / "child").read_text())
    pid, number = map(int, state.read_text().split())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: state.read_text().split()[1] != str(number))
    assert state.read_text().split()[1] == "2"
    wait_until(lambda: not alive(child))


def test_a_server_ends_with_its_supervisor(tmp_path: Path):
    program = [sys.executable, str(ROOT / "tests" / "chaos" / "supervisor.py"), "state", "sleep", "600"]
    with subprocess.Popen(program, cwd=tmp_path) as process:
        wait_until((tmp_path / "state").exists)
        pid = int((tmp_path / "state").read_text().split()[0])
        wait_until(lambda: "sleep" in Path(f"/proc/{pid}/cmdline").read_text())
        process.terminate()
        process.wait(PATIENCE_S)
    assert not alive(pid)


# --- last wills ---------------------------------------------------------------------------------------

LEAVE_BEHIND = (
    "from tests.chaos.parting import LastWill; will = LastWill('touch done'); print(1, flush=True); input()"
)


def test_a_last_will_is_executed_when_its_process_is_killed(tmp_path: Path):
    """Such as unmounting: a killed test run can no longer do it."""
    with subprocess.Popen(
        [sys.executable, "-c", LEAVE_BEHIND],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        assert not (tmp_path / "done").exists()
        process.kill()
    wait_until((tmp_path / "done").exists)


# --- the ledger ---------------------------------------------------------------------------------------


def write(path: Path, ledger: Ledger) -> None:
    pen = Pen(path)
    for part in ("asked", "told", "acked", "refused", "sums"):
        for event in getattr(ledger, part):
            pen.write(event)
    pen.close()


def test_what_was_written_is_read(tmp_path: Path):
    written = Ledger(
        asked=LEDGER.asked,
        told=LEDGER.told,
        acked=LEDGER.acked,
        refused=[Refused(at=1.0, unit="one", why="so")],
        sums=LEDGER.sums,
    )
    write(tmp_path / "a", written)
    assert read_ledger([tmp_path / "a"]) == written


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path):
    write(tmp_path / "a", Ledger(acked=LEDGER.acked))
    path = tmp_path / "a"
    path.write_bytes(path.read_bytes()[:-5])
    assert read_ledger([path]).acked == LEDGER.acked[:-1]


def test_only_what_had_been_seen_by_then_is_in_a_ledger_until_then():
    part = LEDGER.until(2.5)
    assert (len(part.asked), len(part.told), len(part.acked)) == (3, 3, 0)


# --- agents -------------------------------------------------------------------------------------------


def test_agents_without_a_server_give_every_call_the_fallback_and_keep_its_outcome(tmp_path: Path):
    crew = Crew(f"http://127.0.0.1:{free_port()}", "key", tmp_path, seed=1, rate=50.0, processes=1)
    try:
        crew.go()
        wait_until(lambda: len(crew.ledger().told) >= 10)
        assert not crew.drain(0.5)
        ledger = crew.ledger()
    finally:
        crew.close()
    assert {event.source for event in ledger.asked} == {"fallback"}
    assert all(not event.problem for event in ledger.asked)
    (sums,) = ledger.sums
    assert (sums.sent, sums.dropped) == (0, 0)
    assert sums.recorded >= sums.waiting > 0


# --- the report ---------------------------------------------------------------------------------------


def run_of(**changed: object) -> Outcome:
    faults = [Fault("kill_postgres", 0.1, 0.9, cut=False)]
    return Outcome(LEDGER, rows(**changed), faults, [1.0], (0.0, 0.0, 0.0))


def test_a_good_run_shows_figures_and_no_violation():
    told = figures(run_of())
    assert told["outcomes acknowledged"] == "3 of 3 told"
    assert told["lost"] == "0"
    assert "VIOLATED" not in "\n".join(lines(run_of()))


def test_a_bad_run_names_what_is_violated_and_by_whom():
    text = "\n".join(lines(run_of(outcomes=ROWS.outcomes[:-1])))
    assert "VIOLATED lost: 1, such as three duration_s" in text


def test_a_harness_that_is_late_makes_its_run_void():
    late = run_of()._replace(lag_ms=[60.0] * 100)
    assert late.is_void
    assert not run_of().is_void
