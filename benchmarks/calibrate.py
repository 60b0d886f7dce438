"""How often are the claims false that the product makes, however often one looks?

Simulates experiments whose truth is known, looks after every batch of 50 units and counts the runs in which a
claim was ever false, beside what the seed's rule and "P(best) >= 95 %" would have said. Then the power of the
claim "better". Prints the table, writes build/calibration/calibration.json, exits 1 when a share of false
claims exceeds its level by more than two simulation errors or the power falls short. 2 cores: 15 minutes.

    python -m benchmarks.calibrate [--runs 2000] [--processes 2] [--docs]

`--docs` also puts the tables into docs/calibration.md, between its markers.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from engine.guardrails import HARM_ALPHA, Thresholds, thresholds
from engine.sequential import Direction, EProcess
from engine.simulated_looks import (
    first_claim,
    probability_best_claims,
    running_counts,
    running_sequences,
    z_test_claims,
)
from engine.simulated_policy import Policy, PolicyName
from engine.simulation import History, Scenario, simulate

UNITS, BATCH, CHUNK = 5_000, 50, 250
ALPHA = 0.05
MDE = 0.05  # the smallest effect worth acting on; also the half width of "equivalent" and the guardrail's margin
EFFECTS = [MDE / 2, MDE, 2 * MDE]
LEAST_POWER = 0.79
FOLDER = Path("build/calibration")
PAGE = Path("docs/calibration.md")

Question = Literal["equal", "edge", "guardrail", "power"]
POLICIES: tuple[PolicyName, ...] = ("fixed", "thompson", "top_two")
RATES = (0.5, 0.7, 0.9, 0.95, 0.98)

# Drift of ±15 points: shape and period in units. The half wave is the slowest, so it misleads most.
DRIFTS: dict[str, tuple[Literal["sine", "step"], int]] = {
    "half wave": ("sine", 2 * UNITS),
    "full wave": ("sine", UNITS),
    "step": ("step", UNITS),
    "daily": ("sine", 500),
}
# Mean delay in units of the control and of the other arms, and the maturity window.
DELAYS: dict[str, tuple[float, float, int]] = {
    "none": (0.0, 0.0, 0),
    "alike": (50.0, 50.0, 200),
    "by arm": (20.0, 60.0, 200),
    "control": (60.0, 20.0, 200),
    "37 % late": (20.0, 200.0, 200),
}
LEVELS = {
    "better": ALPHA,
    "any": ALPHA,
    "sequence": ALPHA,
    "equivalent": ALPHA,
    "harmed": HARM_ALPHA,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One truth, one policy."""

    question: Question
    rate: float
    policy: PolicyName
    arms: int = 2
    difference: float = 0.0
    drift: str = "none"
    delay: str = "none"

    def scenario(self) -> Scenario:
        shape, period = DRIFTS.get(self.drift, ("sine", UNITS))
        control, others, _ = DELAYS[self.delay]
        return Scenario(
            [self.rate] + [self.rate + self.difference] * (self.arms - 1),
            drift=0.0 if self.drift == "none" else 0.15,
            drift_shape=shape,
            drift_period=period,
            delay=[control] + [others] * (self.arms - 1),
        )

    def run(self, runs: int, seed: int) -> History:
        policy = Policy(name=self.policy, batch=BATCH, maturity=DELAYS[self.delay][2])
        return simulate(self.scenario(), policy, units=UNITS, runs=runs, rng=np.random.default_rng(seed))


def cells() -> list[Cell]:
    """Every level of each factor with each policy; then the worst ones together."""
    return [*_equal_cells(), *_edge_cells(), *_power_cells()]


def _equal_cells() -> Iterator[Cell]:
    for policy in POLICIES:
        # With two arms top-two is the even split; it differs from three on.
        base = Cell(question="equal", rate=0.7, policy=policy, arms=3 if policy == "top_two" else 2)
        for rate in RATES:
            yield replace(base, rate=rate)
            yield replace(base, rate=rate, drift="half wave")
        for delay in ("alike", "by arm", "control"):
            yield replace(base, drift="half wave", delay=delay)
        yield replace(base, arms=5, drift="half wave")
        yield replace(base, rate=0.95, arms=5, drift="half wave", delay="by arm")
    for drift in ("full wave", "step", "daily"):
        yield Cell(question="equal", rate=0.7, policy="thompson", drift=drift)
    for arms in (3, 4):
        yield Cell(question="equal", rate=0.7, policy="thompson", arms=arms, drift="half wave")
    yield Cell(question="equal", rate=0.5, policy="thompson", drift="step", delay="by arm")
    for policy in ("fixed", "thompson"):
        yield Cell(question="equal", rate=0.6, policy=policy, drift="half wave", delay="37 % late")


