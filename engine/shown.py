"""Findings as a table that a person reads, as text or HTML; here, and only here, numbers are rounded."""

from collections.abc import Sequence
from html import escape

from engine.conclusion import Conclusion
from engine.metrics import Metric
from engine.results import Comparison, Pair

ARMS = ("metric", "arm", "n", "missing", "mean", "interval", "P(best)", "loss")
AGAINST = ("metric", "arm", "difference", "P(better)", "relative", "p", "always valid", "e-value")

type Cells = list[str]


def as_text(conclusion: Conclusion, metrics: Sequence[Metric]) -> str:
    """Two aligned tables, arms and comparisons, and the recommendation in one line."""
    parts = [
        _aligned(ARMS, _arms(conclusion, metrics)),
        _aligned(AGAINST, _comparisons(conclusion, metrics)),
        _advice(conclusion),
    ]
    return "\n\n".join(part for part in parts if part)


def as_html(conclusion: Conclusion, metrics: Sequence[Metric]) -> str:
    """The same for a notebook."""
    return (
        _html(ARMS, _arms(conclusion, metrics))
        + _html(AGAINST, _comparisons(conclusion, metrics))
        + f"<p>{escape(_advice(conclusion))}</p>"
    )


def _advice(conclusion: Conclusion) -> str:
    found = conclusion.recommendation
    what = found.action.replace("_", " ")
    return f"Recommendation: {what}" + (f" ({found.variant})" if found.variant else "")


def _arms(conclusion: Conclusion, metrics: Sequence[Metric]) -> list[Cells]:
    plan = conclusion.plan
    rows = []
    for metric in metrics:
        summaries = conclusion.analyses[metric.name].summaries()
        for index, (arm, found) in enumerate(zip(plan.arms, summaries, strict=True)):
            rows.append(
                [
                    metric.name,
                    arm + ("*" if index == plan.control else ""),
                    str(found.n),
                    _number(found.missing, 3),
                    _number(found.mean, _digits(metric)),
                    _between(found.interval, _digits(metric)),
                    _number(found.probability_best, 4),
                    _number(found.expected_loss, 4),
                ]
            )
    return rows


def _comparisons(conclusion: Conclusion, metrics: Sequence[Metric]) -> list[Cells]:
    kinds = {metric.name: metric for metric in metrics}
    return [
        _comparison(item, _digits(kinds[item.metric]))
        for item in conclusion.comparisons
        if item.metric in kinds
    ]


def _comparison(item: Comparison, digits: int) -> Cells:
    test = item.z_test or item.welch_test
    relative = item.bayes.relative_lift.median
    return [
        item.metric,
        item.variant,
        _signed(item.adaptive.estimate, digits),
        _number(item.bayes.probability_better, 4),
        "-" if relative is None else f"{100 * relative:+.1f} %",
        "-" if test is None or test.p_value is None else f"{test.p_value:.3g}",
        _between(item.always_valid.interval, digits, signed=True),
        "-" if item.always_valid.e_value is None else f"{item.always_valid.e_value:.3g}",
    ]


def _digits(metric: Metric) -> int:
    return 1 if metric.kind == "amount" else 3


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:+.{digits}f}"


def _between(pair: Pair, digits: int, *, signed: bool = False) -> str:
    lower, upper = pair
    if lower is None or upper is None:
        return "-"
    one = _signed if signed else _number
    return f"{one(lower, digits)} to {one(upper, digits)}"


def _aligned(head: Sequence[str], rows: Sequence[Cells]) -> str:
    """Names to the left, numbers to the right."""
    if not rows:
        return ""
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, *rows)
    )


def _html(head: Sequence[str], rows: Sequence[Cells]) -> str:
    if not rows:
        return ""
    first = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in rows)
    return f"<table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table>"
