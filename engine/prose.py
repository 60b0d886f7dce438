"""Findings in sentences, for somebody who does not read tables."""

from collections.abc import Sequence

from engine.conclusion import Conclusion
from engine.metrics import Metric
from engine.results import Comparison, MetricSummary


def explained(conclusion: Conclusion, metrics: Sequence[Metric]) -> str:
    """A paragraph per metric, then whether the split arrived, then what to do."""
    parts = [_metric(conclusion, metric) for metric in metrics]
    parts.append(_split(conclusion))
    parts.append(_advice(conclusion))
    return "\n\n".join(parts)


def _metric(conclusion: Conclusion, metric: Metric) -> str:
    plan = conclusion.plan
    analysis = conclusion.analyses[metric.name]
    control = analysis.summary(plan.control)
    better = "more" if metric.direction == "increase" else "less"
    said = [
        f"{metric.name} ({metric.kind}, {better} is better): {plan.arms[plan.control]}, the control, has "
        f"{_mean(metric, control)} over {control.n} units."
    ]
    said += [
        _arm(metric, analysis.summary(plan.arms.index(item.variant)), item)
        for item in conclusion.comparisons
        if item.metric == metric.name
    ]
    return " ".join(said)


def _arm(metric: Metric, summary: MetricSummary, item: Comparison) -> str:
    difference, chance = item.adaptive.estimate, item.bayes.probability_better
    if difference is None or chance is None:
        return f"{item.variant} has too little data to compare."
    low, high = item.always_valid.interval
    interval = (
        f", between {_signed(metric, low)} and {_signed(metric, high)} however often one looks"
        if low is not None and high is not None
        else ""
    )
    e_value = item.always_valid.e_value
    evidence = f"; e-value {e_value:.3g}" if e_value is not None else ""
    return (
        f"{item.variant} has {_mean(metric, summary)} over {summary.n}: {_signed(metric, difference)} against the "
        f"control{interval}{evidence}. It is better with a probability of {_chance(chance)}, as belief, not as proof."
    )


def _split(conclusion: Conclusion) -> str:
    ratio = conclusion.sample_ratio
    if ratio.reason is not None or ratio.p_value is None:
        return f"Whether the split arrived was not tested: {ratio.reason}."
    if ratio.mismatch:
        return f"The split that was served is not the one that arrived (p = {ratio.p_value:.2g}): trust no number here."
    return f"The split that was served arrived (p = {ratio.p_value:.2g})."


def _advice(conclusion: Conclusion) -> str:
    found = conclusion.recommendation
    what = found.action.replace("_", " ")
    said = [f"Recommendation: {what}" + (f" ({found.variant})." if found.variant else ".")]
    said += [f"Because {reason}." for reason in found.because]
    said += [f"Still needed: {gap}." for gap in found.still_needed]
    return " ".join(said)


def _mean(metric: Metric, summary: MetricSummary) -> str:
    if summary.mean is None:
        return "no outcome"
    return f"{summary.mean:.1f}" if metric.kind == "amount" else f"{summary.mean:.3f}"


def _signed(metric: Metric, value: float) -> str:
    return f"{value:+.1f}" if metric.kind == "amount" else f"{value:+.3f}"


def _chance(probability: float) -> str:
    if probability > 0.9999:
        return "more than 0.9999"
    return "less than 0.0001" if probability < 0.0001 else f"{probability:.4f}"
