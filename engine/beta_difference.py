"""Exact quantiles of theta_arm - theta_control and of theta_arm / theta_control for two Beta posteriors.

Both ask for P(theta_arm <= f(x)) with f a shift or a factor. Only where x and f(x) both lie in (0, 1) is
there anything to integrate; that overlap is mapped to the real line by x = start + slope * expit(u), so
that the powers of x and 1 - x at either end become exponentials. Cutting the plain integral off instead is
wrong by 1e-2 of the width for Beta(0.5, 0.5).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, expm1, inf, log, log1p, pi, sqrt

import numpy as np
from scipy import optimize, special

from engine.beta_logit import alive_interval, log_density, tails, widest_panel
from engine.quadrature import TOLERANCE, Panels, panels_between

type Shapes = tuple[float, float]

# e^-45 = 3e-20 of the density: beyond it the closed tails take over.
ALIVE_NATS = 45.0
FAR = 1e5


def difference_quantile(control: Shapes, arm: Shapes, tail: float, *, upper: bool) -> float:
    """The d with P(theta_arm - theta_control <= d) = tail, or >= d where `upper`; in (-1, 1)."""
    means = [alpha / (alpha + beta) for alpha, beta in (control, arm)]
    variance = sum(
        mean * (1.0 - mean) / (sum(pair) + 1.0) for mean, pair in zip(means, (control, arm), strict=True)
    )

    def at(d: float) -> Sides:
        gap, log_slope = abs(d), log1p(-abs(d))
        near, far = Line(0.0, gap, log_slope), Line(gap, 0.0, log_slope)
        lines = (near, far) if d >= 0.0 else (far, near)
        return _sides(control, arm, *lines, lambda t: -special.log_expit(t) - special.log_expit(-t))

    edge = 1.0 - 2.0**-53
    return solve(at, tail, upper, start=(means[1] - means[0], sqrt(variance)), bounds=(-edge, edge))


def ratio_quantile(control: Shapes, arm: Shapes, tail: float, *, upper: bool) -> float:
    """The r with P(theta_arm / theta_control - 1 <= r) = tail, or >= r where `upper`; in [-1, inf]."""
    centre = sum(
        sign * float(special.psi(pair[0]) - special.psi(sum(pair)))
        for sign, pair in ((1.0, arm), (-1.0, control))
    )
    variance = sum(
        float(special.polygamma(1, pair[0]) - special.polygamma(1, sum(pair))) for pair in (control, arm)
    )

    def at(log_ratio: float) -> Sides:
        whole, part = Line(0.0, 0.0, 0.0), Line(0.0, -expm1(-abs(log_ratio)), -abs(log_ratio))
        lines = (part, whole) if log_ratio >= 0.0 else (whole, part)
        return _sides(control, arm, *lines, lambda t: -special.log_expit(-t))

    log_ratio = solve(at, tail, upper, start=(centre, sqrt(variance)), bounds=(-1e5, 1e5))
    return expm1(log_ratio) if log_ratio < 709.0 else inf


@dataclass(frozen=True, slots=True)
class Line:
    """x = start + slope * expit(u) and 1 - x = end + slope * expit(-u): no difference is ever taken.

    A shift or a factor leaves at least one of `start` and `end` at 0.
    """

    start: float
    end: float
    log_slope: float

    def logit(self, u: np.ndarray) -> np.ndarray:
        """Return logit(x) at u."""
        rising = np.logaddexp(_log(self.start), self.log_slope + special.log_expit(u))
        falling = np.logaddexp(_log(self.end), self.log_slope + special.log_expit(-u))
        return np.asarray(rising - falling)

    def log_stretch(self, u: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Return the logarithm of d logit(x) / du at u, where logit(x) = t; at most 0."""
        return np.asarray(self.log_slope + _log_slope_of_expit(u) - _log_slope_of_expit(t))

    def inverse(self, t: float) -> float:
        """Return the u where logit(x) = t; far out (1e5) where the line never gets there."""
        if self.start != 0.0:
            return -Line(self.end, self.start, self.log_slope).inverse(-t)
        if self.end == 0.0:
            return t
        log_x = float(special.log_expit(t))
        if log_x >= self.log_slope:
            return FAR
        return max(log_x - self.log_slope - log(-expm1(log_x - self.log_slope)), -FAR)

    def inverses(self, t: np.ndarray) -> np.ndarray:
        """`inverse` of each."""
        if self.start != 0.0:
            return -Line(self.end, self.start, self.log_slope).inverses(-t)
        if self.end == 0.0:
            return t
        behind = special.log_expit(t) - self.log_slope
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(behind >= 0.0, FAR, np.maximum(behind - np.log(-np.expm1(behind)), -FAR))


@dataclass(frozen=True, slots=True)
class Sides:
    """P(theta_arm <= f(theta_control)), P(>), and the derivative of the first by the parameter of f."""

    below: float
    above: float
    slope: float


