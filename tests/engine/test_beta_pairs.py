"""Many quantiles at once are the quantiles one at a time."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine import beta_binomial
from engine.beta_difference import difference_quantile, ratio_quantile
from engine.beta_pairs import lift_quantiles
from engine.beta_table import beta_table, is_ordinary
from tests.engine.beta_posteriors import posterior_of

shape = st.floats(0.7, 4.5).map(lambda power: 10.0**power)  # 5 to 30 000
pairs = st.lists(st.tuples(shape, shape), min_size=2, max_size=4)


@given(pairs, st.sampled_from([0.025, 0.05, 0.005]))
@example([(10.0, 133.3521432163324), (100.0, 421.6965034285823)], 0.025)  # ends within the bulk
@settings(max_examples=10)
def test_ordinary_pairs_agree_with_the_solver_of_any_pair(shapes, tail):
    alpha, beta = (np.array(part) for part in zip(*shapes, strict=True))
    found = lift_quantiles(beta_table(alpha, beta), 0, tail)
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
    found = lift_quantiles(beta_table(1.0 + n * rate, 1.0 + n * (1.0 - rate)), 0, 0.025)
    assert np.isfinite(found[1:]).all()


def test_what_is_not_ordinary_is_left_to_the_other_solvers(monkeypatch):
    assert is_ordinary(np.array([50.0, 0.5, 11.0, 5e8]), np.array([50.0, 11.0, 0.5, 5e8])).tolist() == [
        True,
        False,
        False,
        False,
    ]
    arms = beta_table(np.array([50.0, 60.0, 1.0]), np.array([50.0, 40.0, 11.0]))
    assert np.isnan(lift_quantiles(arms, 0, 0.025)).any(axis=1).tolist() == [True, False, True]
    assert np.isnan(lift_quantiles(arms, 2, 0.025)).all()
    assert np.isnan(lift_quantiles(arms, 0, 1e-9)).all()

    asked = set()

    def noted(control, arm, tail, *, upper):
        asked.add((control, arm))
        return difference_quantile(control, arm, tail, upper=upper)

    monkeypatch.setattr(beta_binomial, "difference_quantile", noted)
    arms = posterior_of([(50, 50), (0.5, 11), (60, 40), (1, 11)])
    beta_binomial.lift(arms, control=0)
    assert asked == {((50.0, 50.0), (0.5, 11.0))}
    asked.clear()
    beta_binomial.lift(arms, control=1)
    assert len(asked) == 3
