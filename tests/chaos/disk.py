"""A disk in memory that can be full from one moment to the next (root only)."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from tests.chaos.parting import LastWill

SIZE = "1g"  # at most; memory is used for what is written


class NoDisk(Exception):
    """Not root, or mounting is not allowed here."""


class SmallDisk:
    """A tmpfs mounted at `path`."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise NoDisk("only root may mount")
        self.path = Path(tempfile.mkdtemp(prefix="promptbandit-disk-"))
        done = _run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0777", "tmpfs", str(self.path))
        if done:
            self.path.rmdir()
            raise NoDisk(done)
        place = shlex.quote(str(self.path))
        self._will = LastWill(f"umount -l {place}", f"rmdir {place}")

    def fill(self) -> None:
        """No byte more than there is."""
        said = ""
        for _ in range(20):  # the database writes on: what is used may have grown meanwhile
            room = os.statvfs(self.path)
            used = (room.f_blocks - room.f_bfree) * room.f_frsize
            said = _run("mount", "-o", f"remount,size={used}", str(self.path))
            if not said:
                return
        raise RuntimeError(f"the disk did not become full: {said}")

    def free(self) -> None:
        """Room again."""
        said = _run("mount", "-o", f"remount,size={SIZE}", str(self.path))
        if said:
            raise RuntimeError(said)

    def close(self) -> None:
        """Unmount, with everything on it."""
        self._will.execute()


def _run(*command: str) -> str:
    """What it complained about."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr or f"{command[0]} failed" if done.returncode else ""
