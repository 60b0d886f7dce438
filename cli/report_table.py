"""The report as a table that a person can read."""

from rich import box
from rich.console import Console
from rich.table import Table

from domain.report import Comparison, MetricSummary, Pair, Report


def print_report(report: Report, console: Console) -> None:
    """Variants, comparisons on the goal, and the recommendation in words."""
    console.print(
        f"\n[bold]{report.experiment}[/bold] on prompt {report.prompt}: {report.status}, policy {report.policy}"
    )
    console.print(_variants(report))
    console.print(_comparisons(report))
    _say_recommendation(report, console)


def _variants(report: Report) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        title="Variants (* the control; loss: expected loss of choosing it)",
        title_justify="left",
    )
    metrics = list(report.variants[0].metrics)
    for name in ("variant", "calls", "share", *metrics, "P(best)", "loss"):
        table.add_column(name, justify="left" if name == "variant" else "right")
    for variant in report.variants:
        notes = (
            ("*" if variant.is_control else "")
            + ("" if variant.live else " retired")
            + (" paused" if variant.paused else "")
        )
        table.add_row(
            variant.key + notes,
            f"{variant.assigned}",
            _percent(variant.share),
            *(_metric(name, variant.metrics[name]) for name in metrics),
            _number(variant.probability_best, 4),
            _number(variant.expected_loss, 4),
        )
    return table


def _metric(name: str, summary: MetricSummary) -> str:
    if summary.mean is None:
        return "-"
    digits = 1 if name.endswith("_s") else 3
    return f"{summary.mean:.{digits}f}"


def _comparisons(report: Report) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        title="Against the control (evidence: e-value, interval; belief: P(better))",
        title_justify="left",
    )
    for name in ("metric", "variant", "difference", "e-value", "interval", "P(better)"):
        table.add_column(name, justify="left" if name in ("metric", "variant") else "right", no_wrap=True)
    for item in report.comparisons:
        table.add_row(item.metric, item.variant, *_comparison(item))
    return table


def _comparison(item: Comparison) -> tuple[str, ...]:
    digits = 1 if item.metric.endswith("_s") else 3
    if item.adaptive.estimate is None:
        return ("no data", "", "", "")
    return (
        f"{item.adaptive.estimate:+.{digits}f}",
        _largest_e_value(item.always_valid.p_value),
        _pair(item.always_valid.interval, digits),
        _number(item.bayes.probability_better, 4),
    )


def _say_recommendation(report: Report, console: Console) -> None:
    advice = report.recommendation
    what = advice.action.replace("_", " ") + (f": {advice.variant}" if advice.variant else "")
    console.print(f"[bold]Recommendation: {what}[/bold]")
    for reason in advice.because:
        console.print(f"  because {reason}", soft_wrap=True)
    for gap in advice.still_needed:
        console.print(f"  still needed: {gap}", soft_wrap=True)
    planned = report.planned
    if planned.calls is not None:
        console.print(
            f"  planned: {planned.calls} calls to find {100 * planned.minimum_detectable_effect:g} points with power "
            f"{planned.power:g} at alpha {planned.alpha:g} looking at any time "
            f"(looking once, {planned.sample_size_per_variant} a variant), at least {planned.min_days:g} days",
            soft_wrap=True,
        )
    if report.sample_ratio.mismatch:
        console.print(
            "  [bold]sample ratio mismatch[/bold]: the split that was served did not arrive", soft_wrap=True
        )
    for guardrail in report.guardrails:
        console.print(f"  guardrail {guardrail.metric} of {guardrail.variant}: {guardrail.status}")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _largest_e_value(p_value: float | None) -> str:
    """1 / p: what counts is the largest so far."""
    if p_value is None:
        return "-"
    return f"{1.0 / p_value:.3g}" if p_value > 0.0 else "> 1e300"


def _pair(pair: Pair, digits: int) -> str:
    lower, upper = pair
    if lower is None or upper is None:
        return "-"
    return f"{lower:+.{digits}f} to {upper:+.{digits}f}"
