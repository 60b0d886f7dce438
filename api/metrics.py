"""What Prometheus sees of one worker."""

import datetime as dt

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from domain.fields import BASIS_POINTS
from domain.snapshot import Snapshot


class ServerMetrics:
    """Counters of one process, in a registry of their own so that tests can run many servers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.assignments = Counter(
            "promptbandit_assignments", "Assignments answered", ["reason"], registry=self.registry
        )
        self.outcomes = Counter(
            "promptbandit_outcomes", "Outcomes answered", ["status"], registry=self.registry
        )
        self.transcripts = Counter(
            "promptbandit_transcripts",
            "Transcripts told, by what became of them",
            ["result"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "promptbandit_request_seconds",
            "Time to answer",
            ["route"],
            registry=self.registry,
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0),
        )
        self.backlog = Gauge(
            "promptbandit_backlog",
            "Assignments to be recorded when the database is back",
            registry=self.registry,
        )
        self.storage_up = Gauge(
            "promptbandit_storage_up", "Whether the database answered last time", registry=self.registry
        )

        self.split_share = Gauge(
            "promptbandit_split_share",
            "Share of new calls",
            ["experiment", "variant"],
            registry=self.registry,
        )
        self.allocation_age = Gauge(
            "promptbandit_allocation_age_seconds",
            "How long the split has stood still",
            ["experiment"],
            registry=self.registry,
        )

    def show_splits(self, snapshot: Snapshot, now: dt.datetime) -> None:
        """The splits that this worker serves; experiments that ended disappear."""
        self.split_share.clear()
        self.allocation_age.clear()
        running = [state.experiment for state in snapshot.prompts.values() if state.experiment]
        for experiment in running:
            age = (now - experiment.served_since).total_seconds()
            self.allocation_age.labels(experiment.key).set(age)
            for variant in experiment.variants:
                share = variant.share_bp / BASIS_POINTS
                self.split_share.labels(experiment.key, variant.key).set(share)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
