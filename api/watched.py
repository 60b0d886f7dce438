"""How the experiments that run stand, as gauges that are made when Prometheus asks.

Made anew each time from what is known, so an experiment that ended is not there any more.
"""

import datetime as dt
import math
from collections.abc import Iterable, Sequence

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from domain.fields import BASIS_POINTS, Record
from domain.snapshot import RunningExperiment, Snapshot
from domain.standings import Judgement, Verification

_ONE = ("experiment",)
_EACH = ("experiment", "variant")
# Every gauge: its labels, and what it says.
GAUGES: dict[str, tuple[tuple[str, ...], str]] = {
    "split_share": (_EACH, "Share of new calls"),
    "allocation_age_seconds": (_ONE, "How long the split has stood still"),
    "split_moves": (_ONE, "1 where the policy moves the split, 0 where it is fixed"),
    "standing_timestamp_seconds": (_ONE, "When the experiment was judged last; the following are of then"),
    "probability_best": (_EACH, "Belief that the variant is the best on the goal"),
    "e_value": (_EACH, "Evidence that the variant differs from the control on the goal"),
    "e_value_needed": (_EACH, "Evidence that a claim needs"),
    "matured_calls": (_EACH, "Calls that are old enough to be judged"),
    "missing_calls": (_EACH, "Matured calls without an outcome of the goal"),
    "missing_share": (_EACH, "Their share of the matured calls"),
    "sample_ratio_e_value": (_ONE, "Evidence that the split that was promised is not the one that arrived"),
    "sample_ratio_mismatch": (_ONE, "1 where that evidence has ever passed 1 000"),
    "verify_ok": ((), "Whether counts equalled outcomes when they were verified last"),
    "verify_timestamp_seconds": ((), "When counts were verified last"),
}

Sample = tuple[str, tuple[str, ...], float | None]


class Noted(Record, frozen=True, kw_only=True):
    """The newest rows of `standings` and `verifications`."""

    judgements: tuple[Judgement, ...] = ()
    verification: Verification | None = None


class Watched:
    """A collector of prometheus_client.

    Parameters
    ----------
    snapshot : what is served; None until the database answered for the first time.
    """

    def __init__(self, snapshot: Snapshot | None, noted: Noted, now: dt.datetime) -> None:
        self._snapshot = snapshot
        self._noted = noted
        self._now = now

    def collect(self) -> Iterable[Metric]:
        """All gauges that have something to say."""
        families = {
            name: GaugeMetricFamily(f"promptbandit_{name}", told, labels=labels)
            for name, (labels, told) in GAUGES.items()
        }
        for name, labels, value in self._samples():
            if value is not None:
                families[name].add_metric(labels, value)
        return [family for family in families.values() if family.samples]

    def _samples(self) -> list[Sample]:
        states = self._snapshot.prompts.values() if self._snapshot else ()
        running = [state.experiment for state in states if state.experiment]
        keys = {experiment.key for experiment in running}
        found = [sample for experiment in running for sample in _splits(experiment, self._now)]
        for judgement in self._noted.judgements:
            if judgement.experiment in keys:
                found += _standings(judgement)
        last = self._noted.verification
        if last is not None:
            found.append(("verify_ok", (), 0.0 if last.differences else 1.0))
            found.append(("verify_timestamp_seconds", (), last.at.timestamp()))
        return found


def _splits(experiment: RunningExperiment, now: dt.datetime) -> Sequence[Sample]:
    age_s = (now - experiment.served_since).total_seconds()
    return [
        ("allocation_age_seconds", (experiment.key,), age_s),
        *(
            ("split_share", (experiment.key, variant.key), variant.share_bp / BASIS_POINTS)
            for variant in experiment.variants
        ),
    ]


def _standings(judgement: Judgement) -> Sequence[Sample]:
    one = (judgement.experiment,)
    ratio = judgement.sample_ratio_e_value
    found: list[Sample] = [
        ("split_moves", one, float(judgement.policy != "fixed")),
        ("standing_timestamp_seconds", one, judgement.at.timestamp()),
        ("sample_ratio_e_value", one, math.inf if ratio is None else ratio),
        ("sample_ratio_mismatch", one, float(judgement.sample_ratio_mismatch)),
    ]
    for item in judgement.standings:
        each = (judgement.experiment, item.variant)
        found += [
            ("probability_best", each, item.probability_best),
            ("e_value", each, item.e_value),
            ("e_value_needed", each, item.e_needed),
            ("matured_calls", each, float(item.matured)),
            ("missing_calls", each, float(item.matured - item.told)),
            ("missing_share", each, item.missing),
        ]
    return found
