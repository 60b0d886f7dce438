"""From counts to a full report: how long does it take, beside a peer that answers part of it?

`compare` of success rates, and a `Study` of three metrics, each as a dictionary with every interval, test and
posterior. What an experiment looks like matters, so `compare` is asked about four of them: even numbers of calls,
those of a bandit, ten calls each, and a decided one. bayesian-testing answers P(best) and the expected loss of the
rates alone, by its default of 20 000 draws.

    python -m benchmarks.front [--rounds 5] [--write-docs]
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.rivals import Figures, Question, Rival, main, seconds_per_call, table, told

ARMS = (2, 5, 20)
OURS = "compare, one metric"
STUDY = "Study, three metrics"
KINDS = {"bandit": "sizes of a bandit", "first": "ten calls each", "decided": "decided"}
SIZES = {"even": (1_500, 2_500), "bandit": (100, 3_000), "first": (8, 12), "decided": (1_500, 2_500)}


def counts(arms: int, kind: str = "even") -> dict[str, tuple[int, int]]:
    """(successes, trials) by arm."""
    rng = np.random.default_rng(arms)
    n = rng.integers(*SIZES[kind], arms)
    rate = rng.normal(0.70, 0.02, arms)
    rate[-1] += 0.15 * (kind == "decided")
    good = rng.binomial(n, rate)
    return {f"v{i + 1}": (int(x), int(m)) for i, (x, m) in enumerate(zip(good, n, strict=True))}


def compared(arms: int, kind: str = "even") -> Callable[[], object]:
    import engine as ab

    told_counts = counts(arms, kind)
    return lambda: ab.compare(told_counts, control="v1").to_dict()


def studied(arms: int) -> Callable[[], object]:
    import engine as ab

    study = ab.Study(
        arm="variant",
        control="v1",
        metrics=[
            ab.Binary("resolved", goal=True),
            ab.Score("quality"),
            ab.Amount("duration_s", better="decrease"),
        ],
    )
    rates = counts(arms)
    told_counts = {
        "resolved": rates,
        "quality": {arm: (n, 0.62 * n, 0.42 * n) for arm, (_, n) in rates.items()},
        "duration_s": {arm: (n, 180.0 * n, 40_000.0 * n) for arm, (_, n) in rates.items()},
    }
    return lambda: study.analyze(told_counts).to_dict()


def bayesian_testing(arms: int) -> Callable[[], object]:
    from bayesian_testing.experiments import BinaryDataTest

    told_counts = counts(arms)

    def answer() -> Any:
        test = BinaryDataTest()
        for arm, (good, n) in told_counts.items():
            test.add_variant_data_agg(arm, n, good, a_prior=1, b_prior=1)
        return test.evaluate()

    return answer


def measure(prepare: Callable[[int], Callable[[], object]]) -> Figures:
    return {str(arms): seconds_per_call(prepare(arms)) for arms in ARMS}


def tables(rounds: Mapping[str, Sequence[Figures]]) -> str:
    """Time by number of arms."""
    lines = [
        [name, *(told([figures[str(arms)] for figures in found]) for arms in ARMS)]
        for name, found in rounds.items()
    ]
    return table(["", *(f"k = {arms}" for arms in ARMS)], lines)


QUESTION = Question(
    name="front",
    rivals={
        OURS: Rival(partial(measure, compared), ("numpy", "scipy")),
        **{
            f"compare, {name}": Rival(partial(measure, partial(compared, kind=kind)), ("numpy", "scipy"))
            for kind, name in KINDS.items()
        },
        STUDY: Rival(partial(measure, studied), ("numpy", "scipy")),
        "bayesian-testing": Rival(partial(measure, bayesian_testing), ("bayesian-testing",)),
    },
    tables=tables,
)

if __name__ == "__main__":
    main(QUESTION)
