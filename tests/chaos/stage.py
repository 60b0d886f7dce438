"""Everything that faults happen to: PostgreSQL, two networks, a server under supervision, agents."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from tests.chaos.clock import Clock, NoCompiler
from tests.chaos.crew import Crew
from tests.chaos.disk import NoDisk, SmallDisk
from tests.chaos.experiment import start_experiment
from tests.chaos.service import Service
from tests.chaos.stored import Rows, read_rows
from tests.postgres import Postgres
from tests.proxy import Proxy

DATABASE = "bandit"
CONNECTIONS = 70  # two workers may hold 32
POSTGRES = (f"max_connections={CONNECTIONS}", "max_wal_size=96MB", "min_wal_size=32MB")


class Stage:
    """Set up by `with`; `missing` says which of its parts this machine cannot have, and why.

    Parameters
    ----------
    entry : the server's module; one of `tests.chaos.planted` has a bug.
    settings : of PostgreSQL, besides its own.
    """

    def __init__(
        self,
        *,
        seed: int,
        rate: float,
        processes: int = 2,
        entry: str = "cli",
        settings: Sequence[str] = (),
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="promptbandit-chaos-"))
        self.missing: dict[str, str] = {}
        self.clock: Clock | None = None
        self.disk: SmallDisk | None = None
        self._seed, self._rate, self._processes = seed, rate, processes
        self._entry, self._settings = entry, settings
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _set_up(self) -> None:
        self._set_up_extras()
        self.postgres = Postgres(
            parent=self.disk.path if self.disk else None, settings=(*POSTGRES, *self._settings)
        )
        self._stack.callback(self._stop_postgres)
        url = self.postgres.create_database(DATABASE)
        self.database_network = self._stack.enter_context(Proxy(self.postgres.port))
        far_url = url.replace(str(self.postgres.port), str(self.database_network.port))
        environment = self.clock.environment if self.clock else {}
        self.service = Service(far_url, self.folder, entry=self._entry, environment=environment)
        self._stack.callback(self.service.stop)
        self.agents_network = self._stack.enter_context(Proxy(self.service.port))
        self.key = self.service.command("keys", "create", "--scope", "manager")
        agents_key = self.service.command("keys", "create", "--scope", "agent")
        # As docs/operations.md advises: agents are known also to a server that starts without its database.
        known = {"PROMPTBANDIT_AGENT_KEY_HASHES": hashlib.sha256(agents_key.encode()).hexdigest()}
        self.service.start(known)
        start_experiment(self.service, self.key)
        with self.session() as session:
            session.execute("CHECKPOINT")  # also a database that loses commits must keep what was set up
        agents_url = f"http://127.0.0.1:{self.agents_network.port}"
        self.crew = Crew(
            agents_url, agents_key, self.folder, seed=self._seed, rate=self._rate, processes=self._processes
        )
        self._stack.callback(self.crew.close)

    def _set_up_extras(self) -> None:
        try:
            self.clock = Clock(self.folder)
        except NoCompiler as reason:
            self.missing["clock"] = str(reason)
        try:
            self.disk = SmallDisk()
            self._stack.callback(self.disk.close)
        except NoDisk as reason:
            self.missing["disk"] = str(reason)

    def _stop_postgres(self) -> None:
        with contextlib.suppress(OSError):
            self.postgres.thaw()  # a run may end within a fault
        self.postgres.stop()

    def session(self, *, autocommit: bool = True) -> psycopg.Connection:
        """A session of the database's owner, past the network."""
        return psycopg.connect(
            self.postgres.dsn(DATABASE), autocommit=autocommit, connect_timeout=10, application_name="harness"
        )

    def rows(self) -> Rows:
        """What is stored, as of one moment."""
        with self.session(autocommit=False) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            return read_rows(connection)

    def forget(self) -> None:
        """Remove logs and ledgers."""
        shutil.rmtree(self.folder, ignore_errors=True)
