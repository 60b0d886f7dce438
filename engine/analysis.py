"""One metric of an experiment, analysed: belief per arm, in the metric's own unit.

Posteriors are in the metric's own direction and are turned once so that higher is better. What asks "which
is better" uses the turned one, what shows a rate or a mean the natural one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import stdtrit

from engine.belief import Posterior, best_among, posterior_of, turned
from engine.metrics import Metric
from engine.observed import Observed
from engine.proportions import wilson_interval
from engine.results import MetricSummary, PosteriorSummary, numbers, pairs
from engine.statistics import BinaryCounts, Interval
from engine.tally import Statistics


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Arrays have shape (arm,); only running arms have a P(best).

    Attributes
    ----------
    units : Units that were assigned, with or without an outcome.
    posterior : Of the rate or mean in the metric's own direction; `better_posterior` with higher as better.
    interval : Wilson's of a rate, the t interval of a mean, `belief` the posterior's.
    """

    metric: Metric
    units: Int64[np.ndarray, " arm"]
    statistics: Statistics
    posterior: Posterior
    better_posterior: Posterior
    confidence_level: float
    interval: Interval
    belief: Interval
    probability_best: Float64[np.ndarray, " arm"]
    expected_loss: Float64[np.ndarray, " arm"]

    def summaries(self) -> list[MetricSummary]:
        """All arms in numbers."""
        mean = self.statistics.rate if isinstance(self.statistics, BinaryCounts) else self.statistics.mean
        beliefs = zip(numbers(self.posterior.mean), pairs(self.belief), strict=True)
        columns = zip(
            self.statistics.n.tolist(),
            self.units.tolist(),
            numbers(mean),
            pairs(self.interval),
            beliefs,
            numbers(self.probability_best),
            numbers(self.expected_loss),
            strict=True,
        )
        return [
            MetricSummary(
                n=n,
                missing=1.0 - n / units if units else None,
                mean=middle,
                interval=interval,
                posterior=PosteriorSummary(*belief),
                probability_best=best,
                expected_loss=loss,
            )
            for n, units, middle, interval, belief, best, loss in columns
        ]

    def summary(self, index: int) -> MetricSummary:
        """One arm in numbers."""
        return self.summaries()[index]


def analyse(metric: Metric, observed: Observed, running: np.ndarray) -> Analysis:
    """Everything about one metric that does not need a partner to compare with.

    Parameters
    ----------
    running : The arms that get units, a mask; which one is best is asked among them.
    """
    statistics = observed.tally.whole(metric)
    level = 1.0 - observed.plan.alpha
    posterior = posterior_of(metric, observed)
    better = turned(metric, posterior)
    best = best_among(running, better, asked_more=True)
    return Analysis(
        metric=metric,
        units=observed.tally.units.sum(axis=0),
        statistics=statistics,
        posterior=posterior,
        better_posterior=better,
        confidence_level=level,
        interval=_interval(statistics, level),
        belief=posterior.interval(level),
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
