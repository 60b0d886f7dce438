"""From evidence to one recommendation: what to do, why, and what is still missing.

Two questions have two answers. "Is the difference real?" is answered by tests that stay valid however often
one looks; "which one to run now?" by the expected loss. `switch` needs both, and guardrails, sample ratio
and the minimum duration besides. P(best) alone never triggers anything: looked at after every batch,
"P(best) >= 95 %" calls a winner between two identical prompts in half of all experiments.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Action = Literal["keep_collecting", "switch", "keep_control", "equivalent", "pause_variant", "investigate"]
THRESHOLD_OF_CARING = 0.005  # half a point of the goal


@dataclass(frozen=True, slots=True)
class Contrast:
    """One live variant against the control on the goal, higher is better.

    Attributes
    ----------
    better, worse, equivalent : What its always-valid test has shown; at most one of `better` and `worse`.
    evidence : That test in words, such as "e-value 52".
    estimate : The difference in units of the goal, None where unknown.
    expected_loss : Of choosing it today, in units of the goal, None where unknown.
    harmed : Guardrails that it makes worse by more than their margin.
    """

    name: str
    better: bool
    worse: bool
    equivalent: bool
    evidence: str
    estimate: float | None
    expected_loss: float | None
    harmed: Sequence[str] = ()

    @property
    def is_out(self) -> bool:
        """Whether it gets no more calls."""
        return self.worse or bool(self.harmed)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the experiment is.

    Attributes
    ----------
    calls : Calls with an outcome of the goal, of live variants.
    planned_calls : Calls after which the planned effect is found with the planned power; None if unknown.
    effect : That effect and power in words.
    days_left : What is missing of the minimum duration.
    ended : No more outcomes will come.
    sample_ratio_mismatch : The split that arrived is not the one that was served.
    missing_differs : Variants whose outcomes are missing more or less often than the control's.
    """

    calls: int
    planned_calls: int | None
    effect: str
    days_left: float
    ended: bool = False
    sample_ratio_mismatch: bool = False
    missing_differs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do; `variant` is whom it concerns; each reason in `because`, each gap in `still_needed`."""

    action: Action
    variant: str | None
    because: tuple[str, ...]
    still_needed: tuple[str, ...] = ()


def recommend(
    progress: Progress,
    contrasts: Sequence[Contrast],
    *,
    control: str,
    threshold_of_caring: float = THRESHOLD_OF_CARING,
) -> Recommendation:
    """The recommendation that the evidence at hand allows.

    Parameters
    ----------
    contrasts : Every live variant but the control.
    control : The control's name.
    threshold_of_caring : Expected loss, in units of the goal, below which nobody minds a wrong choice.

    Returns
    -------
    "investigate" when the data cannot be trusted, or when it ended with better variants and it is open which
    to take; "switch" to a variant that is better, cheap to be wrong about and harmless; "equivalent" when all
    that are left are as good as the control; "pause_variant" for one proven worse or harmful while others are
    still in the running; "keep_control" when none is, or nothing was shown in the end; otherwise
    "keep_collecting".

    Examples
    --------
    >>> done = Progress(calls=3000, planned_calls=2600, effect="5 points", days_left=0.0)
    >>> b = Contrast("b", True, False, False, "e-value 52", estimate=0.06, expected_loss=0.0001)
    >>> recommend(done, [b], control="a").action
    'switch'
    >>> early = Progress(calls=300, planned_calls=1540, effect="5 points with 80 % chance", days_left=2.0)
    >>> recommend(early, [Contrast("b", False, False, False, "", 0.01, 0.01)], control="a").still_needed
    ('about 1 240 more calls to find 5 points with 80 % chance', '2.0 more days')
    """
    doubts = _doubts(progress)
    if doubts:
        needed = ("the cause found and removed, then a new experiment: these data cannot be mended",)
        return Recommendation("investigate", None, doubts, needed)
    running = [item for item in contrasts if not item.is_out]
    winners = [item for item in running if item.better]
    cheap = [item for item in winners if _loss(item) < threshold_of_caring]
    if cheap and progress.days_left <= 0.0:
        return _switch(min(cheap, key=_loss), control, threshold_of_caring)
    out = [item for item in contrasts if item.is_out]
    if running and all(item.equivalent for item in running) and progress.days_left <= 0.0:
        because = [f"{item.name} is as good as {control}: {item.evidence}" for item in running]
        because += [_why_out(item, control) for item in out]
        return Recommendation("equivalent", control, tuple(because))
    if out and (running or progress.days_left > 0.0) and not progress.ended:
        return _pause(out, running, winners, progress, control, threshold_of_caring)
    if out and not running:
        return Recommendation("keep_control", control, tuple(_why_out(item, control) for item in out))
    if progress.ended:
        why = _end_early(progress, running, out, control, threshold_of_caring)
        if winners:
            needed = ("a new experiment among those that are better, over the minimum duration",)
            return Recommendation("investigate", None, why, needed)
        return Recommendation("keep_control", control, why)
    return Recommendation(
        "keep_collecting",
        None,
        _so_far(running, control),
        _still_needed(progress, winners, threshold_of_caring),
    )


def _loss(item: Contrast) -> float:
    return math.inf if item.expected_loss is None else item.expected_loss


def _doubts(progress: Progress) -> tuple[str, ...]:
    doubts = []
    if progress.sample_ratio_mismatch:
        doubts.append(
            "sample ratio mismatch: the variants did not get the calls that the split gave them, so calls were "
            "lost or served by other rules"
        )
    if progress.missing_differs:
        doubts.append(
            f"outcomes of {', '.join(progress.missing_differs)} are missing more or less often than the control's, "
            "so what arrived is no fair sample"
        )
    return tuple(doubts)


def _switch(best: Contrast, control: str, threshold: float) -> Recommendation:
    because = (
        f"{best.name} is better than {control}{_by(best)}: {best.evidence}, valid however often one looks",
        f"expected loss of choosing it {_loss(best):.2g}, below the threshold of caring {threshold:g}",
        "it harms no guardrail, the sample ratio holds, the minimum duration is over",
    )
    return Recommendation("switch", best.name, because)


def _by(item: Contrast) -> str:
    return "" if item.estimate is None else f" by {item.estimate:+.4g}"


def _why_out(item: Contrast, control: str) -> str:
    harms = f"{item.name} makes {', '.join(item.harmed)} worse by more than the margin" if item.harmed else ""
    if item.worse:
        by = "" if item.estimate is None else f" by {abs(item.estimate):.4g}"
        return f"{item.name} is worse than {control}{by}: {item.evidence}" + (f"; {harms}" if harms else "")
    return harms + (f", although it is better on the goal ({item.evidence})" if item.better else "")


def _pause(
    out: Sequence[Contrast],
    running: Sequence[Contrast],
    winners: Sequence[Contrast],
    progress: Progress,
    control: str,
    threshold: float,
) -> Recommendation:
    needed = _still_needed(progress, winners, threshold) if running else ()
    return Recommendation(
        action="pause_variant",
        variant=out[0].name,
        because=(
            *(_why_out(item, control) for item in out),
            "it gets no more calls; retire it, or stop the experiment",
        ),
        still_needed=needed,
    )


def _end_early(
    progress: Progress,
    running: Sequence[Contrast],
    out: Sequence[Contrast],
    control: str,
    threshold: float,
) -> tuple[str, ...]:
    because = [f"ended after {_whole(progress.calls)} calls"]
    for item in running:
        if item.better:
            because.append(f"{item.name} is better than {control}{_by(item)} ({item.evidence})")
            if _loss(item) >= threshold:
                because.append(f"but another may be better still: expected loss {_loss(item):.2g}")
        else:
            evidence = f": {item.evidence}" if item.evidence else ""
            because.append(f"no difference shown between {item.name} and {control}{evidence}")
    because += [_why_out(item, control) for item in out]
    if progress.days_left > 0.0:
        because.append(f"it ended {_days(progress.days_left)} days before the minimum duration was over")
    return tuple(because)


def _so_far(running: Sequence[Contrast], control: str) -> tuple[str, ...]:
    return tuple(f"{item.name} against {control}: {item.evidence}" for item in running if item.evidence) or (
        "nothing is shown yet",
    )


def _still_needed(progress: Progress, winners: Sequence[Contrast], threshold: float) -> tuple[str, ...]:
    needed = [
        f"an expected loss of {item.name} below {threshold:g}: another variant may be better still"
        for item in winners
        if _loss(item) >= threshold
    ]
    if not winners:
        needed.append(_calls_needed(progress))
    if progress.days_left > 0.0:
        needed.append(f"{_days(progress.days_left)} more days")
    return tuple(needed)


def _calls_needed(progress: Progress) -> str:
    if progress.planned_calls is None:
        return "more calls; how many cannot be planned for this goal"
    missing = progress.planned_calls - progress.calls
    if missing > 0:
        return f"about {_whole(missing)} more calls to find {progress.effect}"
    return (
        f"more calls: the planned {_whole(progress.planned_calls)} are there and nothing was shown; stop, or go on "
        "for a smaller difference"
    )


def _days(days: float) -> str:
    return f"{math.ceil(days * 10) / 10:.1f}"


def _whole(number: int) -> str:
    return f"{number:,}".replace(",", " ")
