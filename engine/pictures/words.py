"""What axes say: names of metrics with their units, and how numbers are written on them."""

import math
from collections.abc import Sequence
from typing import Any

from engine.metrics import Metric
from engine.pictures.theme import altair

# Units end the name of a metric: duration_s, cost_usd.
UNITS = {
    "ms": "milliseconds",
    "s": "seconds",
    "min": "minutes",
    "h": "hours",
    "usd": "US dollars",
    "eur": "euros",
}
MOST_TICKS = 7
TINY = 1e-9
MINUS = "\N{MINUS SIGN}"


def unit_of(metric: Metric, unit: str | None = None) -> str:
    """The unit of a mean, as told, or as the metric's kind or name tells it.

    Examples
    --------
    >>> from engine.metrics import Amount, Binary
    >>> unit_of(Binary("resolved")), unit_of(Amount("duration_s")), unit_of(Amount("tokens"))
    ('% of units', 'seconds', 'per unit')
    """
    if unit is not None:
        return unit
    if metric.kind != "amount":
        return "% of units" if metric.kind == "binary" else "score from 0 to 1"
    return UNITS.get(metric.name.rpartition("_")[2], "per unit")


def value_axis(metric: Metric, unit: str | None = None) -> Any:
    """An axis of rates or means."""
    kind = {"format": ".1~%"} if metric.kind == "binary" else {}
    return altair().Axis(title=f"{metric.name}, {unit_of(metric, unit)}", **kind)


def difference_axis(metric: Metric, control: str, unit: str | None = None) -> Any:
    """An axis of differences; those of rates in points, because 4 % more of 80 % is not 84 %."""
    alt = altair()
    what = f"{metric.name} minus that of {control}"
    if metric.kind == "binary":
        return alt.Axis(
            title=f"{what}, {unit or 'percentage points'}", labelExpr=_signed("100 * datum.value", "+.2~f")
        )
    of_difference = "points of 1" if unit is None and metric.kind == "score" else unit_of(metric, unit)
    return alt.Axis(title=f"{what}, {of_difference}", labelExpr=_signed("datum.value", "+~g"))


def _signed(value: str, form: str) -> str:
    """A Vega expression: nothing has no sign."""
    return f"datum.value == 0 ? '0' : format({value}, '{form}')"


def evidence_axis(ends: Sequence[float]) -> Any:
    """An axis of e-values between these ends, with a tick at every power of ten, or at every so many."""
    low, high = (math.log10(end) for end in ends)
    powers = range(math.ceil(low - TINY), math.floor(high + TINY) + 1)
    ticks = [10.0**power for power in powers if power % max(1, -(-len(powers) // MOST_TICKS)) == 0]
    written = "datum.value < 1e6 ? format(datum.value, ',~g') : format(datum.value, '.0e')"
    return altair().Axis(title="e-value, log scale", values=ticks, labelExpr=written)


def points(value: float) -> str:
    """A difference of shares as percentage points.

    Examples
    --------
    >>> points(0.05), points(-0.025)
    ('+5', '−2.5')
    """
    return f"{100.0 * value:+.3g}".replace("-", MINUS)


def direction(metric: Metric) -> str:
    """Which way is better."""
    return "more is better" if metric.direction == "increase" else "less is better"


def level(alpha: float) -> str:
    """The level of an interval.

    Examples
    --------
    >>> level(0.05)
    '95 %'
    """
    return f"{100.0 * (1.0 - alpha):.4g} %"
