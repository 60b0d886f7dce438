"""Bugs for the harness to find: one that finds nothing proves nothing.

Each is planted around the product or beside it, never in it, so it stays the same bug whatever the product
becomes.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.chaos.stage import Stage


class Bug(NamedTuple):
    """A bug, the property that betrays it, and the faults that bring it out.

    `entry` is the server's module, `settings` are PostgreSQL's, `meanwhile` is so in every round.
    """

    betrays: str
    kinds: tuple[str, ...]
    entry: str = "cli"
    settings: tuple[str, ...] = ()
    meanwhile: Callable[[Stage], AbstractContextManager[None]] | None = None


@contextmanager
def _write_ahead_log_waits(stage: Stage) -> Iterator[None]:
    """The process that writes it in the background gets no time, as on a busy machine.

    Otherwise it writes every full page, and a killed server may have lost nothing that was acknowledged.
    Whoever commits for good writes by himself and does not notice.
    """
    with stage.session() as session:
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
        (pid,) = session.execute(query).fetchall()[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if "walwriter" in Path(f"/proc/{pid}/cmdline").read_text():  # else its server was killed
                os.kill(pid, signal.SIGCONT)


PLANTED: dict[str, Bug] = {
    "ack_early": Bug("lost", ("database_refused",), entry="tests.chaos.planted.ack_early"),
    "no_sync": Bug(
        "lost",
        ("kill_postgres",),
        settings=("synchronous_commit=off", "wal_buffers=16MB"),
        meanwhile=_write_ahead_log_waits,
    ),
    "double": Bug("counted twice", ("duplicates",), entry="tests.chaos.planted.double"),
    "unsticky": Bug("unsticky", ("duplicates",), entry="tests.chaos.planted.unsticky"),
}
