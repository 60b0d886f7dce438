"""A file system in a file, and what is left of it when the power goes (root only).

What a program wrote without fsync lies in the page cache of the mounted file system and is not in the file
behind it: a copy of that file is what a machine finds when it starts again. A missing flush of the disk's
own cache is not simulated.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.parting import LastWill

SIZE_MB = 400
COMMIT_S = 300  # ext4 would otherwise write its journal, and data with it, every 5 s: mercy, not durability


class NoImage(Exception):
    """Not root, no mkfs.ext4, or no loop devices."""


class Image:
    """A fresh ext4 mounted at `path`."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise NoImage("only root may mount")
        make = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if make is None:
            raise NoImage("mkfs.ext4 is not installed (Debian: e2fsprogs)")
        self._folder = Path(tempfile.mkdtemp(prefix="promptbandit-power-"))
        self._folder.chmod(0o711)
        self._file = self._folder / "disk"
        self.path = self._folder / "mounted"
        try:
            with self._file.open("wb") as file:
                file.truncate(SIZE_MB * 2**20)
            _run(make, "-q", "-F", str(self._file))
            _mount(self._file, self.path)
        except NoImage:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        mounted, found, folder = (
            shlex.quote(str(path)) for path in (self.path, self._folder / "found", self._folder)
        )
        # One by one: where the first is not mounted, the second has to be unmounted all the same.
        self._will = LastWill(
            f"umount -l {found}", f"umount -l {mounted}", f"rm -rf --one-file-system {folder}"
        )

    def settle(self) -> None:
        """Write everything, so that a cut leaves at least what is there now."""
        _run("sync", "-f", str(self.path))

    @contextmanager
    def after_power_cut(self) -> Iterator[Path]:
        """The file system as a machine would find it that lost power now; whoever writes must be stopped."""
        copy, path = self._folder / "copy", self._folder / "found"
        _run("cp", "--sparse=always", str(self._file), str(copy))
        _mount(copy, path)
        try:
            yield path
        finally:
            _unmount(path)
            copy.unlink()

    def close(self) -> None:
        """Unmount, with everything on it."""
        self._will.execute()


def _mount(file: Path, path: Path) -> None:
    path.mkdir(exist_ok=True)
    _run("mount", "-o", f"loop,commit={COMMIT_S}", str(file), str(path))
    path.chmod(0o777)


def _unmount(path: Path) -> None:
    with contextlib.suppress(NoImage):
        _run("umount", "-l", str(path))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoImage(f"{' '.join(command)}: {done.stderr.strip()}")
