"""Belief about each arm: posteriors by period, and which arm is the best."""

import numpy as np

from engine import beta_comparison, normal, periods
from engine.beta_binomial import BestArm, BetaPosterior
from engine.metrics import Metric
from engine.normal import NormalPosterior
from engine.observed import Observed
from engine.statistics import BinaryCounts, Moments
from engine.tally import Statistics, summed

Posterior = BetaPosterior | NormalPosterior
UNIFORM = 1.0  # Beta(1, 1)


def posterior_of(metric: Metric, observed: Observed) -> Posterior:
    """Posterior of every arm's rate or mean, in the metric's own unit and direction.

    Under a split that moved it is stratified by period; otherwise it is the plain one.
    """
    control = observed.plan.control
    by_period = _by_period(observed.tally.by_place(metric), observed.period)
    present = _any_by_period(observed.probability > 0.0, observed.period)
    if isinstance(by_period, BinaryCounts):
        return periods.beta_posterior(by_period, present, control=control, prior=_prior(metric, observed))
    return periods.normal_posterior(by_period, present, control=control)


def steering_posterior(observed: Observed, *, half_life: float | int | None) -> Posterior:
    """The goal's posterior that moves the split: with a half-life in outcomes, old ones fade."""
    goal = observed.plan.goal_metric
    if half_life is None:
        return posterior_of(goal, observed)
    by_allocation = observed.tally.by_place(goal)
    if isinstance(by_allocation, BinaryCounts):
        prior = _prior(goal, observed)
        return periods.discounted_beta(by_allocation, half_life=half_life, prior=prior)
    return periods.discounted_normal(by_allocation, half_life=half_life)


def turned(metric: Metric, posterior: Posterior) -> Posterior:
    """The same posterior so that higher is better."""
    if metric.direction == "increase":
        return posterior
    if isinstance(posterior, BetaPosterior):
        return BetaPosterior(posterior.beta, posterior.alpha)
    return NormalPosterior(-posterior.mean, posterior.sd)


def best_among(wanted: np.ndarray, posterior: Posterior, *, asked_more: bool = False) -> BestArm:
    """Which of the wanted arms, a mask, is the best; nan for the others.

    A mean without data has no posterior: it is left out, so that a new arm does not hide what is known of the
    others.

    Parameters
    ----------
    posterior : With higher as better.
    asked_more : Whether it will be asked about arms and the control as well: then its lattice pays.
    """
    best = np.full(wanted.shape, np.nan)
    loss = np.full(wanted.shape, np.nan)
    if isinstance(posterior, BetaPosterior):
        if wanted.any():
            lattice = posterior.lattice if asked_more else None
            among = beta_comparison.best_arm(
                posterior.alpha[wanted], posterior.beta[wanted], lattice and lattice.of(wanted)
            )
            best[wanted], loss[wanted] = among.probability, among.loss
        return BestArm(best, loss)
    known = wanted & np.isfinite(posterior.sd)
    if known.sum() >= min(2, wanted.sum()) and known.any():  # alone among unknown ones nobody is the best
        means = NormalPosterior(mean=posterior.mean[known], sd=posterior.sd[known])
        found = normal.best_arm(means)
        best[known], loss[known] = found.probability, found.expected_loss
    return BestArm(best, loss)


def _prior(metric: Metric, observed: Observed) -> tuple[np.ndarray, np.ndarray]:
    if metric.name == observed.plan.goal:
        return observed.priors[:, 0], observed.priors[:, 1]
    even = np.full(len(observed.plan.arms), UNIFORM)
    return even, even


def _by_period(statistics: Statistics, period: np.ndarray) -> Statistics:
    places = int(period[-1]) + 1
    if places == period.size:
        return statistics
    if isinstance(statistics, BinaryCounts):
        return BinaryCounts(
            n=summed(statistics.n, period, places), successes=summed(statistics.successes, period, places)
        )
    return Moments(
        n=summed(statistics.n, period, places),
        total=summed(statistics.total, period, places),
        total_sq=summed(statistics.total_sq, period, places),
    )


def _any_by_period(served: np.ndarray, period: np.ndarray) -> np.ndarray:
    places = int(period[-1]) + 1
    if places == period.size:
        return served
    out = np.zeros((places, served.shape[1]), dtype=bool)
    np.logical_or.at(out, period, served)
    return out
