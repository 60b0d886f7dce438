"""Calls to one of several servers, and waiting for what they do by themselves."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from tests.running_server import RunningServer

CALLS = 20  # a round; one transaction
DEADLINE_S = 120.0


def wait_for(what: str, is_so: Callable[[], bool]) -> None:
    """Wait until it is so."""
    until = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < until, f"{what}: not within {DEADLINE_S:g} s"
        time.sleep(0.1)


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Do these things in the same moment."""
    together = threading.Barrier(len(works))

    def one(work: Callable[[], Any]) -> Any:
        together.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, works))


def post(server: RunningServer, path: str, body: Any) -> Any:
    """By a connection of its own, whichever worker takes it; again after a 503, as agents do.

    A worker that has to wait long for its turn on a busy machine takes the database for absent.
    """
    with server.client("agent") as client:
        answer = patiently(lambda: client.post(path, json=body))
    assert answer.status_code == 200, answer.text
    return answer.json()


def read(server: RunningServer, path: str) -> Any:
    """What a manager reads; again after a 503."""
    answer = patiently(lambda: server.manager.get(path))
    assert answer.status_code == 200, answer.text
    return answer.json()


def patiently(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask until the answer is not 503."""
    until = time.monotonic() + DEADLINE_S
    while (answer := ask()).status_code == 503 and time.monotonic() < until:
        time.sleep(0.1)
    return answer


def tell(server: RunningServer, outcomes: list[dict[str, Any]]) -> list[str]:
    """Tell outcomes; the status of each."""
    return [result["status"] for result in post(server, "/outcomes", outcomes)["results"]]


@dataclass(frozen=True, slots=True)
class Round:
    """Some calls and their outcomes, told in one transaction.

    `counted` are those in the experiment: a worker that does not know of it yet serves the active version.
    `at_once` says that all were recorded at once, none from memory because the database seemed away.
    """

    counted: int
    at_once: bool


def play(server: RunningServer, prompt: str, name: str) -> Round:
    """A round of calls, of which those of b go better."""
    given = [post(server, "/assignments", {"prompt": prompt, "unit_id": f"{name}-{n}"}) for n in range(CALLS)]
    outcomes = [
        {
            "prompt": prompt,
            "unit_id": item["unit_id"],
            "metrics": {"resolved": item["variant"] == "b" or number % 2 == 0},
        }
        for number, item in enumerate(given)
    ]
    statuses = set(tell(server, outcomes))
    assert statuses <= {"accepted", "parked", "unchanged"}
    counted = sum(item["variant"] is not None for item in given)
    at_once = statuses == {"accepted"} and all(item["reason"] != "STALE" for item in given)
    return Round(counted, at_once)


def allocations(server: RunningServer, key: str) -> list[dict[str, Any]]:
    """The splits of an experiment, the first one first."""
    return sorted(
        read(server, f"/experiments/{key}/allocations?limit=1000"), key=lambda item: int(item["id"])
    )


def stop(server: RunningServer, key: str) -> None:
    """So that the other tests' workers have less to do."""
    answer = patiently(lambda: server.manager.patch(f"/experiments/{key}/stop", json={}))
    assert answer.status_code in (200, 409), answer.text
