"""The differences from the control on one metric, and how many outcomes stand behind each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from engine.adaptive import AipwEstimate, aipw_estimate
from engine.guardrails import SequenceOfOne
from engine.metrics import Metric
from engine.observed import Observed, Plan
from engine.statistics import BinaryCounts, Interval, Moments
from engine.tally import Statistics, where_served

# A confidence sequence is tuned to some size; without a planned one, to this.
USUAL_CALLS = 5_000
PARTS = ("n", "total", "total_sq")


@dataclass(frozen=True, slots=True, eq=False)
class Estimated:
    """Every arm minus the control, in the metric's own unit and direction.

    Attributes
    ----------
    smaller_n : Outcomes of the smaller one of arm and control while both were served, shape (arm,).
    rarest : Of a share: successes or failures of the one that has the fewest, shape (arm,); else None.
    """

    metric: Metric
    plan: Plan
    found: AipwEstimate
    smaller_n: Int64[np.ndarray, " arm"]
    rarest: Int64[np.ndarray, " arm"] | None
    # Claims, guardrails and tables ask for the same few levels; a sequence costs as much as a test.
    _sequences: dict[float, Interval] = field(default_factory=dict)
    _of_one: dict[float, list[SequenceOfOne]] = field(default_factory=dict)

    def sequence(self, *, alpha: float) -> Interval:
        """The confidence sequence that is narrowest at the planned number of units."""
        if alpha not in self._sequences:
            planned = self.plan.planned_calls or USUAL_CALLS
            self._sequences[alpha] = self.found.sequence(planned=float(planned), confidence_level=1.0 - alpha)
        return self._sequences[alpha]

    def sequence_of_one(self, index: int, *, alpha: float) -> SequenceOfOne:
        """The confidence sequence of one arm against the control, higher is better."""
        if alpha not in self._of_one:
            both, sign = self.sequence(alpha=alpha), self.metric.sign
            ends = both.lower, both.upper
            lower, upper = ends if sign > 0.0 else (-ends[1], -ends[0])
            rarest = [None] * self.smaller_n.size if self.rarest is None else self.rarest.tolist()
            columns = zip(lower.tolist(), upper.tolist(), self.smaller_n.tolist(), rarest, strict=True)
            self._of_one[alpha] = [SequenceOfOne(*row) for row in columns]
        return self._of_one[alpha][index]


def estimates_of(metrics: Sequence[Metric], observed: Observed) -> dict[str, Estimated]:
    """Differences from the control and what they rest on, by metric; all metrics take the time of one."""
    plan, served = observed.plan, observed.probability > 0.0
    statistics = [observed.tally.by_place(metric) for metric in metrics]
    # Units that had no chance have no weight; the sample ratio says that they are there.
    moments = [where_served(item, served).as_moments() for item in statistics]
    found = aipw_estimate(
        Moments.derived(*(np.array([getattr(item, part) for item in moments]) for part in PARTS)),
        observed.probability,
        control=plan.control,
        in_unit_interval=[metric.kind != "amount" for metric in metrics],
    )
    together = served & served[:, [plan.control]]
    return {
        metric.name: Estimated(
            metric,
            plan,
            AipwEstimate(found.estimate[index], found.standard_error[index], found.n[index]),
            *_behind(statistics[index], together, plan.control),
        )
        for index, metric in enumerate(metrics)
    }


def _behind(
    statistics: Statistics, together: np.ndarray, control: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Outcomes of the smaller one of arm and control, and of a share those of the rarest kind."""
    n = _both(statistics.n, together, control)
    if not isinstance(statistics, BinaryCounts):
        return n.min(axis=0), None
    good = _both(statistics.successes, together, control)
    return n.min(axis=0), np.minimum(good, n - good).min(axis=0)


def _both(counts: np.ndarray, together: np.ndarray, control: int) -> np.ndarray:
    """Of each arm and of the control beside it, shape (2, arm), while both were served."""
    return np.asarray(np.array((counts * together, counts[:, [control]] * together)).sum(axis=1))
