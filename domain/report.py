"""The report: what is known about an experiment, belief and evidence side by side."""

import datetime as dt
from typing import Any

from domain.fields import Record

Pair = tuple[float | None, float | None]


class PosteriorSummary(Record, frozen=True, kw_only=True):
    """Belief about a variant's rate or mean: mean and equal-tailed interval."""

    mean: float | None
    interval: Pair


class MetricSummary(Record, frozen=True, kw_only=True):
    """One metric of one variant, in the metric's unit; the interval is Wilson's or the t-interval."""

    n: int
    mean: float | None
    interval: Pair
    posterior: PosteriorSummary


class VariantReport(Record, frozen=True, kw_only=True):
    """One variant: its calls, its share of new calls, its metrics."""

    key: str
    version_id: int | None
    live: bool
    is_control: bool
    assigned: int
    share: float
    missing: float | None
    metrics: dict[str, MetricSummary]
    probability_best: float | None
    expected_loss: float | None


class TestSummary(Record, frozen=True, kw_only=True):
    """A fixed-sample test of variant minus control; valid at one look, at the planned sample size."""

    estimate: float | None
    interval: Pair
    statistic: float | None
    p_value: float | None
    p_value_adjusted: float | None
    log10_p: float | None
    method: str
    small_counts: bool = False


class Lift(Record, frozen=True, kw_only=True):
    """Belief about the difference: posterior mean (median for the relative one) and interval."""

    mean: float | None
    interval: Pair
    median: float | None = None


class BayesSummary(Record, frozen=True, kw_only=True):
    """Belief about variant against control; the direction of the metric is taken into account."""

    probability_better: float | None
    lift: Lift
    relative_lift: Lift
    expected_loss: float | None


class SeedRule(Record, frozen=True, kw_only=True):
    """What "n >= 10 and p < 0.05 at any look" says; shown for comparison, nothing acts on it."""

    declares_winner: bool
    warning: str


class Comparison(Record, frozen=True, kw_only=True):
    """One variant against the control on one metric.

    `always_valid` and `adaptive` are null until the engine has the tests that fill them.
    """

    variant: str
    control: str
    metric: str
    role: str
    n: dict[str, int]
    z_test: TestSummary | None
    welch_test: TestSummary | None
    always_valid: dict[str, Any] | None
    bayes: BayesSummary
    adaptive: dict[str, Any] | None
    seed_rule: SeedRule | None


class Planned(Record, frozen=True, kw_only=True):
    """What was planned when the experiment started."""

    sample_size_per_variant: int | None
    alpha: float
    alpha_per_comparison: float
    power: float
    baseline: float
    minimum_detectable_effect: float
    min_days: float
    formula: str


class RecommendationReport(Record, frozen=True, kw_only=True):
    """What to do, why, and what is still missing."""

    action: str
    variant: str | None
    because: tuple[str, ...]
    still_needed: tuple[str, ...]


class CallsSummary(Record, frozen=True, kw_only=True):
    """The three numbers a manager asks for first."""

    resolved_share: float | None
    quality_mean: float | None
    duration_mean_s: float | None


class Report(Record, frozen=True, kw_only=True):
    """`GET /experiments/{key}/report`. `sample_ratio` is null until the engine has its test."""

    experiment: str
    prompt: str
    status: str
    as_of: dt.datetime
    policy: str
    goal: str
    planned: Planned
    variants: tuple[VariantReport, ...]
    comparisons: tuple[Comparison, ...]
    sample_ratio: dict[str, Any] | None
    guardrails: tuple[dict[str, Any], ...]
    calls: dict[str, CallsSummary]
    recommendation: RecommendationReport
