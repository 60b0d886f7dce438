"""How often does the report believe in a variant that is no better, read once, at the end?

Nothing differs, and Thompson sampling moves the split after every 50 of 2 000 calls, by the product's own posterior.
Counted is how often its P(better) then lies beyond 97.5 or below 2.5 %, for a variant of the start and for one
that came after 600 calls at the floor share. Beside it stands the posterior of all counts together, which is a
likelihood's and so knows no stopping, and which takes a good day for a good prompt. 1 core: 5 minutes.

    python -m benchmarks.belief_at_the_end [--runs 600] [--seed 1] [--docs]
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.allocation import served_split
from engine.beta_binomial import BetaPosterior, best_arm, probability_better
from engine.observed import periods_of
from engine.periods import beta_posterior
from engine.prior import new_arm_prior
from engine.statistics import BinaryCounts
from engine.thompson import thompson_split

CALLS, BATCH, BURN_IN, LATE_AT = 2_000, 50, 100, 600
FLOOR, CONTROL_FLOOR, CAP = 0.05, 0.10, 0.90
TAIL = 0.025
PAGE = Path("docs/calibration.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Two variants from the start and, if `late`, a third one; all with the same rate."""

    rate: float = 0.7
    late: bool = False
    drift: float = 0.0

    def rate_at(self, call: int) -> float:
        """Half a wave over the experiment."""
        return self.rate + self.drift * float(np.sin(np.pi * call / CALLS))


@dataclass(slots=True)
class Log:
    """Units, successes and shares of each allocation, shape (variant,) each."""

    prior: np.ndarray
    n: list[np.ndarray] = field(default_factory=list)
    successes: list[np.ndarray] = field(default_factory=list)
    split: list[np.ndarray] = field(default_factory=list)

    def whole(self) -> BinaryCounts:
        return BinaryCounts(n=np.sum(self.n, axis=0), successes=np.sum(self.successes, axis=0))

    def believed(self) -> BetaPosterior:
        """As `engine.belief` does it."""
        n, split = np.array(self.n), np.array(self.split)
        period = periods_of(n, split)
        shape = (period[-1] + 1, n.shape[1])
        units, successes, served = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape)
        np.add.at(units, period, n)
        np.add.at(successes, period, np.array(self.successes))
        np.add.at(served, period, split)
        counts = BinaryCounts(n=units, successes=successes)
        return beta_posterior(counts, served > 0.0, control=0, prior=(self.prior[:, 0], self.prior[:, 1]))

    def pooled(self) -> BetaPosterior:
        return BetaPosterior.from_counts(self.whole(), (self.prior[:, 0], self.prior[:, 1]))


def play(world: World, rng: np.random.Generator) -> Log:
    """One experiment to its end."""
    variants = 3 if world.late else 2
    log = Log(prior=np.ones((variants, 2)))
    split = np.array([0.5, 0.5, 0.0])[:variants]
    for call in range(0, CALLS, BATCH):
        if world.late and call == LATE_AT:
            split = _with_newcomer(log, split)
        n = rng.multinomial(BATCH, split)
        log.n.append(n)
        log.successes.append(rng.binomial(n, world.rate_at(call)))
        log.split.append(split)
        if log.whole().n[:2].min() >= BURN_IN:
            split = _moved(log.believed(), live=split > 0.0)
    return log


def _with_newcomer(log: Log, split: np.ndarray) -> np.ndarray:
    """At the floor share, with a prior around its parent, the control."""
    whole = log.whole()
    rate = float((whole.successes[0] + 1.0) / (whole.n[0] + 2.0))
    log.prior[-1] = new_arm_prior(BinaryCounts([], []), parent_mean=rate).shapes
    return _bounded(np.append((1.0 - FLOOR) * split[:-1], FLOOR))


def _moved(posterior: BetaPosterior, *, live: np.ndarray) -> np.ndarray:
    among = BetaPosterior(posterior.alpha[live], posterior.beta[live])
    split = np.zeros(live.size)
    split[live] = _bounded(thompson_split(best_arm(among).probability))
    return split


def _bounded(raw: np.ndarray) -> np.ndarray:
    floors = np.full(raw.size, FLOOR)
    floors[0] = CONTROL_FLOOR
    return served_split(raw, floor=floors, cap=CAP) / 10_000.0


def worlds() -> list[World]:
    """A variant of the start and a late one; near the edge; under drift."""
    common = ({}, {"rate": 0.9}, {"drift": 0.15})
    return [World(late=late, **more) for late in (False, True) for more in common]


def tails(world: World, *, runs: int, seed: int) -> list[float]:
    """Shares of the runs beyond either tail: by period above and below, then pooled."""
    found = []
    for number in range(runs):
        log = play(world, np.random.default_rng([seed, number]))
        both = (log.believed(), log.pooled())
        found.append([float(probability_better(posterior, control=0)[-1]) for posterior in both])
    believed = np.array(found).T
    return [float(share) for row in believed for share in ((row > 1.0 - TAIL).mean(), (row < TAIL).mean())]


def table(wanted: Sequence[World], found: Sequence[Sequence[float]]) -> str:
    """Markdown; shares in percent."""
    lines = [
        "| variant | rate | drift | P(better) > 97.5 % | < 2.5 % | pooled: > 97.5 % | < 2.5 % |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for world, shares in zip(wanted, found, strict=True):
        facts = (
            "late" if world.late else "of the start",
            f"{world.rate}",
            "half wave" if world.drift else "none",
        )
        lines.append(f"| {' | '.join((*facts, *(f'{100 * share:.1f} %' for share in shares)))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--docs", action="store_true", help=f"write the table into {PAGE}")
    options = parser.parse_args()
    wanted = worlds()
    shown = table(wanted, [tails(world, runs=options.runs, seed=options.seed) for world in wanted])
    print(shown)
    if options.docs:
        text = PAGE.read_text(encoding="utf-8")
        before, rest = text.split("<!-- belief -->")
        told = f"{options.runs} runs a row, seed {options.seed}."
        after = rest.split("<!-- end of belief -->")[1]
        PAGE.write_text(f"{before}<!-- belief -->\n\n{told}\n\n{shown}\n\n<!-- end of belief -->{after}")


if __name__ == "__main__":
    main()
