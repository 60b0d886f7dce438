"""How far arms lie from the control: belief beside evidence, and segment by segment."""

from collections.abc import Sequence
from typing import Any

from engine.findings import MetricFindings
from engine.metrics import Metric
from engine.observed import Plan
from engine.pictures.theme import SHAPES, WIDTH, Theme, altair, arm_channels, data, finished, theme_of
from engine.pictures.words import difference_axis, direction, level, points
from engine.results import Adaptive, Comparison, Pair, TestSummary
from engine.segment_fit import SegmentsFit

BELIEF = "belief: posterior"
ANY_LOOK = "evidence: at any look"
ONE_LOOK = "evidence: at one look"
SAYS = (BELIEF, ANY_LOOK, ONE_LOOK)
MOST_SEGMENTS = 30
ALL = "all units"

type Row = dict[str, Any]


def lift(found: MetricFindings, *, theme: str, unit: str | None) -> Any:
    """Each arm minus the control, three ways: belief, the test for any look, the test for one."""
    alt, ground, plan = altair(), theme_of(theme), found.findings.plan
    others = [plan.arms[index] for index in plan.others]
    rows = [row for arm in others for row in _of_arm(found[arm].comparison, plan)]
    if not rows:
        raise ValueError(f"nothing is known of {found.metric.name!r} yet; both arms need outcomes")
    axis = difference_axis(found.metric, plan.arms[plan.control], unit)
    colours = [ground.colours[0], ground.colours[1], ground.quiet]
    base = alt.Chart(data(rows), width=WIDTH, height=_height(len(others), len(SAYS))).encode(
        y=alt.Y("arm:N", sort=others, axis=alt.Axis(title=None)),
        yOffset=alt.YOffset("says:N", sort=list(SAYS)),
        color=alt.Color("says:N", title=None, scale=alt.Scale(domain=list(SAYS), range=colours)),
    )
    shape = alt.Shape("says:N", title=None, scale=alt.Scale(domain=list(SAYS), range=list(SHAPES[:3])))
    band, note = _region(found.metric, plan, ground, axis)
    return finished(
        alt.layer(*band, _zero(ground, axis), _whiskers(base, axis, shape)),
        ground,
        title=f"{found.metric.name}: how far from {plan.arms[plan.control]}",
        subtitle=[f"{level(plan.alpha)} intervals · {direction(found.metric)}", note, _silent(found, others)],
    )


def segments(found: MetricFindings, *, theme: str, unit: str | None) -> Any:
    """Belief about each arm minus the control within every segment alone, the largest first; nothing is pooled."""
    ground, plan, metric = theme_of(theme), found.findings.plan, found.metric
    parts = found.findings.segments()
    if len(parts) < 2:
        raise ValueError(
            "units have one segment at most, must have two to be compared; name a column of segments"
        )
    by_size = sorted(parts, key=lambda name: -sum(arm.n for arm in parts[name][metric.name].arms.values()))
    shown = [(ALL, found)]
    shown += [(name or "(unknown)", parts[name][metric.name]) for name in by_size[:MOST_SEGMENTS]]
    rows = [
        row | {"segment": f"{name} (n = {sum(arm.n for arm in of.arms.values())})"}
        for name, of in shown
        for index in plan.others
        for row in _of_arm(of[plan.arms[index]].comparison, plan)
        if row["says"] == BELIEF
    ]
    left_out = len(parts) - len(by_size[:MOST_SEGMENTS])
    return _forest(
        rows,
        arms=plan.arms,
        control=plan.arms[plan.control],
        theme=ground,
        axis=difference_axis(metric, plan.arms[plan.control], unit),
        title=f"{metric.name}: how far from {plan.arms[plan.control]}, by segment",
        subtitle=[
            f"{level(plan.alpha)} credible intervals of each segment alone · {direction(metric)}",
            "nothing is adjusted for the number of segments: some will look good by luck",
            f"{left_out} smaller segments are left out" if left_out else "",
        ],
    )


def fitted_segments(
    fit: SegmentsFit,
    *,
    segments: Sequence[str],
    arms: Sequence[str],
    control: int,
    metric: Metric,
    theme: str,
) -> Any:
    """The same of `fit_segments`: each segment's difference, drawn towards its neighbours'."""
    shape = fit.segments.mean.shape
    if shape != (len(segments), len(arms)):
        raise ValueError(
            f"{len(segments)} segments and {len(arms)} arms are named, must be {shape[0]} and {shape[1]}; "
            "give one name for each"
        )
    others = [index for index in range(len(arms)) if index != control]
    rows = [_fitted(fit.overall, ALL, arms[index], index) for index in others]
    rows += [
        _fitted(fit.segments, name, arms[index], (row, index))
        for row, name in enumerate(segments)
        for index in others
    ]
    return _forest(
        rows,
        arms=arms,
        control=arms[control],
        theme=theme_of(theme),
        axis=difference_axis(metric, arms[control]),
        title=f"{metric.name}: how far from {arms[control]}, by segment",
        subtitle=[
            f"{level(1.0 - fit.confidence_level)} credible intervals, partially pooled by {fit.method}"
        ],
    )


