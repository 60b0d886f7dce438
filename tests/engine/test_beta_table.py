"""A tabulated distribution function is the incomplete beta function."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from engine.beta_logit import alive_interval
from engine.beta_table import BetaTable, beta_table
from engine.quadrature import NODES

shape = st.floats(0.7, 5.0).map(lambda power: 10.0**power)  # 5 to 100 000


def table_of(alpha: np.ndarray, beta: np.ndarray) -> BetaTable:
    return beta_table(alpha, beta, *alive_interval(alpha, beta, 34.0))


@given(st.lists(st.tuples(shape, shape), min_size=1, max_size=4))
@settings(max_examples=25)
def test_the_table_is_the_incomplete_beta_function(shapes):
    alpha, beta = (np.array(part) for part in zip(*shapes, strict=True))
    arm = np.arange(alpha.size)
    x = np.concatenate([np.linspace(1e-9, 1.0 - 1e-9, 40), (alpha / (alpha + beta)) + 1e-4, [1e-30]])
    x = np.broadcast_to(np.minimum(x, 1.0 - 1e-16), (alpha.size, x.size))
    found = table_of(alpha, beta).below(arm, x)
    exact = special.betainc(alpha[:, None], beta[:, None], x)
    # 1e-16 of rounding in x moves the function of a sharp arm by a thousand times as much.
    assert np.abs(found - exact).max() < 2e-12


def test_at_its_nodes_and_beyond_its_ends_a_table_answers_what_stands_in_it():
    table = table_of(np.array([40.0]), np.array([60.0]))
    nodes = special.expit(table.low[0] + table.width[0] * 0.5 * (1.0 + NODES))
    found = table.below(np.zeros(1, dtype=np.int64), np.concatenate([nodes, [1e-30, 1.0 - 1e-16]])[None, :])
    assert found[0, :-2] == pytest.approx(table.nodes[0, 0], rel=0.0, abs=1e-15)
    assert found[0, -2:] == pytest.approx([0.0, 1.0], rel=0.0, abs=1e-14)
