"""Which workers of one `serve` are alive, by a lock that each holds as long as it lives.

A gauge of a worker that died must not be added any more. Its process id alone does not tell: the system gives
it to somebody else, and a killed child keeps it until it is waited for.
"""

from pathlib import Path


class LiveWorkers:
    """The workers that share a folder; whoever makes this is one of them until its process ends.

    Parameters
    ----------
    folder : where prometheus_client keeps a file of live gauges for each process, `gauge_live*_<pid>.db`.
    """

    def __init__(self, folder: Path, pid: int) -> None:
        import fcntl  # not on Windows, where one process serves

        self._folder = folder
        # Held open: the system lets go of the lock when the process ends, however it ends.
        self._mine = _lock_of(folder, pid).open("ab")
        fcntl.flock(self._mine, fcntl.LOCK_SH)

    def forget_dead(self) -> None:
        """Remove the live gauges of workers that ended; what they counted stays."""
        for path in self._folder.glob("gauge_live*_*.db"):
            if not self._is_alive(int(path.stem.rpartition("_")[2])):
                path.unlink(missing_ok=True)  # another worker may have been quicker

    def _is_alive(self, pid: int) -> bool:
        import fcntl

        try:
            with _lock_of(self._folder, pid).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        """Be no worker any more."""
        self._mine.close()


def _lock_of(folder: Path, pid: int) -> Path:
    return folder / f"worker_{pid}.lock"
