"""Which of several Beta posteriors is best, each against the control, and the expected losses.

Every integral is a sum over the points of one lattice, where the arms have one (`beta_lattice`), or over the nodes
of one table of densities and tails; the probabilities must sum to 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from engine.beta_lattice import Lattice
from engine.beta_logit import Sketch, Tables, tabulate
from engine.beta_overlap import solve_overlap
from engine.checks import check_arm
from engine.quadrature import TOLERANCE, sum_of_others

type Shapes = Float64[np.ndarray, " arm"]


class _Trust(NamedTuple):
    """A P(best) of `least` at least has 10 digits, and the leader's loss as long as its P(best) is `most` at most."""

    least: float
    most: float


OF_SWEEP, OF_LATTICE = _Trust(1e-13, 1.0 - 1e-5), _Trust(1e-10, 1.0 - 1e-8)


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """What is asked about all arms at once; `gap` is how far the probabilities miss a sum of 1."""

    probability: Float64[np.ndarray, " arm"]
    loss: Float64[np.ndarray, " arm"]
    gap: float


@dataclass(frozen=True, slots=True, eq=False)
class Against:
    """What is asked about each arm and the control; `gap` as for `Best`."""

    better: Float64[np.ndarray, " arm"]
    worse: Float64[np.ndarray, " arm"]
    loss: Float64[np.ndarray, " arm"]
    gap: float


def best_arm(alpha: Shapes, beta: Shapes, lattice: Lattice | None = None) -> Best:
    """P(best) and expected loss. All losses follow from the leader's: loss_i - loss_j = mean_j - mean_i.

    The leader's own is the integral of F_leader (1 - prod F_others): all terms are positive, so it keeps
    its digits when tiny, where E[max] - mean would cancel.

    The lattice, or without one a sweep over the overlap of the arms, answers all but the hopeless arms, and a loss
    when the leader is all but certain: a table of their own keeps their digits.
    """
    leader = int((alpha / (alpha + beta)).argmax())
    behind = -mean_difference(alpha, beta, leader)
    if alpha.size == 1:
        return Best(np.ones(1), np.zeros(1), 0.0)
    near, regret, trust = _near(alpha, beta, leader, lattice)
    gap = abs(float(near.sum()) - 1.0)
    if not gap <= TOLERANCE:
        return _best_of_whole_table(alpha, beta, leader, behind)
    hopeless, certain = near < trust.least, bool(near[leader] > trust.most)
    if not certain and not hopeless.any():
        return Best(near, regret + behind, gap)
    faint, loss = _outside(alpha, beta, leader, hopeless, certain)
    probability = near.copy()
    probability[hopeless] = faint
    if not certain:
        return Best(probability, regret + behind, gap)
    probability[leader] = 0.0
    probability[leader] = 1.0 - probability.sum()
    return Best(probability, loss + behind, gap)


def _near(alpha: Shapes, beta: Shapes, leader: int, lattice: Lattice | None) -> tuple[Shapes, float, _Trust]:
    """P(best) and the leader's loss, and how far they can be trusted: from the lattice, else from the sweep."""
    if lattice is not None:
        near, regret = lattice.best(leader)
        if abs(float(near.sum()) - 1.0) <= TOLERANCE:
            return near, regret, OF_LATTICE
    return *solve_overlap(alpha, beta, leader), OF_SWEEP


def _outside(
    alpha: Shapes, beta: Shapes, leader: int, hopeless: np.ndarray, certain: bool
) -> tuple[np.ndarray, float]:
    """P(best) of the hopeless arms and, if the leader is certain, its loss: what the overlap does not show."""

    def integrands(arms: Sketch) -> np.ndarray:
        return np.asarray(_integrands(arms, leader)[np.append(hopeless, certain)])

    arms = tabulate(alpha, beta, integrands)
    others = sum_of_others(arms.log_below)
    best = (arms.density[hopeless] * np.exp(others[hopeless])) @ arms.weight
    return best, float((arms.below[leader] * -np.expm1(others[leader])) @ arms.dx)


def _best_of_whole_table(alpha: Shapes, beta: Shapes, leader: int, behind: Shapes) -> Best:
    """All at once, for the day when the sweep misses a sum of 1."""

    def integrands(arms: Sketch) -> np.ndarray:
        return _integrands(arms, leader)

    def solve(arms: Tables) -> Best:
        others = sum_of_others(arms.log_below)
        best = (arms.density * np.exp(others)) @ arms.weight
        loss = float((arms.below[leader] * -np.expm1(others[leader])) @ arms.dx)
        return Best(np.minimum(best, 1.0), loss + behind, abs(float(best.sum()) - 1.0))

    return _checked(alpha, beta, integrands, solve)


