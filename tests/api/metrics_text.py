"""The exposition format, read."""

import time
from collections.abc import Callable

import httpx
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
DEADLINE_S = 90.0


class Scrape:
    """What one request to `/metrics` said."""

    def __init__(self, text: str) -> None:
        self.values: dict[tuple[str, Labels], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.values, f"{key} stands there twice"
                self.values[key] = sample.value

    def __call__(self, name: str, **labels: str) -> float | None:
        """The value of one series; None where it is not there."""
        return self.values.get((f"promptbandit_{name}", frozenset(labels.items())))

    def names(self) -> set[str]:
        return {name for name, _ in self.values}

    def labels_of(self, name: str) -> set[Labels]:
        return {labels for found, labels in self.values if found == f"promptbandit_{name}"}


def scrape(client: httpx.Client) -> Scrape:
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    return Scrape(answer.text)


def wait_for(client: httpx.Client, condition: Callable[[Scrape], bool]) -> Scrape:
    """Scrape again and again until the condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found = scrape(client)
        if condition(found):
            return found
        assert time.monotonic() < deadline, sorted(map(str, found.values.items()))
        time.sleep(0.1)
