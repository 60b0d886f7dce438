"""One metric of an experiment, analysed: belief per variant, in the metric's own unit.

Posteriors are in the metric's own direction and are turned once so that higher is better. What asks "which
is better" uses the turned one, what shows a rate or a mean the natural one.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from domain.metrics import Metric
from domain.report import MetricSummary, Pair, PosteriorSummary
from engine.proportions import wilson_interval
from engine.statistics import BinaryCounts, Interval
from service.belief import Posterior, best_among, posterior_of, turned
from service.known import Known
from service.statistics import Statistics


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Arrays have shape (variant,), in the order of the experiment's variants; only running ones have a P(best)."""

    metric: Metric
    statistics: Statistics
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


def analyse(metric: Metric, known: Known, running: np.ndarray) -> Analysis:
    """Everything about one metric that does not need a partner to compare with.

    Parameters
    ----------
    running : the variants that get calls, a mask; which one is best is asked among them.
    """
    statistics = known.tally.whole(metric)
    level = 1.0 - known.experiment.alpha
    posterior = posterior_of(metric, known)
    better = turned(metric, posterior)
    best = best_among(running, better)
    return Analysis(
        metric=metric,
        statistics=statistics,
        posterior=posterior,
        better_posterior=better,
        confidence_level=level,
        interval=_interval(statistics, level),
        probability_best=best.probability,
        expected_loss=best.expected_loss,
    )


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
