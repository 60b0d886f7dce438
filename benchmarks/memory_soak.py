"""Does a server under constant load keep growing?

Calls come at a constant rate, each with an outcome a second later, and a report is read every 10 s. Every 10 s
what the server's processes hold is added up (Linux: the PSS of memory without a file in /proc/<pid>/smaps_rollup;
what several share is divided among them). Pages of files are left out: they do not grow, and count for less or
more as other Pythons on the machine come and go, up to 40 MiB. A line through what follows the warm-up gives the
growth in MiB an hour, with the standard error of least squares; neighbouring samples are alike, so the true error
is larger.

    python -m benchmarks.memory_soak [--minutes 60] [--rate 40] [--database SQLite] [--workers 1] [--write-docs]
"""

import argparse
import asyncio
import datetime as dt
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from api.assigner import REMEMBERED
from benchmarks.filling import PROMPT, begin
from benchmarks.rivals import RESULTS, machine, place, table, write_into_document
from benchmarks.served import DATABASES, environment, filled, fresh_database, ours, postgres_or_none, started
from storage.database import Database
from tests.postgres import free_port

EVERY_S = 10.0
OUTCOME_AFTER_S = 1.0
WARM_UP_SHARE = 0.25  # of the whole time, at least: caches and pools fill
LONGEST_WARM_UP_SHARE = 0.6
# A table of 50 000 that forgets its oldest has 2^17 slots, and 2^18 once two thirds of them have been used.
SETTLED = 7 * REMEMBERED // 4
MIB = 1024.0  # kB
HELD = ("Pss_Anon:", "Pss_Shmem:")


@dataclass(slots=True)
class Soak:
    """What was seen: (seconds, MiB) samples, and how many answers came."""

    samples: list[tuple[float, float]] = field(default_factory=list)
    answered: int = 0
    failed: int = 0


def held_mib(text: str) -> float:
    """MiB without a file in the text of smaps_rollup."""
    found = [int(line.split()[1]) for line in text.splitlines() if line.startswith(HELD)]
    if len(found) != len(HELD):
        raise ValueError(f"smaps_rollup has {len(found)} of the lines {', '.join(HELD)}")
    return sum(found) / MIB


def processes(pid: int) -> list[int]:
    """The process and all below it."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [pid, *(each for child in text.split() for each in processes(int(child)))]


def memory_mib(pid: int) -> float:
    """What the process and all below it hold.

    Raises
    ------
    ValueError
        A kernel before 5.4 does not tell what is of files.
    """
    return sum(held_mib(Path(f"/proc/{each}/smaps_rollup").read_text()) for each in processes(pid))


def slope(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Least-squares slope of (x, y) samples and its standard error; nan for fewer than three."""
    n = len(samples)
    if n < 3:
        return math.nan, math.nan
    mean_x, mean_y = (math.fsum(values) / n for values in zip(*samples, strict=True))
    spread_x = math.fsum((x - mean_x) ** 2 for x, _ in samples)
    found = math.fsum((x - mean_x) * (y - mean_y) for x, y in samples) / spread_x
    left = math.fsum((y - mean_y - found * (x - mean_x)) ** 2 for x, y in samples)
    return found, math.sqrt(left / (n - 2) / spread_x)


def after_warm_up(samples: Sequence[tuple[float, float]], *, rate: float) -> list[tuple[float, float]]:
    """The samples from when a worker's table of the units that it remembers has its size, at that many calls a second.

    That is a quarter of the time at least, and three fifths of it at most.
    """
    last = samples[-1][0] if samples else 0.0
    full = min(max(WARM_UP_SHARE * last, SETTLED / rate), LONGEST_WARM_UP_SHARE * last)
    return [sample for sample in samples if sample[0] >= full]


async def _an_experiment(database: Database, now: dt.datetime) -> None:
    await begin(database, now=now)


async def put_load(client: httpx.AsyncClient, soak: Soak, *, rate: float, seconds: float) -> None:
    """Calls at that rate, whatever the answers take."""
    began_at = time.monotonic()
    calls: set[asyncio.Task[None]] = set()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began_at + number / rate - time.monotonic()))
        task = asyncio.create_task(_one_call(client, soak, f"soak-{number}", number % 10 < 7))
        calls.add(task)
        task.add_done_callback(calls.discard)
    await asyncio.gather(*calls)


