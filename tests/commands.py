"""Run `promptbandit ...` as a process of its own, without waiting seconds for its imports.

A parent that has imported everything forks for each command. What runs is the real command in a fresh process
with its own environment, files and exit code; only what every command imports is there already. A server is
such a command, too: it goes on until it is told to end.

`python -m tests.commands FOLDER` is that parent; it ends with whoever started it.
"""

import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn

from tests.postgres import die_with_parent

STARTUP_S = 90.0
DEADLINE_S = 120.0
SOCKET = "commands"
UNKNOWN = -1_000
_ONE = threading.Lock()
# What a command, or a server that has answered its first requests, has imported.
EARLY = (
    "aiosqlite",
    "api.app",
    "engine.beta_binomial",
    "migrations.run",
    "psycopg",
    "service.reallocate",
    "service.report",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
)


def run_command(
    *arguments: str, environment: Mapping[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The exit code and what was printed; the environment is whole, nothing is added."""
    with tempfile.TemporaryDirectory(prefix="promptbandit-command-") as said:
        streams = [str(Path(said) / name) for name in ("stdout", "stderr")]
        order = _order(arguments, environment, folder, streams)
        with _asked(order) as asked:
            answer = asked.recv(16)
        stdout, stderr = (Path(stream).read_text() for stream in streams)
    code = int(answer) if answer else -signal.SIGKILL
    return subprocess.CompletedProcess(["promptbandit", *arguments], code, stdout, stderr)


class Lasting:
    """A command that goes on, as `subprocess.Popen` has it; the handle is the kernel's: no other process is meant."""

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self._handle = handle
        self._end = weakref.finalize(self, os.close, handle)

    def poll(self) -> int | None:
        """None while it runs; nobody learns its exit code, so it is none that a process can have."""
        return UNKNOWN if _has_ended(self._handle, 0.0) else None

    def wait(self, timeout: float) -> int:
        """Wait for its end."""
        if not _has_ended(self._handle, timeout):
            raise subprocess.TimeoutExpired("promptbandit", timeout)
        return UNKNOWN

    def terminate(self) -> None:
        """SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)


def _has_ended(handle: int, timeout_s: float) -> bool:
    watch = select.poll()
    watch.register(handle, select.POLLIN)
    return bool(watch.poll(timeout_s * 1000))


def start_command(*arguments: str, environment: Mapping[str, str], log: Path) -> Lasting:
    """Start a command that goes on; what it prints is added to `log`. Linux only."""
    order = _order(arguments, environment, None, [str(log)] * 2) | {"lasting": True}
    with _asked(order) as asked:
        answer, handles, _, _ = socket.recv_fds(asked, 16, 1)
    if not handles:
        raise RuntimeError(f"promptbandit {' '.join(arguments)} did not start")
    return Lasting(int(answer), handles[0])


def _order(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None, streams: Sequence[str]
) -> dict[str, object]:
    return {
        "arguments": arguments,
        "environment": dict(environment),
        "folder": str(folder or Path.cwd()),
        "streams": streams,
    }


@contextlib.contextmanager
def _asked(order: Mapping[str, object]) -> Iterator[socket.socket]:
    """A connection to a process that has this order."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(DEADLINE_S)
        asked.connect(str(_parent() / SOCKET))
        asked.sendall(json.dumps(order).encode())
        asked.shutdown(socket.SHUT_WR)
        yield asked


def _parent() -> Path:
    """The folder of a parent that listens; one for this process and as long as it lives."""
    with _ONE:
        return _made_parent()


@cache
def _made_parent() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="promptbandit-commands-"))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.commands", str(folder)],
        cwd=Path(__file__).resolve().parents[1],
        # What is imported early sees no setting of this session's.
        env={
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PROMPTBANDIT_", "PROMETHEUS_"))
        },
        start_new_session=True,
        # Its end is that of this process. A signal would come with the end of the thread that asked first.
        stdin=subprocess.PIPE,
    )
    atexit.register(_end, process, folder)
    deadline = time.monotonic() + STARTUP_S
    while not (folder / "ready").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"no parent for commands: exit code {process.poll()}")
        time.sleep(0.02)
    return folder


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.communicate()
    shutil.rmtree(folder, ignore_errors=True)


def _listen(folder: Path) -> None:
    """Fork for each order, until whoever started it has ended."""
    from importlib import import_module

    from cli.main import COMMANDS

    for module in (*EARLY, *{home for home, _ in COMMANDS.values()}):
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / SOCKET))
        listening.listen(64)
        (folder / "ready").touch()
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            asked, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _obey(asked)
            asked.close()


def _obey(asked: socket.socket) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        told = bytearray()
        while part := asked.recv(65_536):
            told += part
        order = json.loads(told)
        if order.get("lasting"):
            die_with_parent()
            socket.send_fds(asked, [str(os.getpid()).encode()], [os.pidfd_open(os.getpid())])
            asked.close()
        code = _do(order)
    finally:
        with contextlib.suppress(OSError):  # of one that lasts nobody asks
            asked.sendall(str(code).encode())
        os._exit(code)


def _do(order: dict[str, object]) -> int:
    from cli.main import main

    os.chdir(str(order["folder"]))
    os.environ.clear()
    os.environ.update(order["environment"])  # type: ignore[call-overload]
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    for number, path in enumerate(order["streams"], 1):  # type: ignore[arg-type, var-annotated]
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.argv = ["promptbandit", *order["arguments"]]  # type: ignore[misc]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    _listen(Path(sys.argv[1]))
