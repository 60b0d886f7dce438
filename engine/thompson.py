"""From the probability of being best to the split of traffic we wish for, before floors and caps."""

import numpy as np
from jaxtyping import Float64

from engine.checks import Numbers, check_probability, finite_numbers, refuse_where
from engine.quadrature import sum_of_others

# Quadrature sums to 1 within 1e-10; a vector further off was not made by `probability_best`.
SUM_TOLERANCE = 1e-6


def thompson_split(probability_best: Numbers) -> Float64[np.ndarray, " arm"]:
    """Serve each arm as often as it is probably the best: earns most while the experiment runs.

    Parameters
    ----------
    probability_best : Shape (arm,), at least 0, sum 1 within 1e-6.

    Returns
    -------
    Shape (arm,), the same shares to 16 decimals; they sum to exactly 1 in any order.

    Raises
    ------
    ValueError
        Not finite (an arm without data: serve evenly first), negative, or a sum other than 1.

    References
    ----------
    Thompson (1933), On the likelihood that one unknown probability exceeds another, Biometrika 25.

    Examples
    --------
    >>> thompson_split([0.75, 0.25, 0.0])
    array([0.75, 0.25, 0.  ])
    """
    return _sum_to_one(_probabilities(probability_best))


def top_two_split(probability_best: Numbers, *, leader_share: float = 0.5) -> Float64[np.ndarray, " arm"]:
    """Serve the leader and its challenger: finds the best arm fastest.

    Draw a leader with P(best); serve it with probability `leader_share`, else draw again until another arm
    comes up and serve that challenger: psi_i = p_i (s + (1 - s) sum_{j != i} p_j / (1 - p_j)).

    Parameters
    ----------
    probability_best : Shape (arm,), at least 0, sum 1 within 1e-6.
    leader_share : s above, in [0, 1]. At 0.5 no other choice finishes twice as fast on any problem.

    Returns
    -------
    Shape (arm,), sums to exactly 1 in any order; two arms at 0.5 get half each. An arm with P(best) = 1 has all
    others as equal challengers, unless their ratios are known: 1 - p_j is computed as their sum.

    Raises
    ------
    ValueError
        As `thompson_split`, or a `leader_share` outside [0, 1].

    References
    ----------
    Russo (2020), Simple Bayesian algorithms for best-arm identification, Operations Research 68, section 3.

    Examples
    --------
    >>> top_two_split([0.7, 0.2, 0.08, 0.02]).round(4)
    array([0.4751, 0.3441, 0.1441, 0.0367])
    """
    share = check_probability(leader_share, name="leader_share")
    p = _probabilities(probability_best)
    if p.size == 1:
        return np.ones(1)
    others = sum_of_others(p[:, None])
    even = (1.0 - np.eye(p.size)) / (p.size - 1)
    challenger = np.divide(p * (1.0 - np.eye(p.size)), others, out=even, where=others > 0.0)
    return _sum_to_one(share * p + (1.0 - share) * (p @ challenger))


def _probabilities(values: Numbers) -> Float64[np.ndarray, " arm"]:
    array = np.asarray(values, dtype=np.float64)
    name = "probability_best"
    unknown = "must be finite; an arm without data has no probability, serve evenly until each has some"
    refuse_where(~np.isfinite(array), array, name=name, rule=unknown)
    p = np.atleast_1d(finite_numbers(array, name=name))
    refuse_where(p < 0.0, p, name=name, rule="must not be negative; give probabilities")
    if not abs(float(p.sum()) - 1.0) <= SUM_TOLERANCE:
        raise ValueError(f"{name} sums to {p.sum():g}, must be 1 within {SUM_TOLERANCE:g}; divide by the sum")
    return p


def _sum_to_one(shares: np.ndarray) -> Float64[np.ndarray, " arm"]:
    """Scale and round to multiples of 2^-53; the largest share takes the rest.

    Sums of such multiples up to 1 are exact, so the split sums to 1 in whatever order it is added.
    """
    units = np.rint(shares / shares.sum() * 2.0**53).astype(np.int64)
    units[np.argmax(units)] += 2**53 - units.sum()
    return np.asarray(units * 2.0**-53)