async def _one_call(client: httpx.AsyncClient, soak: Soak, unit_id: str, resolved: bool) -> None:
    unit = {"prompt": PROMPT, "unit_id": unit_id}
    await _ask(client, soak, "POST", "/assignments", unit)
    await asyncio.sleep(OUTCOME_AFTER_S)
    metrics = {"resolved": resolved, "quality": 0.5, "duration_s": 90.0}
    await _ask(client, soak, "POST", "/outcomes", unit | {"metrics": metrics})


async def _ask(client: httpx.AsyncClient, soak: Soak, method: str, path: str, body: object = None) -> None:
    try:
        answer = await client.request(method, path, json=body)
    except httpx.TransportError:
        soak.failed += 1
        return
    soak.answered += answer.status_code == 200
    soak.failed += answer.status_code != 200


async def keep_sampling(client: httpx.AsyncClient, soak: Soak, pid: int) -> None:
    """For ever: memory, then a report."""
    began_at = time.monotonic()
    while True:
        mib = memory_mib(pid)
        soak.samples.append((time.monotonic() - began_at, mib))
        await _ask(client, soak, "GET", f"/experiments/{PROMPT}/report")
        at = (soak.samples[-1][0] / 60, mib, soak.answered, soak.failed, os.getloadavg()[0])
        print("{:.1f} min: {:.1f} MiB, {} answers, {} failed, load {:.1f}".format(*at), file=sys.stderr)
        await asyncio.sleep(EVERY_S)


async def _soak(url: str, key: str, pid: int, *, rate: float, seconds: float) -> Soak:
    soak = Soak()
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30.0, verify=False) as client:
        sampling = asyncio.create_task(keep_sampling(client, soak, pid))
        await put_load(client, soak, rate=rate, seconds=seconds)
        sampling.cancel()
        await asyncio.wait({sampling})
    return soak


def measure(database: str, workers: int, *, rate: float, seconds: float) -> Soak:
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database(database))
        key = asyncio.run(filled(url, _an_experiment, scope="manager"))
        port = free_port()
        variables = environment(url, {"PROMPTBANDIT_LOG_LEVEL": "warning"})
        process = stack.enter_context(started(ours(port, workers), port, variables))
        address = f"http://127.0.0.1:{port}"
        return asyncio.run(_soak(address, key, process.pid, rate=rate, seconds=seconds))


def told(name: str, soak: Soak, rate: float) -> str:
    """One row: what it was, and the growth."""
    steady = after_warm_up(soak.samples, rate=rate)
    growth, error = (value * 3_600 for value in slope(steady))
    minutes = f"{soak.samples[-1][0] / 60:.0f}"
    head = ["", "minutes", "calls/s", "answers", "failed", "MiB after warm-up", "MiB at the end", "MiB/h"]
    row = [name, minutes, f"{rate:g}", str(soak.answered), str(soak.failed)]
    row += [f"{steady[0][1]:.1f}", f"{steady[-1][1]:.1f}", f"{growth:+.2f} ± {error:.2f}"]
    return table(head, [row])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=40.0, help="calls a second")
    parser.add_argument("--database", choices=DATABASES, default="SQLite")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--write-docs", action="store_true")
    options = parser.parse_args()
    if sys.platform != "linux":
        print("not measured: only Linux tells what a process holds")
        return
    where = machine()
    with postgres_or_none():
        soak = measure(options.database, options.workers, rate=options.rate, seconds=options.minutes * 60)
    name = f"{options.database}, {options.workers} worker{'s' * (options.workers > 1)}"
    text = f"{told(name, soak, options.rate)}\n\n{place(where)}"
    print(text)
    RESULTS.mkdir(parents=True, exist_ok=True)
    raw = {"machine": where, "samples": soak.samples}
    (RESULTS / "memory_soak.json").write_text(json.dumps(raw, indent=1))
    if options.write_docs:
        write_into_document("memory_soak", text)


if __name__ == "__main__":
    main()
