"""The server under supervision, seen from the harness: `promptbandit serve`, its parent and its workers."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.chaos.parting import stop_with_parent
from tests.commands import run_command
from tests.postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180.0  # for a start on a slow machine


class Running(NamedTuple):
    """The server's first process, and how many were started until it."""

    pid: int
    number: int


class Service:
    """A supervised server on one port for good.

    Parameters
    ----------
    entry : the module to run; the product's own, or one with a planted bug.
    """

    def __init__(
        self,
        database_url: str,
        folder: Path,
        *,
        workers: int = 2,
        entry: str = "cli",
        environment: dict[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.workers = workers
        self.log = folder / "server.log"
        self._folder = folder
        self._entry = entry
        self._own = {key: value for key, value in os.environ.items() if not key.startswith("PROMPTBANDIT_")}
        self._own |= {"PROMPTBANDIT_DATABASE_URL": database_url}
        self._served = self._own | (environment or {})
        self._state = folder / "server.state"
        self._supervisor: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> str:
        """Run `promptbandit ...` on the server's database; its output."""
        done = run_command(*arguments, environment=self._own)
        if done.returncode:
            raise RuntimeError(f"promptbandit {' '.join(arguments)}: {done.stderr[-1000:]}")
        return done.stdout.strip()

    def start(self, environment: dict[str, str] | None = None) -> None:
        """Start it and wait until it can serve."""
        self._served |= environment or {}
        arguments = ["serve", "--port", str(self.port), "--workers", str(self.workers)]
        with self.log.open("ab") as log:
            self._supervisor = subprocess.Popen(
                [
                    sys.executable,
                    str(ROOT / "tests" / "chaos" / "supervisor.py"),
                    str(self._state),
                    sys.executable,
                    "-m",
                    self._entry,
                    *arguments,
                ],
                cwd=ROOT,
                env=self._served,
                stdout=log,
                stderr=log,
                preexec_fn=stop_with_parent,  # noqa: PLW1509 - one system call, loaded before
            )
        self.wait_until_up()
        self.wait_until(lambda: self.get("/health/ready") == 200, "was not ready")

    def running(self) -> Running:
        """The process that runs now, or ran last."""
        pid, number = self._state.read_text().split()
        return Running(int(pid), int(number))

    def worker_pids(self) -> list[int]:
        """The processes that serve."""
        pid = self.running().pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except FileNotFoundError:
            return []
        return [int(child) for child in children if "spawn_main" in _command_line(int(child))]

    def signal_group(self, number: signal.Signals) -> None:
        """To the parent and all its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.running().pid, number)

    def get(self, path: str) -> int:
        """The status of a GET; 0 without an answer."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(self.url + path, timeout=2.0, verify=False).status_code
        return 0

    def log_count(self, text: str) -> int:
        """How often its log says so."""
        return self.log.read_text(errors="replace").count(text)

    def wait_until_up(self, *, number: int = 1, full: bool = False) -> None:
        """Until the start of this number, or a later one, answers; `full`: and all workers are there."""

        def is_up() -> bool:
            if not self._state.exists() or self.running().number < number or self.get("/health/live") != 200:
                return False
            return not full or self.workers == 1 or len(self.worker_pids()) == self.workers

        self.wait_until(is_up, "did not start")

    def wait_until(self, condition: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
        """Look again and again; RuntimeError when it does not come true."""
        until = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() > until:
                said = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the server {what} within {patience_s:g} s: {said}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End supervisor and server."""
        if self._supervisor is not None:
            self._supervisor.terminate()
            self._supervisor.wait(60)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
