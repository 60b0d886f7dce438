"""Arms with few units: many quantiles at once are the quantiles one at a time."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special

from engine.beta_binomial import lift
from engine.beta_blunt import blunt_quantiles
from engine.beta_difference import difference_quantile, ratio_quantile
from engine.beta_table import beta_table
from tests.engine.beta_posteriors import posterior_of

few = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda pair: (1.0 + pair[0], 1.0 + pair[1]))
many = st.tuples(st.integers(0, 3_000), st.integers(0, 3_000)).map(
    lambda pair: (1.0 + pair[0], 1.0 + pair[1])
)


def one_at_a_time(control: tuple[float, float], arm: tuple[float, float], tail: float) -> np.ndarray:
    absolute = [difference_quantile(control, arm, tail, upper=upper) for upper in (False, True)]
    asked = ((0.5, False), (tail, False), (tail, True))
    return np.array(absolute + [ratio_quantile(control, arm, share, upper=upper) for share, upper in asked])


def widths(control: tuple[float, float], arm: tuple[float, float], quantiles: np.ndarray) -> np.ndarray:
    """One standard deviation of the difference, or of the ratio at each of its quantiles."""
    (a, b), both = np.array([control, arm]).T, np.array([control, arm]).sum(axis=1)
    absolute = np.sqrt((a * b / (both + 1.0) / both**2).sum())
    relative = np.sqrt((special.zeta(2, a) - special.zeta(2, both)).sum())
    return np.array([absolute] * 2 + [relative] * 3) * np.where(np.arange(5) < 2, 1.0, 1.0 + quantiles)


@given(few, st.one_of(few, many), st.booleans(), st.sampled_from([0.025, 0.05, 0.005]))
@example((1.0, 1.0), (1.0, 1.0), False, 0.025)
# Some of the control lies below any arm that could make up for it.
@example((5.0, 1.0), (1.0, 5.0), False, 0.025)
# At the first step nothing is left above the upper end.
@example((1401.0, 601.0), (3.0, 2.0), False, 0.025)
# The median's line ends where the sharp arm is all but dead.
@example((5.0, 1.0), (1490.0, 852.0), False, 0.025)
@settings(max_examples=40)
def test_they_agree_with_the_solver_of_any_pair(one, two, turned, tail):
    control, arm = (two, one) if turned else (one, two)
    alpha, beta = np.array([control, arm]).T
    found = blunt_quantiles(beta_table(alpha, beta), 0, np.array([1]), tail)[0]
    exact = one_at_a_time(control, arm, tail)
    sure = ~np.isnan(found)
    assert (np.abs(found - exact) <= 1e-10 * widths(control, arm, exact) + 1e-14)[sure].all()


def test_the_first_calls_of_an_experiment_are_solved_here():
    """Else the fast way would be there for nobody."""
    for shapes in [
        [(2, 2), (1, 2), (2, 1), (3, 1), (1, 1)],
        [(8, 4), (9, 3), (7, 4), (10, 4), (6, 4)],
        [(1401, 601), (3, 2), (1, 1), (9, 4), (1, 12)],
    ]:
        alpha, beta = np.array(shapes, dtype=np.float64).T
        assert np.isfinite(blunt_quantiles(beta_table(alpha, beta), 0, np.arange(1, 5), 0.025)).all()


def test_where_a_sharp_arm_ends_where_the_line_does_the_slow_way_answers():
    """e^t of the sharp arm's mean is all but the end of the line: too many points would be needed."""
    control, arm = (1.0, 1.0), (57_387.0, 42_615.0)
    alpha, beta = np.array([control, arm]).T
    assert np.isnan(blunt_quantiles(beta_table(alpha, beta), 0, np.array([1]), 0.025)[0, 3])
    found = lift(posterior_of([control, arm]), control=0)
    exact = one_at_a_time(control, arm, 0.025)
    assert found.relative_lower[1] == pytest.approx(exact[3], rel=1e-10)
