"""A real server in a process of its own, on a database in a temporary folder."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import httpx

START_S = 60.0


class DemoServer:
    """`promptbandit serve` on a free port, with a manager's key.

    Parameters
    ----------
    settings : of the server by their names, such as `soft_deadline_ms`; the others are the product's.
    """

    def __init__(self, folder: Path, **settings: str | int) -> None:
        self._settings = {f"PROMPTBANDIT_{name.upper()}": str(value) for name, value in settings.items()}
        self.database_url = f"sqlite:///{folder / 'demo.db'}"
        self.log = folder / "server.log"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = self.command("keys", "create", "--scope", "manager", "--name", "demo")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The manager's key as HTTP wants it."""
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def _environment(self) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTBANDIT_")}
        return others | {
            "PROMPTBANDIT_DATABASE_URL": self.database_url,
            "PROMPTBANDIT_REALLOCATE_EVERY_S": "1",
            "PROMPTBANDIT_LOG_LEVEL": "warning",
            **self._settings,
        }

    def command(self, *arguments: str, **settings: str) -> str:
        """What `promptbandit ...` says in a process of its own on this database, with these settings besides."""
        more = {f"PROMPTBANDIT_{name.upper()}": value for name, value in settings.items()}
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            env=self._environment | more,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"promptbandit {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def verify(self) -> str:
        """What `promptbandit verify` says."""
        return self.command("verify")

    def wait(self) -> None:
        """Until the server ends."""
        if self._process is not None:
            self._process.wait()

    def __enter__(self) -> "DemoServer":
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli", "serve", "--port", str(self.port)],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {self.log.read_text()[-1000:]}")
            time.sleep(0.1)
        return self

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=1.0).status_code == 200
        except httpx.TransportError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def ok(answer: httpx.Response) -> bytes:
    """The body of an answer; RuntimeError where it is none that a demo expects."""
    if answer.is_error:
        raise RuntimeError(f"{answer.request.url}: {answer.status_code} {answer.text}")
    return answer.content


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
