"""How the split moves in a simulation: the product's policies, floors and caps, for many runs at once.

`thompson` and `allocation` do this for one experiment, in basis points; here a share is a float.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from engine.checks import check_positive, check_probability
from engine.many_posteriors import probability_best_means, probability_best_rates

PolicyName = Literal["fixed", "thompson", "top_two"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rule by which shares follow outcomes; the defaults are the product's. Arm 0 is the control.

    Attributes
    ----------
    name : "fixed" serves all live arms evenly.
    floor, control_floor, cap : Bounds of a live arm's share, in [0, 1].
    burn_in : Matured outcomes that each arm of the start needs before the split moves.
    batch : Units between two reallocations, at least 1.
    maturity : Units that pass before an outcome is looked at; one that comes later counts as missing.
    half_life : Units after which an outcome weighs half in the posterior; None forgets nothing.

    Raises
    ------
    ValueError
        A share outside [0, 1], a batch below 1, a negative burn_in or maturity, a half-life not above 0.
    """

    name: PolicyName = "fixed"
    floor: float = 0.05
    control_floor: float = 0.10
    cap: float = 0.90
    burn_in: int = 100
    batch: int = 50
    maturity: int = 0
    half_life: float | None = None

    def __post_init__(self) -> None:
        for name in ("floor", "control_floor", "cap"):
            check_probability(getattr(self, name), name=name)
        check_positive(self.batch, name="batch")
        for name in ("burn_in", "maturity"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} == {getattr(self, name)}, must be at least 0; it counts units")
        if self.half_life is not None:
            check_positive(self.half_life, name="half_life")

    def bounds(self, live: Bool[np.ndarray, " arm"]) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest share per arm; 0 for an arm that is not live.

        Raises
        ------
        ValueError
            Floors that sum to more than 1.
        """
        lower = np.where(np.arange(live.size) == 0, self.control_floor, self.floor) * live
        if lower.sum() > 1.0 + 1e-12:
            raise ValueError(f"floors sum to {lower.sum():g} over {live.sum()} arms, must be at most 1")
        # As in the product: two arms left of three under a cap of 0.4 share evenly.
        return lower, np.where(live, max(self.cap, 1.0 / live.sum()), 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What the posteriors are made of, shape (run, arm) each.

    Attributes
    ----------
    outcomes : How many matured outcomes there are; forgets nothing, burn-in waits for it.
    n, total, total_sq : Number, sum and sum of squares, older ones weighing less under a half-life.
    """

    outcomes: Float64[np.ndarray, "run arm"]
    n: Float64[np.ndarray, "run arm"]
    total: Float64[np.ndarray, "run arm"]
    total_sq: Float64[np.ndarray, "run arm"]

    @classmethod
    def nothing(cls, runs: int, arms: int) -> "Learned":
        """Before the first outcome."""
        return cls(*(np.zeros((runs, arms)) for _ in range(4)))

    def after(self, arm: np.ndarray, outcome: np.ndarray, *, kept: float) -> "Learned":
        """With the outcomes, shape (run, unit), of these arms; what was known before keeps this weight."""
        known = np.isfinite(outcome)
        value = np.where(known, outcome, 0.0)
        n, total, total_sq = np.zeros((3, *self.n.shape))
        for i in range(self.n.shape[1]):
            mine = known & (arm == i)
            n[:, i] = mine.sum(axis=1)
            total[:, i] = (mine * value).sum(axis=1)
            total_sq[:, i] = (mine * (value * value)).sum(axis=1)
        return Learned(
            self.outcomes + n, kept * self.n + n, kept * self.total + total, kept * self.total_sq + total_sq
        )

    def probability_best(
        self, live: Bool[np.ndarray, " arm"], *, binary: bool
    ) -> Float64[np.ndarray, "run arm"]:
        """P(best) among the live arms, 0 for the others: Beta(1, 1) priors for rates, flat for scores."""
        best = np.zeros(self.n.shape)
        n, total, total_sq = (part[:, live] for part in (self.n, self.total, self.total_sq))
        if binary:
            best[:, live] = probability_best_rates(1.0 + total, 1.0 + (n - total))
        else:
            best[:, live] = _best_scores(n, total, total_sq)
        return best


