"""The processes of agents, seen from the harness."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from tests.chaos.agents import Orders
from tests.chaos.ledger import Ledger, read_ledger
from tests.chaos.parting import die_with_parent

ROOT = Path(__file__).resolve().parents[2]


class Crew:
    """Processes that share the rate; `ledger()` is what they have seen so far.

    Parameters
    ----------
    rate : calls a second of all together.
    processes : one keeps up with about 100 calls a second.
    """

    def __init__(
        self, url: str, key: str, folder: Path, *, seed: int, rate: float, processes: int = 2
    ) -> None:
        self._paths = [folder / f"ledger-{n}.jsonl" for n in range(processes)]
        self._errors = [(folder / f"agents-{n}.log").open("wb") for n in range(processes)]
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.agents"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={key: value for key, value in os.environ.items() if not key.startswith("PROMPTBANDIT_")},
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, loaded before
            )
            for errors in self._errors
        ]
        for number, path in enumerate(self._paths):
            path.touch()
            orders = Orders(
                url=url, key=key, ledger=str(path), name=f"call-{number}", seed=seed, rate=rate / processes
            )
            self._tell(number, msgspec.json.encode(orders).decode())

    def _tell(self, number: int, line: str) -> None:
        pipe = self._processes[number].stdin
        assert pipe is not None
        pipe.write(f"{line}\n".encode())
        pipe.flush()

    def _tell_all(self, line: str) -> None:
        for number in range(len(self._processes)):
            self._tell(number, line)

    def go(self) -> None:
        """Let calls begin."""
        self._tell_all("go")

    def tell_twice(self, share: float) -> None:
        """How many outcomes two clients tell at once."""
        self._tell_all(f"twice {share}")

    def drain(self, timeout_s: float) -> bool:
        """No new calls; whether everything told was answered within `timeout_s`."""
        self._tell_all(f"drain {timeout_s}")
        answers: list[bytes] = []
        readers = [
            threading.Thread(target=lambda pipe=p.stdout: answers.append(pipe.readline()), daemon=True)
            for p in self._processes
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout_s * 2 + 30)
        return answers == [b"1\n"] * len(self._processes)

    def ledger(self) -> Ledger:
        """Everything written down until now."""
        return read_ledger(self._paths)

    def close(self) -> None:
        """End the processes; what they have not delivered is lost."""
        for process, errors in zip(self._processes, self._errors, strict=True):
            process.kill()
            process.wait(30)
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
            errors.close()