def _sides(
    control: Shapes, arm: Shapes, x: Line, y: Line, log_derivative: Callable[[np.ndarray], np.ndarray]
) -> Sides:
    """Integrate over the overlap; what lies outside is one closed tail of the control on either side."""
    ends = [
        [line.inverse(float(end)) for end in alive_interval(np.array(a), np.array(b), ALIVE_NATS)]
        for line, (a, b) in ((x, control), (y, arm))
    ]
    low, high = max(ends[0][0], ends[1][0]), min(ends[0][1], ends[1][1])
    below = float(tails(*_arrays(control), x.logit(np.array(high)))[1])
    above = float(tails(*_arrays(control), x.logit(np.array(low)))[0])
    slope = 0.0
    if low < high:
        u, weight = _overlap_panels(((x, control, ends[0]), (y, arm, ends[1])), low, high).nodes()
        t, arm_t = x.logit(u), y.logit(u)
        log_mass = log_density(*_arrays(control), t) + x.log_stretch(u, t)
        mass, shares = weight * np.exp(log_mass), tails(*_arrays(arm), arm_t)
        below, above = below + float(mass @ shares[0]), above + float(mass @ shares[1])
        with np.errstate(over="ignore"):  # an infinite slope at d = 0: the solver brackets instead
            steepness = np.exp(log_mass + log_density(*_arrays(arm), arm_t) + log_derivative(arm_t))
            slope = float(weight @ steepness)
    if abs(below + above - 1.0) > TOLERANCE:
        raise ArithmeticError(
            f"both sides of the difference sum to {below + above!r}, must be 1 within {TOLERANCE}; "
            f"report control={control}, arm={arm}, x={x}, y={y}"
        )
    return Sides(below, above, slope)


def _overlap_panels(arms: tuple[tuple[Line, Shapes, list[float]], ...], low: float, high: float) -> Panels:
    marks = [line.inverse(log(a / b)) for line, (a, b), _ in arms]
    marks += [kink for line, _, _ in arms for kink in (_log(line.start), -_log(line.end))]
    marks = [mark for mark in marks if abs(mark) < FAR]
    core = min(0.0, *marks), max(0.0, *marks)

    def widest(panels: Panels) -> np.ndarray:
        sharpest = np.zeros(panels.left.size)
        points = np.stack([panels.left, 0.5 * (panels.left + panels.right), panels.right])
        for line, (a, b), (start, end) in arms:
            t = line.logit(points)
            sharp = np.exp(line.log_stretch(points, t) + 0.5 * _log_slope_of_expit(t)) * sqrt(a + b)
            alive = (start < points[1]) & (points[1] < end)
            sharpest = np.maximum(sharpest, np.where(alive, sharp.max(axis=0), 0.0))
        return widest_panel(panels, sharpest, core)

    breaks = np.array([low, high, *marks, *(end for _, _, both in arms for end in both)])
    return panels_between(np.clip(breaks, low, high), widest)


def solve(
    at: Callable[[float], Sides],
    tail: float,
    upper: bool,
    *,
    start: tuple[float, float],
    bounds: tuple[float, float],
) -> float:
    """Newton's method on the normal score of the probability, which is nearly linear for most pairs.

    Where it is not (a kink at 0, an arm stuck at 1), the steps stop halving the miss and a bracket finishes.
    """
    score = float(special.ndtri(tail)) * (-1.0 if upper else 1.0)
    low, high = bounds

    def miss(value: float) -> tuple[float, float]:
        sides = at(value)
        below = sides.below < sides.above
        here = float(special.ndtri(max(min(sides.below, sides.above), 1e-300))) * (1.0 if below else -1.0)
        density = exp(-0.5 * here * here) / sqrt(2.0 * pi)
        return here - score, sides.slope / density

    value, before = min(max(start[0] + score * start[1], 0.999 * low), 0.999 * high), inf
    while True:
        error, slope = miss(value)
        low, high = (value, high) if error < 0.0 else (low, value)
        step = -error / slope if 0.0 < slope < inf else inf
        if abs(error) < 1e-6 and abs(step) <= 1e-7 * start[1]:
            return value + step
        if abs(error) > 0.5 * before or not low < value + step < high:
            return _bracketed(lambda x: miss(x)[0], low, high, 1e-15 * start[1])
        value, before = value + step, abs(error)


def _bracketed(miss: Callable[[float], float], low: float, high: float, precision: float) -> float:
    if miss(low) >= 0.0:  # Beta(0.01, 1) has a tenth of its mass within 2^-53 of the end
        return low
    if miss(high) <= 0.0:
        return high
    return float(optimize.brentq(miss, low, high, xtol=precision, maxiter=500))


def _log_slope_of_expit(t: np.ndarray) -> np.ndarray:
    return np.asarray(special.log_expit(t) + special.log_expit(-t))


def _arrays(shapes: Shapes) -> tuple[np.ndarray, np.ndarray]:
    return np.array(shapes[0]), np.array(shapes[1])


def _log(value: float) -> float:
    return log(value) if value > 0.0 else -inf
