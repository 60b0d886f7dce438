"""How many units an experiment needs, for one look and for as many as one likes."""

from functools import lru_cache

from engine.metrics import Metric
from engine.power import sample_size, sample_size_mean
from engine.power_formulas import Looks

POWER = 0.8
WORST_SD_OF_A_SCORE = 0.5  # no value in [0, 1] spreads more (Popoviciu 1935)


@lru_cache(maxsize=1024)
def units_per_arm(
    goal: Metric, *, baseline: float, effect: float, alpha: float, looks: Looks
) -> tuple[int | None, str]:
    """Units of each arm to find the effect with 80 % power, and by which formula; None for an amount.

    Parameters
    ----------
    baseline : The control's rate, where the goal is binary.
    alpha : Divided by the number of comparisons beforehand.
    looks : "fixed" for one look, "always_valid" for any number.

    Examples
    --------
    >>> from engine.metrics import Binary
    >>> units_per_arm(Binary("resolved", goal=True), baseline=0.7, effect=0.05, alpha=0.05, looks="fixed")
    (1251, 'pooled')
    """
    if goal.kind == "binary":
        # Turned so that higher is better: from 10 % transferred to 5 % is from 90 % to 95 % not transferred.
        rate = baseline if goal.direction == "increase" else 1.0 - baseline
        size = sample_size(
            baseline=rate, minimum_detectable_effect=effect, power=POWER, alpha=alpha, design=looks
        )
        return size.per_arm_ceil, size.formula
    if goal.kind == "score":
        size = sample_size_mean(
            sd=WORST_SD_OF_A_SCORE,
            minimum_detectable_effect=effect,
            power=POWER,
            alpha=alpha,
            design=looks,
        )
        return size.per_arm_ceil, f"{size.formula}, sd {WORST_SD_OF_A_SCORE}"
    return None, "none: the spread of an amount is not known beforehand"