def _integrands(arms: Sketch, leader: int) -> np.ndarray:
    """One row per arm for its P(best), one for the leader's loss."""
    rival = np.delete(arms.log_above, leader, axis=0).max(axis=0)
    best = arms.log_density + arms.log_below.sum(axis=0) - arms.log_below
    return np.vstack([best, arms.log_below[leader] + rival + arms.log_dx])


def against_control(alpha: Shapes, beta: Shapes, control: int, lattice: Lattice | None = None) -> Against:
    """Each arm with the control alone; as above, the loss is integrated for the one that leads.

    A lattice answers all but what is nearly impossible, for which tables of their own keep the digits. Eight arms
    share one: it must resolve both tails of every pair, and one for 100 arms between 10 and 10^8 trials would
    take a gigabyte.
    """
    c = check_arm(control, arms=alpha.size)
    found = _from_lattice(lattice, mean_difference(alpha, beta, c), c)
    unsure = np.minimum(found.better, found.worse) < OF_LATTICE.least
    unsure[c] = False
    others = np.flatnonzero(unsure)
    for start in range(0, others.size, 8):
        arms = others[start : start + 8]
        part = _from_table(alpha[np.append(c, arms)], beta[np.append(c, arms)])
        found.better[arms], found.worse[arms], found.loss[arms] = part.better, part.worse, part.loss
    return found


def _from_lattice(lattice: Lattice | None, lead: Shapes, control: int) -> Against:
    """What the lattice knows; where there is none, or it misses a sum of 1, nothing."""
    nothing = np.zeros(lead.size)
    found = Against(nothing, nothing.copy(), nothing.copy(), 0.0)
    if lattice is not None:
        near = _of_both_sides(*lattice.against(control, lead >= 0.0), lead)
        found = near if near.gap <= TOLERANCE else found
    found.better[control], found.worse[control], found.loss[control] = 0.5, 0.5, 0.0
    return found


def _from_table(alpha: Shapes, beta: Shapes) -> Against:
    lead = mean_difference(alpha, beta, 0)[1:]
    ahead = (lead >= 0.0)[:, None]

    def integrands(arms: Sketch) -> np.ndarray:
        below, above, density = arms.log_below, arms.log_above, arms.log_density
        loss = np.where(ahead, below[1:] + above[0], below[0] + above[1:]) + arms.log_dx
        return np.vstack([density[1:] + below[0], below[1:] + density[0], loss])

    def solve(arms: Tables) -> Against:
        better = (arms.density[1:] * arms.below[0]) @ arms.weight
        worse = (arms.below[1:] * arms.density[0]) @ arms.weight
        regret = np.where(ahead, arms.below[1:] * arms.above[0], arms.below[0] * arms.above[1:]) @ arms.dx
        return _of_both_sides(better, worse, regret, lead)

    return _checked(alpha, beta, integrands, solve)


def _of_both_sides(better: Shapes, worse: Shapes, regret: Shapes, lead: Shapes) -> Against:
    """The smaller side keeps its digits, the other is the rest; the loss of who lags is its lag more."""
    gap = float(np.max(np.abs(better + worse - 1.0)))
    better, worse = np.where(better < worse, (better, 1.0 - better), (1.0 - worse, worse))
    return Against(better, worse, regret + np.maximum(-lead, 0.0), gap)


def _checked[Result: (Best, Against)](
    alpha: Shapes,
    beta: Shapes,
    integrands: Callable[[Sketch], np.ndarray],
    solve: Callable[[Tables], Result],
) -> Result:
    """Solve, and solve again on finer panels as long as the probabilities miss a sum of 1."""
    for fineness in (1.0, 2.0, 4.0):
        result = solve(tabulate(alpha, beta, integrands, fineness=fineness))
        if result.gap <= TOLERANCE:
            return result
    raise ArithmeticError(
        f"probabilities miss a sum of 1 by {result.gap:.1e}, must be at most {TOLERANCE}; "
        f"report alpha={alpha.tolist()}, beta={beta.tolist()}"
    )


def mean_difference(alpha: Shapes, beta: Shapes, control: int) -> Shapes:
    """Return the means of all arms minus the control's, shape (arm,).

    As one fraction: near 1 the means of two arms with 10^8 trials agree in their first 8 digits.
    """
    n = alpha + beta
    return np.asarray((alpha * beta[control] - alpha[control] * beta) / (n * n[control]))
