"""How long do P(best) and the expected losses of k arms take, and how wrong are they?

Two families of problems, three of each size. `even`: 2 000 calls an arm. `mixed`: arms of 20, 200, 2 000, 20 000
and 10^6 calls side by side. True rates are 0.70 with a standard deviation of 0.02. From k = 20 on, five posteriors
stand in a problem several times, because its truth then takes mpmath two seconds instead of hours; no rival
makes use of that. Errors are those of the first problem of each kind.

    python -m benchmarks.best_arm [--rounds 5] [--write-docs]
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from benchmarks.rivals import Figures, Question, Rival, main, seconds_per_call, table, told
from benchmarks.truth import exact

ARMS = (2, 5, 20, 100)
FAMILIES = ("even", "mixed")
PROBLEMS = 3
OURS = "promptbandit"

type Counts = tuple[np.ndarray, np.ndarray]  # n and successes, shape (arm,)
type Answer = Callable[[], tuple[Sequence[float], Sequence[float]]]  # P(best) and expected loss


def problem(family: str, arms: int, number: int) -> Counts:
    """The counts of one problem; the prior is Beta(1, 1)."""
    rng = np.random.default_rng([FAMILIES.index(family), arms, number])
    distinct = min(arms, 5)
    sizes = np.full(5, 2_000) if family == "even" else np.array([20, 200, 2_000, 20_000, 10**6])
    n = rng.permutation(sizes)[:distinct]
    successes = rng.binomial(n, rng.normal(0.70, 0.02, distinct))
    return np.resize(n, arms), np.resize(successes, arms)


def exactly(n: np.ndarray, successes: np.ndarray) -> Answer:
    from engine.beta_binomial import BetaPosterior, best_arm
    from engine.statistics import BinaryCounts

    posterior = BetaPosterior.from_counts(BinaryCounts(n=n, successes=successes))

    def answer() -> Any:
        best = best_arm(posterior)
        return best.probability, best.expected_loss

    return answer


def by_draws(draws: int, n: np.ndarray, successes: np.ndarray) -> Answer:
    """The fastest of the ways to write it down that we tried: one call, arms in rows."""
    rng = np.random.default_rng(1)
    alpha, beta = (1.0 + successes)[:, None], (1.0 + n - successes)[:, None]

    def answer() -> Any:
        rates = rng.beta(alpha, beta, size=(n.size, draws))
        probability = np.bincount(rates.argmax(axis=0), minlength=n.size) / draws
        return probability, rates.max(axis=0).mean() - rates.mean(axis=1)

    return answer


def by_bayesian_testing(n: np.ndarray, successes: np.ndarray) -> Answer:
    """Its default: 20 000 draws."""
    from bayesian_testing.experiments import BinaryDataTest

    test = BinaryDataTest()
    for i in range(n.size):
        test.add_variant_data_agg(str(i), int(n[i]), int(successes[i]), a_prior=1, b_prior=1)

    def answer() -> Any:
        found = test.evaluate()
        return [arm["prob_being_best"] for arm in found], [arm["expected_loss"] for arm in found]

    return answer


def by_cprior(n: np.ndarray, successes: np.ndarray) -> Answer | None:
    """Its default: `quad`, one variant against all others at a time. It takes 4 s for 20 arms."""
    from cprior.models import BernoulliModel, BernoulliMVTest

    if n.size > 5:
        return None
    names = ["A", *(f"B{i}" for i in range(1, n.size))]  # it wants a control called A
    test = BernoulliMVTest(
        {
            name: BernoulliModel(name, alpha=1 + good, beta=1 + units - good)
            for name, units, good in zip(names, n.tolist(), successes.tolist(), strict=True)
        }
    )

    def answer() -> Any:
        probability = [test.probability_vs_all(variant=name) for name in names]
        return probability, [max(test.expected_loss_vs_all(variant=name), 0.0) for name in names]

    return answer


def cells() -> Iterator[tuple[str, str, int]]:
    for family, arms in product(FAMILIES, ARMS):
        yield f"{family} {arms}", family, arms


def measure(prepare: Callable[..., Answer | None]) -> Figures:
    """Seconds of every problem and the answer to the first one, per cell."""
    figures: Figures = {}
    for cell, family, arms in cells():
        answers = [prepare(*problem(family, arms, number)) for number in range(PROBLEMS)]
        if None not in answers:
            probability, loss = answers[0]()  # type: ignore[misc]
            figures[cell] = {
                "seconds": [seconds_per_call(answer) for answer in answers],
                "probability": [float(value) for value in probability],
                "loss": [float(value) for value in loss],
            }
    return figures


def truths() -> dict[str, tuple[list[float], list[float]]]:
    found = {}
    for cell, family, arms in cells():
        n, good = problem(family, arms, 0)
        found[cell] = exact(list(zip((1.0 + good).tolist(), (1.0 + n - good).tolist(), strict=True)))
    return found


def tables(rounds: Mapping[str, Sequence[Figures]]) -> str:
    """Time per family, then the largest errors."""
    head = ["", *(f"k = {arms}" for arms in ARMS)]
    parts = []
    for family in FAMILIES:
        rows = [
            [name, *(_time(found, f"{family} {arms}") for arms in ARMS)] for name, found in rounds.items()
        ]
        rows += [
            [f"{name} ÷ {OURS}", *(_ratio(found, rounds[OURS], f"{family} {arms}") for arms in ARMS)]
            for name, found in rounds.items()
            if name != OURS
        ]
        parts.append(f"**{family}**, time for both\n\n{table(head, rows)}")
    truth = truths()
    for title, key, place in (("P(best)", "probability", 0), ("expected loss", "loss", 1)):
        rows = [
            [name, *(_error(found, truth, arms, key, place) for arms in ARMS)]
            for name, found in rounds.items()
        ]
        parts.append(f"Largest error of any arm's **{title}**, both families\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _seconds(found: Sequence[Figures], cell: str) -> list[float]:
    return [value for figures in found if cell in figures for value in figures[cell]["seconds"]]


def _time(found: Sequence[Figures], cell: str) -> str:
    seconds = _seconds(found, cell)
    return told(seconds) if seconds else "not tried"


def _ratio(found: Sequence[Figures], ours: Sequence[Figures], cell: str) -> str:
    """Median over rounds and problems, each pair from the same round."""
    seconds = _seconds(found, cell)
    if not seconds:
        return "not tried"
    ratios = np.array(seconds) / np.array(_seconds(ours, cell))
    return f"{np.median(ratios):.3g} ({ratios.min():.3g} - {ratios.max():.3g})"


def _error(
    found: Sequence[Figures],
    truth: dict[str, tuple[list[float], list[float]]],
    arms: int,
    key: str,
    place: int,
) -> str:
    errors = [
        np.abs(np.array(figures[cell][key]) - truth[cell][place]).max()
        for family in FAMILIES
        for figures in found
        if (cell := f"{family} {arms}") in figures
    ]
    return f"{max(errors):.0e}" if errors else "not tried"


QUESTION = Question(
    name="best_arm",
    rivals={
        OURS: Rival(partial(measure, exactly), ("numpy", "scipy")),
        "10^4 draws": Rival(partial(measure, partial(by_draws, 10**4)), ("numpy",)),
        "10^5 draws": Rival(partial(measure, partial(by_draws, 10**5)), ("numpy",)),
        "bayesian-testing": Rival(partial(measure, by_bayesian_testing), ("bayesian-testing",)),
        "cprior": Rival(partial(measure, by_cprior), ("cprior",)),
    },
    tables=tables,
)

if __name__ == "__main__":
    main(QUESTION)
