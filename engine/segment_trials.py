"""What segments tell about each arm, as trials and successes: counts are already, scores are made so."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from engine.checks import refuse_where
from engine.statistics import BinaryCounts, Moments

TOLERANCE = 1e-9  # sums of scores are rounded


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """Successes and failures per segment and arm, both >= 0; whole numbers for counts, not for scores."""

    successes: Float64[np.ndarray, "segment arm"]
    failures: Float64[np.ndarray, "segment arm"]

    @property
    def n(self) -> Float64[np.ndarray, "segment arm"]:
        """Trials."""
        return np.asarray(self.successes + self.failures)


def trials_of(counts: BinaryCounts | Moments) -> Trials:
    """Counts as they are; scores in [0, 1] as that many trials as would scatter like them.

    A score with mean m varies by m (1 - m) at most (Bhatia and Davis 2000), which a success or failure
    does. Where the scores of an arm vary by a share `d` of that within their segments, n scores are worth
    n / d trials. One degree of freedom of the largest spread is added, so that a handful of equal scores
    is not certain. Scores that are 0 or 1 give the counts themselves.

    Parameters
    ----------
    counts : Of a binary metric, or moments of a score in [0, 1]; shape (segment, arm).

    Raises
    ------
    ValueError
        Another shape, or sums that scores in [0, 1] cannot have.

    Examples
    --------
    >>> scores = Moments(n=[[40], [40]], total=[[20.0], [28.0]], total_sq=[[10.4], [20.0]])
    >>> trials_of(scores).n.round()
    array([[699.],
           [699.]])
    """
    if counts.n.ndim != 2 or counts.n.size == 0:
        raise ValueError(f"counts have shape {counts.n.shape}, must be (segment, arm) with at least one each")
    if isinstance(counts, BinaryCounts):
        good = counts.successes.astype(np.float64)
        return Trials(good, counts.n - good)
    _check_scores(counts)
    worth = 1.0 / dispersion(counts)
    n, total = counts.n.astype(np.float64), np.clip(counts.total, 0.0, counts.n)
    return Trials(total * worth, (n - total) * worth)


def dispersion(counts: Moments) -> Float64[np.ndarray, " arm"]:
    """Variance of an arm's scores within segments as a share of the largest that they could have, in (0, 1].

    References
    ----------
    McCullagh and Nelder (1989), Generalized Linear Models, 2nd edition, section 4.5 (one factor on the
    binomial variance); Papke and Wooldridge (1996), Journal of Applied Econometrics 11 (for shares).
    """
    n = np.maximum(counts.n.astype(np.float64), 1.0)
    mean = np.clip(counts.total / n, 0.0, 1.0)
    inside = np.maximum(counts.total_sq - counts.total * mean, 0.0).sum(axis=0)
    largest = ((n - 1.0) * mean * (1.0 - mean)).sum(axis=0)
    whole = counts.total.sum(axis=0) / np.maximum(counts.n.sum(axis=0), 1)
    one = whole * (1.0 - whole)
    share = np.divide(inside + one, largest + one, out=np.ones_like(one), where=largest + one > 0.0)
    return np.asarray(np.clip(share, 1e-9, 1.0))


def _check_scores(counts: Moments) -> None:
    n = counts.n * (1.0 + TOLERANCE)
    rule = "must be in [0, {}]: scores lie in [0, 1]; divide by the largest possible score first"
    refuse_where(
        (counts.total < 0.0) | (counts.total > n), counts.total, name="total", rule=rule, bound=counts.n
    )
    rule = "must be at most total == {}: scores lie in [0, 1]; divide by the largest possible score first"
    bad = counts.total_sq > counts.total * (1.0 + TOLERANCE)
    refuse_where(bad, counts.total_sq, name="total_sq", rule=rule, bound=counts.total)
