"""What is believed of every arm: the density of its rate or mean, above its mean and interval."""

from typing import Any

import numpy as np
from scipy import special

from engine.analysis import Analysis
from engine.belief import Posterior
from engine.beta_binomial import BetaPosterior
from engine.findings import MetricFindings
from engine.pictures.theme import WIDTH, Theme, altair, arm_channels, data, finished, theme_of
from engine.pictures.words import direction, level, value_axis

ROWS = 360  # of all curves together
TAIL = 1e-4  # what a curve leaves out at each end
EDGE = 1e-12


def posteriors(found: MetricFindings, *, theme: str, unit: str | None) -> Any:
    """Densities and intervals; an arm without any outcome has neither."""
    alt, ground, plan = altair(), theme_of(theme), found.findings.plan
    analysis = found.findings.conclusion.analyses[found.metric.name]
    channels = arm_channels(plan.arms, plan.arms[plan.control], ground)
    axis = value_axis(found.metric, unit)
    curves = _curves(analysis, plan.arms)
    if not curves:
        raise ValueError(f"no arm has enough outcomes of {found.metric.name!r} to believe anything of it")
    # One scale for both panels, so that an interval stands below its curve.
    scale = alt.Scale(domain=_ends(curves), nice=False, zero=False)
    density = (
        alt.Chart(data(curves), width=WIDTH, height=200)
        .mark_area(line=True, fillOpacity=0.12)
        .encode(
            x=alt.X("value:Q", scale=scale, axis=alt.Axis(labels=False, ticks=False, title=None)),
            y=alt.Y(
                "density:Q", stack=False, axis=alt.Axis(title="density of belief", labels=False, ticks=False)
            ),
            **channels,
        )
    )
    return finished(
        alt.vconcat(density, _intervals(found, ground, scale, axis)),
        ground,
        title=f"What is believed of {found.metric.name}",
        subtitle=[f"below: mean and {level(plan.alpha)} credible interval · {direction(found.metric)}"],
    )


def _intervals(found: MetricFindings, theme: Theme, scale: Any, axis: Any) -> Any:
    alt, plan = altair(), found.findings.plan
    rows = []
    for name, arm in found.arms.items():
        lower, upper = arm.posterior.interval
        if None not in (lower, upper, arm.posterior.mean):
            rows.append({"arm": name, "mean": arm.posterior.mean, "lower": lower, "upper": upper, "n": arm.n})
    color = arm_channels(plan.arms, plan.arms[plan.control], theme)["color"]
    base = alt.Chart(data(rows), width=WIDTH, height=26 * len(rows)).encode(
        y=alt.Y("arm:N", sort=list(plan.arms), axis=alt.Axis(title=None)), color=color
    )
    return alt.layer(
        base.mark_rule(strokeWidth=2).encode(x=alt.X("lower:Q", scale=scale, axis=axis), x2="upper:Q"),
        base.mark_point(filled=True, opacity=1, size=70).encode(x=alt.X("mean:Q", scale=scale, axis=axis)),
    )


def _curves(analysis: Analysis, arms: tuple[str, ...]) -> list[dict[str, Any]]:
    points = max(30, ROWS // len(arms))
    rows = []
    for index, arm in enumerate(arms):
        value, density = _curve(analysis.posterior, index, points)
        told = zip(value.tolist(), density.tolist(), strict=True)
        rows += [{"arm": arm, "value": x, "density": y} for x, y in told]
    return rows


def _curve(posterior: Posterior, index: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Values between the outer quantiles and their densities; none where nothing, or all, is known."""
    if isinstance(posterior, BetaPosterior):
        a, b = float(posterior.alpha[index]), float(posterior.beta[index])
        low, high = float(special.betaincinv(a, b, TAIL)), float(special.betainccinv(a, b, TAIL))
        # With less than one success the density has no bound at 0, and the quantile may be 0.
        value = np.linspace(max(low, EDGE), min(high, 1.0 - EDGE), points)
        log = special.xlogy(a - 1.0, value) + special.xlog1py(b - 1.0, -value) - special.betaln(a, b)
        return value, np.exp(log)
    mean, sd = float(posterior.mean[index]), float(posterior.sd[index])
    if not 0.0 < sd < np.inf:
        return np.zeros(0), np.zeros(0)
    z = np.linspace(special.ndtri(TAIL), -special.ndtri(TAIL), points)
    return mean + sd * z, np.exp(-0.5 * z * z) / (sd * np.sqrt(2.0 * np.pi))


def _ends(curves: list[dict[str, Any]]) -> list[float]:
    values = [row["value"] for row in curves]
    return [min(values), max(values)]
