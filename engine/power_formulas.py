"""The formulas behind `engine.power`: power of two-sample tests of rates, and its inverse in the units.

n1 is the control's number of units, n2 = ratio * n1. "pooled", "unpooled" and "pooled_continuity" follow
Fleiss, Tytun and Ury (1980, Biometrics 36, 343-346), "arcsine" follows Cohen (1988, chapter 6). A design that
is always valid has one formula: the effect in standard errors less the factor of the confidence sequence.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from engine.checks import check_positive
from engine.sequential import confidence_sequence_factor

Formula = Literal["pooled", "unpooled", "arcsine", "pooled_continuity"]
Looks = Literal["fixed", "always_valid"]


@dataclass(frozen=True, slots=True)
class Sequence:
    """A test by confidence sequence: its alpha, the ratio of the arms, and where it is narrowest.

    `planned` is in units of both arms; None stands for the very number of units that is asked about.
    """

    alpha: float
    ratio: float | int
    planned: float | int | None

    def factor(self, per_arm: float) -> float:
        """Half width in standard errors at n1 = per_arm; the same for any n1 where planned is None."""
        total = (1.0 + self.ratio) * per_arm
        planned = total if self.planned is None else float(self.planned)
        return float(confidence_sequence_factor(total, planned=planned, alpha=self.alpha))

    def power_of(self, signal: float, per_arm: float) -> float:
        """Chance that the sequence leaves 0 out at n1 = per_arm; `signal` is the effect over se * sqrt(n1)."""
        return float(ndtr(signal * math.sqrt(per_arm) - self.factor(per_arm)))

    def units_for(self, signal: float, power: float) -> float:
        """The inverse of `power_of` for a power above alpha."""
        z_beta = float(ndtri(power))
        if self.planned is None:
            return ((self.factor(1.0) + z_beta) / signal) ** 2

        def excess(log_units: float) -> float:
            units = math.exp(log_units)
            return signal * math.sqrt(units) - self.factor(units) - z_beta

        # No sequence is narrower than the interval of a single look.
        low = 2.0 * math.log((float(-ndtri(self.alpha / 2.0)) + z_beta) / signal)
        high = low + 1.0
        while excess(high) < 0.0:
            high += 1.0
        return math.exp(float(brentq(excess, low, high, xtol=1e-15, rtol=1e-15)))


@dataclass(frozen=True, slots=True)
class Design:
    """Two true rates, the ratio of the units of the second arm to the first's, and the critical value.

    `sequence` is None for one look at the end.
    """

    p1: float
    p2: float
    ratio: float | int
    z_alpha: float
    sides: int
    sequence: Sequence | None = None

    @property
    def distance(self) -> float:
        """Absolute difference of the rates."""
        return abs(self.p2 - self.p1)

    @property
    def sd_null(self) -> float:
        """Standard deviation of sqrt(n1) times the difference if both arms had the pooled rate."""
        pooled = (self.p1 + self.ratio * self.p2) / (1.0 + self.ratio)
        return math.sqrt(pooled * (1.0 - pooled) * (1.0 + 1.0 / self.ratio))

    @property
    def sd_effect(self) -> float:
        """Standard deviation of sqrt(n1) times the difference at the two true rates."""
        return math.sqrt(self.p1 * (1.0 - self.p1) + self.p2 * (1.0 - self.p2) / self.ratio)

    @property
    def arcsine_distance(self) -> float:
        """Cohen's h over its standard deviation at one unit of the control."""
        # The difference of the angles as one angle: two arc sines close to each other lose digits.
        cross = self.p2 * (1.0 - self.p1) - self.p1 * (1.0 - self.p2)
        root = math.sqrt(self.p2 * (1.0 - self.p1)) + math.sqrt(self.p1 * (1.0 - self.p2))
        return abs(2.0 * math.asin(cross / root)) / math.sqrt(1.0 + 1.0 / self.ratio)


def units_for(design: Design, power: float, formula: Formula) -> float:
    """Units of the control for the given power; 0 where the approximation has it without any."""
    z_alpha, z_beta = design.z_alpha, float(ndtri(power))
    if design.sequence is not None:
        return design.sequence.units_for(design.distance / design.sd_effect, power)
    if _check_formula(formula) == "arcsine":
        return (_noncentrality(design, power) / design.arcsine_distance) ** 2
    if formula == "unpooled":
        return ((z_alpha + z_beta) * design.sd_effect / design.distance) ** 2
    reach = max(z_alpha * design.sd_null + z_beta * design.sd_effect, 0.0)
    pooled = (reach / design.distance) ** 2
    return pooled if formula == "pooled" else _with_continuity(pooled, design)


