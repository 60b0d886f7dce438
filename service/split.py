"""The split that the posterior of the goal asks for, within the policy's floors and caps."""

from collections.abc import Sequence

import numpy as np

from domain.experiments import Experiment, Policy, Variant
from domain.metrics import Metric
from engine import beta_binomial, normal
from engine.allocation import served_split
from engine.statistics import BinaryCounts
from engine.thompson import thompson_split, top_two_split
from service.evidence import Statistics, higher_is_better

UNIFORM_PRIOR = (1.0, 1.0)


def goal_probability_best(metric: Metric, statistics: Statistics) -> np.ndarray:
    """P(variant is best on the goal), shape (variant,), sums to 1.

    A mean without data has no posterior: such a variant is as likely the best as any other, and the others
    keep their ratios. Otherwise one new variant would undo what the split has learned.
    """
    better = higher_is_better(metric, statistics)
    if isinstance(better, BinaryCounts):
        return beta_binomial.probability_best(beta_binomial.BetaPosterior.from_counts(better, UNIFORM_PRIOR))
    posterior = normal.NormalPosterior.from_moments(better)
    known = np.isfinite(posterior.sd)
    best = np.full(known.shape, 1.0 / known.size)
    if known.any():
        among = normal.NormalPosterior(mean=posterior.mean[known], sd=posterior.sd[known])
        best[known] = normal.probability_best(among) * known.mean()
    return best


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
    """The variants that take calls."""
    return [variant for variant in experiment.variants if variant.live]
