"""Sufficient statistics as values that add: counts of successes, and moments of a number.

Everything else in `engine` starts from these. The last axis is the arm; leading axes (allocations,
segments, simulation runs) may be added. Higher is better: `flipped()` turns a metric where lower is better.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from engine.checks import Numbers, finite_numbers, refuse_where, whole_numbers

# A sum of n rounded numbers is off by a relative sqrt(n) * 1e-16, so 1e-9 forgives 1e13 additions.
CAUCHY_SCHWARZ_TOLERANCE = 1e-9
# Squares of numbers below this underflow, so a total_sq of 0 does not contradict them.
SMALLEST_SQUARABLE = 1.5e-154
# Two sums that agree to the last two bits of a double say nothing about the spread between them.
ROUNDING_OF_A_SUM = 4 * np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """Lower and upper end per arm, shape (..., arm), in the unit of the estimate; nan where unknown."""

    lower: Float64[np.ndarray, "*batch arm"]
    upper: Float64[np.ndarray, "*batch arm"]


@dataclass(frozen=True, slots=True, eq=False, init=False)
class BinaryCounts:
    """How many units had an outcome, and how many of them succeeded.

    Parameters
    ----------
    n : Units with an outcome, shape (..., arm), whole numbers; a scalar becomes one arm.
    successes : Same shape, 0 <= successes <= n.

    Raises
    ------
    ValueError
        Negative, fractional or too large numbers, more successes than units, different shapes.

    Examples
    --------
    >>> monday = BinaryCounts(n=[10, 10], successes=[7, 5])
    >>> tuesday = BinaryCounts(n=[10, 0], successes=[8, 0])
    >>> (monday + tuesday).rate
    array([0.75, 0.5 ])
    """

    n: Int64[np.ndarray, "*batch arm"]
    successes: Int64[np.ndarray, "*batch arm"]

    def __init__(self, n: Numbers, successes: Numbers) -> None:
        units = np.atleast_1d(whole_numbers(n, name="n"))
        good = np.atleast_1d(whole_numbers(successes, name="successes"))
        _check_same_shape(units, good, name="successes")
        refuse_where(
            good > units,
            good,
            name="successes",
            rule="must be at most n == {}; each unit counts once",
            bound=units,
        )
        object.__setattr__(self, "n", units)
        object.__setattr__(self, "successes", good)

    @property
    def rate(self) -> Float64[np.ndarray, "*batch arm"]:
        """Share of successes, in [0, 1]; nan where n = 0."""
        return _ratio(self.successes.astype(np.float64), self.n.astype(np.float64))

    def __add__(self, other: "BinaryCounts") -> "BinaryCounts":
        return BinaryCounts(
            n=_add_whole(self.n, other.n, name="n"),
            successes=_add_whole(self.successes, other.successes, name="successes"),
        )

    @classmethod
    def derived(
        cls, n: Int64[np.ndarray, "*batch arm"], successes: Int64[np.ndarray, "*batch arm"]
    ) -> "BinaryCounts":
        """Parts or sums of counts that were checked before: a check costs more than most formulas."""
        return _unchecked(cls, n=n, successes=successes)

    def flipped(self) -> "BinaryCounts":
        """The same outcomes with success and failure swapped, for a metric where lower is better."""
        return BinaryCounts.derived(self.n, self.n - self.successes)

    def as_moments(self) -> "Moments":
        """The same outcomes as zeros and ones; exact below 2^53."""
        ones = self.successes.astype(np.float64)
        return Moments.derived(self.n, ones, ones)


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Moments:
    """Number, sum and sum of squares of a metric's values.

    The variance loses (mean / sd)^2 of its relative precision to cancellation: durations of 300 ± 60 s keep
    14 digits, unix times none. Subtract a constant from such a metric before it is stored.

    Parameters
    ----------
    n : Number of values, shape (..., arm), whole numbers; a scalar becomes one arm.
    total : Their sum, same shape, in the unit of the metric.
    total_sq : The sum of their squares, same shape, in that unit squared.

    Raises
    ------
    ValueError
        Not finite, negative n or total_sq, different shapes, or total^2 > n * total_sq (relative tolerance
        1e-9), which no set of numbers can have (Cauchy-Schwarz).

    Examples
    --------
    >>> quality = Moments(n=[4, 1], total=[10.0, 0.5], total_sq=[30.0, 0.25])
    >>> quality.mean, quality.variance.round(3)
    (array([2.5, 0.5]), array([1.667,   nan]))
    """

    n: Int64[np.ndarray, "*batch arm"]
    total: Float64[np.ndarray, "*batch arm"]
    total_sq: Float64[np.ndarray, "*batch arm"]

    def __init__(self, n: Numbers, total: Numbers, total_sq: Numbers) -> None:
        count = np.atleast_1d(whole_numbers(n, name="n"))
        first = np.atleast_1d(finite_numbers(total, name="total"))
        second = np.atleast_1d(finite_numbers(total_sq, name="total_sq"))
        _check_same_shape(count, first, name="total")
        _check_same_shape(count, second, name="total_sq")
        _check_moments(count, first, second)
        object.__setattr__(self, "n", count)
        object.__setattr__(self, "total", first)
        object.__setattr__(self, "total_sq", second)

    @property
    def mean(self) -> Float64[np.ndarray, "*batch arm"]:
        """Arithmetic mean in the unit of the metric; nan where n = 0."""
        return _ratio(self.total, self.n.astype(np.float64))

    @property
    def variance(self) -> Float64[np.ndarray, "*batch arm"]:
        """Unbiased variance (divisor n - 1), at least 0; nan where n < 2."""
        n = self.n.astype(np.float64)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            centred = self.total_sq - self.total * (self.total / np.maximum(n, 1.0))
        centred = np.where(centred > ROUNDING_OF_A_SUM * self.total_sq, centred, 0.0)
        return _ratio(centred, np.maximum(n - 1.0, 0.0))

    def __add__(self, other: "Moments") -> "Moments":
        with np.errstate(over="ignore"):  # an infinite sum is refused by the constructor, by name
            return Moments(
                n=_add_whole(self.n, other.n, name="n"),
                total=self.total + other.total,
                total_sq=self.total_sq + other.total_sq,
            )

    @classmethod
    def derived(
        cls,
        n: Int64[np.ndarray, "*batch arm"],
        total: Float64[np.ndarray, "*batch arm"],
        total_sq: Float64[np.ndarray, "*batch arm"],
    ) -> "Moments":
        """As `BinaryCounts.derived`."""
        return _unchecked(cls, n=n, total=total, total_sq=total_sq)

    def as_moments(self) -> "Moments":
        """Itself: counts and moments can be asked alike."""
        return self

    def flipped(self) -> "Moments":
        """The same values with their sign turned, for a metric where lower is better."""
        return Moments.derived(self.n, -self.total, self.total_sq)


def _unchecked[Value: (BinaryCounts, Moments)](kind: type[Value], **fields: np.ndarray) -> Value:
    value = object.__new__(kind)
    for name, field in fields.items():
        object.__setattr__(value, name, field)
    return value


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    out = np.full(numerator.shape, np.nan)
    return np.asarray(np.divide(numerator, denominator, out=out, where=denominator > 0))


def _add_whole(a: np.ndarray, b: np.ndarray, *, name: str) -> np.ndarray:
    _check_same_shape(a, b, name=f"{name} of the right-hand side")
    room = np.iinfo(np.int64).max - a
    refuse_where(b > room, b, name=name, rule="must be at most {}; the sum would pass 2^63 - 1", bound=room)
    return np.asarray(a + b)


def _check_moments(n: np.ndarray, total: np.ndarray, total_sq: np.ndarray) -> None:
    zeros = np.zeros_like(total_sq)
    refuse_where(
        total_sq < 0, total_sq, name="total_sq", rule="must be at least {:g}; it sums squares", bound=zeros
    )
    empty = (n == 0) & (total_sq > 0)
    refuse_where(empty, total_sq, name="total_sq", rule="must be {:g} where n == 0", bound=zeros)
    # In square roots: total^2 of durations summed to 1e200 would overflow.
    limit = np.sqrt(n) * np.sqrt(total_sq) * (1.0 + CAUCHY_SCHWARZ_TOLERANCE / 2) + n * SMALLEST_SQUARABLE
    rule = "must be within ±{:g} = sqrt(n * total_sq); check that both sums cover the same values"
    refuse_where(np.abs(total) > limit, total, name="total", rule=rule, bound=limit)


def _check_same_shape(first: np.ndarray, other: np.ndarray, *, name: str) -> None:
    if first.shape != other.shape:
        raise ValueError(f"{name} has shape {other.shape}, must be {first.shape}; give one entry per arm")
