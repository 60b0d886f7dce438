"""A tabulated distribution function is the incomplete beta function."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.beta_logit import nats_at, small_tail, tails
from engine.beta_table import BetaTable, beta_table, is_ordinary

shape = st.floats(-0.04, 7.0).map(lambda power: 10.0**power)
pair = st.tuples(shape, shape).filter(lambda both: bool(is_ordinary(*(np.array([part]) for part in both))[0]))
pairs = st.lists(pair, min_size=1, max_size=4)


@given(pairs, st.floats(0.0, 1.0))
@settings(max_examples=50)
def test_the_table_is_the_incomplete_beta_function(shapes, part):
    alpha, beta = (np.array(part) for part in zip(*shapes, strict=True))
    table = beta_table(alpha, beta)
    place = np.concatenate([np.linspace(-1.0, 1.0, 41) * part, [-700.0, 700.0]])
    place = np.broadcast_to(place, (alpha.size, place.size))
    exact, _ = tails(alpha[:, None], beta[:, None], table.peak[:, None] + place)
    # 1e-16 of rounding in a place moves the function of a sharp arm by a thousand times as much.
    assert np.abs(table.below(np.arange(alpha.size), place) - exact).max() < 2e-12


@given(pairs, st.floats(2.0, 20.0))
@example([(576.0, 6.0)], 20.0)  # so skewed that its short tail is four times as sharp as its peak
@example([(1.0, 1_000.0)], 16.0)
@settings(max_examples=50)
def test_a_small_tail_keeps_ten_digits_down_to_20_nats(shapes, nats):
    table = beta_table(*(np.array(part) for part in zip(*shapes, strict=True)))
    place = np.stack([place_of(table, end, nats) for end in (table.low, table.high)], axis=1)
    found, is_above = table.tail(np.arange(table.peak.size), place)
    exact = small_tail(table.alpha[:, None], table.beta[:, None], table.peak[:, None] + place)
    assert (is_above == [False, True]).all()
    assert np.abs(found / exact - 1.0).max() < 1e-10


def place_of(table: BetaTable, end: np.ndarray, nats: float) -> np.ndarray:
    """Where the density lies that much below its peak, by bisection."""
    near, far = np.zeros(end.size), end
    for _ in range(60):
        middle = 0.5 * (near + far)
        is_far = nats_at(table.alpha, table.beta, middle) > nats
        near, far = np.where(is_far, near, middle), np.where(is_far, middle, far)
    return near


def test_beyond_its_ends_nothing_or_everything_lies_below():
    table = beta_table(np.array([40.0]), np.array([60.0]))
    found = table.below(np.zeros(1, dtype=np.int64), np.array([[-np.inf, -70.0, 70.0, np.inf]]))[0]
    assert found == pytest.approx([0.0, 0.0, 1.0, 1.0], rel=0.0, abs=1e-17)
