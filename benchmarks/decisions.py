"""What do a decision, an outcome and a reallocation cost, beside libraries that draw at every decision?

A decision chooses an arm for a unit. Ours hashes the unit into the split and knows the probability of what it
did: the arm's basis points. Thompson sampling in MABWiser and river draws one number per arm and takes the
largest; the probability of that choice is not known to them, and counting 10^4 of their choices tells it to
0.005. The same count is what a split of traffic would cost with them. All have seen the same 1 000 outcomes.

    python -m benchmarks.decisions [--rounds 5] [--write-docs]
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.rivals import Figures, Question, Rival, main, seconds_per_call, table, told

ARMS = (2, 5, 20)
OURS = "promptbandit"
COUNTED = 10_000
STEPS = {
    "decision": "a decision",
    "probable": "a decision with its probability",
    "update": "one outcome",
    "split": "a split of the traffic",
}


def history(arms: int) -> tuple[list[int], list[int]]:
    """Which arm each of 1 000 units had, and whether it succeeded."""
    rng = np.random.default_rng(arms)
    chosen = rng.integers(arms, size=1_000)
    return chosen.tolist(), rng.binomial(1, 0.70 + 0.02 * (chosen == 1)).tolist()


def promptbandit(arms: int) -> dict[str, Callable[[], object]]:
    from engine.allocation import served_split
    from engine.assignment import BUCKETS, arm_of, bucket
    from engine.beta_binomial import BetaPosterior, probability_best
    from engine.statistics import BinaryCounts
    from engine.thompson import thompson_split

    chosen, good = history(arms)
    counts = BinaryCounts(
        n=np.bincount(chosen, minlength=arms), successes=np.bincount(chosen, weights=good, minlength=arms)
    )

    def reallocate() -> list[int]:
        posterior = BetaPosterior.from_counts(counts)
        raw = thompson_split(probability_best(posterior))
        return list(served_split(raw, floor=0.01, cap=0.9).tolist())

    split_bp = tuple(reallocate())
    one = BinaryCounts(n=[1] + [0] * (arms - 1), successes=[1] + [0] * (arms - 1))

    def decide() -> int:
        return arm_of(bucket("support-2026", "call-123456"), split_bp)

    def decide_and_know() -> tuple[int, float]:
        arm = arm_of(bucket("support-2026", "call-123456"), split_bp)
        return arm, split_bp[arm] / BUCKETS

    return {
        "decision": decide,
        "probable": decide_and_know,
        "update": lambda: counts + one,
        "split": reallocate,
    }


def mabwiser(arms: int) -> dict[str, Callable[[], object]]:
    from mabwiser.mab import MAB, LearningPolicy

    bandit = MAB(list(range(arms)), LearningPolicy.ThompsonSampling(), seed=1)
    bandit.fit(*history(arms))
    return {"decision": bandit.predict, "update": lambda: bandit.partial_fit([0], [1])}


def river(arms: int) -> dict[str, Callable[[], object]]:
    from river import bandit, proba

    policy = bandit.ThompsonSampling(reward_obj=proba.Beta(), seed=1)
    for arm, good in zip(*history(arms), strict=True):
        policy.update(arm, good)
    names = list(range(arms))
    return {"decision": lambda: policy.pull(names), "update": lambda: policy.update(0, 1)}


def measured(prepare: Callable[[int], dict[str, Callable[[], object]]]) -> Callable[[], Figures]:
    """Seconds per step and number of arms; what a rival lacks costs it 10^4 decisions."""

    def measure() -> Figures:
        figures: Figures = {}
        for arms in ARMS:
            seconds = {name: seconds_per_call(step) for name, step in prepare(arms).items()}
            counting = seconds["decision"] * COUNTED
            figures[str(arms)] = {"probable": counting, "split": counting} | seconds
        return figures

    return measure


def tables(rounds: Mapping[str, Sequence[Figures]]) -> str:
    """One table: a row per step and rival, with how many times ours it takes."""
    head = ["", "", *(f"k = {arms}" for arms in ARMS), *(f"÷ ours, k = {arms}" for arms in ARMS)]
    rows = [
        [title if name == OURS else "", name, *_row(step, found, rounds[OURS])]
        for step, title in STEPS.items()
        for name, found in rounds.items()
    ]
    return table(head, rows)


def _row(step: str, found: Sequence[Figures], ours: Sequence[Figures]) -> list[str]:
    seconds = {arms: np.array([figures[str(arms)][step] for figures in found]) for arms in ARMS}
    own = {arms: np.array([figures[str(arms)][step] for figures in ours]) for arms in ARMS}
    ratios = [f"{np.median(seconds[arms] / own[arms]):.3g}" for arms in ARMS]
    return [told(seconds[arms].tolist()) for arms in ARMS] + ratios


QUESTION = Question(
    name="decisions",
    rivals={
        OURS: Rival(measured(promptbandit), ("numpy",)),
        "MABWiser": Rival(measured(mabwiser), ("mabwiser",)),
        "river": Rival(measured(river), ("river",)),
    },
    tables=tables,
)

if __name__ == "__main__":
    main(QUESTION)
