"""Adjusted p-values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from engine.multiplicity import benjamini_hochberg, e_benjamini_hochberg, holm
from tests.engine.references import cases

p_values = st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), min_size=0, max_size=40)
both = pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])


def test_benjamini_and_hochberg_reject_four_of_their_own_example():
    """Benjamini and Hochberg (1995), section 3.2: 15 tests, FDR .05 rejects 4, Bonferroni (and Holm) 3."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.000]
    assert (benjamini_hochberg(p) <= 0.05).sum() == 4
    assert (holm(p) <= 0.05).sum() == 3


@pytest.mark.parametrize("case", cases("peer_vectors", category="multiple_testing"))
def test_growthbooks_adjusted_p_values_are_reproduced(case):
    np.testing.assert_allclose(
        benjamini_hochberg(case["inputs"]["p_values"]), case["expected"], atol=case["abs_tolerance"], rtol=0
    )


@both
@given(p=p_values)
def test_adjusting_never_makes_p_smaller_and_keeps_the_order(adjust, p):
    p = np.array(p, dtype=float)
    adjusted = adjust(p)
    known = ~np.isnan(p)
    assert np.array_equal(np.isnan(adjusted), ~known)
    assert (adjusted[known] >= p[known]).all()
    assert (adjusted[known] <= 1).all()
    assert (np.diff(adjusted[known][np.argsort(p[known])]) >= 0).all()


@both
@given(p=p_values, random=st.randoms(use_true_random=False))
def test_the_order_of_the_comparisons_does_not_matter(adjust, p, random):
    order = list(range(len(p)))
    random.shuffle(order)
    np.testing.assert_array_equal(adjust(np.array(p, float)[order]), adjust(p)[order])


@given(p=p_values)
def test_holm_is_never_more_lenient_than_benjamini_hochberg(p):
    known = ~np.isnan(np.array(p, float))
    assert (holm(p)[known] >= benjamini_hochberg(p)[known] * (1 - 1e-15)).all()


@pytest.mark.parametrize(("adjust", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=40))
@settings(max_examples=10)
def test_adjusted_p_values_agree_with_statsmodels(adjust, method, p):
    expected = multipletests(p, method=method)[1]
    np.testing.assert_allclose(adjust(p), expected, rtol=1e-12, atol=1e-300)


def test_a_comparison_without_a_test_does_not_count():
    assert holm([0.02, np.nan])[0] == 0.02
    assert benjamini_hochberg([np.nan, 0.02])[1] == 0.02


@both
def test_tiny_p_values_do_not_underflow(adjust):
    assert adjust([1e-320, 0.5])[0] == pytest.approx(2e-320, rel=1e-3)


@both
@pytest.mark.parametrize("bad", [-0.01, 1.01, 5.0])
def test_a_number_that_is_no_probability_is_refused(adjust, bad):
    with pytest.raises(ValueError, match=r"p_values\[1\] == .*, must be in \[0, 1\] or nan"):
        adjust([0.5, bad])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_e_values_are_rejected_as_the_procedure_says(e_values, alpha):
    """Wang and Ramdas (2022), definition 1, written out: the largest k with e_(k) >= m / (alpha k)."""
    m = len(e_values)
    ranked = sorted(e_values, reverse=True)
    k = max((i for i, e in enumerate(ranked, 1) if e * alpha * i >= m * (1 + 1e-9)), default=0)
    near = max((i for i, e in enumerate(ranked, 1) if e * alpha * i >= m * (1 - 1e-9)), default=0)
    assert k <= int(np.sum(e_benjamini_hochberg(e_values) <= alpha)) <= near


def test_a_negative_e_value_is_refused():
    with pytest.raises(ValueError, match=r"e_values\[1\] == -1"):
        e_benjamini_hochberg([2.0, -1.0])
