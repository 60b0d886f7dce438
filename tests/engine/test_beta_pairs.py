"""Many quantiles at once are the quantiles one at a time."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.beta_difference import difference_quantile, ratio_quantile
from engine.beta_pairs import lift_quantiles

shape = st.floats(0.7, 4.5).map(lambda power: 10.0**power)  # 5 to 30 000
pairs = st.lists(st.tuples(shape, shape), min_size=2, max_size=4)


@given(pairs, st.sampled_from([0.025, 0.05, 0.005]))
@example([(10.0, 133.3521432163324), (100.0, 421.6965034285823)], 0.025)  # ends within the bulk
@settings(max_examples=10)
def test_ordinary_pairs_agree_with_the_solver_of_any_pair(shapes, tail):
    alpha, beta = (np.array(part) for part in zip(*shapes, strict=True))
    found = lift_quantiles(alpha, beta, 0, tail)
    assert np.isnan(found[0]).all()
    n = alpha + beta
    sd = np.sqrt(alpha * beta / (n + 1.0)) / n
    for arm in range(1, len(shapes)):
        exact = [difference_quantile(shapes[0], shapes[arm], tail, upper=upper) for upper in (False, True)]
        quantiles = ((0.5, False), (tail, False), (tail, True))
        exact += [ratio_quantile(shapes[0], shapes[arm], share, upper=upper) for share, upper in quantiles]
        sure = ~np.isnan(found[arm])
        apart = np.abs(found[arm] - exact)[sure]
        relative_sd = np.hypot(sd[0] * n[0] / alpha[0], sd[arm] * n[arm] / alpha[arm])
        width = np.array([np.hypot(sd[0], sd[arm])] * 2 + [relative_sd * (1.0 + abs(exact[2]))] * 3)[sure]
        assert (apart <= 1e-10 * width + 1e-14).all()


@pytest.mark.parametrize("n", [40, 1_000, 30_000])
def test_the_shapes_of_daily_work_are_solved_here(n):
    """Else the fast way would be there for nobody."""
    rate = np.array([0.62, 0.7, 0.75, 0.68, 0.8])
    found = lift_quantiles(1.0 + n * rate, 1.0 + n * (1.0 - rate), 0, 0.025)
    assert np.isfinite(found[1:]).all()


def test_what_is_not_ordinary_is_left_to_the_other_solver():
    assert np.isnan(lift_quantiles(np.array([50.0, 1.0]), np.array([50.0, 11.0]), 0, 0.025)).all()
    assert np.isnan(lift_quantiles(np.array([1.0, 50.0]), np.array([11.0, 50.0]), 0, 0.025)).all()
    assert np.isnan(lift_quantiles(np.array([5e8, 6e8]), np.array([5e8, 4e8]), 0, 0.025)).all()
    assert np.isnan(lift_quantiles(np.array([50.0, 60.0]), np.array([50.0, 40.0]), 0, 1e-9)).all()