def _fitted(rates: Any, segment: str, arm: str, at: Any) -> Row:
    ends = float(rates.lift_interval.lower[at]), float(rates.lift_interval.upper[at])
    row = {"arm": arm, "segment": segment, "value": float(rates.lift[at])}
    return row | {"lower": ends[0], "upper": ends[1]}


def _forest(
    rows: Sequence[Row],
    *,
    arms: Sequence[str],
    control: str,
    theme: Theme,
    axis: Any,
    title: str,
    subtitle: Sequence[str],
) -> Any:
    alt = altair()
    if not rows:
        raise ValueError("nothing is known of any segment yet; both arms need outcomes")
    order = list(dict.fromkeys(row["segment"] for row in rows))
    others = [arm for arm in arms if arm != control]
    base = alt.Chart(data(rows), width=WIDTH, height=_height(len(order), len(others))).encode(
        y=alt.Y("segment:N", sort=order, axis=alt.Axis(title=None)),
        yOffset=alt.YOffset("arm:N", sort=others),
        color=arm_channels(arms, control, theme, only=others)["color"].legend(title="arm"),
    )
    known = [SHAPES[index % len(SHAPES)] for index in range(len(others))]
    shape = alt.Shape("arm:N", title="arm", scale=alt.Scale(domain=others, range=known))
    chart = alt.layer(_zero(theme, axis), _whiskers(base, axis, shape))
    return finished(chart, theme, title=title, subtitle=subtitle)


def _of_arm(item: Comparison | None, plan: Plan) -> list[Row]:
    """What is said of an arm; nothing where an end is unknown, because half an interval misleads."""
    if item is None:
        return []
    # The plain tests take the split for one that stood still.
    test: Adaptive | TestSummary | None = item.z_test or item.welch_test
    if plan.split_moves:
        test = item.adaptive
    said: list[tuple[str, float | None, Pair]] = [
        (BELIEF, item.bayes.lift.mean, item.bayes.lift.interval),
        (ANY_LOOK, item.adaptive.estimate, item.always_valid.interval),
    ]
    if test is not None:
        said.append((ONE_LOOK, test.estimate, test.interval))
    return [
        {"arm": item.variant, "says": says, "value": value, "lower": lower, "upper": upper}
        for says, value, (lower, upper) in said
        if value is not None and lower is not None and upper is not None
    ]


def _silent(found: MetricFindings, arms: Sequence[str]) -> str:
    """Why a line is missing."""
    tests = [(arm, found[arm].always_valid) for arm in arms]
    hidden = [(arm, test) for arm, test in tests if test is not None and None in test.interval]
    return "; ".join(f"{arm} at any look: {test.reason}" for arm, test in hidden if test.reason)


def _region(metric: Metric, plan: Plan, theme: Theme, axis: Any) -> tuple[list[Any], str]:
    """Differences of the goal that were planned not to matter."""
    if metric.name != plan.goal or metric.kind == "amount":
        return [], ""
    alt = altair()
    band = (
        alt.Chart(data([{"from": -plan.effect, "to": plan.effect}]))
        .mark_rect(opacity=0.1, color=theme.quiet)
        .encode(x=alt.X("from:Q", axis=axis), x2="to:Q")
    )
    small = f"{points(plan.effect).lstrip('+')} points" if metric.kind == "binary" else f"{plan.effect:g}"
    return [band], f"shaded: below {small}, which was planned not to matter"


def _zero(theme: Theme, axis: Any) -> Any:
    alt = altair()
    line = alt.Chart(data([{"at": 0.0}])).mark_rule(color=theme.quiet, strokeDash=[4, 3])
    return line.encode(x=alt.X("at:Q", axis=axis))


def _whiskers(base: Any, axis: Any, shape: Any) -> Any:
    alt = altair()
    return alt.layer(
        base.mark_rule(strokeWidth=2).encode(x=alt.X("lower:Q", axis=axis), x2="upper:Q"),
        base.mark_point(filled=True, opacity=1, size=80).encode(x=alt.X("value:Q", axis=axis), shape=shape),
    )


def _height(groups: int, lines: int) -> int:
    return max(60, groups * (10 + 18 * lines))
