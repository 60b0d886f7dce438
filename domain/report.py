"""The report: what is known about an experiment, belief and evidence side by side."""

import datetime as dt

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
    """One variant: its calls, its share of new calls, its metrics.

    `missing` is the share of matured calls without an outcome of the goal; `paused` says that it is proven
    worse or harmful and gets no more calls. `prior` is what was believed before its first call: successes
    and failures of a binary goal.
    """

    key: str
    version_id: int | None
    live: bool
    is_control: bool
    assigned: int
    share: float
    missing: float | None
    missing_differs: bool
    paused: bool
    prior: tuple[float, float] | None
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


class AlwaysValid(Record, frozen=True, kw_only=True):
    """The test that may be looked at as often as one likes, under any split that moves.

    `e_value` is the two-sided evidence now, `p_value` 1 / the largest so far; both are null for an amount.
    `p_value_adjusted` is for the number of variants on the goal, and for the false discovery rate over all
    comparisons on the other metrics. `n` counts the units read. The interval is a confidence sequence of
    variant minus control, on the goal at alpha over the number of variants; null while the normal
    approximation does not hold, and `reason` says why.
    """

    e_value: float | None = None
    log_e_value: float | None = None
    p_value: float | None = None
    p_value_adjusted: float | None = None
    interval: Pair = (None, None)
    n: int | None = None
    reason: str | None = None


class SegmentAdjusted(Record, frozen=True, kw_only=True):
    """The difference with the segments held equal.

    `variance_explained` is the share of the outcome's variance that lies between segments; `gain` the
    variance of the plain difference over that of this one.
    """

    estimate: float | None
    standard_error: float | None
    interval: Pair
    variance_explained: float | None
    gain: float | None


class Adaptive(Record, frozen=True, kw_only=True):
    """The difference weighed by the logged probabilities: right after any bandit; valid at one look."""

    estimate: float | None
    standard_error: float | None
    interval: Pair
    n: int
    segment_adjusted: SegmentAdjusted | None


class Comparison(Record, frozen=True, kw_only=True):
    """One variant against the control on one metric: evidence beside belief.

    `z_test` and `welch_test` are valid at one look at the planned size under a split that stood still,
    `always_valid` at every look under any split; `bayes` is belief.
    """

    variant: str
    control: str
    metric: str
    role: str
    n: dict[str, int]
    z_test: TestSummary | None
    welch_test: TestSummary | None
    always_valid: AlwaysValid
    bayes: BayesSummary
    adaptive: Adaptive
    seed_rule: SeedRule | None


class Planned(Record, frozen=True, kw_only=True):
    """What was planned when the experiment started.

    `sample_size_per_variant` is for one look, `always_valid_per_variant` for as many as one likes, `calls`
    the latter for all variants together; null for an amount.
    """

    sample_size_per_variant: int | None
    always_valid_per_variant: int | None
    calls: int | None
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


class SampleRatio(Record, frozen=True, kw_only=True):
    """Whether the split that was served is the one that arrived; `p_value` is valid at every look.

    `fixed_p_value` is the chi-square test with exact variance, for one look. `expected` is what the splits
    promised, in units. `e_value` is null beyond 1e300.
    """

    e_value: float | None
    p_value: float
    fixed_p_value: float | None
    mismatch: bool
    expected: dict[str, float]


class GuardrailReport(Record, frozen=True, kw_only=True):
    """One guardrail of one variant: `harmed` and `safe` are proven, `unknown` is neither."""

    metric: str
    variant: str
    margin: float
    status: str
    e_value: float | None


class EvidenceReport(Record, frozen=True, kw_only=True):
    """How far the always-valid test of the goal has read: units, those without an outcome, and until when."""

    units: int
    missing: int
    read_until: dt.datetime | None


class Report(Record, frozen=True, kw_only=True):
    """`GET /experiments/{key}/report`. Numbers are of matured calls; `calls` and `assigned` of all."""

    experiment: str
    prompt: str
    status: str
    as_of: dt.datetime
    policy: str
    goal: str
    planned: Planned
    variants: tuple[VariantReport, ...]
    comparisons: tuple[Comparison, ...]
    sample_ratio: SampleRatio
    evidence: EvidenceReport
    guardrails: tuple[GuardrailReport, ...]
    calls: dict[str, CallsSummary]
    recommendation: RecommendationReport
