"""The wall clock of the servers, which can be set wrong; what runs by the monotonic clock does not notice."""

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")


class NoCompiler(Exception):
    """No gcc on this machine, or it cannot compile the shim."""


class Clock:
    """`environment` is for the processes whose clock it is to be."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("gcc") is None:
            raise NoCompiler("gcc is not installed")
        self._offset = folder / "clock"
        self.shift(0)
        library = folder / "shim.so"
        command = ["gcc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoCompiler(done.stderr[-500:])
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._offset)}

    def shift(self, seconds: int) -> None:
        """Let the clock be wrong by so much from now on."""
        packed = struct.pack("q", seconds)
        if not self._offset.exists():
            self._offset.write_bytes(packed)
        with self._offset.open("r+b") as file:  # the same file always: processes have mapped it
            file.write(packed)
