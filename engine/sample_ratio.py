"""Did the split that was promised arrive? A mismatch means that units were lost or served by other rules.

Then no comparison can be trusted, whatever its p-value. Only the number of assigned units per allocation is
needed; the test holds at every look and under splits that move.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import chdtrc, gammaln

from engine.checks import Numbers, finite_numbers, refuse_where, whole_numbers

# Units of belief in the promised split before the test doubts it: the first sees a third of an arm's units
# missing within some hundred, the second a percent within a million. Half of the wealth bets on each.
CONCENTRATIONS = (100.0, 10_000.0)
LARGEST_LOG = 690.0
ROUNDING = 1e-12
ALARM = 1_000.0  # a false alarm stops an experiment that is sound, so at most one in a thousand may


@dataclass(frozen=True, slots=True, eq=False)
class SampleRatioTest:
    """What the assigned units say about the split.

    Attributes
    ----------
    e_value : Evidence against the split now, inf beyond 1e300; log_e is its natural logarithm, inf where an
        arm without a share has units.
    p_value : 1 / the largest e-value after any allocation so far: valid at every look.
    fixed_p_value : Chi-square with exact variance, for one look only; nan where nothing was randomised, 0
        where an arm without a share has units.
    mismatch : Whether the e-value has ever passed 1 000.
    expected : Units that the splits promised per arm, shape (arm,).
    """

    e_value: float
    log_e: float
    p_value: float
    fixed_p_value: float
    mismatch: bool
    expected: Float64[np.ndarray, " arm"]


def sample_ratio_test(
    assigned: Numbers, probability: Numbers, *, concentration: Numbers = CONCENTRATIONS
) -> SampleRatioTest:
    """Test that units were assigned with the probabilities of their allocations.

    Within an allocation the counts are compared with a Dirichlet mixture around the split, tilted by what
    earlier allocations showed, so an arm that always gets too few is caught although its share moves. Under a
    split that stands still this is the test of Lindon and Malek.

    Parameters
    ----------
    assigned : Units per allocation, in the order of time, and arm; shape (allocation, arm).
    probability : The splits, same shape, each sums to 1 within 1e-6.
    concentration : How slowly the test departs from the promised split, in units; the e-values of several
        ones are averaged.

    Raises
    ------
    ValueError
        Negative or fractional counts, splits that do not sum to 1.

    References
    ----------
    Lindon and Malek (2022), Anytime-valid inference for multinomial count data, NeurIPS 35.

    Examples
    --------
    >>> found = sample_ratio_test([[5200, 4800]], [[0.5, 0.5]], concentration=10_000)
    >>> round(found.p_value, 4), found.mismatch
    (0.0259, False)
    """
    slow = np.atleast_1d(finite_numbers(concentration, name="concentration"))
    refuse_where(slow <= 0.0, slow, name="concentration", rule="must be greater than 0; it counts units")
    n, pi = _checked(assigned, probability)
    bets = [np.cumsum(_log_e(n, pi, pi > 0.0, float(one))) for one in slow]
    path = np.concatenate([[0.0], np.logaddexp.reduce(bets, axis=0) - np.log(len(bets))])
    expected = n.sum(axis=1, keepdims=True) * pi
    highest = float(path.max())
    return SampleRatioTest(
        e_value=float(np.exp(path[-1])) if path[-1] < LARGEST_LOG else np.inf,
        log_e=float(path[-1]),
        p_value=float(np.exp(-highest)),
        fixed_p_value=_chi_square(n, pi, expected),
        mismatch=bool(highest >= np.log(ALARM)),
        expected=np.asarray(expected.sum(axis=0)),
    )


def _checked(assigned: Numbers, probability: Numbers) -> tuple[np.ndarray, np.ndarray]:
    n = np.atleast_2d(whole_numbers(assigned, name="assigned")).astype(np.float64)
    pi = np.atleast_2d(finite_numbers(probability, name="probability"))
    if n.shape != pi.shape or n.ndim != 2:
        raise ValueError(
            f"probability has shape {pi.shape} and assigned {n.shape}, both must be (allocation, arm)"
        )
    sums = pi.sum(axis=1)
    rule = "must sum to 1 within 1e-6; give each allocation's whole split"
    refuse_where((np.abs(sums - 1.0) > 1e-6) | (pi < 0.0).any(axis=1), sums, name="probability", rule=rule)
    return n, pi / sums[:, None]


def _log_e(n: np.ndarray, pi: np.ndarray, served: np.ndarray, concentration: float) -> np.ndarray:
    """Logarithm of what each allocation multiplies, shape (allocation,); inf for units that had no chance."""
    past = np.cumsum(n, axis=0) - n
    promised = np.cumsum(n.sum(axis=1, keepdims=True) * pi, axis=0) - n.sum(axis=1, keepdims=True) * pi
    prior = concentration * pi
    tilt = np.divide(past + prior, promised + prior, out=np.zeros_like(pi), where=served)
    believed = pi * tilt / (pi * tilt).sum(axis=1, keepdims=True)
    alpha = np.where(served, (concentration + past.sum(axis=1, keepdims=True)) * believed, 1.0)
    size = np.where(served, alpha, 0.0).sum(axis=1)
    mixed = np.where(served, gammaln(alpha + n) - gammaln(alpha), 0.0).sum(axis=1)
    promised_log = np.where(served, n * np.log(np.where(served, pi, 1.0)), 0.0).sum(axis=1)
    found = gammaln(size) - gammaln(size + n.sum(axis=1)) + mixed - promised_log
    return np.where(((n > 0) & ~served).any(axis=1), np.inf, found)


def _chi_square(n: np.ndarray, pi: np.ndarray, expected: np.ndarray) -> float:
    """Squared distance in units of the variance that the splits themselves have."""
    if (n[pi == 0.0] > 0.0).any():
        return 0.0  # that variance knows no such direction and would leave these units out
    surprise = (n - expected).sum(axis=0)
    units = n.sum(axis=1)
    variance = np.diag((units[:, None] * pi).sum(axis=0)) - np.einsum("j,ja,jb->ab", units, pi, pi)
    spread, direction = np.linalg.eigh(variance)
    # Relative to the units, from which it was subtracted: by the largest spread, rounding passes for a degree.
    real = spread > ROUNDING * units.sum()
    if not real.any():
        return float("nan")
    distance = float(((surprise @ direction[:, real]) ** 2 / spread[real]).sum())
    return float(chdtrc(int(real.sum()), distance))
