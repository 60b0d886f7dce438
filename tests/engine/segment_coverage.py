"""How often intervals of segments cover the truth, by simulation.

`python -m tests.engine.segment_coverage` writes the shares as JSON. It is a process of its own because under
pytest the shape of every array is checked, four times as slow; the numbers are the same.
"""

import json
import sys

import numpy as np

from engine.hierarchical import fit_segments, prior_predictive
from engine.statistics import BinaryCounts, Moments


def covered(interval, truth):
    return (interval.lower <= truth) & (truth <= interval.upper)


def over_the_prior(worlds=40):
    """Worlds of 6 segments from 0 to 80 calls, drawn from the prior."""
    rng = np.random.default_rng(11)
    n = np.array([[0, 80], [3, 40], [10, 10], [20, 3], [40, 0], [80, 20]])
    drawn = prior_predictive(n, draws=worlds, rng=rng)
    found = {name: [] for name in ("rates", "lifts", "means", "spreads", "together")}
    for i in range(worlds):
        fit = fit_segments(BinaryCounts(n, drawn.counts.successes[i]), control=0)
        truth = drawn.rates[i]
        found["rates"].append(covered(fit.segments.interval, truth))
        found["lifts"].append(covered(fit.segments.lift_interval, truth - truth[:, :1])[:, 1])
        found["means"].append(covered(fit.population.mean_interval, drawn.mean[i]))
        found["spreads"].append(covered(fit.population.concentration_interval, drawn.concentration[i]))
        found["together"].append(covered(fit.overall.interval, fit.weights @ truth))
    return {name: float(np.mean(shares)) for name, shares in found.items()}


def of_scores(worlds=25):
    """Scores from Beta distributions around each segment's mean, whose variance follows m (1 - m) / 9."""
    rng = np.random.default_rng(12)
    found = []
    for _ in range(worlds):
        truth = rng.beta(6.0, 4.0, 8)
        scores = rng.beta(8.0 * truth[:, None], 8.0 * (1.0 - truth[:, None]), (8, 15))
        moments = Moments(np.full((8, 1), 15), scores.sum(axis=1)[:, None], (scores**2).sum(axis=1)[:, None])
        found.append(covered(fit_segments(moments, control=0).segments.interval, truth[:, None]))
    return float(np.mean(found))


if __name__ == "__main__":
    sys.stdout.write(json.dumps({**over_the_prior(), "scores": of_scores()}))
