"""The split that the posterior of the goal asks for, within the policy's floors and caps."""

from collections.abc import Sequence

import numpy as np

from domain.experiments import Experiment, Policy, Variant
from engine.allocation import served_split
from engine.belief import best_among, steering_posterior, turned
from engine.thompson import thompson_split, top_two_split
from service.known import Known


def goal_probability_best(known: Known, wanted: np.ndarray) -> np.ndarray:
    """P(variant is best on the goal), shape (variant,), sums to 1; 0 for variants not wanted, a mask.

    A mean without data has no posterior: such a variant is as likely the best as any other, and the others
    keep their ratios. Otherwise one new variant would undo what the split has learned.
    """
    observed, half_life = known.observed, known.experiment.policy.half_life_calls
    posterior = turned(observed.plan.goal_metric, steering_posterior(observed, half_life=half_life))
    best = best_among(wanted, posterior).probability
    unknown = wanted & np.isnan(best)
    share = 1.0 / wanted.sum()
    return np.where(unknown, share, np.where(wanted, best * (1.0 - share * unknown.sum()), 0.0))


def split_for(policy: Policy, variants: Sequence[Variant], probability_best: np.ndarray) -> np.ndarray:
    """Basis points, shape (variant,), over live variants that can be served.

    Raises
    ------
    ValueError : floors and caps cannot hold together.
    """
    raw = top_two_split(probability_best) if policy.name == "top_two" else thompson_split(probability_best)
    return bounded(policy, variants, raw)


def bounded(policy: Policy, variants: Sequence[Variant], raw: np.ndarray) -> np.ndarray:
    """`raw` within the policy's floors and cap; a single live variant gets every call."""
    if len(variants) == 1:
        return np.array([10_000])
    floors = np.array([policy.control_floor if v.is_control else policy.floor for v in variants])
    # Two arms left of three under a cap of 0.4: retiring must be possible, so the cap gives way.
    return served_split(raw, floor=floors, cap=max(policy.cap, 1.0 / len(variants)))


def live_variants(experiment: Experiment) -> list[Variant]:
    """The variants that have not been retired."""
    return [variant for variant in experiment.variants if variant.live]
