"""Where the split goes next: pure, from what is known of an experiment."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from domain.allocations import Allocation
from domain.experiments import Experiment, Variant
from engine.allocation import largest_remainder
from service.claims import claims_of, running_mask
from service.known import Known
from service.split import bounded, goal_probability_best, split_for

Outcome = Literal["moved", "paused", "nothing_new", "too_soon", "burning_in", "fixed", "held", "stopped"]


@dataclass(frozen=True, slots=True)
class Move:
    """The split that serves from now on: another one where it `moved`, or variants were `paused`.

    Attributes
    ----------
    probability_best : By variant, what the split was computed from; None where nothing was computed.
    counts : Outcomes that it was computed from.
    dropped : Variants that get no more calls.
    """

    outcome: Outcome
    split: dict[str, int]
    probability_best: dict[str, float] | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


def next_move(known: Known, *, now: dt.datetime, force: bool = False) -> Move:
    """What a pass does: drop what is proven harmful, else move the split, else leave it.

    Parameters
    ----------
    force : do not wait for the policy's `every_s`.
    """
    current = known.current
    wanted = running_mask(known, claims_of(known))
    dropped = [
        variant.key
        for variant, is_wanted in zip(known.experiment.variants, wanted, strict=True)
        if variant.live and not is_wanted and current.split.get(variant.key, 0) > 0
    ]
    if dropped:
        return _paused(known, wanted, dropped)
    outcome = waits(known.experiment, current, now=now, force=force) or _why_not(known, wanted)
    if outcome is not None:
        return Move(outcome=outcome, split=current.split)
    return _moved(known, wanted)


def waits(experiment: Experiment, current: Allocation, *, now: dt.datetime, force: bool) -> Outcome | None:
    """Why the split does not move now, whatever the outcomes are."""
    if experiment.policy.name == "fixed":
        return "fixed"
    age_s = (now - current.created_at).total_seconds()
    return "too_soon" if age_s < experiment.policy.every_s and not force else None


def entering_split(
    experiment: Experiment, served: Sequence[Variant], current: Mapping[str, int], *, key: str, share: float
) -> dict[str, int]:
    """The split with a new variant at its share; the others keep their ratios.

    Parameters
    ----------
    experiment : With the new variant.
    served : Variants that get calls, the new one among them.
    """
    weights = {variant.key: (1.0 - share) * current.get(variant.key, 0) for variant in served}
    return served_split_of(experiment, served, weights | {key: share * 10_000})


def served_split_of(
    experiment: Experiment, served: Sequence[Variant], weights: Mapping[str, float]
) -> dict[str, int]:
    """Basis points in these ratios, within the policy's bounds where the split moves; 0 for who is not served."""
    raw = largest_remainder([weights[variant.key] for variant in served])
    fixed = experiment.policy.name == "fixed"
    shares = raw if fixed else bounded(experiment.policy, served, raw.astype(float))
    return _split(experiment, served, shares)


def _goal_n(known: Known, wanted: np.ndarray) -> dict[str, int]:
    experiment = known.experiment
    n = known.tally.whole(experiment.goal_metric.measure).n
    return {variant.key: int(n[index]) for index, variant in enumerate(experiment.variants) if wanted[index]}


def _why_not(known: Known, wanted: np.ndarray) -> Outcome | None:
    experiment = known.experiment
    n = _goal_n(known, wanted)
    # Burn-in is for the arms of the start; a later arm has earned its share from its prior's width.
    first = {
        variant.key
        for variant in experiment.variants
        if variant.created_at <= experiment.started_at and known.current.split.get(variant.key, 0) > 0
    }
    if any(count < experiment.policy.burn_in for key, count in n.items() if key in first):
        return "burning_in"
    if known.current.counts.get("n") == n:
        return "nothing_new"
    return None


def _moved(known: Known, wanted: np.ndarray) -> Move:
    """By what is believed; nothing new where only the control gets calls and has them all already."""
    experiment = known.experiment
    best = goal_probability_best(known, wanted)
    served = _served(experiment, wanted)
    split = _split(experiment, served, split_for(experiment.policy, served, best[wanted]))
    if len(served) == 1 and split == known.current.split:
        return Move(outcome="nothing_new", split=split)
    return Move(
        outcome="moved",
        split=split,
        probability_best={v.key: float(p) for v, p in zip(served, best[wanted], strict=True)},
        counts={"n": _goal_n(known, wanted), "metric": experiment.goal},
    )


def _paused(known: Known, wanted: np.ndarray, dropped: Sequence[str]) -> Move:
    """The dropped variants get no more calls, under any policy and at once; the others keep their ratios."""
    served = _served(known.experiment, wanted)
    weights = [float(known.current.split[variant.key]) for variant in served]
    shares = largest_remainder(weights if sum(weights) else [1.0] * len(served))
    split = _split(known.experiment, served, shares)
    return Move(outcome="paused", split=split, dropped=tuple(dropped))


def _served(experiment: Experiment, wanted: np.ndarray) -> list[Variant]:
    return [variant for variant, is_wanted in zip(experiment.variants, wanted, strict=True) if is_wanted]


def _split(experiment: Experiment, served: Sequence[Variant], shares: np.ndarray) -> dict[str, int]:
    split = {variant.key: 0 for variant in experiment.variants}
    return split | {variant.key: int(bp) for variant, bp in zip(served, shares, strict=True)}
