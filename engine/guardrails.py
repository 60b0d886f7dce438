"""Claims that hold under any looking: which e-value or confidence sequence says what, at which threshold.

Each variant is compared with the control once, so with k variants beside it every threshold is k times as
high (Bonferroni), and a claim in one direction has half of alpha, as in any two-sided test. Then the chance
that "better" or "worse" is ever said falsely of the variants of the start is at most alpha; one that comes
later as the k-th adds alpha / k.
"""

import math
from dataclasses import dataclass
from typing import Literal

from engine.checks import check_confidence_level
from engine.sequential import ENOUGH_OF_EACH, ENOUGH_PER_ARM

HARM_ALPHA = 0.01  # a paused variant loses its calls, so a false alarm is dearer than for the goal
MISSING_ALPHA = 0.001  # as for the sample ratio: it stops the experiment

GuardrailState = Literal["harmed", "safe", "unknown"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Logarithms of the e-values that claims need, for one contrast among `contrasts`.

    Attributes
    ----------
    direction : "better" or "worse" than the control on the goal.
    equivalence : Each of "not better by the region of equivalence" and "not worse by it"; both are needed,
        and only one of them can be false, so neither pays for the other.
    harm : "Worse than the control by more than the margin" on a guardrail.
    missing : "Outcomes are missing more often (or less) than for the control".
    """

    direction: float
    equivalence: float
    harm: float
    missing: float


def thresholds(*, alpha: float, contrasts: int, guardrails: int = 1) -> Thresholds:
    """Thresholds for `contrasts` variants beside the control, at level `alpha` for the goal.

    Parameters
    ----------
    guardrails : How many there are; each variant may be paused by any of them.

    Examples
    --------
    >>> found = thresholds(alpha=0.05, contrasts=1)
    >>> round(math.exp(found.direction)), round(math.exp(found.harm))
    (40, 100)
    """
    check_confidence_level(alpha, name="alpha")
    if contrasts < 1:
        raise ValueError(
            f"contrasts == {contrasts}, must be at least 1; count the variants beside the control"
        )
    return Thresholds(
        direction=math.log(2.0 * contrasts / alpha),
        equivalence=math.log(contrasts / alpha),
        harm=math.log(contrasts * max(guardrails, 1) / HARM_ALPHA),
        missing=math.log(contrasts / MISSING_ALPHA),
    )


@dataclass(frozen=True, slots=True)
class SequenceOfOne:
    """A confidence sequence of one contrast: its ends, higher is better.

    Attributes
    ----------
    smaller_n : Outcomes of its smaller arm.
    rarest : Of a share: successes or failures of the arm that has the fewest; None for other metrics.
    """

    lower: float
    upper: float
    smaller_n: int
    rarest: int | None = None

    @property
    def is_readable(self) -> bool:
        """Whether the normal approximation holds well enough."""
        enough = self.smaller_n >= ENOUGH_PER_ARM and (self.rarest is None or self.rarest >= ENOUGH_OF_EACH)
        return enough and math.isfinite(self.lower) and math.isfinite(self.upper)


def guardrail_status(
    *, margin: float, sequence: SequenceOfOne, log_e_max: float | None = None, harm_threshold: float = 0.0
) -> GuardrailState:
    """Whether a variant harms a guardrail by more than its margin.

    Parameters
    ----------
    margin : By how much the metric may get worse, in its unit, at least 0.
    sequence : Variant minus control at level 1 - 2 * HARM_ALPHA / contrasts, higher is better.
    log_e_max : Of the e-process for "worse by at most the margin"; None for a metric without bounds, which
        is judged by the sequence.
    harm_threshold : Where `log_e_max` is given, what it has to reach.

    Returns
    -------
    "harmed" is proven, "safe" is proven, "unknown" neither.

    Examples
    --------
    >>> guardrail_status(margin=30.0, sequence=SequenceOfOne(lower=-20.0, upper=5.0, smaller_n=400))
    'safe'
    """
    if not margin >= 0.0:
        raise ValueError(f"margin == {margin!r}, must be at least 0; it is how much worse is still accepted")
    if log_e_max is not None:
        is_harmed = log_e_max >= harm_threshold
    else:
        is_harmed = sequence.is_readable and sequence.upper < -margin
    if is_harmed:
        return "harmed"
    return "safe" if sequence.is_readable and sequence.lower >= -margin else "unknown"
