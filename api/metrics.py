"""What Prometheus sees: what all workers of one `serve` have counted, and how the experiments stand.

With several workers each keeps its numbers in files of a folder that `serve` makes (`SHARED_FOLDER`), and
whichever is asked adds them up. What every worker sees alike, splits and standings, is not in the files.
"""

import os
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from api.watched import Watched
from api.workers import LiveWorkers
from domain.assignments import Reason
from domain.outcomes import OutcomeStatus

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it once, when it is imported
BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)


class ServerMetrics:
    """Numbers of one process, in a registry of their own so that tests can run many servers."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        folder = os.environ.get(SHARED_FOLDER)
        self._shared = Path(folder) if folder else None
        self._workers = LiveWorkers(self._shared, os.getpid()) if self._shared else None
        self.assignments = Counter(
            "promptbandit_assignments", "Assignments answered", ["reason"], registry=registry
        )
        self.outcomes = Counter("promptbandit_outcomes", "Outcomes answered", ["status"], registry=registry)
        # From the start: the rate of a counter that appears with its first event does not know that event.
        for reason in get_args(Reason):
            self.assignments.labels(reason)
        for status in get_args(OutcomeStatus):
            self.outcomes.labels(status)
        self.dropped = Counter(
            "promptbandit_assignments_dropped",
            "Assignments given while the database was away that did not fit into the backlog",
            registry=registry,
        )
        self.transcripts = Counter(
            "promptbandit_transcripts",
            "Transcripts told, by what became of them",
            ["result"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "promptbandit_request_seconds", "Time to answer", ["route"], registry=registry, buckets=BUCKETS_S
        )
        self.backlog = Gauge(
            "promptbandit_backlog",
            "Assignments to be recorded when the database is back",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.storage_up = Gauge(
            "promptbandit_storage_up",
            "Whether the database answered last time; 0 while one worker does not reach it",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.storage_up.set(
            1
        )  # a gauge begins at 0, and somebody may look before the first word of this worker
        self._dropped_before = 0

    def note(self, *, waiting: int, dropped: int, is_away: bool) -> None:
        """What this worker has to tell of itself; `dropped` since it started."""
        self.backlog.set(waiting)
        self.storage_up.set(0 if is_away else 1)
        self.dropped.inc(dropped - self._dropped_before)
        self._dropped_before = dropped

    def text(self, watched: Watched) -> bytes:
        """The exposition format."""
        numbers = self.registry
        if self._shared is not None and self._workers is not None:
            self._workers.forget_dead()
            numbers = CollectorRegistry()
            MultiProcessCollector(numbers, str(self._shared))  # type: ignore[no-untyped-call]
        return generate_latest(numbers) + generate_latest(watched)

    def close(self) -> None:
        """Be no worker any more."""
        if self._workers is not None:
            self._workers.close()
