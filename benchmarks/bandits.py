"""Do our splits earn and learn as much as the textbook's algorithms?

1. Regret on stationary instances with floors off: our split (P(best) by quadrature, renewed every 10 units)
   beside Thompson sampling unit by unit, an even split, our default floors, and the bound of Lai and Robbins.
2. Samples until the best arm is known with error 10 %, by Chernoff's stopping rule, on the two instances of
   Garivier and Kaufmann (2016): top-two, Thompson and even splits beside their Track-and-Stop, whose
   shares are renewed every 10 samples like ours. Thompson sampling is given up after 40 000.
3. How many units a second the simulator makes.

A leader's share of one half costs top-two 3 % on the first instance and 11 % on the second in the limit of many
samples (`characteristic_time`), so with 1 000 runs, whose ratio is known to 3 %, it is told from Track-and-Stop. The
one with the closest challenger at the share that tells the two soonest (`thompson.transport_split`) is not.

Prints the tables and writes build/benchmarks/bandits.json. Exits 1 when the regret passes Thompson sampling's
by more than 5 % (and two standard errors) or top-two with the closest challenger needs more samples than
Track-and-Stop (likewise).

    python -m benchmarks.bandits [--runs 1000] [--parts regret,decision,speed]
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.track_and_stop import (
    characteristic_time,
    evidence,
    kl,
    optimal_proportions,
    stopping_threshold,
    track,
)
from engine.many_posteriors import probability_best_rates
from engine.simulated_looks import pseudo_regret
from engine.simulated_policy import Policy, PolicyName, top_two_rows
from engine.simulation import Scenario, simulate

FOLDER = Path("build/benchmarks")
RENEW = 10  # units between two renewals of a split
HORIZON = 10_000
DELTA = 0.1
LONGEST = 40_000  # samples after which a run that has not decided is given up
INSTANCES = {
    "two arms, .9 and .8": [0.9, 0.8],
    "ten arms, .5 and nine .4": [0.5] + [0.4] * 9,
    "four arms, .5 .45 .43 .4": [0.5, 0.45, 0.43, 0.4],
}
DECISIONS = {"mu1": [0.5, 0.45, 0.43, 0.4], "mu2": [0.3, 0.21, 0.2, 0.19, 0.18]}

CLOSEST_CHALLENGER = "top-two, closest challenger"

Row = dict[str, object]
Shares = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _probability_best(n: np.ndarray, successes: np.ndarray) -> np.ndarray:
    return probability_best_rates(1.0 + successes, 1.0 + n - successes)


def closest_challenger(n: np.ndarray, successes: np.ndarray) -> np.ndarray:
    """`engine.thompson.transport_split` of each row."""
    p, arms = _probability_best(n, successes), n.shape[1]
    weight, mean = n + 2.0, (successes + 1.0) / (n + 2.0)
    middle = (weight * mean)[:, :, None] + (weight * mean)[:, None, :]
    middle /= weight[:, :, None] + weight[:, None, :]
    apart = weight[:, :, None] * kl(np.broadcast_to(mean[:, :, None], middle.shape), middle)
    is_ahead = mean[:, :, None] > mean[:, None, :]
    mine = np.where(is_ahead, apart, 0.0)
    whole = mine + np.where(is_ahead, apart.transpose(0, 2, 1), 0.0)
    share = np.divide(mine, whole, out=np.full(whole.shape, 0.5), where=whole > 0.0)
    cost = np.where(np.eye(arms, dtype=bool), np.inf, whole)
    closest = cost == cost.min(axis=2, keepdims=True)
    pair = p[:, :, None] * closest / closest.sum(axis=2, keepdims=True)
    return np.asarray((pair * share).sum(axis=2) + (pair * (1.0 - share)).sum(axis=1))


# From samples and successes to the split of the next ones; None tracks the optimal proportions.
DECIDE_BY: dict[str, Shares | None] = {
    "Track-and-Stop": None,
    "top-two": lambda n, successes: top_two_rows(_probability_best(n, successes)),
    CLOSEST_CHALLENGER: closest_challenger,
    "even": lambda n, successes: np.full(n.shape, 1.0 / n.shape[1]),
    "Thompson": _probability_best,
}


def regret(runs: int) -> list[Row]:
    """Mean regret after 10 000 units, with its standard error."""
    ours = Policy(name="thompson", floor=0.0, control_floor=0.0, cap=1.0, burn_in=0, batch=RENEW)
    policies = {
        "ours": ours,
        "ours with floors": Policy(name="thompson", batch=RENEW),
        "ours, top-two": replace(ours, name="top_two"),
        "even": replace(ours, name="fixed"),
    }
    rows: list[Row] = []
    for index, (instance, means) in enumerate(INSTANCES.items()):
        lost = {"Thompson": _plain_thompson(np.array(means), runs, np.random.default_rng(index))}
        for name, policy in policies.items():
            rng = np.random.default_rng(100 + index)
            # Parts of 250 runs: the splits of 1 000 batches and 10 arms fill 20 MB each.
            parts = [
                pseudo_regret(
                    simulate(Scenario(means), policy, units=HORIZON, runs=min(250, runs - start), rng=rng)
                )
                for start in range(0, runs, 250)
            ]
            lost[name] = np.concatenate(parts)
        row: Row = {"instance": instance, "lai_robbins": lai_robbins(means) * float(np.log(HORIZON))}
        row |= {name: _mean_and_error(values) for name, values in lost.items()}
        mine, theirs = (np.array(_mean_and_error(lost[name])) for name in ("ours", "Thompson"))
        slack = 2.0 * float(np.hypot(mine[1], 1.05 * theirs[1]))
        row["holds"] = bool(mine[0] <= 1.05 * theirs[0] + slack)
        rows.append(row)
        print(_sentence(row), flush=True)
    return rows


def lai_robbins(means: list[float]) -> float:
    """No consistent rule loses less than this times ln T in the long run (Lai and Robbins 1985)."""
    mu = np.array(means)
    worse = mu[mu < mu.max()]
    return float(((mu.max() - worse) / kl(worse, np.full(worse.shape, mu.max()))).sum())


def _plain_thompson(means: np.ndarray, runs: int, rng: np.random.Generator) -> np.ndarray:
    """The textbook's algorithm: draw a rate from each posterior, serve the largest, learn at once."""
    shapes = np.ones((2, runs, means.size))
    row, lost = np.arange(runs), np.zeros(runs)
    for _ in range(HORIZON):
        arm = np.argmax(rng.beta(*shapes), axis=1)
        failed = (rng.random(runs) >= means[arm]).astype(np.intp)
        shapes[failed, row, arm] += 1.0
        lost += means.max() - means[arm]
    return lost


