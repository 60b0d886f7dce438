"""What a study found: one frozen value that can be asked by metric and arm, printed, and turned into data.

It holds the numbers of the HTTP report, unrounded; only what is printed is rounded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.arm_findings import ArmFindings
from engine.conclusion import Conclusion, conclude
from engine.counts import Counts, observed_of
from engine.decision import Recommendation
from engine.evidence import Reading
from engine.metrics import Metric
from engine.observed import Observed, Plan
from engine.prose import explained
from engine.results import Comparison, GuardrailSummary, MetricSummary, SampleRatio
from engine.rows import long_rows
from engine.shown import as_html, as_text


@dataclass(frozen=True, slots=True, eq=False)
class MetricFindings:
    """One metric: `found["v2"]` is one arm. The arms are in the order of the experiment's."""

    metric: Metric
    findings: "Findings"

    @property
    def arms(self) -> dict[str, ArmFindings]:
        """All arms by name."""
        return {arm: self[arm] for arm in self.findings.plan.arms}

    def __getitem__(self, arm: str) -> ArmFindings:
        plan = self.findings.plan
        if arm not in plan.arms:
            raise KeyError(f"{arm!r} is no arm; there are {', '.join(plan.arms)}")
        index = plan.arms.index(arm)
        return ArmFindings(
            arm=arm,
            is_control=index == plan.control,
            summary=self.findings.conclusion.analyses[self.metric.name].summary(index),
            comparison=self.findings.comparison(self.metric.name, arm),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.findings.plan.arms)

    def to_dict(self) -> dict[str, Any]:
        """Everything about this metric, ready for JSON."""
        whole = self.findings.to_dict()
        for variant in whole["variants"]:
            variant["metrics"] = {self.metric.name: variant["metrics"][self.metric.name]}
        for part in ("comparisons", "guardrails"):
            whole[part] = [item for item in whole[part] if item["metric"] == self.metric.name]
        return whole

    def to_polars(self) -> Any:
        """A long polars frame, one row per arm and segment; see `Findings.to_polars`."""
        return self.findings.to_polars().filter(metric=self.metric.name)

    def explain(self) -> str:
        """What is known, in sentences."""
        return explained(self.findings.conclusion, (self.metric,))

    def plot(self, kind: str = "lift", *, theme: str = "light", unit: str | None = None) -> Any:
        """An Altair chart whose numbers are those of this result; needs the extra `science`.

        Parameters
        ----------
        kind : "lift" (belief beside evidence), "posteriors", "segments" (a forest), "rates" (so far), "split" (and
            P(best) over time), "sample_ratio", "e_value" (against what a claim needs).
        theme : "light" or "dark".
        unit : Of the metric, where neither its kind nor its name tells it.

        Raises
        ------
        ValueError
            Another kind or theme, or a result that does not hold what the picture shows; the message says why.
        ExtraMissing
            Altair is not installed.
        """
        from engine.pictures import picture

        return picture(self, kind, theme=theme, unit=unit)

    def __str__(self) -> str:
        return as_text(self.findings.conclusion, (self.metric,))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return as_html(self.findings.conclusion, (self.metric,))


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """All metrics: `found["resolved"]["v2"]` is one arm on one metric.

    Attributes
    ----------
    conclusion : All that is concluded; the properties below say it in parts.
    counts : What it was computed from.
    observed : The same as arrays.
    days_left, ended : As told to the study.
    readings : The always-valid tests now and then, where units were read in their order.
    """

    conclusion: Conclusion
    observed: Observed
    counts: Counts
    days_left: float
    ended: bool
    readings: tuple[Reading, ...] = ()

    @property
    def plan(self) -> Plan:
        """Arms, metrics and levels."""
        return self.conclusion.plan

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What was measured."""
        return self.plan.metrics

    @property
    def sample_ratio(self) -> SampleRatio:
        """Whether the split that was served is the one that arrived."""
        return self.conclusion.sample_ratio

    @property
    def guardrails(self) -> tuple[GuardrailSummary, ...]:
        """What may not get worse."""
        return self.conclusion.guardrails

    @property
    def recommendation(self) -> Recommendation:
        """What to do, why, and what is still needed."""
        return self.conclusion.recommendation

    def __getitem__(self, metric: str) -> MetricFindings:
        found = next((item for item in self.metrics if item.name == metric), None)
        if found is None:
            names = ", ".join(item.name for item in self.metrics)
            raise KeyError(f"{metric!r} is no metric of this study; there are {names}")
        return MetricFindings(found, self)

    def __iter__(self) -> Iterator[str]:
        return iter(metric.name for metric in self.metrics)

    def comparison(self, metric: str, arm: str) -> Comparison | None:
        """This arm against the control; None for the control itself."""
        found = (item for item in self.conclusion.comparisons if (item.metric, item.variant) == (metric, arm))
        return next(found, None)

    def segments(self) -> dict[str, "Findings"]:
        """The same for the units of each segment alone, "" where it was unknown.

        For exploring: nothing is adjusted for the number of segments, and small ones scatter.
        """
        return {
            segment: findings_of(
                self.plan,
                self.counts.of_segment(segment),
                priors=self.observed.priors,
                days_left=self.days_left,
                ended=self.ended,
            )
            for segment in self.counts.segments
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: the parts of the HTTP report that need nothing but counts."""
        conclusion, plan = self.conclusion, self.plan
        by_metric = {name: item.summaries() for name, item in conclusion.analyses.items()}
        units = self.observed.tally.units.sum(axis=0).tolist()
        return {
            "goal": plan.goal,
            "control": plan.arms[plan.control],
            "alpha": plan.alpha,
            "variants": [self._variant(index, units[index], by_metric) for index in range(len(plan.arms))],
            "comparisons": [_plain(item) for item in conclusion.comparisons],
            "sample_ratio": _plain(conclusion.sample_ratio),
            "guardrails": [_plain(item) for item in conclusion.guardrails],
            "recommendation": _plain(conclusion.recommendation),
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row per arm, metric and segment; segment None is all units together."""
        found = long_rows(self.conclusion, None)
        segments = self.segments() if len(self.counts.segments) > 1 else {}
        for segment, part in segments.items():
            found += long_rows(part.conclusion, segment)
        return found

    def to_polars(self) -> Any:
        """The rows as a long polars frame: one per arm, metric and segment (null: all units together)."""
        from engine.frames import polars_frame

        return polars_frame(self.rows())

    def explain(self) -> str:
        """What is known and what to do, in sentences."""
        return explained(self.conclusion, self.metrics)

    def plot(self, kind: str = "lift", *, theme: str = "light", unit: str | None = None) -> Any:
        """A picture of the goal; see `MetricFindings.plot`."""
        return self[self.plan.goal].plot(kind, theme=theme, unit=unit)

    def __str__(self) -> str:
        return as_text(self.conclusion, self.metrics)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return as_html(self.conclusion, self.metrics)

    def _variant(
        self, index: int, units: int, by_metric: Mapping[str, Sequence[MetricSummary]]
    ) -> dict[str, Any]:
        plan = self.plan
        summaries = {name: items[index] for name, items in by_metric.items()}
        arm, goal, is_live = plan.arms[index], summaries[plan.goal], bool(plan.live[index])
        claim = self.conclusion.claims.get(arm)
        return {
            "key": arm,
            "is_control": index == plan.control,
            "live": is_live,
            "paused": is_live and claim is not None and claim.is_out,
            "units": units,
            "missing": goal.missing,
            "metrics": {name: _plain(summary) for name, summary in summaries.items()},
            "probability_best": goal.probability_best,
            "expected_loss": goal.expected_loss,
        }


def findings_of(
    plan: Plan,
    counts: Counts,
    *,
    priors: np.ndarray | None = None,
    readings: tuple[Reading, ...] = (),
    days_left: float = 0.0,
    ended: bool = False,
) -> Findings:
    """What these counts say."""
    observed = observed_of(counts, plan, priors=priors, tests=readings[-1].tests if readings else None)
    conclusion = conclude(observed, days_left=days_left, ended=ended)
    return Findings(conclusion, observed, counts, days_left, ended, readings)


def _plain(value: Any) -> Any:
    """Records as dictionaries, tuples as lists."""
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind is tuple or kind is list:
        return [item if type(item) in _LEAVES else _plain(item) for item in value]
    fields = value if kind is dict else {name: getattr(value, name) for name in value.__match_args__}
    # Leaves are taken here and not by one more call: there are a thousand of them.
    return {name: item if type(item) in _LEAVES else _plain(item) for name, item in fields.items()}


# Asked by type, and records by `__match_args__`: `dataclasses.asdict` took a quarter of a report's time.
_LEAVES = frozenset({float, int, str, bool, type(None)})
