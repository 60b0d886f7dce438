"""Ride out a fault under load: before, while and after it."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from tests.outage.judge import figures
from tests.outage.load import Ask, Load
from tests.running_server import RunningServer

_log = logging.getLogger("outage")  # pytest --log-cli-level=INFO shows the figures
# We promise 1 s, and `make chaos` holds us to it on a quiet machine; here it has to happen at all.
RECOVERED_S = 20.0


@dataclass(frozen=True, slots=True)
class Ridden:
    """When the fault began and ended, and how long after that a new unit was recorded at once."""

    load: Load
    began_at: float
    ended_at: float
    recovered_s: float

    def new_asks(self, since: float, until: float) -> list[Ask]:
        """What units got that asked for the first time, wholly within these times."""
        return [ask for ask in self.load.asks if ask.first and since < ask.at < until - ask.seconds]


def ride_out(
    server: RunningServer,
    prompt: str,
    *,
    begin: Callable[[], object],
    end: Callable[[], object],
    lasting_s: float,
) -> Ridden:
    """Load, a fault, and load again until everything is acknowledged and recorded."""
    with Load(server.port, server.key("manager"), prompt) as load:
        time.sleep(0.6)
        begin()
        began_at = time.monotonic()
        try:
            time.sleep(lasting_s)
        finally:
            end()
        ended_at = time.monotonic()
        recovered_s = _wait_until_recorded_at_once(load, ended_at)
        time.sleep(0.5)
        load.drain()
    ridden = Ridden(load, began_at, ended_at, recovered_s)
    _report(prompt, ridden)
    return ridden


def _wait_until_recorded_at_once(load: Load, since: float) -> float:
    deadline = time.monotonic() + 2 * RECOVERED_S
    while time.monotonic() < deadline:
        for ask in list(load.asks):
            if ask.at >= since and ask.first and ask.reason == "SPLIT":
                return ask.at + ask.seconds - since
        time.sleep(0.02)
    raise AssertionError(f"no assignment was recorded at once again: {load.asks[-3:]}, {load.problems[-3:]}")


def wait_until_ready(server: RunningServer, timeout_s: float = 30.0) -> float:
    """Wait for /health/ready; how long it took."""
    started = time.monotonic()
    while time.monotonic() < started + timeout_s:
        if httpx.get(f"{server.url}/health/ready", verify=False).status_code == 200:
            return time.monotonic() - started
        time.sleep(0.02)
    raise AssertionError(f"not ready after {timeout_s} s: {server.log.read_text()[-2000:]}")


def _report(name: str, ridden: Ridden) -> None:
    asks = ridden.load.asks
    inside = [ask for ask in asks if ridden.began_at <= ask.at < ridden.ended_at]
    told = [told.status for told in ridden.load.told]
    _log.info(
        "%s: inside %s; overall %s; recovered in %.2f s; outcomes %s, answers %s",
        name,
        figures(inside),
        figures(asks),
        ridden.recovered_s,
        dict(ridden.load.statuses),
        {status: told.count(status) for status in sorted(set(told))},
    )
