"""One metric of an experiment, analysed: belief per variant, in the metric's own unit.

Statistics enter as they were measured and are turned once so that higher is better. What asks "which
is better" uses the turned ones, what shows a rate or a mean the natural ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from domain.experiments import Experiment, Variant
from domain.metrics import Metric
from domain.report import MetricSummary, Pair, PosteriorSummary
from engine import beta_binomial, normal
from engine.beta_binomial import BetaPosterior
from engine.normal import NormalPosterior
from engine.proportions import wilson_interval
from engine.statistics import BinaryCounts, Interval, Moments
from service.evidence import Statistics, higher_is_better, statistics_of
from service.split import UNIFORM_PRIOR
from storage.counts import CountRow

Posterior = BetaPosterior | NormalPosterior


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Arrays have shape (variant,), in the order of the experiment's variants; retired ones have no P(best)."""

    metric: Metric
    statistics: Statistics
    better: Statistics
    posterior: Posterior
    better_posterior: Posterior
    confidence_level: float
    interval: Interval
    probability_best: np.ndarray
    expected_loss: np.ndarray

    def summary(self, index: int) -> MetricSummary:
        """One variant in numbers for the report."""
        belief = self.posterior.interval(self.confidence_level)
        mean = self.statistics.rate if isinstance(self.statistics, BinaryCounts) else self.statistics.mean
        return MetricSummary(
            n=int(self.statistics.n[index]),
            mean=number(mean[index]),
            interval=pair(self.interval, index),
            posterior=PosteriorSummary(mean=number(self.posterior.mean[index]), interval=pair(belief, index)),
        )


def analyse(
    metric: Metric, variants: Sequence[Variant], rows: Sequence[CountRow], experiment: Experiment
) -> Analysis:
    """Everything about one metric that does not need a partner to compare with."""
    statistics = statistics_of(metric, variants, rows)
    better = higher_is_better(metric, statistics)
    level = 1.0 - experiment.alpha
    live = np.array([variant.live for variant in variants])
    best, loss = _among(live, posterior_of(_only(better, live)))
    return Analysis(
        metric=metric,
        statistics=statistics,
        better=better,
        posterior=posterior_of(statistics),
        better_posterior=posterior_of(better),
        confidence_level=level,
        interval=_interval(statistics, level),
        probability_best=best,
        expected_loss=loss,
    )


def posterior_of(statistics: Statistics) -> Posterior:
    """Beta(1, 1) updated with counts, or the normal posterior of a mean under a flat prior."""
    if isinstance(statistics, BinaryCounts):
        return BetaPosterior.from_counts(statistics, UNIFORM_PRIOR)
    return NormalPosterior.from_moments(statistics)


def _only(statistics: Statistics, live: np.ndarray) -> Statistics:
    if isinstance(statistics, BinaryCounts):
        return BinaryCounts(n=statistics.n[live], successes=statistics.successes[live])
    return Moments(n=statistics.n[live], total=statistics.total[live], total_sq=statistics.total_sq[live])


def _among(live: np.ndarray, posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """P(best) and expected loss of the live variants among each other; nan for the others.

    A mean without data has no posterior: it is left out, so that a new variant does not hide what is known
    of the others.
    """
    best = np.full(live.shape, np.nan)
    loss = np.full(live.shape, np.nan)
    if isinstance(posterior, BetaPosterior):
        best[live] = beta_binomial.probability_best(posterior)
        loss[live] = beta_binomial.expected_loss(posterior)
        return best, loss
    known = np.isfinite(posterior.sd)
    if known.sum() >= 2:  # alone among unknown ones nobody is the best
        at = np.flatnonzero(live)[known]
        among = NormalPosterior(mean=posterior.mean[known], sd=posterior.sd[known])
        best[at] = normal.probability_best(among)
        loss[at] = normal.expected_loss(among)
    return best, loss


def _interval(statistics: Statistics, level: float) -> Interval:
    if isinstance(statistics, BinaryCounts):
        return wilson_interval(statistics, confidence_level=level)
    degrees = np.maximum(statistics.n - 1, 1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(statistics.variance / statistics.n)
    half = stdtrit(degrees, (1.0 + level) / 2.0) * error
    return Interval(lower=statistics.mean - half, upper=statistics.mean + half)


def number(value: float | np.floating) -> float | None:
    """A JSON number; null for what is unknown (nan) or unbounded (inf)."""
    plain = float(value)
    return plain if math.isfinite(plain) else None


def pair(interval: Interval, index: int) -> Pair:
    """Both ends of an interval as JSON."""
    return number(interval.lower[index]), number(interval.upper[index])