def decision(runs: int) -> list[Row]:
    """Samples until Chernoff's rule stops, and how often it names the best arm."""
    rows: list[Row] = []
    for index, (instance, means) in enumerate(DECISIONS.items()):
        bound = float(characteristic_time(np.array([means]))[0] * kl(np.array(DELTA), np.array(1.0 - DELTA)))
        row: Row = {"instance": instance, "lower_bound": bound}
        for number, (name, shares) in enumerate(DECIDE_BY.items()):
            rng = np.random.default_rng(1_000 * index + number)
            # Plain Thompson sampling takes ten times as long, and nobody doubts the result.
            size = max(runs // 10, 2) if name == "Thompson" else runs
            samples, correct = until_decided(np.array(means), shares, runs=size, rng=rng)
            row[name] = _mean_and_error(samples)
            decided = samples < LONGEST
            row[f"{name}: right of the decided"] = float(correct[decided].mean()) if decided.any() else None
            row[f"{name}: given up"] = float(1.0 - decided.mean())
        rival = np.array(row["Track-and-Stop"])
        for name in ("top-two", CLOSEST_CHALLENGER):
            mine = np.array(row[name])
            ratio = float(mine[0] / rival[0])
            error = ratio * float(np.hypot(mine[1] / mine[0], rival[1] / rival[0]))
            row[f"{name} over Track-and-Stop"] = ratio, error
            row["holds"] = bool(mine[0] <= rival[0] + 2.0 * np.hypot(mine[1], rival[1]))
        times = [characteristic_time(np.array([means]), share)[0] for share in (0.5, None)]
        row["top-two over Track-and-Stop in theory"] = float(times[0] / times[1])
        rows.append(row)
        print(_sentence(row), flush=True)
    return rows


def until_decided(
    means: np.ndarray, shares: Shares | None, *, runs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Samples of each run and whether its leader is the best arm; `shares` None tracks the optimal ones.

    Shares are renewed every 10 samples, the stopping rule is asked after each.
    """
    arms = means.size
    n = np.ones((runs, arms))
    successes = (rng.random((runs, arms)) < means).astype(np.float64)
    running = np.arange(runs)
    samples, correct = np.full(runs, float(LONGEST)), np.zeros(runs, dtype=bool)
    wanted = np.empty(0)
    for taken in range(arms, LONGEST):
        if (taken - arms) % RENEW == 0:
            wanted = optimal_proportions(successes / n) if shares is None else shares(n, successes)
        arm = track(n, wanted) if shares is None else _draw(wanted, rng)
        row = np.arange(running.size)
        n[row, arm] += 1.0
        successes[row, arm] += rng.random(running.size) < means[arm]
        done = evidence(successes, n) > stopping_threshold(taken + 1, DELTA)
        if done.any():
            samples[running[done]] = taken + 1
            correct[running[done]] = np.argmax(successes[done] / n[done], axis=1) == np.argmax(means)
            keep = ~done
            n, successes, running, wanted = n[keep], successes[keep], running[keep], wanted[keep]
            if running.size == 0:
                break
    return samples, correct


def _draw(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    edges = np.cumsum(shares, axis=1)
    above = rng.random((shares.shape[0], 1)) * edges[:, -1:] >= edges[:, :-1]
    return np.asarray(above.sum(axis=1))


def speed() -> list[Row]:
    """Units simulated in a second, by one process."""
    rows: list[Row] = []
    policies: tuple[tuple[PolicyName, int], ...] = (("fixed", 2), ("thompson", 3), ("thompson", 5))
    for name, arms in policies:
        policy = Policy(name=name)
        began = time.perf_counter()
        simulate(Scenario([0.6] * arms), policy, units=5_000, runs=1_000, rng=np.random.default_rng(1))
        seconds = time.perf_counter() - began
        rows.append({"policy": name, "arms": arms, "units_per_s": 5e6 / seconds})
        print(_sentence(rows[-1]), flush=True)
    return rows


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def _sentence(row: Row) -> str:
    return "; ".join(f"{name} {_shown(value)}" for name, value in row.items())


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        digits = 1 if value[0] >= 5.0 else 3
        return f"{value[0]:,.{digits}f} ± {value[1]:.{digits}f}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"
    return str(value)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--parts", default="regret,decision,speed")
    options = parser.parse_args()
    parts: dict[str, Callable[[], list[Row]]] = {
        "regret": lambda: regret(options.runs),
        "decision": lambda: decision(options.runs),
        "speed": speed,
    }
    result: dict[str, object] = {"runs": options.runs, "python": platform.python_version()}
    failed = False
    for part in options.parts.split(","):
        began = time.perf_counter()
        print(f"\n{part}", flush=True)
        rows = parts[part]()
        result[part] = rows
        failed = failed or any(row.get("holds") is False for row in rows)
        print(f"{time.perf_counter() - began:.0f} s")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "bandits.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