def _edge_cells() -> Iterator[Cell]:
    for policy in POLICIES:
        base = Cell(question="edge", rate=0.7, policy=policy, arms=3 if policy == "top_two" else 2)
        for difference in (MDE, -MDE):
            yield replace(base, difference=difference)
            yield replace(base, difference=difference, drift="half wave", delay="by arm")
        yield replace(base, rate=0.9, difference=MDE)
        yield replace(base, rate=0.95, difference=-MDE)
        if policy == "thompson":
            # A rate near 1 and the other arm near its floor: few failures, no normal distribution for long.
            yield replace(base, rate=0.98, difference=-MDE)
            yield replace(base, rate=0.93, difference=MDE)
        yield replace(base, question="guardrail", difference=-MDE)
        yield replace(base, question="guardrail", difference=-MDE, drift="half wave", delay="by arm")
        yield replace(base, question="guardrail", rate=0.95, difference=-MDE)


def _power_cells() -> Iterator[Cell]:
    for rate in (0.62, 0.70):
        for policy in POLICIES:
            yield Cell(question="power", rate=rate, policy=policy, difference=MDE)


def measure(cell: Cell, runs: int, seed: int) -> dict[str, np.ndarray]:
    """Per run: whether each claim was ever made (or the interval ever missed), or when.

    As in the product, nothing is claimed from the look on at which outcomes are proven to be missing unevenly.
    """
    history = cell.run(runs, seed)
    needed = thresholds(alpha=ALPHA, contrasts=cell.arms - 1)
    warned = _warned_at(history, needed)
    if cell.question == "power":
        return {"better_at": claimed_at(history, "better", needed.direction).min(axis=1)}
    if cell.question == "guardrail":
        return {"harmed": _ever(claimed_at(history, "worse", needed.harm, margin=MDE), warned)}
    found = {"sequence": _sequence_missed(cell, history, warned)}
    if cell.question == "edge":
        # Equivalent is who is neither better nor worse by the region.
        both = [claimed_at(history, way, needed.equivalence, margin=-MDE) for way in ("better", "worse")]
        return found | {"equivalent": _ever(np.maximum(*both), warned)}
    better, worse = (claimed_at(history, way, needed.direction) for way in ("better", "worse"))
    first = np.minimum(better, worse)
    counts = running_counts(history)
    found |= {
        "better": _ever(better, warned),
        "any": _ever(first, warned),
        "seed_rule": z_test_claims(counts, least=10).any(axis=(1, 2)),
        "best_95": probability_best_claims(counts).any(axis=(1, 2)),
        "z_interval": z_test_claims(counts)[:, -1, 1],
    }
    if np.isfinite(history.outcome).all():
        return found
    return found | {"unwarned": np.isfinite(first).any(axis=1)}


def _warned_at(history: History, needed: Thresholds) -> np.ndarray:
    """Units until outcomes are proven to be missing unevenly, shape (run, 1); inf where they are not."""
    absent = np.isnan(history.outcome)
    if not absent.any():
        return np.full((len(absent), 1), np.inf)
    shown = replace(history, outcome=absent.astype(np.float64))
    return claimed_at(shown, "two-sided", needed.missing, effects=()).min(axis=1, keepdims=True)


def _ever(claimed: np.ndarray, warned: np.ndarray) -> np.ndarray:
    """Runs with a claim, shape (run, contrast), before the warning."""
    return np.asarray((claimed < warned).any(axis=1))


def claimed_at(
    history: History,
    direction: Direction,
    log_threshold: float,
    *,
    margin: float = 0.0,
    effects: Sequence[float] = EFFECTS,
) -> np.ndarray:
    """Units until the claim about each arm, shape (run, contrast); inf where it is never made."""
    runs, arms = history.arm.shape[0], history.probability.shape[2]
    process = EProcess.start(direction=direction, margin=margin, effects=list(effects), batch=(runs,))
    threshold = float(np.exp(log_threshold))
    return np.stack(
        [first_claim(history, process, arm=arm, threshold=threshold) for arm in range(1, arms)], axis=1
    )


def _sequence_missed(cell: Cell, history: History, warned: np.ndarray) -> np.ndarray:
    level = 1.0 - ALPHA / (cell.arms - 1)
    seen = running_sequences(history, planned=UNITS, confidence_level=level)
    missed = (seen.lower > cell.difference) | (seen.upper < cell.difference)
    look = BATCH * (np.arange(missed.shape[1]) + 1.0)
    return np.asarray((missed[..., 1:].any(axis=2) & (look < warned)).any(axis=1))


def row(cell: Cell, found: dict[str, np.ndarray]) -> dict[str, object]:
    """Shares and their verdict, as they go into the JSON."""
    runs = next(iter(found.values())).size
    result: dict[str, object] = {**asdict(cell), "runs": runs}
    if cell.question == "power":
        at = found["better_at"]
        claimed = np.isfinite(at)
        power = float(claimed.mean())
        units = float(at[claimed].mean()) if claimed.any() else None
        error = float(np.sqrt(LEAST_POWER * (1.0 - LEAST_POWER) / runs))
        short = cell.policy == "fixed" and power < LEAST_POWER - 2.0 * error
        return result | {"power": power, "units_to_claim": units, "failed": ["power"] if short else []}
    shares = {name: float(ever.mean()) for name, ever in found.items()}
    failed = [name for name, level in LEVELS.items() if shares.get(name, 0.0) > limit(level, runs)]
    return result | shares | {"failed": failed}


