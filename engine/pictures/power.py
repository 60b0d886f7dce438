"""How many units an effect takes: power by units, and the plan on its curve."""

from typing import Any, cast

import numpy as np

from engine.pictures.theme import DASHES, HEIGHT, WIDTH, Theme, altair, data, finished, theme_of
from engine.pictures.words import points
from engine.power import SampleSize, power
from engine.power_formulas import Formula

POINTS = 50  # of each curve
TIMES = (0.5, 1.0, 2.0)  # the planned effect

type Row = dict[str, Any]


def power_curves(plan: SampleSize, *, theme: str) -> Any:
    """Power for half, all and twice the planned effect, as far as such rates exist."""
    if plan.baseline is None:
        raise ValueError(
            "the plan is for a mean, must be for a rate; a mean's standard deviation is not kept"
        )
    alt, ground = altair(), theme_of(theme)
    rows = _curves(plan)
    names = list(dict.fromkeys(row["effect"] for row in rows))
    x = alt.X(
        "units:Q", axis=alt.Axis(title="units of the control", format=",d"), scale=alt.Scale(nice=False)
    )
    y = alt.Y("power:Q", axis=alt.Axis(title="power, %", format=".0%"), scale=alt.Scale(domain=[0, 1]))
    scale = alt.Scale(domain=names, range=list(ground.colours[: len(names)]))
    dashes = alt.Scale(domain=names, range=[list(dash) for dash in DASHES[: len(names)]])
    curves = alt.Chart(data(rows), width=WIDTH, height=HEIGHT).mark_line(strokeWidth=2)
    looks = "one look at the end" if plan.design == "fixed" else "any number of looks"
    units = "as many units" if plan.ratio == 1.0 else f"{plan.ratio:.4g} times the units"
    return finished(
        alt.layer(
            curves.encode(
                x=x,
                y=y,
                color=alt.Color("effect:N", title="effect, percentage points", scale=scale),
                strokeDash=alt.StrokeDash("effect:N", title="effect, percentage points", scale=dashes),
            ),
            _plan(plan, ground, x, y),
        ),
        ground,
        title=f"Chance to find an effect on a rate of {100 * plan.baseline:.4g} %",
        subtitle=[f"alpha {plan.alpha:g}, {looks}, {units} of a treatment as of the control"],
    )


def _plan(plan: SampleSize, theme: Theme, x: Any, y: Any) -> Any:
    """The planned power as a line, the plan as a point on it."""
    alt = altair()
    label = f"{plan.per_arm_ceil:,} units for {100 * plan.power:.4g} %"
    point = alt.Chart(data([{"units": plan.per_arm_ceil, "power": plan.power, "label": label}]))
    text = point.mark_text(align="left", baseline="top", dx=9, dy=7, fontSize=12, color=theme.text)
    return alt.layer(
        point.mark_rule(color=theme.quiet, strokeDash=[4, 3]).encode(y=y),
        point.mark_point(filled=True, opacity=1, size=90, color=theme.text).encode(x=x, y=y),
        text.encode(x=x, y=y, text="label:N"),
    )


def _curves(plan: SampleSize) -> list[Row]:
    units = np.linspace(plan.per_arm / 25.0, 2.0 * plan.per_arm, POINTS)
    effects = [times * plan.minimum_detectable_effect for times in TIMES]
    baseline = float(plan.baseline or 0.0)
    return [
        {"units": float(n), "effect": points(effect), "power": _power(plan, baseline, effect, float(n))}
        for effect in effects
        if 0.0 < baseline + effect < 1.0
        for n in units
    ]


def _power(plan: SampleSize, baseline: float, effect: float, units: float) -> float:
    is_fixed = plan.design == "fixed"
    return power(
        baseline=baseline,
        minimum_detectable_effect=effect,
        per_arm=units,
        alpha=plan.alpha,
        ratio=plan.ratio,
        sides=plan.sides,
        formula=cast("Formula", plan.formula) if is_fixed else "pooled",
        design=plan.design,
        planned=plan.planned,
    )
