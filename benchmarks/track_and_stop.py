"""The yardstick for finding the best of several rates: Track-and-Stop and its stopping rule, for many runs.

After Garivier and Kaufmann (2016), Optimal best arm identification with fixed confidence, COLT: the optimal
proportions w* (theorem 5 and lemma 3), D-tracking (section 3.1), and Chernoff's stopping rule with the
threshold of their experiments, ln((ln t + 1) / delta) (section 6). Arrays are (run, arm).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

CLOSEST = 1e-4  # rates nearer to each other, to 0 or to 1 are treated as this far apart


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of two Bernoulli distributions; q in (0, 1)."""
    return np.asarray(xlogy(p, p / q) + xlogy(1.0 - p, (1.0 - p) / (1.0 - q)))


def optimal_proportions(means: np.ndarray) -> np.ndarray:
    """w*: the shares under which the leader is told from its closest rivals soonest."""

    def too_far(x: np.ndarray, race: "_Race") -> np.ndarray:
        middle = (race.best + x * race.mu) / (1.0 + x)
        ratio = kl(race.best, middle) / np.maximum(kl(race.mu, middle), 1e-300)
        return np.asarray(np.where(race.is_leader, 0.0, ratio).sum(axis=1, keepdims=True) > 1.0)

    return _balanced(means, too_far)


def proportions_with_share(means: np.ndarray, leader_share: float) -> np.ndarray:
    """The best that can be done for the rivals when the leader's share is given; top-two ends there."""

    def too_far(x: np.ndarray, _: "_Race") -> np.ndarray:
        return np.asarray(x.sum(axis=1, keepdims=True) > (1.0 - leader_share) / leader_share)

    return _balanced(means, too_far)


def characteristic_time(means: np.ndarray, leader_share: float | None = None) -> np.ndarray:
    """T: no rule with error delta needs fewer than T kl(delta, 1 - delta) samples on average; shape (run,).

    With a `leader_share`, no rule that serves the leader so often.
    """
    found = (
        optimal_proportions(means) if leader_share is None else proportions_with_share(means, leader_share)
    )
    return np.asarray(1.0 / evidence(found * means, found))


def evidence(successes: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Generalised log likelihood ratio of "the leader is best" against its closest rival, shape (run,)."""
    mean = successes / n
    leader = np.argmax(mean, axis=1)[:, None]
    best_n, best = (np.take_along_axis(part, leader, axis=1) for part in (n, mean))
    middle = np.clip((best_n * best + successes) / (best_n + n), 1e-12, 1.0 - 1e-12)
    apart = best_n * kl(best, middle) + n * kl(mean, middle)
    return np.asarray(np.where(np.arange(n.shape[1]) == leader, np.inf, apart).min(axis=1))


def stopping_threshold(samples: int, delta: float) -> float:
    """Evidence at which sampling ends after so many samples."""
    return float(np.log((np.log(samples) + 1.0) / delta))


def track(n: np.ndarray, proportions: np.ndarray) -> np.ndarray:
    """D-tracking: the arm furthest behind its share, or behind sqrt(t) - k / 2 altogether; shape (run,)."""
    samples, arms = n.sum(axis=1, keepdims=True), n.shape[1]
    starved = n.min(axis=1) < np.maximum(np.sqrt(samples[:, 0]) - arms / 2.0, 0.0)
    return np.asarray(np.where(starved, np.argmin(n, axis=1), np.argmax(samples * proportions - n, axis=1)))


@dataclass(frozen=True, slots=True, eq=False)
class _Race:
    """Rates, the leader's, and who leads; apart from each other and from 0 and 1."""

    mu: np.ndarray
    best: np.ndarray
    is_leader: np.ndarray


def _balanced(means: np.ndarray, too_far: Callable[[np.ndarray, _Race], np.ndarray]) -> np.ndarray:
    """Shares with the same evidence against every rival; how much is found by bisection."""
    mu = np.clip(means, CLOSEST, 1.0 - CLOSEST)
    leader = np.argmax(mu, axis=1)[:, None]
    best = np.take_along_axis(mu, leader, axis=1)
    is_leader = np.arange(mu.shape[1]) == leader
    mu = np.where(is_leader, mu, np.maximum(np.minimum(mu, best - CLOSEST), CLOSEST / 2))
    race = _Race(mu, best, is_leader)
    # The shares x of the rivals, with the leader's as unit, grow with y on [0, kl(best, second)).
    low = np.zeros(best.shape)
    high = np.where(is_leader, np.inf, kl(best, mu)).min(axis=1, keepdims=True)
    for _ in range(28):
        y = 0.5 * (low + high)
        far = too_far(_shares_at(y, race), race)
        low, high = np.where(far, low, y), np.where(far, y, high)
    x = np.where(is_leader, 1.0, _shares_at(low, race))
    return np.asarray(x / x.sum(axis=1, keepdims=True))


def _shares_at(y: np.ndarray, race: _Race) -> np.ndarray:
    """x with kl(best, m) + x kl(mu, m) = y, where m = (best + x mu) / (1 + x); 0 for the leader.

    The left side g is concave with the slope kl(mu, m), so Newton's step, x + (y - g) / slope, is
    (y - kl(best, m)) / slope and never passes the root.
    """
    x = np.zeros(race.mu.shape)
    for _ in range(14):
        m = (race.best + x * race.mu) / (1.0 + x)
        slope = np.maximum(kl(race.mu, m), 1e-300)
        x = np.where(race.is_leader, 0.0, np.minimum((y - kl(race.best, m)) / slope, 1e9))
    return x