def limit(level: float, runs: int) -> float:
    """The level and two simulation errors."""
    return level + 2.0 * float(np.sqrt(level * (1.0 - level) / runs))


def run_all(wanted: list[Cell], *, runs: int, processes: int) -> list[dict[str, object]]:
    """Chunks of runs over the processes; a chunk's seed is its cell and its number, so order is no matter."""
    parts: dict[int, list[dict[str, np.ndarray]]] = {index: [] for index in range(len(wanted))}
    sizes = [min(CHUNK, runs - start) for start in range(0, runs, CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        jobs = {
            pool.submit(measure, cell, size, 10_000 * index + part): index
            for index, cell in enumerate(wanted)
            for part, size in enumerate(sizes)
        }
        for done, job in enumerate(as_completed(jobs), 1):
            parts[jobs[job]].append(job.result())
            if sys.stderr.isatty():
                print(f"\r{done} of {len(jobs)}", end="", file=sys.stderr)
    return [
        row(cell, {name: np.concatenate([part[name] for part in parts[index]]) for name in parts[index][0]})
        for index, cell in enumerate(wanted)
    ]


COLUMNS: dict[Question, tuple[str, ...]] = {
    "equal": ("better", "any", "unwarned", "sequence", "z_interval", "seed_rule", "best_95"),
    "edge": ("equivalent", "sequence"),
    "guardrail": ("harmed",),
    "power": ("power", "units_to_claim"),
}
HEADS = {
    "better": "“better”",
    "any": "“better” or “worse”",
    "unwarned": "… without the warning",
    "sequence": "sequence misses",
    "z_interval": "z interval misses at the end",
    "seed_rule": "seed's rule",
    "best_95": "P(best) ≥ 95 %",
    "equivalent": "“equivalent”",
    "harmed": "“harmed”",
    "power": "“better” claimed",
    "units_to_claim": "units until then",
}


def table(rows: Iterable[dict[str, object]], question: Question) -> str:
    """Markdown; shares in percent."""
    shifted = question in ("edge", "guardrail")
    facts = ["rate", "difference"] if shifted else ["rate"]
    if question != "power":
        facts += ["arms", "drift", "delay"]
    facts.append("policy")
    lines = [" | ".join([*facts, *(HEADS[name] for name in COLUMNS[question])])]
    lines.append(" | ".join(["---"] * (len(facts) + len(COLUMNS[question]))))
    for item in rows:
        if item["question"] == question:
            shown = [f"{item[name]:+g}" if name == "difference" else str(item[name]) for name in facts]
            lines.append(" | ".join([*shown, *(_shown(item, name) for name in COLUMNS[question])]))
    return "\n".join(f"| {line} |" for line in lines)


def _shown(item: dict[str, object], name: str) -> str:
    value = item.get(name)
    if not isinstance(value, float):
        return "-"
    if name == "units_to_claim":
        return f"{value:,.0f}".replace(",", " ")
    failed = item.get("failed")
    mark = " (!)" if isinstance(failed, list) and name in failed else ""
    return f"{100 * value:.1f} %{mark}"


def write_page(rows: list[dict[str, object]]) -> None:
    """Put each table between its markers, with the number of runs behind it."""
    text = PAGE.read_text(encoding="utf-8")
    for question in COLUMNS:
        begin, end = f"<!-- {question} -->", f"<!-- end of {question} -->"
        before, rest = text.split(begin)
        told = f"{rows[0]['runs']} runs a row."
        text = f"{before}{begin}\n\n{told}\n\n{table(rows, question)}\n\n{end}{rest.split(end)[1]}"
    PAGE.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--docs", action="store_true", help=f"write the tables into {PAGE}")
    options = parser.parse_args()
    began = time.perf_counter()
    rows = run_all(cells(), runs=options.runs, processes=options.processes)
    seconds = time.perf_counter() - began
    FOLDER.mkdir(parents=True, exist_ok=True)
    about = {
        "runs": options.runs,
        "units": UNITS,
        "look_every": BATCH,
        "seconds": round(seconds),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    (FOLDER / "calibration.json").write_text(json.dumps({**about, "rows": rows}, indent=1), encoding="utf-8")
    for question in COLUMNS:
        print(f"\n{question}\n\n{table(rows, question)}")
    print(f"\n{options.runs} runs each, {seconds:.0f} s")
    if options.docs:
        write_page(rows)
    failed = [item for item in rows if item["failed"]]
    for item in failed:
        print(f"exceeds: {item}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
