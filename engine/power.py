"""How many units an experiment needs, and what it can see with the units it gets.

Two designs. "fixed" looks once, at the planned size, and is the z-test. "always_valid" may be looked at as
often as one likes, by a confidence sequence; at the planned size that is 1.55 times as wide as the interval of
a single look (alpha 0.05), so 80 % power there takes 1.9 times the units. This is a lower bound on the chance
to have stopped by then: from .70 to .75, 87 % of simulated experiments have, and as many by the e-process
(92 % if it bets on the planned effect), which is exact where the sequence must not be read before 100
outcomes an arm.

`power` is a function of this module, too: `from engine.power import power`; `engine.power` is the module.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from scipy.optimize import brentq
from scipy.special import ndtri

from engine.checks import check_positive
from engine.power_formulas import (
    Formula,
    Looks,
    check_target,
    checked_design,
    checked_sequence,
    critical_value,
    power_of,
    units_for,
)


@dataclass(frozen=True, slots=True)
class SampleSize:
    """Units needed by the control, `per_arm`, and by each other arm, `ratio` times as many.

    The formulas differ by up to 12 % (0.95 to 0.99: 250 or 284 units), so the name of the one used is kept.

    Attributes
    ----------
    per_arm : Exact solution for the control, not rounded.
    ratio : Units of a treatment for each unit of the control.
    formula : Which approximation gave it; "normal" for a mean, "confidence sequence" when always valid.
    minimum_detectable_effect, power, alpha, sides : As asked for.
    baseline : The control's rate; None for a mean.
    design : "fixed" for one look at the end, "always_valid" for any number of looks.
    planned : Units of the control and one treatment at which the confidence sequence is to be narrowest;
        None for a single look.
    """

    per_arm: float
    ratio: float | int
    formula: str
    minimum_detectable_effect: float | int
    power: float
    alpha: float
    sides: int
    baseline: float | None = None
    design: Looks = "fixed"
    planned: float | int | None = None

    @property
    def per_arm_ceil(self) -> int:
        """Whole units for the control."""
        return _whole(self.per_arm)

    @property
    def total(self) -> int:
        """Whole units for the control and one treatment together."""
        return self.per_arm_ceil + _whole(self.ratio * self.per_arm)

    def plot(self, *, theme: str = "light") -> Any:
        """Power by the units of the control, for half, all and twice the effect; an Altair chart.

        Raises
        ------
        ValueError
            The plan is for a mean, whose standard deviation is not kept.
        ExtraMissing
            Altair is not installed: the extra `science`.
        """
        from engine.pictures.power import power_curves

        return power_curves(self, theme=theme)


def sample_size(
    *,
    baseline: float,
    minimum_detectable_effect: float,
    power: float = 0.8,
    alpha: float = 0.05,
    ratio: float | int = 1.0,
    sides: int = 2,
    formula: Formula = "pooled",
    design: Looks = "fixed",
    planned: float | int | None = None,
) -> SampleSize:
    """Units per arm to detect a difference between two success rates with the given power.

    Parameters
    ----------
    baseline : The control's rate, in (0, 1).
    minimum_detectable_effect : Difference of the rates, not relative; negative for a drop. The sum with
        `baseline` lies in (0, 1).
    power : Chance to detect it, in (0, 1) and above alpha.
    alpha : Chance of a false alarm, in (0, 1); with several contrasts, divided by their number beforehand.
    ratio : Units of the treatment for each unit of the control.
    sides : 2, or 1 for a test in the direction of the effect.
    formula : For one look. "pooled" is the z-test of this package (R's `power.prop.test`); "unpooled" Wald's test;
        "arcsine" Cohen's h with both tails (statsmodels' `NormalIndPower`); "pooled_continuity" the pooled
        test with continuity correction, close to Fisher's exact one.
    design : "fixed" for one look, "always_valid" for any number of them.
    planned : Units of both arms at which the confidence sequence is narrowest; None for the size that comes
        out, which is about the cheapest. Only for "always_valid".

    Returns
    -------
    The exact solution, its inputs, and whole numbers of units.

    Raises
    ------
    ValueError
        Arguments out of bounds, an effect of 0; `planned` for one look, one side for always valid.

    References
    ----------
    Fleiss, Levin and Paik (2003), Statistical Methods for Rates and Proportions, 3rd ed., section 4.
    Fleiss, Tytun and Ury (1980), Biometrics 36, 343-346 (unequal groups, continuity correction).
    Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, chapter 6.
    Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Annals of Statistics 52 (confidence sequence).

    Examples
    --------
    >>> sample_size(baseline=0.70, minimum_detectable_effect=0.05).per_arm_ceil
    1251
    >>> sample_size(baseline=0.70, minimum_detectable_effect=0.05, design="always_valid").per_arm_ceil
    2390
    """
    setting = checked_design(
        baseline,
        minimum_detectable_effect,
        alpha=alpha,
        ratio=ratio,
        sides=sides,
        looks=design,
        planned=planned,
    )
    check_target(power, alpha)
    if minimum_detectable_effect == 0:
        raise ValueError(
            "minimum_detectable_effect == 0, must not be 0; no sample shows that nothing differs"
        )
    per_arm = units_for(setting, power, formula)
    if per_arm == 0:
        raise ValueError(f"power == {power!r}, must be larger; the approximation needs no unit at all for it")
    return SampleSize(
        per_arm=per_arm,
        ratio=ratio,
        formula=formula if design == "fixed" else "confidence sequence",
        minimum_detectable_effect=minimum_detectable_effect,
        power=power,
        alpha=alpha,
        sides=sides,
        baseline=baseline,
        design=design,
        planned=_narrowest_at(per_arm, ratio, design, planned),
    )


def power(
    *,
    baseline: float,
    minimum_detectable_effect: float,
    per_arm: float | int,
    alpha: float = 0.05,
    ratio: float | int = 1.0,
    sides: int = 2,
    formula: Formula = "pooled",
    design: Looks = "fixed",
    planned: float | int | None = None,
) -> float:
    """Chance that the test finds the effect with the given number of units: the inverse of `sample_size`.

    Only the tail in the direction of the effect counts (R's strict=FALSE), except for "arcsine", which counts
    both: without any effect "pooled" answers alpha / 2. "always_valid" answers the chance that the look at this
    size finds it; to have found it by then, at any look, is more probable.

    Parameters
    ----------
    baseline, alpha, ratio, sides, formula, design : As in `sample_size`.
    minimum_detectable_effect : As in `sample_size`, but may be 0.
    per_arm : Units of the control, above 0; the treatment has `ratio` times as many.
    planned : Units of both arms at which the confidence sequence is narrowest; None for the ones given here.

    Returns
    -------
    A probability.

    Raises
    ------
    ValueError
        Arguments out of bounds.

    Examples
    --------
    >>> round(power(baseline=0.5, minimum_detectable_effect=0.25, per_arm=50), 3)
    0.74
    """
    setting = checked_design(
        baseline,
        minimum_detectable_effect,
        alpha=alpha,
        ratio=ratio,
        sides=sides,
        looks=design,
        planned=planned,
    )
    return power_of(setting, check_positive(per_arm, name="per_arm"), formula)


def minimum_detectable_effect(
    *,
    baseline: float,
    per_arm: float | int,
    power: float = 0.8,
    alpha: float = 0.05,
    ratio: float | int = 1.0,
    sides: int = 2,
    formula: Formula = "pooled",
    direction: Literal["increase", "decrease"] = "increase",
    design: Looks = "fixed",
    planned: float | int | None = None,
) -> float:
    """The smallest difference of rates that the given units detect with the given power.

    Parameters
    ----------
    per_arm : Units of the control, above 0; the treatment has `ratio` times as many.
    direction : Whether the rate is to rise or to fall; a fall is returned as a negative number.
    baseline, power, alpha, ratio, sides, formula, design : As in `sample_size`.
    planned : As in `power`.

    Returns
    -------
    The effect e with sample_size(baseline, e).per_arm == per_arm.

    Raises
    ------
    ValueError
        Arguments out of bounds; so few units (below 5 or so) that no effect is detected.

    Examples
    --------
    >>> round(minimum_detectable_effect(baseline=0.70, per_arm=1251), 4)
    0.05
    """
    check_positive(per_arm, name="per_arm")
    check_target(power, alpha)
    sign = 1.0 if direction == "increase" else -1.0
    room = (1.0 - baseline) if direction == "increase" else baseline

    def excess(effect: float) -> float:
        setting = checked_design(
            baseline, sign * effect, alpha=alpha, ratio=ratio, sides=sides, looks=design, planned=planned
        )
        return math.log(max(units_for(setting, power, formula), 1e-300) / per_arm)

    smallest, largest = room * 1e-9, room * (1.0 - 1e-9)
    if excess(largest) > 0:
        raise ValueError(
            f"per_arm == {per_arm}, must be larger; no {direction} from {baseline} can be detected"
        )
    if excess(smallest) < 0:
        raise ValueError(f"per_arm == {per_arm}, must be smaller; it detects any difference")
    return sign * float(brentq(excess, smallest, largest, xtol=1e-16, rtol=1e-14))


def sample_size_mean(
    *,
    sd: float | int,
    minimum_detectable_effect: float | int,
    power: float = 0.8,
    alpha: float = 0.05,
    ratio: float | int = 1.0,
    sides: int = 2,
    design: Looks = "fixed",
    planned: float | int | None = None,
) -> SampleSize:
    """Units per arm to detect a difference between two means, by the normal approximation.

    Parameters
    ----------
    sd : Standard deviation within an arm, above 0, in the unit of the metric.
    minimum_detectable_effect : Difference of the means in that unit, not 0.
    power, alpha, ratio, sides, design, planned : As in `sample_size`.

    Returns
    -------
    The exact solution; Welch's test itself needs about z_alpha^2 / 4, one unit, more.

    Raises
    ------
    ValueError
        Arguments out of bounds.

    Examples
    --------
    >>> sample_size_mean(sd=60.0, minimum_detectable_effect=10.0).per_arm_ceil
    566
    """
    check_positive(abs(minimum_detectable_effect), name="abs(minimum_detectable_effect)")
    check_positive(ratio, name="ratio")
    check_target(power, alpha)
    z_alpha = critical_value(alpha, sides)
    sequence = checked_sequence(design, alpha=alpha, ratio=ratio, sides=sides, planned=planned)
    scale = check_positive(sd, name="sd") / minimum_detectable_effect
    per_arm = (1.0 + 1.0 / ratio) * ((z_alpha + float(ndtri(power))) * scale) ** 2
    if sequence is not None:
        per_arm = sequence.units_for(1.0 / (abs(scale) * math.sqrt(1.0 + 1.0 / ratio)), power)
    return SampleSize(
        per_arm=per_arm,
        ratio=ratio,
        formula="normal" if design == "fixed" else "confidence sequence",
        minimum_detectable_effect=minimum_detectable_effect,
        power=power,
        alpha=alpha,
        sides=sides,
        design=design,
        planned=_narrowest_at(per_arm, ratio, design, planned),
    )


def days_needed(sample_size: SampleSize, *, calls_per_day: float | int, variants: int = 2) -> float:
    """Days until every variant has its units, not rounded; the longest wait where the plan is always valid.

    Parameters
    ----------
    sample_size : What each arm needs.
    calls_per_day : All calls of the experiment, above 0, split over the variants in the planned ratio.
    variants : Arms including the control, at least 2.

    Returns
    -------
    Days, a whole number of them rarely: round up, and to whole weeks where weekdays differ.

    Raises
    ------
    ValueError
        Arguments out of bounds.

    Examples
    --------
    >>> plan = sample_size(baseline=0.70, minimum_detectable_effect=0.05)
    >>> round(days_needed(plan, calls_per_day=500), 2)
    5.0
    """
    check_positive(calls_per_day, name="calls_per_day")
    if variants < 2:
        raise ValueError(f"variants == {variants}, must be at least 2; the control is one of them")
    control = sample_size.per_arm_ceil
    return (control + (variants - 1) * (sample_size.total - control)) / calls_per_day


def _narrowest_at(
    per_arm: float, ratio: float | int, design: Looks, planned: float | int | None
) -> float | int | None:
    return (1.0 + ratio) * per_arm if design == "always_valid" and planned is None else planned


def _whole(units: float) -> int:
    # The solution carries a relative error of 1e-15; 290.00000000000006 units are 290.
    return math.ceil(units * (1.0 - 1e-13))
