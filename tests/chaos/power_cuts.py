"""`make power-cuts`: cut the power under load, start again from what is on the disk, and look for what was
acknowledged (root only).

make power-cuts CUTS="--cuts 10 --seed 7"
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import psycopg

from tests.chaos import safety
from tests.chaos.crew import Crew
from tests.chaos.experiment import start_experiment
from tests.chaos.image import Image
from tests.chaos.ledger import SETTLED
from tests.chaos.report import commit
from tests.chaos.service import Service
from tests.chaos.stored import Rows, read_rows
from tests.postgres import Postgres, PostgresUnavailable

Backend = Literal["sqlite", "postgresql"]
BACKENDS: tuple[Backend, ...] = ("sqlite", "postgresql")
NEW_ACKS = 40  # acknowledged since the last cut
PATIENCE_S = 240.0
CHECKS = {name: safety.SAFETY[name] for name in ("lost", "counted twice", "drift", "wrong value", "unsticky")}


class Cut(NamedTuple):
    """What a power cut left: how many outcomes had been acknowledged, and the properties that do not hold."""

    acked: int
    broken: dict[str, int]


class _Machine:
    """A server and its database on one image, under load; `weak` where its database does not wait for the disk."""

    def __init__(self, backend: Backend, *, weak: bool, seed: int, rate: float) -> None:
        self.image = Image()
        self._folder = Path(tempfile.mkdtemp(prefix="promptbandit-chaos-"))
        self._stack = contextlib.ExitStack()
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._stack.callback(self.image.close)
        self._postgres: Postgres | None = None
        try:
            self._start(backend, weak=weak, seed=seed, rate=rate)
        except BaseException:
            self._stack.close()
            raise

    def _start(self, backend: Backend, *, weak: bool, seed: int, rate: float) -> None:
        url = f"sqlite:///{self.image.path / 'bandit.db'}"
        if backend == "postgresql":
            settings = ("fsync=off",) if weak else ()
            self._postgres = Postgres(parent=self.image.path, settings=settings)
            self._stack.callback(self._postgres.stop)
            url = self._postgres.create_database("bandit")
        entry = "tests.chaos.planted.normal" if weak and backend == "sqlite" else "cli"
        self._service = Service(url, self._folder, workers=1, entry=entry)
        self._stack.callback(self._service.stop)
        key = self._service.command("keys", "create", "--scope", "manager")
        self._service.start()
        start_experiment(self._service, key)
        self.image.settle()
        self.crew = Crew(self._service.url, key, self._folder, seed=seed, rate=rate, processes=1)
        self._stack.callback(self.crew.close)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Nobody writes any more."""
        self._service.signal_group(signal.SIGSTOP)
        if self._postgres:
            self._postgres.freeze()
        try:
            yield
        finally:
            if self._postgres:
                self._postgres.thaw()
            self._service.signal_group(signal.SIGCONT)

    def read(self, found: Path) -> Rows | None:
        """What a database started on the file system `found` holds; None where it does not start."""
        if self._postgres is None:
            return _read_sqlite(found / "bandit.db")
        return _read_postgres(found / self._postgres.data.relative_to(self.image.path))

    def close(self) -> None:
        self._stack.close()


def _read_sqlite(path: Path) -> Rows | None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        try:
            return read_rows(connection)
        except sqlite3.DatabaseError:
            return None


def _read_postgres(data: Path) -> Rows | None:
    (data / "postmaster.pid").unlink(missing_ok=True)  # of the server that goes on beside the copy
    try:
        server = Postgres(data=data)
    except PostgresUnavailable:
        return None
    try:
        with psycopg.connect(server.dsn("bandit")) as connection:
            return read_rows(connection)
    except psycopg.Error:
        return None
    finally:
        server.stop()


def cut_power(backend: Backend, *, cuts: int, weak: bool, seed: int, rate: float) -> Iterator[Cut]:
    """Cut after cut of one machine under load."""
    with contextlib.closing(_Machine(backend, weak=weak, seed=seed, rate=rate)) as machine:
        machine.crew.go()
        seen = 0
        for _ in range(cuts):
            seen = _wait_for_acks(machine.crew, seen + NEW_ACKS)
            with machine.stopped():
                at = time.monotonic()
                found: AbstractContextManager[Path] = machine.image.after_power_cut()
                path = found.__enter__()
            try:
                yield _judge(machine, path, at)
            finally:
                found.__exit__(None, None, None)


def _wait_for_acks(crew: Crew, number: int) -> int:
    until = time.monotonic() + PATIENCE_S
    while (seen := len(crew.ledger().acked)) < number:
        if time.monotonic() > until:
            raise RuntimeError(f"only {seen} outcomes of {number} were acknowledged within {PATIENCE_S:g} s")
        time.sleep(0.05)
    return seen


def _judge(machine: _Machine, found: Path, at: float) -> Cut:
    ledger = machine.crew.ledger().until(at)
    acked = {event.unit for event in ledger.acked if event.status in SETTLED}
    rows = machine.read(found) or Rows()
    broken = {name: len(check(ledger, rows)) for name, check in CHECKS.items()}
    return Cut(len(acked), {name: number for name, number in broken.items() if number})


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _try(backend: Backend, chosen: argparse.Namespace, *, weak: bool) -> bool:
    """Whether the cuts did what they have to: nothing where the database waits for the disk, else harm."""
    name = f"{backend}, {'not waiting for the disk' if weak else 'as the product runs it'}"
    harmed = 0
    for cut in cut_power(
        backend, cuts=chosen.weak if weak else chosen.cuts, weak=weak, seed=chosen.seed, rate=chosen.rate
    ):
        harmed += bool(cut.broken)
        told = ", ".join(f"{key} {number}" for key, number in cut.broken.items()) or "lost 0"
        _say(f"{name}: {cut.acked} acknowledged, {told}")
    if weak and not harmed:
        _say(f"VIOLATED: {name}: nothing was lost, so these cuts prove nothing")
    if not weak and harmed:
        _say(f"VIOLATED: {name}: {harmed} cuts did harm")
    return bool(harmed) == weak


def main() -> int:
    """0 when nothing acknowledged was lost, and weak databases did lose."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.power_cuts", description=__doc__)
    parser.add_argument("--cuts", type=int, default=10, help="for each database")
    parser.add_argument("--weak", type=int, default=2, help="cuts of databases that do not wait for the disk")
    parser.add_argument("--rate", type=float, default=60.0, help="calls a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _say(f"seed {chosen.seed}, commit {commit()}, load {os.getloadavg()[0]:.1f}")
    tries = [(backend, weak) for backend in BACKENDS for weak in (False, True)]
    fine = [
        _try(backend, chosen, weak=weak) for backend, weak in tries if (chosen.weak if weak else chosen.cuts)
    ]
    return int(not all(fine))


if __name__ == "__main__":
    sys.exit(main())
