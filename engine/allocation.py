"""From wishes to a split that can be served: floors, caps and whole basis points.

The served share is the logged probability, exactly: both are the integer that this module returns.
"""

import numpy as np
from jaxtyping import Float64, Int64

from engine.assignment import BUCKETS
from engine.checks import Numbers, finite_numbers, refuse_where

# Quotas closer than this many basis points count as equal, so that rounding noise of 1e-12 decides no tie.
TIE_BP = 1e-6


def served_split(raw: Numbers, *, floor: Numbers = 0.0, cap: Numbers = 1.0) -> Int64[np.ndarray, " arm"]:
    """The split to serve: as close to the raw weights as floors and caps allow, in whole basis points.

    Floors and caps become whole basis points inwards first (0.05 is at least 500, 1/3 at least 3 334). Where
    that leaves no room although the shares themselves fit (three floors of 1/3), a served share may miss its
    bound by less than one basis point.

    Parameters
    ----------
    raw : Weights per arm, shape (arm,), finite and at least 0, not all 0; they need not sum to 1.
    floor : Least share, in [0, 1], for all arms or shape (arm,).
    cap : Largest share, in [0, 1], for all arms or shape (arm,).

    Returns
    -------
    Basis points per arm that sum to 10 000. The remainders of rounding go to the largest ones first; of equal
    ones to the lower position.

    Raises
    ------
    ValueError
        Weights that are not a split, a floor above its cap, floors above 1 or caps below 1 in sum.

    References
    ----------
    KL projection onto a box and the simplex: x_i = clip(c w_i, floor_i, cap_i). Hamilton's largest remainder.

    Examples
    --------
    >>> served_split([0.96, 0.03, 0.009, 0.001], floor=0.05, cap=0.8)
    array([8000, 1000,  500,  500])
    """
    weights = _weights(raw, name="raw")
    lower, upper = _bounds(floor, cap, arms=weights.size)
    lower_bp, upper_bp = _bounds_bp(lower, upper)
    quotas = project_kl(weights, lower=lower_bp, upper=upper_bp, total=BUCKETS)
    return _round_to(quotas, BUCKETS)


def largest_remainder(shares: Numbers, total: int = BUCKETS) -> Int64[np.ndarray, " arm"]:
    """Whole numbers in the proportion of the shares that sum to the total exactly.

    Parameters
    ----------
    shares : Shape (arm,), finite and at least 0, not all 0; they need not sum to 1.
    total : What the result sums to, at least 0.

    Returns
    -------
    Each share's quota rounded down or up; ties in the remainder go to the lower position.

    Raises
    ------
    ValueError
        Shares that are negative, not finite or all 0; a negative total.

    Examples
    --------
    >>> largest_remainder([0.7, 0.2, 0.1])
    array([7000, 2000, 1000])
    >>> largest_remainder([1, 1, 1])
    array([3334, 3333, 3333])
    """
    if total < 0:
        raise ValueError(f"total == {total}, must not be negative; it is what the shares are parts of")
    weights = _weights(shares, name="shares")
    return _round_to(weights / weights.sum() * total, total)


def project_kl(
    weights: Float64[np.ndarray, " arm"],
    *,
    lower: Float64[np.ndarray, " arm"],
    upper: Float64[np.ndarray, " arm"],
    total: float | int = 1.0,
) -> Float64[np.ndarray, " arm"]:
    """The point nearest to the weights in Kullback-Leibler divergence, within the bounds, of the given sum.

    x_i = clip(c w_i, lower_i, upper_i): arms between their bounds keep their ratios. Arms with weight 0 stay
    at their lower bound; only what the other arms cannot take under their caps is spread evenly over them.

    Parameters
    ----------
    weights : Finite and at least 0, not all 0.
    lower, upper : 0 <= lower <= upper, with sum(lower) <= total <= sum(upper).
    total : The sum of the result.

    Returns
    -------
    Shape (arm,), within the bounds exactly and summing to `total` up to rounding.

    Examples
    --------
    >>> w = np.array([0.96, 0.03, 0.01])
    >>> project_kl(w, lower=np.full(3, 0.05), upper=np.ones(3)).round(2)
    array([0.9 , 0.05, 0.05])
    """
    wanted = weights > 0
    if wanted.all():
        return _scale_into(weights, lower, upper, total)
    x = lower.copy()
    room = total - float(lower[~wanted].sum())
    if room <= upper[wanted].sum():
        x[wanted] = _scale_into(weights[wanted], lower[wanted], upper[wanted], room)
        return x
    x[wanted] = upper[wanted]
    rest = total - float(upper[wanted].sum())
    x[~wanted] = _scale_into(np.ones(int((~wanted).sum())), lower[~wanted], upper[~wanted], rest)
    return x


