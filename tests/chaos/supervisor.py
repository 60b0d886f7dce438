"""Keeps a server running as systemd does: started again when it dies, its whole process group ended with it.

    python tests/chaos/supervisor.py STATE COMMAND...

STATE is a file that holds the process id and the number of the start. SIGTERM stops server and supervisor.
Standard library only and no package around it, so that it is up at once.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

GRACE_S = 15.0
PAUSE_S = 0.2  # between starts
PR_SET_PDEATHSIG = 1


class Supervisor:
    """One server, again and again."""

    def __init__(self, state: Path, command: list[str]) -> None:
        self._state = state
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGCONT)
                self._process.terminate()

    def _die_with_parent(self) -> None:
        if self._libc is not None:
            self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    def run(self) -> None:
        """Until SIGTERM."""
        number = 0
        while not self._stopping:
            number += 1
            self._process = subprocess.Popen(
                self._command,
                start_new_session=True,
                preexec_fn=self._die_with_parent,  # noqa: PLW1509 - one system call, loaded before
            )
            fresh = self._state.with_suffix(".new")
            fresh.write_text(f"{self._process.pid} {number}")
            fresh.replace(self._state)
            self._wait(self._process)
            # The workers of a parent that was killed go on serving and keep the port.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            if not self._stopping:
                time.sleep(PAUSE_S)

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        until = None
        while process.poll() is None:
            if self._stopping:
                until = until or time.monotonic() + GRACE_S
                if time.monotonic() > until:
                    return
            time.sleep(0.02)


if __name__ == "__main__":
    Supervisor(Path(sys.argv[1]), sys.argv[2:]).run()
