"""How it came to this: split, belief, rates and sample ratio by the units so far, and e-values in their order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.comparisons import capped_e_value, two_sided_log_e
from engine.findings import MetricFindings
from engine.looks import Look, looks_of
from engine.observed import Plan
from engine.pictures.theme import HEIGHT, WIDTH, Theme, altair, arm_channels, data, finished, theme_of
from engine.pictures.words import direction, evidence_axis, level, value_axis
from engine.sample_ratio import ALARM

PANEL = 150
LARGEST = 1e300
LEAST = 1e-3  # what lies below says no more than "nothing yet"

type Row = dict[str, Any]


def split(found: MetricFindings, *, theme: str, unit: str | None) -> Any:
    """The split that served, above P(best) of the goal, which moves it."""
    alt, ground, plan = altair(), theme_of(theme), found.findings.plan
    looks = looks_of(found.findings)
    goal = found.findings[plan.goal]
    shares = [_at(each, arm, _share(each, plan, arm)) for each in looks for arm in plan.arms]
    best = [
        _at(each, arm, each.findings[goal.metric.name][arm].probability_best)
        for each in looks
        for arm in plan.arms
    ]
    shares = [
        row | {"units": 0} for row in shares[: len(plan.arms)]
    ] + shares  # the first served from the start
    percent = alt.Scale(domain=[0, 1])
    return finished(
        alt.vconcat(
            # The split of an allocation served the units before its end.
            _lines(shares, plan, ground, "share of units, %", percent, looks=looks, step="step-before"),
            _lines(best, plan, ground, "P(best), %", percent, looks=looks),
        ),
        ground,
        title="Split, and probability of being the best",
        subtitle=[f"P(best) on {plan.goal}, {direction(goal.metric)}, of the arms that get units"],
    )


def rates(found: MetricFindings, *, theme: str, unit: str | None) -> Any:
    """Mean of all outcomes so far of each arm, with its interval at that look."""
    alt, ground, plan = altair(), theme_of(theme), found.findings.plan
    looks = looks_of(found.findings)
    rows = [_at(each, arm, *_mean(each, found.metric.name, arm)) for each in looks for arm in plan.arms]
    axis = value_axis(found.metric, unit)
    base = alt.Chart(data(_known(rows)), width=WIDTH, height=HEIGHT).encode(
        x=_units(looks), **arm_channels(plan.arms, plan.arms[plan.control], ground)
    )
    scale = alt.Scale(zero=False)
    return finished(
        alt.layer(
            base.mark_area(opacity=0.13).encode(y=alt.Y("lower:Q", axis=axis, scale=scale), y2="upper:Q"),
            base.mark_line(strokeWidth=2).encode(y=alt.Y("value:Q", axis=axis, scale=scale)),
        ),
        ground,
        title=f"{found.metric.name} of all units so far",
        subtitle=[
            f"{level(plan.alpha)} intervals for one look each · {direction(found.metric)}",
            "the split moved: a lift allows for that, these means do not" if plan.split_moves else "",
        ],
    )


def sample_ratio(found: MetricFindings, *, theme: str, unit: str | None) -> Any:
    """Units above or below what the splits promised, and the evidence that they are not a matter of luck."""
    alt, ground, plan = altair(), theme_of(theme), found.findings.plan
    reason = found.findings.sample_ratio.reason
    if reason is not None:
        raise ValueError(f"the sample ratio was not tested: {reason}")
    looks = looks_of(found.findings)
    surplus = [
        _at(each, arm, _surplus(each, plan, index)) for each in looks for index, arm in enumerate(plan.arms)
    ]
    evidence = [
        {"units": each.units, "value": _finite(each.findings.sample_ratio.e_value, at_end=LARGEST)}
        for each in looks
    ]
    return finished(
        alt.vconcat(
            _lines(
                surplus, plan, ground, "arrived minus promised, % of units", alt.Scale(zero=True), looks=looks
            ),
            _evidence(evidence, {}, ground, needed={f"alarm at {ALARM:,.0f}": ALARM}, height=PANEL),
        ),
        ground,
        title="Did the split that was promised arrive?",
        subtitle=["below: e-value against the split; it may be looked at as often as one likes"],
    )


def e_value(found: MetricFindings, *, theme: str, unit: str | None) -> Any:
    """Evidence that an arm differs from the control, unit by unit, against what a claim needs."""
    findings, ground, plan = found.findings, theme_of(theme), found.findings.plan
    if found.metric.kind == "amount":
        raise ValueError(
            f"{found.metric.name!r} is an amount, which has no bound and so no e-value; see `lift`"
        )
    if not findings.readings:
        raise ValueError(
            "the order of the units is not known; name the column of times, and analyze the frame with in_order=True"
        )
    others = [plan.arms[index] for index in plan.others]
    rows = []
    for reading in findings.readings:
        observed = replace(findings.observed, tests=reading.tests)
        for index in plan.others:
            value = max(capped_e_value(two_sided_log_e(observed, found.metric.name, index)), 1.0 / LARGEST)
            rows.append({"units": reading.units, "arm": plan.arms[index], "value": value})
    channels = arm_channels(plan.arms, plan.arms[plan.control], ground, only=others)
    return finished(
        _evidence(rows, channels, ground, needed=_needed(found, others), height=HEIGHT),
        ground,
        title=f"Evidence that {found.metric.name} differs from that of {plan.arms[plan.control]}",
        subtitle=["valid at any look and under any split; once above its line, a claim stays"],
    )


def _needed(found: MetricFindings, others: Sequence[str]) -> dict[str, float]:
    """Threshold by its label: 1 / alpha, times the comparisons; only the goal's claims have one."""
    plan = found.findings.plan
    if found.metric.name != plan.goal:
        return {}
    needed = {arm: found.findings.conclusion.claims[arm].needed for arm in others}
    if len(set(needed.values())) == 1:
        value = next(iter(needed.values()))
        return {f"a claim needs {value:,.4g}": value}
    return {f"{arm} needs {value:,.4g}": value for arm, value in needed.items()}


