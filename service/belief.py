"""Belief about each variant: posteriors by period, and which variant is the best."""

from dataclasses import dataclass

import numpy as np

from domain.experiments import Variant
from domain.metrics import Metric
from engine import beta_binomial, normal, periods
from engine.beta_binomial import BetaPosterior
from engine.normal import NormalPosterior
from engine.statistics import BinaryCounts, Moments
from service.known import Known
from service.statistics import Statistics

Posterior = BetaPosterior | NormalPosterior
UNIFORM = 1.0  # Beta(1, 1)


def posterior_of(metric: Metric, known: Known) -> Posterior:
    """Posterior of every variant's rate or mean, in the metric's own unit and direction.

    Under a split that moved it is stratified by period; otherwise it is the plain one.
    """
    by_period = _by_period(known.tally.by_place(metric), known.periods)
    present = _any_by_period(known.probability > 0.0, known.periods)
    if isinstance(by_period, BinaryCounts):
        return periods.beta_posterior(by_period, present, control=known.control, prior=_prior(metric, known))
    return periods.normal_posterior(by_period, present, control=known.control)


def steering_posterior(known: Known) -> Posterior:
    """The goal's posterior that moves the split: with the policy's half-life, old calls fade."""
    experiment = known.experiment
    half_life = experiment.policy.half_life_calls
    if half_life is None:
        return posterior_of(experiment.goal_metric, known)
    by_allocation = known.tally.by_place(experiment.goal_metric)
    if isinstance(by_allocation, BinaryCounts):
        prior = _prior(experiment.goal_metric, known)
        return periods.discounted_beta(by_allocation, half_life=half_life, prior=prior)
    return periods.discounted_normal(by_allocation, half_life=half_life)


def turned(metric: Metric, posterior: Posterior) -> Posterior:
    """The same posterior so that higher is better."""
    if metric.direction == "increase":
        return posterior
    if isinstance(posterior, BetaPosterior):
        return BetaPosterior(posterior.beta, posterior.alpha)
    return NormalPosterior(-posterior.mean, posterior.sd)


@dataclass(frozen=True, slots=True, eq=False)
class BestArm:
    """P(best) and expected loss, shape (variant,), nan for variants that were left out."""

    probability: np.ndarray
    expected_loss: np.ndarray


def best_among(wanted: np.ndarray, posterior: Posterior) -> BestArm:
    """Which of the wanted variants, a mask, is the best; `posterior` with higher as better.

    A mean without data has no posterior: it is left out, so that a new variant does not hide what is known
    of the others.
    """
    best = np.full(wanted.shape, np.nan)
    loss = np.full(wanted.shape, np.nan)
    if isinstance(posterior, BetaPosterior):
        if wanted.any():
            among = BetaPosterior(posterior.alpha[wanted], posterior.beta[wanted])
            found = beta_binomial.best_arm(among)
            best[wanted], loss[wanted] = found.probability, found.expected_loss
        return BestArm(best, loss)
    known = wanted & np.isfinite(posterior.sd)
    if known.sum() >= min(2, wanted.sum()) and known.any():  # alone among unknown ones nobody is the best
        means = NormalPosterior(mean=posterior.mean[known], sd=posterior.sd[known])
        best[known] = normal.probability_best(means)
        loss[known] = normal.expected_loss(means)
    return BestArm(best, loss)


def _prior(metric: Metric, known: Known) -> tuple[np.ndarray, np.ndarray]:
    variants = known.experiment.variants
    is_goal = metric.name == known.experiment.goal
    shapes = [_shapes(variant, known) if is_goal else (UNIFORM, UNIFORM) for variant in variants]
    return np.array([alpha for alpha, _ in shapes]), np.array([beta for _, beta in shapes])


def _shapes(variant: Variant, known: Known) -> tuple[float, float]:
    prior = known.priors.get(variant.key)
    return prior.shapes if prior else (UNIFORM, UNIFORM)


def _by_period(statistics: Statistics, period: np.ndarray) -> Statistics:
    def summed(values: np.ndarray) -> np.ndarray:
        out = np.zeros((int(period[-1]) + 1, values.shape[1]), dtype=values.dtype)
        np.add.at(out, period, values)
        return out

    if isinstance(statistics, BinaryCounts):
        return BinaryCounts(n=summed(statistics.n), successes=summed(statistics.successes))
    return Moments(
        n=summed(statistics.n), total=summed(statistics.total), total_sq=summed(statistics.total_sq)
    )


def _any_by_period(served: np.ndarray, period: np.ndarray) -> np.ndarray:
    out = np.zeros((int(period[-1]) + 1, served.shape[1]), dtype=bool)
    np.logical_or.at(out, period, served)
    return out
