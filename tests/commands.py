"""Run `promptbandit ...` as a process of its own, without waiting a second for its imports.

A parent that has imported everything forks for each command. What runs is the real command in a fresh process
with its own environment, files and exit code; only what every command imports is there already.

`python -m tests.commands FOLDER` is that parent; it ends with whoever started it.
"""

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NoReturn

from tests.postgres import die_with_parent

STARTUP_S = 90.0
DEADLINE_S = 120.0
SOCKET = "commands"


def run_command(
    *arguments: str, environment: Mapping[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The exit code and what was printed; the environment is whole, nothing is added."""
    with tempfile.TemporaryDirectory(prefix="promptbandit-command-") as said:
        streams = [str(Path(said) / name) for name in ("stdout", "stderr")]
        order = {
            "arguments": arguments,
            "environment": dict(environment),
            "folder": str(folder or Path.cwd()),
            "streams": streams,
        }
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(DEADLINE_S)
            asked.connect(str(_parent() / SOCKET))
            asked.sendall(json.dumps(order).encode())
            asked.shutdown(socket.SHUT_WR)
            answer = asked.recv(16)
        stdout, stderr = (Path(stream).read_text() for stream in streams)
    code = int(answer) if answer else -signal.SIGKILL
    return subprocess.CompletedProcess(["promptbandit", *arguments], code, stdout, stderr)


@cache
def _parent() -> Path:
    """The folder of a parent that listens; one for this process and as long as it lives."""
    folder = Path(tempfile.mkdtemp(prefix="promptbandit-commands-"))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.commands", str(folder)],
        cwd=Path(__file__).resolve().parents[1],
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, loaded before
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
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _listen(folder: Path) -> NoReturn:
    """Fork for each order, for ever."""
    from importlib import import_module

    from cli.main import COMMANDS

    for module in ("aiosqlite", "psycopg", "engine.beta_binomial", *{home for home, _ in COMMANDS.values()}):
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / SOCKET))
        listening.listen(64)
        (folder / "ready").touch()
        while True:
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
        code = _do(json.loads(told))
    finally:
        asked.sendall(str(code).encode())
        os._exit(code)


def _do(order: dict[str, object]) -> int:
    from cli.main import main

    os.chdir(str(order["folder"]))
    os.environ.clear()
    os.environ.update(order["environment"])  # type: ignore[call-overload]
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    for number, path in enumerate(order["streams"], 1):  # type: ignore[arg-type, var-annotated]
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
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
