"""Evidence that survives looking: the randomisation e-process, and confidence sequences.

While an experiment runs, only the assignment is random in a way that we know: its probabilities are logged.
So the test bets on nothing else. For each unit, given to a treatment or to the control, it multiplies the
wealth by 1 + b c (y - m), where c is 1 - pi for the treatment and -pi for the control, and pi is the
logged probability of the treatment among the two. Whatever y is, the average of c over the assignment is 0,
so under "the outcome does not depend on the assignment" the expected factor is 1: for drifting rates, for
adversarial ones, under any split that moves with the past. A wealth that is a fair game passes 1 / alpha
with probability at most alpha, ever (Ville's inequality), however often one looks.

The stake b and the centre m may use earlier units only. Units come in the order of their assignment, each
with its final value or as missing (nan), which leaves the wealth alone: a call that takes longer under one
variant must not move the order.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from engine.checks import (
    Numbers,
    check_confidence_level,
    check_positive,
    finite_numbers,
    refuse_where,
)
from engine.statistics import Interval

Direction = Literal["two-sided", "better", "worse"]
SHRINKAGE = 50.0  # units of the pool that each arm's rate starts with; best power in simulations
MOST_AT_STAKE = 0.9  # of the wealth, on one unit: it never falls to 0
# The variance of a contrast with 100 outcomes an arm is known to 10 %; below, a sequence is too narrow.
ENOUGH_PER_ARM = 100
# Of each outcome of a share: with rates of .95 under a bandit, some 5 failures in the smaller arm, each weighed
# twenty times, are no normal distribution (misses of 6 to 9 % instead of 5).
ENOUGH_OF_EACH = 20


@dataclass(frozen=True, slots=True, eq=False)
class EProcess:
    """Wealth of a gambler who bets that treatment and control differ; `EProcess.start` makes one.

    Two ways to stake. Without `effects`, the stake is what the units so far suggest: the rates of both arms,
    shrunk to their pool, are the gambler's guess (the plug-in). With `effects`, the wealth is divided evenly
    over gamblers who each believe in one effect, planned beforehand: no units are lost to learning, so at
    the planned effect it needs a fifth fewer. Both are exact for shares and for scores in [0, 1].

    Attributes
    ----------
    direction : "better" tests "the treatment's mean is at most the control's plus `margin`, at all times";
        "worse" tests "at least the control's minus `margin`"; "two-sided" tests "the same at all times".
    margin : How much better (worse) the treatment may be under the null; in (-1, 1), 0 for "two-sided".
    effects : Positive differences, shape (bet,); empty for the plug-in.
    n, total : Units with an outcome and their sum per arm (control, treatment), shape (..., 2).
    total_sq : The sum of squares of both arms, shape (...).
    log_wealth : Natural logarithm of the wealth of each gambler, shape (..., bet).
    log_e_max : Largest logarithm of the whole wealth so far, at least 0, shape (...).

    References
    ----------
    Ville (1939), Étude critique de la notion de collectif, chapter 5.
    Turner, Ly and Grünwald (2024), Generic E-variables for exact sequential k-sample tests, Statistica
    Sinica 34 (two samples). Grünwald, Henzi and Lardy (2024), Anytime-valid tests of conditional independence
    under model-X, JASA 119 (betting on a known assignment). Robbins (1970), Annals of Mathematical
    Statistics 41 (mixtures over effects).

    Examples
    --------
    >>> test = EProcess.start(direction="better", effects=[0.05, 0.2])
    >>> told = test.update(outcome=[1, 0, 1, 1] * 50, treated=[1, 0, 1, 0] * 50, probability=0.5)
    >>> bool(told.e_value > 20), bool(told.p_value < 0.05)
    (True, True)
    """

    direction: Direction
    margin: float
    effects: Float64[np.ndarray, " effect"]
    n: Float64[np.ndarray, "*batch 2"]
    total: Float64[np.ndarray, "*batch 2"]
    total_sq: Float64[np.ndarray, "*batch"]
    log_wealth: Float64[np.ndarray, "*batch bet"]
    log_e_max: Float64[np.ndarray, "*batch"]

    @classmethod
    def start(
        cls,
        *,
        direction: Direction = "two-sided",
        margin: float | int = 0.0,
        effects: Numbers = (),
        batch: tuple[int, ...] = (),
    ) -> "EProcess":
        """A gambler with wealth 1 who has seen nothing.

        Parameters
        ----------
        effects : Differences to bet on, each in (0, 1]; none for the plug-in.
        batch : Shape of the processes that run side by side, for simulations.

        Raises
        ------
        ValueError
            A margin outside (-1, 1) or with "two-sided", an effect outside (0, 1].
        """
        if not -1.0 < margin < 1.0:
            raise ValueError(
                f"margin == {margin!r}, must be in (-1, 1); it is a difference of means in [0, 1]"
            )
        if direction == "two-sided" and margin != 0.0:
            raise ValueError(f"margin == {margin!r}, must be 0 for 'two-sided'; ask for one direction")
        sizes = np.atleast_1d(finite_numbers(effects, name="effects"))
        rule = "must be in (0, 1]; give differences of means in [0, 1]"
        refuse_where(~((sizes > 0.0) & (sizes <= 1.0)), sizes, name="effects", rule=rule)
        bets = max(sizes.size, 1) * (2 if direction == "two-sided" and sizes.size else 1)
        return cls(
            direction=direction,
            margin=float(margin),
            effects=sizes,
            n=np.zeros((*batch, 2)),
            total=np.zeros((*batch, 2)),
            total_sq=np.zeros(batch),
            log_wealth=np.zeros((*batch, bets)),
            log_e_max=np.zeros(batch),
        )

    @property
    def log_e(self) -> Float64[np.ndarray, "*batch"]:
        """Natural logarithm of the e-value now, shape (...)."""
        return _log_mean(self.log_wealth)

    @property
    def e_value(self) -> Float64[np.ndarray, "*batch"]:
        """How much the gambler's wealth has grown, shape (...); reject at level alpha at 1 / alpha."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(self.log_e))

    @property
    def p_value(self) -> Float64[np.ndarray, "*batch"]:
        """1 / the largest e-value so far, shape (...): valid at every look, never grows."""
        return np.asarray(np.exp(-self.log_e_max))

    def update(self, outcome: Numbers, treated: Numbers, probability: Numbers) -> "EProcess":
        """The same process after more units, in the order of their assignment.

        Parameters
        ----------
        outcome : In [0, 1], shape (..., unit); nan where missing or of another arm: such a unit is no bet.
        treated : Whether the unit was given the treatment, same shape.
        probability : Logged probability of the treatment among treatment and control, in [0, 1]; same shape
            or a number. Where it is 0 or 1 nothing was randomised, so there is no bet and nothing learned.

        Raises
        ------
        ValueError
            An outcome outside [0, 1], a probability outside [0, 1], shapes that do not fit.
        """
        y, arm, pi, counted = self._units(outcome, treated, probability)
        if y.shape[-1] == 0:
            return self
        path, n, total, total_sq = self._walk(y, arm, pi, counted)
        highest = np.asarray(np.maximum(_log_mean(path).max(axis=-1), self.log_e_max))
        return replace(
            self,
            n=n,
            total=total,
            total_sq=np.asarray(total_sq),
            log_wealth=path[..., -1, :],
            log_e_max=highest,
        )

    def path(
        self, outcome: Numbers, treated: Numbers, probability: Numbers
    ) -> Float64[np.ndarray, "*batch unit"]:
        """Natural logarithm of the e-value after each of these units; arguments as for `update`."""
        units = self._units(outcome, treated, probability)
        return _log_mean(self._walk(*units)[0]) if units[0].shape[-1] else units[0]

    def _units(
        self, outcome: Numbers, treated: Numbers, probability: Numbers
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        y = np.atleast_1d(np.asarray(outcome, dtype=np.float64))
        rule = "must be in [0, 1], or nan where missing; scale it or use a confidence sequence"
        refuse_where((y < 0.0) | (y > 1.0), y, name="outcome", rule=rule)
        pi = np.broadcast_to(np.asarray(probability, dtype=np.float64), y.shape)
        rule = "must be in [0, 1]; give the logged probability of the treatment"
        refuse_where(~((pi >= 0.0) & (pi <= 1.0)), pi, name="probability", rule=rule)
        arm = np.asarray(treated)
        if arm.shape != y.shape or y.shape[:-1] != self.log_e_max.shape:
            raise ValueError(
                f"outcome has shape {y.shape} and treated {arm.shape}, both must be "
                f"{(*self.log_e_max.shape, 'units')}; give one entry per unit"
            )
        counted = np.isfinite(y) & (pi > 0.0) & (pi < 1.0)
        return y, arm.astype(bool), pi, counted

    def _walk(
        self,
        y: Float64[np.ndarray, "*batch unit"],
        arm: Bool[np.ndarray, "*batch unit"],
        pi: Float64[np.ndarray, "*batch unit"],
        counted: Bool[np.ndarray, "*batch unit"],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Logarithm of each gambler's wealth after each unit, (..., unit, bet), and the new sums."""
        value = self._shifted(np.where(counted, y, 0.0), arm)
        mine = np.stack([counted & ~arm, counted & arm], axis=-1).astype(np.float64)  # (..., unit, arm)
        n = self.n[..., None, :] + np.cumsum(mine, axis=-2)
        total = self.total[..., None, :] + np.cumsum(mine * value[..., None], axis=-2)
        squares = self.total_sq[..., None] + np.cumsum(np.where(counted, value * value, 0.0), axis=-1)
        before = _Before(
            n=_earlier(n, self.n, axis=-2),
            total=_earlier(total, self.total, axis=-2),
            total_sq=_earlier(squares, self.total_sq, axis=-1),
        )
        stake, centre = self._stakes(before, pi)
        weight = np.where(arm, 1.0 - pi, -pi)[..., None]
        gain = np.where(counted[..., None], stake * weight * (value[..., None] - centre), 0.0)
        path = self.log_wealth[..., None, :] + np.cumsum(np.log1p(gain), axis=-2)
        return path, n[..., -1, :], total[..., -1, :], squares[..., -1]

    def _shifted(self, y: np.ndarray, arm: np.ndarray) -> np.ndarray:
        """Outcomes in [0, 1] whose means are equal exactly at the edge of the null."""
        if self.margin == 0.0:
            return y
        # "better by at most m" lifts the control by m, "worse by at most m" lifts the treatment.
        lifted = ~arm if (self.margin > 0.0) == (self.direction == "better") else arm
        return np.asarray((y + abs(self.margin) * lifted) / (1.0 + abs(self.margin)))

    def _stakes(self, before: "_Before", pi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Stake b of each bet, (..., unit, bet), and the centre m, (..., unit, 1)."""
        pool = (before.total.sum(axis=-1) + 1.0) / (before.n.sum(axis=-1) + 2.0)
        if self.effects.size:
            return _planned_stakes(self.effects, self.direction, before, pool, pi)
        shrunk = (before.total + SHRINKAGE * pool[..., None]) / (before.n + SHRINKAGE)
        difference = shrunk[..., 1] - shrunk[..., 0]
        if self.direction == "better":
            difference = np.maximum(difference, 0.0)
        elif self.direction == "worse":
            difference = np.minimum(difference, 0.0)
        # Refusing to bet against one's direction leaves both rates at the control's.
        centre = shrunk[..., 0] + pi * difference
        return (difference / (centre * (1.0 - centre)))[..., None], centre[..., None]


@dataclass(frozen=True, slots=True, eq=False)
class _Before:
    """Sums over the units before each one: n and total (..., unit, arm), total_sq (..., unit)."""

    n: np.ndarray
    total: np.ndarray
    total_sq: np.ndarray


def _planned_stakes(
    effects: np.ndarray, direction: Direction, before: _Before, pool: np.ndarray, pi: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Effect over variance, the stake whose wealth grows fastest if the effect is true; never all of it."""
    signed = {"better": effects, "worse": -effects, "two-sided": np.concatenate([effects, -effects])}[
        direction
    ]
    # One success and one failure to begin with, as in the pool: for shares this is pool (1 - pool).
    variance = (before.total_sq + 1.0) / (before.n.sum(axis=-1) + 2.0) - pool * pool
    most = MOST_AT_STAKE / (np.maximum(pi, 1.0 - pi) * np.maximum(pool, 1.0 - pool))
    stake = signed / np.maximum(variance, 1e-12)[..., None]
    return np.clip(stake, -most[..., None], most[..., None]), pool[..., None]


def _earlier(after: np.ndarray, start: np.ndarray, *, axis: int) -> np.ndarray:
    """The running sums as they stood before each unit."""
    first = np.expand_dims(start, axis)
    return np.concatenate([first, np.delete(after, -1, axis=axis)], axis=axis)


def _log_mean(log_wealth: np.ndarray) -> np.ndarray:
    top = log_wealth.max(axis=-1)
    return np.asarray(top + np.log(np.exp(log_wealth - top[..., None]).mean(axis=-1)))


def confidence_sequence_factor(
    n: Numbers, *, planned: float | int, alpha: float
) -> Float64[np.ndarray, "..."]:
    """Half width of a 1 - alpha confidence sequence in standard errors, instead of z.

    Parameters
    ----------
    n : Units so far, greater than 0, any shape.
    planned : Units at which the sequence shall be narrowest; there it costs 1.55 times the z interval.
    alpha : Chance that it ever misses, in (0, 1).

    References
    ----------
    Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Time-uniform central limit theory and asymptotic
    confidence sequences, Annals of Statistics 52 (the boundary, and the rho that is best at a planned size).

    Examples
    --------
    >>> confidence_sequence_factor(5000, planned=5000, alpha=0.05).round(3).item()
    3.035
    """
    check_confidence_level(alpha, name="alpha")
    check_positive(planned, name="planned")
    units = finite_numbers(n, name="n")
    refuse_where(units <= 0.0, units, name="n", rule="must be greater than 0; nothing is known before a unit")
    log_level = -2.0 * np.log(alpha)
    grown = units * (log_level + np.log(log_level + 1.0)) / planned + 1.0
    return np.asarray(np.sqrt(2.0 * grown / (grown - 1.0) * np.log(np.sqrt(grown) / alpha)))


def confidence_sequence(
    estimate: Numbers,
    standard_error: Numbers,
    *,
    n: Numbers,
    planned: float | int,
    confidence_level: float = 0.95,
) -> Interval:
    """An interval that may be looked at as often as one likes: with this chance it covers at every look.

    Asymptotic, as the z interval is: not to be read before 100 outcomes an arm, and for a share 20 successes and
    20 failures of each.

    Parameters
    ----------
    estimate, standard_error : Of a mean over n units, shape (arm,) or a number.
    n : Units behind the estimate, greater than 0; same shape or a number.
    planned : Units at which it shall be narrowest.

    Returns
    -------
    Interval of the estimate's shape; a number gives shape (1,).

    References
    ----------
    As `confidence_sequence_factor`.

    Examples
    --------
    >>> interval = confidence_sequence(0.05, 0.01, n=5000, planned=5000)
    >>> interval.lower.round(4), interval.upper.round(4)
    (array([0.0196]), array([0.0804]))
    """
    level = check_confidence_level(confidence_level)
    middle = np.atleast_1d(np.asarray(estimate, dtype=np.float64))
    factor = confidence_sequence_factor(n, planned=planned, alpha=1.0 - level)
    half = np.broadcast_to(factor * np.asarray(standard_error, dtype=np.float64), middle.shape)
    return Interval(lower=middle - half, upper=middle + half)