def power_of(design: Design, per_arm: float | int, formula: Formula) -> float:
    """The inverse of `units_for`."""
    root = math.sqrt(per_arm)
    if design.sequence is not None:
        return design.sequence.power_of(design.distance / design.sd_effect, per_arm)
    if _check_formula(formula) == "arcsine":
        return _tails(design, design.arcsine_distance * root)
    if formula == "unpooled":
        return float(ndtr(design.distance * root / design.sd_effect - design.z_alpha))
    shift = design.distance * root
    if formula == "pooled_continuity":
        # Of root_n in n' = n / 4 (1 + sqrt(1 + k / n))^2, times the distance.
        shift = max(shift - (1.0 + 1.0 / design.ratio) / (2.0 * root), 0.0)
    return float(ndtr((shift - design.z_alpha * design.sd_null) / design.sd_effect))


def _with_continuity(per_arm: float, design: Design) -> float:
    k = 2.0 * (1.0 + 1.0 / design.ratio) / design.distance
    return (math.sqrt(per_arm) + math.sqrt(per_arm + k)) ** 2 / 4.0


def _noncentrality(design: Design, power: float) -> float:
    one_tail = design.z_alpha + float(ndtri(power))
    if design.sides == 1:
        return one_tail
    return float(
        brentq(lambda shift: _tails(design, shift) - power, 0.0, max(one_tail, 0.0) + 1.0, xtol=1e-15)
    )


def _tails(design: Design, shift: float) -> float:
    other = float(ndtr(-shift - design.z_alpha)) if design.sides == 2 else 0.0
    return float(ndtr(shift - design.z_alpha)) + other


def checked_design(
    baseline: float,
    effect: float,
    *,
    alpha: float,
    ratio: float | int,
    sides: int,
    looks: Looks = "fixed",
    planned: float | int | None = None,
) -> Design:
    """The design, or ValueError where an argument is out of bounds."""
    if not 0.0 < baseline < 1.0:
        raise ValueError(f"baseline == {baseline!r}, must be in (0, 1); write 0.7 for 70 %")
    if not 0.0 < baseline + effect < 1.0:
        raise ValueError(
            f"minimum_detectable_effect == {effect!r}, must be in ({-baseline:g}, {1 - baseline:g}) "
            f"at baseline {baseline:g}; it is a difference of rates, write 0.05 for 5 points"
        )
    check_positive(ratio, name="ratio")
    z_alpha = critical_value(alpha, sides)
    sequence = checked_sequence(looks, alpha=alpha, ratio=ratio, sides=sides, planned=planned)
    return Design(
        p1=baseline, p2=baseline + effect, ratio=ratio, z_alpha=z_alpha, sides=sides, sequence=sequence
    )


def checked_sequence(
    looks: Looks, *, alpha: float, ratio: float | int, sides: int, planned: float | int | None
) -> Sequence | None:
    """The confidence sequence of an always valid design, None of a fixed one, or ValueError."""
    if looks not in get_args(Looks):
        raise ValueError(f"design == {looks!r}, must be one of {', '.join(get_args(Looks))}")
    if looks == "fixed":
        if planned is not None:
            raise ValueError(
                f"planned == {planned!r}, must be None for a single look; write design='always_valid'"
            )
        return None
    if sides != 2:
        raise ValueError(f"sides == {sides}, must be 2 with design='always_valid'; its interval has two ends")
    if planned is not None:
        check_positive(planned, name="planned")
    return Sequence(alpha=alpha, ratio=ratio, planned=planned)


def critical_value(alpha: float, sides: int) -> float:
    """The z beyond which a test of level alpha rejects, or ValueError."""
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha == {alpha!r}, must be in (0, 1); write 0.05 for 5 %")
    if sides not in (1, 2):
        raise ValueError(f"sides == {sides}, must be 1 or 2; 2 finds a better and a worse arm")
    return float(-ndtri(alpha / sides))


def check_target(power: float, alpha: float) -> None:
    """Raise ValueError where the power is not between alpha and 1."""
    if not 0.0 < power < 1.0:
        raise ValueError(f"power == {power!r}, must be in (0, 1); write 0.8 for 80 %")
    if power <= alpha:
        raise ValueError(f"power == {power!r}, must be above alpha == {alpha!r}; any test has that much")


def _check_formula(formula: Formula) -> Formula:
    if formula not in get_args(Formula):
        raise ValueError(f"formula == {formula!r}, must be one of {', '.join(get_args(Formula))}")
    return formula