def _scale_into(weights: np.ndarray, lower: np.ndarray, upper: np.ndarray, total: float | int) -> np.ndarray:
    # The sum is piecewise linear in c with a corner where an arm meets a bound. All in logarithms, because
    # posterior probabilities reach 1e-300 and bound / weight would overflow.
    log_weights = np.log(weights)
    with np.errstate(divide="ignore"):
        leaves, arrives = np.log(lower) - log_weights, np.log(upper) - log_weights
    corners = np.unique(np.concatenate([leaves, arrives]))
    scaled = np.exp(np.minimum(corners[:, None] + log_weights, np.log(max(total, 1.0)) + 1.0))
    sums = np.clip(scaled, lower, upper).sum(axis=1)
    here = max(int(np.searchsorted(sums, total, side="right")) - 1, 0)
    after = corners[min(here + 1, corners.size - 1)]
    free = (leaves <= corners[here]) & (arrives >= after) & (leaves < arrives)
    x = np.where(arrives <= corners[here], upper, lower)
    if free.any():
        share = np.exp(log_weights[free] - log_weights[free].max())
        x[free] = share / share.sum() * (total - x[~free].sum())
    return np.asarray(np.clip(x, lower, upper))


def _round_to(quotas: np.ndarray, total: int) -> np.ndarray:
    whole = np.floor(quotas + TIE_BP / 2)
    remainders = np.round((quotas - whole) / TIE_BP)
    missing = total - int(whole.sum())
    order = np.argsort(-remainders, kind="stable")
    whole[order[:missing]] += 1
    return whole.astype(np.int64)


def _weights(values: Numbers, *, name: str) -> np.ndarray:
    weights = finite_numbers(values, name=name)
    if weights.ndim != 1 or weights.size == 0:
        raise ValueError(f"{name} has shape {weights.shape}, must be (arm,) with at least one arm")
    refuse_where(weights < 0, weights, name=name, rule="must not be negative; 0 stops an arm")
    if not weights.any():
        raise ValueError(
            f"{name} is all 0, must have one entry above 0; give equal weights for an even split"
        )
    with np.errstate(under="ignore"):
        return np.asarray(weights / weights.max())


def _bounds(floor: Numbers, cap: Numbers, *, arms: int) -> tuple[np.ndarray, np.ndarray]:
    lower = _bound(floor, arms=arms, name="floor")
    upper = _bound(cap, arms=arms, name="cap")
    refuse_where(lower > upper, lower, name="floor", rule="must be at most the cap {}", bound=upper)
    if lower.sum() > 1.0 + 1e-12:
        raise ValueError(
            f"floor sums to {lower.sum():g} over {arms} arms, must be at most 1; lower the floor"
        )
    if upper.sum() < 1.0 - 1e-12:
        raise ValueError(f"cap sums to {upper.sum():g} over {arms} arms, must be at least 1; raise the cap")
    return lower, upper


def _bound(value: Numbers, *, arms: int, name: str) -> np.ndarray:
    bound = finite_numbers(value, name=name)
    if bound.shape not in ((), (arms,)):
        raise ValueError(f"{name} has shape {bound.shape}, must be one number or ({arms},), one per arm")
    refuse_where((bound < 0) | (bound > 1), bound, name=name, rule="must be in [0, 1]; write 0.05 for 5 %")
    return np.array(np.broadcast_to(bound, (arms,)))


def _bounds_bp(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # 0.07 * 10 000 is 700.0000000000001: without the tolerance its ceiling were 701.
    low, high = lower * BUCKETS, upper * BUCKETS
    inner_low, inner_high = np.ceil(low - TIE_BP), np.floor(high + TIE_BP)
    ordered = bool((inner_low <= inner_high).all())
    return (
        inner_low if ordered and inner_low.sum() <= BUCKETS else low,
        inner_high if ordered and inner_high.sum() >= BUCKETS else high,
    )
