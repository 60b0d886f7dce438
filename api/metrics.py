"""What Prometheus sees of one worker."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


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

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