def _evidence(
    rows: Sequence[Row],
    channels: Mapping[str, Any],
    theme: Theme,
    *,
    needed: Mapping[str, float],
    height: int,
) -> Any:
    """E-values on a logarithmic scale, with their thresholds by label."""
    alt = altair()
    values = [row["value"] for row in rows] + [10.0 * value for value in needed.values()]
    ends = [max(LEAST, min(0.5, *values)), max(10.0, *values)]
    scale = alt.Scale(type="log", domain=ends, clamp=True)
    axis = evidence_axis(ends)
    plain = {"color": theme.colours[0]} if not channels else {}
    path = (
        alt.Chart(data(rows), width=WIDTH, height=height)
        .mark_line(strokeWidth=2, **plain)
        .encode(x=_units(), y=alt.Y("value:Q", scale=scale, axis=axis), **channels)
    )
    if not needed:
        return alt.layer(path)
    lines = alt.Chart(data([{"needed": value, "label": label} for label, value in needed.items()]))
    y = alt.Y("needed:Q", scale=scale, axis=axis)
    label = lines.mark_text(align="left", baseline="bottom", dx=4, dy=-3, fontSize=12, color=theme.text)
    rule = lines.mark_rule(color=theme.quiet, strokeDash=[6, 3], strokeWidth=1.5)
    needs = alt.layer(rule.encode(y=y), label.encode(y=y, x=alt.value(0), text="label:N"))
    return alt.layer(path, needs)


def _lines(
    rows: Sequence[Row],
    plan: Plan,
    theme: Theme,
    title: str,
    scale: Any,
    *,
    looks: Sequence[Look],
    step: str = "linear",
) -> Any:
    """A line for each arm, of shares."""
    alt = altair()
    return (
        alt.Chart(data(_known(rows)), width=WIDTH, height=PANEL)
        .mark_line(interpolate=step, strokeWidth=2)
        .encode(
            x=_units(looks),
            y=alt.Y("value:Q", scale=scale, axis=alt.Axis(title=title, format=".1~%")),
            **arm_channels(plan.arms, plan.arms[plan.control], theme),
        )
    )


def _units(looks: Sequence[Look] = ()) -> Any:
    """The axis of units; of outcomes, where nobody counted units."""
    alt = altair()
    title = "units so far" if not looks or looks[-1].findings.counts.units else "outcomes of the goal so far"
    scale = alt.Scale(nice=False, domainMin=0)  # panels that stand above each other share it
    return alt.X("units:Q", axis=alt.Axis(title=title, format=",d"), scale=scale)


def _at(
    look: Look, arm: str, value: float | None, lower: float | None = None, upper: float | None = None
) -> Row:
    row: Row = {"units": look.units, "arm": arm, "value": value}
    return row if lower is None or upper is None else row | {"lower": lower, "upper": upper}


def _known(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["value"] is not None]


def _share(look: Look, plan: Plan, arm: str) -> float:
    """Of the allocation at which the look was taken."""
    return float(look.findings.observed.probability[-1, plan.arms.index(arm)])


def _mean(look: Look, metric: str, arm: str) -> tuple[float | None, float | None, float | None]:
    summary = look.findings[metric][arm].summary
    return summary.mean, *summary.interval


def _surplus(look: Look, plan: Plan, index: int) -> float | None:
    arrived = look.findings.observed.tally.units.sum(axis=0)
    total = int(arrived.sum())
    expected = look.findings.sample_ratio.expected.get(plan.arms[index])
    if not total or expected is None:
        return None
    return (float(arrived[index]) - expected) / total


def _finite(value: float | None, *, at_end: float) -> float:
    """Beyond 1e300 a report says None."""
    return at_end if value is None else value