def splits(
    policy: Policy,
    learned: Learned,
    live: Bool[np.ndarray, " arm"],
    started: Bool[np.ndarray, " arm"],
    *,
    binary: bool,
) -> Float64[np.ndarray, "run arm"]:
    """The split of each run at its next reallocation.

    Parameters
    ----------
    live : Arms that may be served.
    started : Arms of the start, whose burn-in is waited for while they are live.
    binary : Whether outcomes are 0 or 1.

    Returns
    -------
    Probabilities, shape (run, arm), sum 1.
    """
    lower, upper = policy.bounds(live)
    even = project_rows(live.astype(np.float64)[None, :], lower=lower, upper=upper)
    shares = np.repeat(even, learned.n.shape[0], axis=0)
    waited_for = live & started
    moving = (learned.outcomes[:, waited_for] >= policy.burn_in).all(axis=1)
    if policy.name == "fixed" or not moving.any() or live.sum() == 1:
        return shares
    ready = Learned(
        learned.outcomes[moving], learned.n[moving], learned.total[moving], learned.total_sq[moving]
    )
    best = ready.probability_best(live, binary=binary)
    wished = top_two_rows(best) if policy.name == "top_two" else best
    shares[moving] = project_rows(wished, lower=lower, upper=upper)
    return shares


def top_two_rows(
    probability_best: Float64[np.ndarray, "run arm"], *, leader_share: float = 0.5
) -> Float64[np.ndarray, "run arm"]:
    """`thompson.top_two_split` of each row.

    Examples
    --------
    >>> top_two_rows(np.array([[0.7, 0.2, 0.08, 0.02]])).round(4)
    array([[0.4751, 0.3441, 0.1441, 0.0367]])
    """
    p = np.maximum(probability_best, 1e-300) * (probability_best > 0.0)
    apart = 1.0 - np.eye(p.shape[1])
    others = np.maximum(p @ apart, 1e-300)
    challenger = (p / others) @ apart
    return np.asarray(p * (leader_share + (1.0 - leader_share) * challenger))


def project_rows(
    weights: Float64[np.ndarray, "run arm"],
    *,
    lower: Float64[np.ndarray, " arm"],
    upper: Float64[np.ndarray, " arm"],
) -> Float64[np.ndarray, "run arm"]:
    """`allocation.project_kl` of each row, to a sum of 1: x = clip(c w, lower, upper).

    Parameters
    ----------
    weights : At least 0, no row all 0; a weight of 0 counts as 1e-300.
    lower, upper : 0 <= lower <= upper, with sum(lower) <= 1 <= sum(upper).

    Examples
    --------
    >>> w = np.array([[0.96, 0.03, 0.01], [1.0, 1.0, 2.0]])
    >>> project_rows(w, lower=np.full(3, 0.05), upper=np.ones(3)).round(2)
    array([[0.9 , 0.05, 0.05],
           [0.25, 0.25, 0.5 ]])
    """
    log_w = np.log(np.maximum(weights, 1e-300))
    with np.errstate(divide="ignore"):
        leaves, arrives = np.log(lower) - log_w, np.log(upper) - log_w
    # The sum is piecewise linear in c, with a corner where an arm meets a bound.
    corners = np.sort(np.concatenate([leaves, arrives], axis=1), axis=1)
    scaled = np.exp(np.minimum(corners[:, :, None] + log_w[:, None, :], 1.0))
    sums = np.clip(scaled, lower, upper).sum(axis=2)
    here = np.maximum((sums <= 1.0).sum(axis=1) - 1, 0)[:, None]
    corner = np.take_along_axis(corners, here, axis=1)
    after = np.take_along_axis(corners, np.minimum(here + 1, corners.shape[1] - 1), axis=1)
    free = (leaves <= corner) & (arrives >= after) & (leaves < arrives)
    bound = np.where(arrives <= corner, upper, lower)
    share = np.where(free, np.exp(log_w - np.where(free, log_w, -np.inf).max(axis=1, keepdims=True)), 0.0)
    room = 1.0 - np.where(free, 0.0, bound).sum(axis=1, keepdims=True)
    scale = room / np.maximum(share.sum(axis=1, keepdims=True), 1e-300)
    return np.asarray(np.clip(np.where(free, share * scale, bound), lower, upper))


def _best_scores(n: np.ndarray, total: np.ndarray, total_sq: np.ndarray) -> np.ndarray:
    """An arm without two outcomes is as likely the best as any other, as in the product."""
    known = n >= 2.0
    count = np.maximum(n, 1.0)
    mean = total / count
    squares = np.where(known, np.maximum(total_sq - total * mean, 0.0), 0.0)
    freedom = np.where(known, n - 1.0, 0.0)
    pooled = squares.sum(axis=1, keepdims=True) / np.maximum(freedom.sum(axis=1, keepdims=True), 1.0)
    variance = np.where(squares > 0.0, squares / np.maximum(freedom, 1.0), pooled)
    # Far below all others an unknown arm takes nothing from them; its share is set apart afterwards.
    best = probability_best_means(
        np.where(known, mean, -1e3), np.where(known, np.sqrt(np.maximum(variance, 1e-12) / count), 1.0)
    )
    arms = n.shape[1]
    best = np.where(known, best * known.sum(axis=1, keepdims=True) / arms, 1.0 / arms)
    return np.asarray(best / best.sum(axis=1, keepdims=True))
