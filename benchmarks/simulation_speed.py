"""How many units of simulated experiments can be made in a second?

Three arms of .62, .62 and .67, 5 000 units, Thompson sampling renewed every 50 units. Ours makes 1 000 runs at
once, with floors, logged probabilities and outcomes. MABWiser is used in two ways: a loop that draws outcomes
for what it predicts and fits them batch by batch, which does the same for one run; and its own Simulator, which
replays a log of 5 000 units in batches of 50 and evaluates the predictions.

    python -m benchmarks.simulation_speed [--rounds 5] [--write-docs]
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from benchmarks.rivals import Figures, Question, Rival, main, table

RATES = [0.62, 0.62, 0.67]
UNITS, BATCH = 5_000, 50
OURS = "promptbandit"


def measure(runs: int, simulate_runs: Callable[[int], None]) -> Figures:
    """Units a second, after a warm-up of the imports and of one run."""
    simulate_runs(1)
    began = time.perf_counter()
    simulate_runs(runs)
    return {"units_per_s": runs * UNITS / (time.perf_counter() - began)}


def ours(runs: int) -> None:
    from engine.simulated_policy import Policy
    from engine.simulation import Scenario, simulate

    policy = Policy(name="thompson", batch=BATCH)
    simulate(Scenario(RATES), policy, units=UNITS, runs=runs, rng=np.random.default_rng(1))


def mabwiser_loop(runs: int) -> None:
    from mabwiser.mab import MAB, LearningPolicy

    rng = np.random.default_rng(1)
    for seed in range(runs):
        bandit = MAB([0, 1, 2], LearningPolicy.ThompsonSampling(), seed=seed)
        bandit.fit([0, 1, 2], [0, 0, 0])
        for _ in range(UNITS // BATCH):
            arms = [bandit.predict() for _ in range(BATCH)]
            bandit.partial_fit(arms, (rng.random(BATCH) < np.take(RATES, arms)).astype(int))


def mabwiser_simulator(runs: int) -> None:
    from mabwiser.mab import MAB, LearningPolicy
    from mabwiser.simulator import Simulator

    rng = np.random.default_rng(1)
    for seed in range(runs):
        units = UNITS + BATCH
        arms = rng.integers(3, size=units)
        rewards = (rng.random(units) < np.take(RATES, arms)).astype(int)
        bandit = MAB([0, 1, 2], LearningPolicy.ThompsonSampling(), seed=seed)
        Simulator(
            [("thompson", bandit)],
            arms,
            rewards,
            test_size=UNITS / units,
            is_ordered=True,
            batch_size=BATCH,
            is_quick=True,
        ).run()


def tables(rounds: Mapping[str, Sequence[Figures]]) -> str:
    rows = []
    for name, found in rounds.items():
        rates = [float(figures["units_per_s"]) for figures in found]
        ratios = [float(mine["units_per_s"]) / rate for mine, rate in zip(rounds[OURS], rates, strict=True)]
        rows.append(
            [
                name,
                _told(statistics.median(rates), min(rates), max(rates)),
                _told(statistics.median(ratios), min(ratios), max(ratios)),
            ]
        )
    return table(["", "units a second", f"{OURS} is faster by"], rows)


def _told(middle: float, low: float, high: float) -> str:
    digits = "{:,.3g}" if middle < 1_000 else "{:,.0f}"
    return "{} ({} to {})".format(*(digits.format(part) for part in (middle, low, high)))


QUESTION = Question(
    name="simulation_speed",
    rivals={
        OURS: Rival(partial(measure, 1_000, ours), ("numpy", "scipy")),
        "MABWiser, loop": Rival(partial(measure, 4, mabwiser_loop), ("mabwiser",)),
        "MABWiser, Simulator": Rival(partial(measure, 4, mabwiser_simulator), ("mabwiser",)),
    },
    tables=tables,
)

if __name__ == "__main__":
    main(QUESTION)
