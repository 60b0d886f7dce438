"""What are P(best) and the expected losses really? 18 digits by mpmath, to hold all rivals against.

Gauss-Legendre panels one standard deviation wide, in 32-digit arithmetic; nothing of `engine` is used. An arm
that stands in a problem several times is computed once. The probabilities must sum to 1 within 1e-17.
"""

import itertools
from collections.abc import Sequence
from functools import cache

import mpmath as mp

DIGITS = 32
NODES = 20
END_NATS = 85.0

type Shape = tuple[float, float]


def _legendre(x: mp.mpf) -> list[mp.mpf]:
    """P_0(x) to P_NODES(x)."""
    values = [mp.mpf(1), x]
    for n in range(1, NODES):
        values.append(((2 * n + 1) * x * values[n] - n * values[n - 1]) / (n + 1))
    return values


@cache
def _rule() -> tuple[list[mp.mpf], list[mp.mpf], list[list[mp.mpf]]]:
    """Nodes, weights, and the matrix that integrates the polynomial through the nodes from -1 to each of them."""
    nodes = [-mp.cos(mp.pi * (i + mp.mpf(3) / 4) / (NODES + mp.mpf(1) / 2)) for i in range(NODES)]
    for _ in range(6):  # Newton, from guesses good to 1e-4
        nodes = [
            x - v[-1] * (x * x - 1) / (NODES * (x * v[-1] - v[-2])) for x in nodes for v in [_legendre(x)]
        ]
    values = [_legendre(x) for x in nodes]
    weights = [2 * (1 - x * x) / (NODES * v[NODES - 1]) ** 2 for x, v in zip(nodes, values, strict=True)]
    running = [
        [
            w * ((v[1] + 1) + sum(u[n] * (v[n + 1] - v[n - 1]) for n in range(1, NODES))) / 2
            for u, w in zip(values, weights, strict=True)
        ]
        for v in values
    ]
    return nodes, weights, running


class Arm:
    """One Beta posterior on the logit scale."""

    def __init__(self, shape: Shape) -> None:
        self.alpha, self.beta = mp.mpf(shape[0]), mp.mpf(shape[1])
        self.n = self.alpha + self.beta
        self.mean = self.alpha / self.n
        self.peak = mp.log(self.alpha / self.beta)
        self.sd = mp.sqrt(1 / self.alpha + 1 / self.beta)
        self.log_constant = mp.loggamma(self.n) - mp.loggamma(self.alpha) - mp.loggamma(self.beta)

    def density(self, t: mp.mpf) -> mp.mpf:
        return mp.exp(self.log_constant + self.alpha * t - self.n * mp.log1p(mp.exp(t)))

    def end(self, side: int) -> mp.mpf:
        """Where the density has fallen by END_NATS, a step too far rather than too near."""
        top, step = mp.log(self.density(self.peak)), self.sd / 2
        distance = step
        while top - mp.log(self.density(self.peak + side * distance)) < END_NATS:
            distance += step
        return self.peak + side * distance

    def edges(self, low: mp.mpf, high: mp.mpf) -> list[mp.mpf]:
        count = int((self.end(1) - self.end(-1)) / self.sd) + 1
        points = [self.end(-1) + i * self.sd for i in range(count + 1)]
        return [t for t in points if low < t < high]

    def mass(self, low: mp.mpf, high: mp.mpf) -> mp.mpf:
        nodes, weights, _ = _rule()
        edges = [low, *self.edges(low, high), high]
        total = mp.mpf(0)
        for left, right in itertools.pairwise(edges):
            half, middle = (right - left) / 2, (right + left) / 2
            total += half * sum(
                w * self.density(middle + half * x) for x, w in zip(nodes, weights, strict=True)
            )
        return total


def exact(shapes: Sequence[Shape]) -> tuple[list[float], list[float]]:
    """P(best) and expected loss of every arm."""
    with mp.workdps(DIGITS):
        distinct = sorted(set(shapes))
        times = [shapes.count(shape) for shape in distinct]
        arms = [Arm(shape) for shape in distinct]
        best, loss = _solve(arms, times)
        assert abs(sum(p * m for p, m in zip(best, times, strict=True)) - 1) < 1e-17
        at = {shape: i for i, shape in enumerate(distinct)}
        return [float(best[at[s]]) for s in shapes], [float(loss[at[s]]) for s in shapes]


def _solve(arms: list[Arm], times: list[int]) -> tuple[list[mp.mpf], list[mp.mpf]]:
    nodes, weights, running = _rule()
    low, high = max(arm.end(-1) for arm in arms), max(arm.end(1) for arm in arms)
    edges = sorted({low, high, *(t for arm in arms for t in arm.edges(low, high))})
    below = [arm.mass(arm.end(-1), low) if arm.end(-1) < low else mp.mpf(0) for arm in arms]
    leader = max(range(len(arms)), key=lambda i: arms[i].mean)
    best, cost = [mp.mpf(0)] * len(arms), mp.mpf(0)
    x = 1 / (1 + mp.exp(-low))
    first = arms[leader]
    cost += (x - first.mean) * below[leader] + first.density(low) / first.n  # the integral of F up to here
    for left, right in itertools.pairwise(edges):
        half, middle = (right - left) / 2, (right + left) / 2
        points = [middle + half * y for y in nodes]
        density = [[arm.density(t) for t in points] for arm in arms]
        for j, t in enumerate(points):
            tail = [b + half * mp.fdot(running[j], d) for b, d in zip(below, density, strict=True)]
            product = mp.fprod(f**m for f, m in zip(tail, times, strict=True))
            for i in range(len(arms)):
                if tail[i]:
                    best[i] += half * weights[j] * density[i][j] * product / tail[i]
            x = 1 / (1 + mp.exp(-t))
            cost += half * weights[j] * (tail[leader] - product) * x * (1 - x)
        below = [b + half * mp.fdot(weights, d) for b, d in zip(below, density, strict=True)]
    return best, [cost + first.mean - arm.mean for arm in arms]
