"""Load over HTTP: wrk with a script that makes every request another one, and what it prints."""

import json
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rivals import is_quick

SCRIPT = Path(__file__).with_name("wrk.lua")
CONNECTIONS = 32
SECONDS = 3.0
QUICK_S = 1.0
WARM_UP_S = 2.0  # longer than a server waits before it loads numpy and scipy
ABSENT = "not measured: wrk is not installed (Debian and Ubuntu: apt-get install wrk)"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request; `size` outcomes in a list, 0 for a single one."""

    path: str
    size: int = 0

    @property
    def items(self) -> int:
        """Rows that one request makes durable."""
        return max(1, self.size)


KINDS: Mapping[str, Kind] = {
    "an assignment": Kind("assignment"),
    "an outcome": Kind("outcome"),
    "100 outcomes": Kind("outcome", size=100),
}


@dataclass(frozen=True, slots=True)
class Rate:
    """What was answered with 200; `lost` and `refused` count the rest."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int = 0
    lost: int = 0

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def is_installed() -> bool:
    return shutil.which("wrk") is not None


def seconds() -> float:
    """How long one run takes."""
    return QUICK_S if is_quick() else SECONDS


def read_wrk(text: str) -> Rate:
    """The line that `wrk.lua` prints at the end."""
    line = next((line for line in text.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise ValueError(f"wrk printed no result: {text.strip()[-500:]}")
    return Rate(**json.loads(line.removeprefix("RESULT ")))


def put_load(
    url: str, key: str, kind: Kind, *, seconds: float, first: int = 0, connections: int = CONNECTIONS
) -> Rate:
    """Load of one kind for that long; RuntimeError when an answer was not 200.

    Parameters
    ----------
    first : outcomes are told of `call-<first>` and those that follow.
    """
    rate = read_wrk(run_wrk(url, key, kind, seconds=seconds, first=first, connections=connections))
    if rate.refused or rate.lost:
        raise RuntimeError(f"{kind}: not every request was answered with 200: {rate}")
    return rate


def run_wrk(url: str, key: str, kind: Kind, *, seconds: float, first: int, connections: int) -> str:
    """What wrk prints."""
    run = uuid.uuid4().hex[:8]
    command = ["wrk", "-t", "1", "-c", connections, "-d", f"{seconds:.0f}s", "--timeout", "10s", "-s", SCRIPT]
    script = [url, "--", kind.path, key, run, first, kind.size]
    done = subprocess.run(
        [str(part) for part in [*command, *script]], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"wrk failed: {done.stderr or done.stdout}")
    return done.stdout


def next_unit(rate: Rate, kind: Kind, first: int, connections: int = CONNECTIONS) -> int:
    """The first unit that the load has not told of; some requests were under way when it ended."""
    return first + (rate.requests + 2 * connections) * kind.items
