"""No orphans and nothing left behind, however this process ends.

A child gets a signal when the thread that started it ends; what a signal cannot do is left to a last will.
"""

import ctypes
import signal
import subprocess
import sys
from functools import partial

_PR_SET_PDEATHSIG = 1
# Loaded before the fork: afterwards another user may not read the interpreter's folder.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _ask_for(number: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number)


die_with_parent = partial(_ask_for, signal.SIGKILL)
stop_with_parent = partial(_ask_for, signal.SIGTERM)


class LastWill:
    """Shell commands that run when this process has ended, or when they are told to."""

    def __init__(self, *commands: str) -> None:
        script = "; ".join(("cat > /dev/null", *commands))  # its input ends with us
        self._process = subprocess.Popen(
            ["sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def execute(self) -> None:
        """Now, and wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
