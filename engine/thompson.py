"""From the probability of being best to the split of traffic we wish for, before floors and caps."""

import numpy as np
from jaxtyping import Float64
from scipy.special import rel_entr

from engine.beta_binomial import BetaPosterior
from engine.checks import Numbers, check_probability, finite_numbers, refuse_where
from engine.normal import NormalPosterior
from engine.quadrature import sum_of_others

# Quadrature sums to 1 within 1e-10; a vector further off was not made by `probability_best`.
SUM_TOLERANCE = 1e-6
NO_EVIDENCE = 1e-12  # nats: what rounding makes of two arms that are the same


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


def transport_split(
    probability_best: Numbers, posterior: BetaPosterior | NormalPosterior
) -> Float64[np.ndarray, " arm"]:
    """Top-two with the challenger that is hardest to tell from the leader, at the share that tells them soonest.

    The leader i is drawn with P(best), as in `top_two_split`. Its challenger j is the arm with the smallest
    W_ij, the evidence that i beats j: the transport cost of moving both means to where they would be equal.
    The two share the calls as their parts of that evidence, h = n_i d_i / (n_i d_i + n_j d_j), where d is the
    divergence of each from the common mean. `top_two_split` gives the leader a half whatever the problem, which
    costs 3 and 11 % of the samples on the instances of Garivier and Kaufmann; this one needs no more than their
    Track-and-Stop. It leaves arms that are neither leader nor closest with nothing, so it needs a floor.

    Parameters
    ----------
    probability_best : Shape (arm,), at least 0, sum 1 within 1e-6.
    posterior : Of the arms' rates or means, shape (arm,), higher is better; every sd finite.

    Returns
    -------
    Shape (arm,), sums to exactly 1 in any order; challengers that tie share.

    Raises
    ------
    ValueError
        As `top_two_split`, or a posterior of other arms or with a mean that is not known.

    References
    ----------
    Shang, de Heide, Kaufmann, Menard and Valko (2020), Fixed-confidence guarantees for Bayesian best-arm
    identification, AISTATS (T3C). You, Qin, Wang and Yang (2023), Information-directed selection for top-two
    algorithms, COLT (the share).

    Examples
    --------
    >>> posterior = BetaPosterior(alpha=np.array([61.0, 56.0, 31.0]), beta=np.array([41.0, 46.0, 71.0]))
    >>> transport_split([0.76, 0.24, 0.0], posterior).round(3)
    array([0.502, 0.498, 0.   ])
    """
    p = _probabilities(probability_best)
    if p.size == 1:
        return np.ones(1)
    mine, theirs = _transport(posterior)
    if mine.shape != (p.size, p.size):
        raise ValueError(f"posterior has {len(mine)} arms, probability_best {p.size}; give one per arm")
    cost = np.where(np.eye(p.size, dtype=bool), np.inf, mine + theirs)
    closest = cost <= cost.min(axis=1, keepdims=True) + NO_EVIDENCE
    pair = p[:, None] * closest / closest.sum(axis=1, keepdims=True)  # leader, challenger
    whole = mine + theirs
    share = np.divide(mine, whole, out=np.full(whole.shape, 0.5), where=whole > NO_EVIDENCE)
    return _sum_to_one((pair * share).sum(axis=1) + (pair * (1.0 - share)).sum(axis=0))


def _transport(posterior: BetaPosterior | NormalPosterior) -> tuple[np.ndarray, np.ndarray]:
    """Leader's and challenger's parts of the evidence that the leader is better, shape (leader, challenger)."""
    mean = posterior.mean
    if isinstance(posterior, BetaPosterior):
        weight = posterior.alpha + posterior.beta
        middle = (weight * mean)[:, None] + (weight * mean)[None, :]
        middle /= weight[:, None] + weight[None, :]
        apart = weight[:, None] * _divergence(mean[:, None], middle)
    else:
        rule = "must be finite; an arm without data has no evidence, serve evenly until each has some"
        refuse_where(~np.isfinite(posterior.sd), posterior.sd, name="posterior.sd", rule=rule)
        variance = np.maximum(posterior.sd**2, np.finfo(np.float64).tiny)
        both = variance[:, None] + variance[None, :]
        apart = 0.5 * ((mean[:, None] - mean[None, :]) / both) ** 2 * variance[:, None]
    is_ahead = mean[:, None] > mean[None, :]
    return np.where(is_ahead, apart, 0.0), np.where(is_ahead, apart.T, 0.0)


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of Bernoulli(p) from Bernoulli(q), in nats."""
    return np.asarray(rel_entr(p, q) + rel_entr(1.0 - p, 1.0 - q))


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
