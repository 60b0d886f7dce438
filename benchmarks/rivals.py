"""How are rivals compared fairly? Each in a process of its own, in turns, on one machine, in one run.

A round starts every rival once and the next round in another order, so that what the machine does meanwhile
hits all of them. A process takes the least of some batches, a figure is the median over the rounds, and the
spread is shown beside it. Versions and machine
are printed, raw results go to build/benchmarks/<question>.json, tables to docs/benchmarks.md (--write-docs).
"""

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "benchmarks"
DOCUMENT = ROOT / "docs" / "benchmarks.md"

QUICK = "BENCHMARKS_QUICK"

type Figures = dict[str, Any]


@dataclass(frozen=True)
class Rival:
    """What to measure, and the distributions whose versions matter."""

    measure: Callable[[], Figures]
    distributions: Sequence[str]


@dataclass(frozen=True)
class Question:
    """`tables` turns the figures of all rounds, a list per rival, into Markdown."""

    name: str
    rivals: Mapping[str, Rival]
    tables: Callable[[Mapping[str, Sequence[Figures]]], str]
    rounds: int = 5


def seconds_per_call(work: Callable[[], object], *, least_s: float = 0.02, batches: int = 5) -> float:
    """Least over batches of at least `least_s` each, after a warm-up: whatever else runs only adds time.

    Slow work is measured once.
    """
    work()
    started = time.perf_counter()
    work()
    once = time.perf_counter() - started
    if once > 10 * least_s:
        return once
    calls = max(1, round(least_s / max(once, 1e-7)))
    per_call = []
    for _ in range(batches):
        started = time.perf_counter()
        for _ in range(calls):
            work()
        per_call.append((time.perf_counter() - started) / calls)
    return min(per_call)


def told(seconds: Sequence[float]) -> str:
    """Median and spread in a unit that fits: `152 µs (140 - 171)`."""
    middle = statistics.median(seconds)
    unit, factor = next(
        u for u in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)) if middle * u[1] >= 1 or u[1] == 1e6
    )
    low, mid, high = (rounded(value * factor) for value in (min(seconds), middle, max(seconds)))
    return f"{mid} {unit} ({low} - {high})"


def spread(values: Sequence[float]) -> str:
    """Median, least and most: `8 410 (8 020 - 8 900)`."""
    low, mid, high = (rounded(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{mid} ({low} - {high})"


def rounded(value: float) -> str:
    """Three digits, thousands apart: `8 410`."""
    return f"{float(f'{value:.3g}'):,.10g}".replace(",", " ")


def is_quick() -> bool:
    """Whether a first look is enough (`--quick`)."""
    return QUICK in os.environ


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> dict[str, Any]:
    """Where it was measured, and how busy the machine was."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": load,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor()


def _answer_as(question: Question, name: str) -> None:
    """What a child does: measure one rival and print one line of JSON."""
    rival = question.rivals[name]
    try:
        versions = {package: importlib.metadata.version(package) for package in rival.distributions}
        print(json.dumps({"versions": versions, "figures": rival.measure()}))
    except (ImportError, importlib.metadata.PackageNotFoundError) as reason:
        print(json.dumps({"missing": str(reason)}))


def _ask(question: Question, name: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{question.name}", "--rival", name]
    # One thread each: a rival that used both cores would slow down itself here, and tell nothing elsewhere.
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | one_thread, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{question.name}, rival {name}, failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _run(question: Question, rounds: int) -> str:
    names = list(question.rivals)
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    where = machine()
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            answer = _ask(question, name)
            print(f"round {turn + 1}/{rounds}: {name} {answer.get('missing', '')}", file=sys.stderr)
            answers[name].append(answer)
    RESULTS.mkdir(parents=True, exist_ok=True)
    raw = {"question": question.name, "machine": where, "answers": answers}
    (RESULTS / f"{question.name}.json").write_text(json.dumps(raw, indent=1))
    present = {name: found for name, found in answers.items() if "figures" in found[0]}
    versions = {k: v for found in present.values() for k, v in found[0]["versions"].items()}
    absent = [f"{name} ({found[0]['missing']})" for name, found in answers.items() if name not in present]
    lines = [
        question.tables({name: [answer["figures"] for answer in found] for name, found in present.items()}),
        "",
        f"{place(where)} Median (least - most) of {rounds} rounds. "
        + ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))
        + ".",
    ]
    return "\n".join(lines + [f"Not installed: {', '.join(absent)}."] * bool(absent))


def place(where: Mapping[str, Any]) -> str:
    """The line under a table: the machine, how busy it was, and when."""
    return (
        f"{where['processor']}, {where['cores']} cores, {where['platform']}, Python {where['python']}, load "
        f"{where['load']:.1f} at the start, {where['at'][:10]}."
    )


def write_into_document(name: str, text: str) -> None:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = DOCUMENT.read_text().split(begin)
    DOCUMENT.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def main(question: Question) -> None:
    """The command line of a question."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rival", choices=list(question.rivals))
    parser.add_argument("--rounds", type=int, default=question.rounds)
    parser.add_argument("--write-docs", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a first look: one short round")
    options = parser.parse_args()
    if options.quick:
        os.environ[QUICK] = "1"
        options.rounds = 1
    if options.rival:
        _answer_as(question, options.rival)
        return
    text = _run(question, options.rounds)
    print(text)
    if options.write_docs:
        write_into_document(question.name, text)
