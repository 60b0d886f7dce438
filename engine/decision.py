"""From evidence to one recommendation: what to do, why, and what is still missing.

Two questions have two answers. "Is the difference real?" is answered by a test, "which one to run
now?" by the expected loss; `switch` needs both. P(best) alone never triggers anything.

The test here is the fixed-sample one, and it is valid at one look only, at the planned sample size and
under a split that stood still. Looking at it as often as one likes calls a winner between two identical
prompts in 36 % of experiments (look every 50 calls an arm up to 5 000). Until a test that stays valid
under any looking backs the decision, every other situation is `keep_collecting`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Action = Literal["keep_collecting", "switch", "keep_control", "equivalent", "pause_variant", "investigate"]
THRESHOLD_OF_CARING = 0.005  # half a point of the goal


@dataclass(frozen=True, slots=True)
class Contrast:
    """One live variant against the control, higher is better.

    `estimate`, `p_value` (adjusted for the number of variants) and `harmed` (guardrails worse than their
    margin) come from the planned look; `expected_loss` is today's, in units of the goal.
    """

    name: str
    estimate: float
    p_value: float
    expected_loss: float
    harmed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the experiment is.

    `smallest_n` is the smallest number of goal outcomes among live variants, `planned` the sample size
    per variant (None if none could be planned), `days_left` what is missing of the minimum duration.
    `split_stood_still` is False as soon as shares moved or variants came and went; `ended` is True when
    no more outcomes will come.
    """

    smallest_n: int
    planned: int | None
    days_left: float
    split_stood_still: bool
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do; `variant` is whom it concerns; each reason in `because`, each gap in `still_needed`."""

    action: Action
    variant: str | None
    because: tuple[str, ...]
    still_needed: tuple[str, ...] = ()


def recommend(
    progress: Progress,
    look: Sequence[Contrast] | None,
    *,
    control: str,
    alpha: float,
    threshold_of_caring: float = THRESHOLD_OF_CARING,
) -> Recommendation:
    """The recommendation that the evidence at hand allows.

    Parameters
    ----------
    look : what the one look at the planned sample size said per contrast; None while it is not due.
    control : the control's name.
    alpha : level of the two-sided test, for the whole family of contrasts.
    threshold_of_caring : expected loss, in units of the goal, below which nobody minds a wrong choice.

    Examples
    --------
    >>> done = Progress(smallest_n=1300, planned=1248, days_left=0.0, split_stood_still=True)
    >>> recommend(done, [Contrast("b", 0.06, 0.001, 0.0001)], control="a", alpha=0.05).action
    'switch'
    >>> early = Progress(smallest_n=300, planned=1248, days_left=2.0, split_stood_still=True)
    >>> recommend(early, None, control="a", alpha=0.05).still_needed
    ('about 948 more outcomes per variant', '2.0 more days')
    """
    if look is None:
        return _end_early(progress, control) if progress.ended else _wait(progress)
    winners = [item for item in look if item.p_value < alpha and item.estimate > 0]
    safe = [item for item in winners if not item.harmed]
    if safe:
        return _switch(min(safe, key=lambda item: item.expected_loss), alpha, threshold_of_caring)
    if winners:
        worst = winners[0]
        return Recommendation(
            action="investigate",
            variant=worst.name,
            because=(
                f"{worst.name} is better than {control} on the goal (p = {worst.p_value:.2g})",
                f"but harms {', '.join(worst.harmed)} by more than the margin",
            ),
        )
    if look and all(item.p_value < alpha for item in look):
        return Recommendation(
            action="keep_control",
            variant=control,
            because=(f"every other variant is worse than {control} at the planned sample size",),
        )
    return Recommendation(
        action="keep_control",
        variant=control,
        because=(
            f"no variant differs from {control} at the planned sample size (p >= {alpha:g} for all not worse)",
            "the planned look is the only one that counts: a later p-value may not be used",
        ),
    )


def _switch(best: Contrast, alpha: float, threshold: float) -> Recommendation:
    because = (
        f"{best.name} is better by {best.estimate:+.4g} at the planned sample size "
        f"(p = {best.p_value:.2g} < {alpha:g}, adjusted for the number of variants)",
        f"expected loss of choosing it {best.expected_loss:.2g}",
    )
    if best.expected_loss < threshold:
        return Recommendation(action="switch", variant=best.name, because=because)
    return Recommendation(
        action="investigate",
        variant=best.name,
        because=because,
        still_needed=(f"an expected loss below {threshold:g}",),
    )


def _end_early(progress: Progress, control: str) -> Recommendation:
    planned = "no planned size" if progress.planned is None else f"{progress.planned} planned"
    return Recommendation(
        action="keep_control",
        variant=control,
        because=(
            f"ended with {progress.smallest_n} outcomes in its smallest variant ({planned}) and without a valid look: "
            "nothing was shown, so nothing speaks for a change",
        ),
    )


def _wait(progress: Progress) -> Recommendation:
    if not progress.split_stood_still:
        return Recommendation(
            action="keep_collecting",
            variant=None,
            because=(
                "the split moves with the outcomes, so a z-test is not valid at any sample size: "
                "under Thompson sampling it calls a winner between equal prompts in 14 % of experiments",
            ),
            still_needed=("a test that stays valid under a moving split (not in this version)",),
        )
    if progress.planned is None:
        return Recommendation(
            action="keep_collecting",
            variant=None,
            because=("no sample size can be planned for this goal, so no look at it is valid",),
            still_needed=("a binary or score goal",),
        )
    missing = max(progress.planned - progress.smallest_n, 0)
    needed = [f"about {missing:,} more outcomes per variant".replace(",", " ")] if missing else []
    if progress.days_left > 0:
        needed.append(f"{math.ceil(progress.days_left * 10) / 10:.1f} more days")
    because = f"the test is valid only at the planned {progress.planned} outcomes per variant, looked at once"
    return Recommendation(
        action="keep_collecting",
        variant=None,
        because=(because,),
        still_needed=tuple(needed) or ("the next reallocation pass, which takes the planned look",),
    )
