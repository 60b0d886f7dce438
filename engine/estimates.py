"""The differences from the control on one metric, and how many outcomes stand behind each."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from engine.adaptive import AipwEstimate, aipw_estimate
from engine.guardrails import SequenceOfOne
from engine.metrics import Metric
from engine.observed import Observed, Plan
from engine.statistics import BinaryCounts, Interval
from engine.tally import where_served

# A confidence sequence is tuned to some size; without a planned one, to this.
USUAL_CALLS = 5_000


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

    def sequence(self, *, alpha: float) -> Interval:
        """The confidence sequence that is narrowest at the planned number of units."""
        if alpha not in self._sequences:
            planned = self.plan.planned_calls or USUAL_CALLS
            self._sequences[alpha] = self.found.sequence(planned=float(planned), confidence_level=1.0 - alpha)
        return self._sequences[alpha]

    def sequence_of_one(self, index: int, *, alpha: float) -> SequenceOfOne:
        """The confidence sequence of one arm against the control, higher is better."""
        both, sign = self.sequence(alpha=alpha), self.metric.sign
        lower, upper = sorted((sign * float(both.lower[index]), sign * float(both.upper[index])))
        return SequenceOfOne(
            lower=lower,
            upper=upper,
            smaller_n=int(self.smaller_n[index]),
            rarest=None if self.rarest is None else int(self.rarest[index]),
        )


def estimate(metric: Metric, observed: Observed) -> Estimated:
    """Differences from the control, and what they rest on."""
    control, served = observed.plan.control, observed.probability > 0.0
    statistics = observed.tally.by_place(metric)
    found = aipw_estimate(
        # Units that had no chance have no weight; the sample ratio says that they are there.
        where_served(statistics, served),
        observed.probability,
        control=control,
        in_unit_interval=metric.kind != "amount",
    )
    together = served & served[:, [control]]
    n = _both(statistics.n, together, control)
    rarest = None
    if isinstance(statistics, BinaryCounts):
        good = _both(statistics.successes, together, control)
        rarest = np.minimum(good, n - good).min(axis=0)
    return Estimated(metric, observed.plan, found, n.min(axis=0), rarest)


def _both(counts: np.ndarray, together: np.ndarray, control: int) -> np.ndarray:
    """Of each arm and of the control beside it, shape (2, arm), while both were served."""
    return np.stack([(counts * together).sum(axis=0), (counts[:, [control]] * together).sum(axis=0)])
