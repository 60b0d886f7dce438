"""A real pgbouncer in front of the tests' PostgreSQL, with the settings that we recommend."""

import configparser
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from tests.deploy.programs import system_program
from tests.postgres import Postgres, die_with_parent, free_port, unprivileged

OURS = Path(__file__).resolve().parents[2] / "deploy" / "pgbouncer.ini"
STARTUP_S = 60.0


class Pgbouncer:
    """Serves one database as `bandit`; like PostgreSQL it refuses to run as root."""

    def __init__(self, postgres: Postgres, name: str, *, pool_size: int) -> None:
        self._program = system_program("pgbouncer")
        self._as: dict[str, Any] = unprivileged() if os.geteuid() == 0 else {}
        self._folder = Path(tempfile.mkdtemp(prefix="promptbandit-pgbouncer-"))
        self.port = free_port()
        settings = configparser.ConfigParser()
        settings.read(OURS)
        settings["databases"]["bandit"] = f"host=127.0.0.1 port={postgres.port} dbname={name}"
        settings["pgbouncer"].update(
            {
                "listen_port": str(self.port),
                "default_pool_size": str(pool_size),
                "auth_type": "trust",
                "auth_file": str(self._folder / "users.txt"),
            }
        )
        with (self._folder / "pgbouncer.ini").open("w") as file:
            settings.write(file)
        (self._folder / "users.txt").write_text('"test" ""\n')
        if self._as:
            for path in (self._folder, *self._folder.iterdir()):
                shutil.chown(path, self._as["user"], self._as["group"])
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql+psycopg://test@127.0.0.1:{self.port}/bandit"

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, self._folder / "pgbouncer.ini"],
                stdout=log,
                stderr=log,
                cwd="/",
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, loaded before
                **self._as,
            )
        deadline = time.monotonic() + STARTUP_S
        while True:
            try:
                psycopg.connect(f"postgresql://test@127.0.0.1:{self.port}/bandit", connect_timeout=5).close()
                return self
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.__exit__(None, None, None)
                    raise
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)
