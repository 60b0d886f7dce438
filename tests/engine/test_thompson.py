"""Splits against the published formula, in fractions, and at its limits."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.beta_binomial import BetaPosterior, probability_best
from engine.normal import NormalPosterior
from engine.thompson import thompson_split, top_two_split, transport_split
from tests.engine.references import cases

weights = st.lists(st.integers(1, 10**6), min_size=2, max_size=12)


def as_probabilities(parts):
    return [Fraction(part, sum(parts)) for part in parts]


@pytest.mark.parametrize("case", cases("paper_cases", category="ttts_"))
def test_top_two_agrees_with_the_paper_cases(case):
    """Russo's formula, checked there by 4e5 draws of the sampling rule itself.

    To 2e-12: for p = (0.999999, 1e-6, 0) the exact split is (1/2, 1/2, 0), and the file is off by 1.7e-12,
    because 1 - 0.999999 in float64 carries a relative error of 3e-11.
    """
    assert top_two_split(case["p_best"]).tolist() == pytest.approx(case["psi"], rel=0.0, abs=2e-12)


@given(weights, st.integers(0, 10))
def test_top_two_is_russos_formula_in_fractions(parts, tenths):
    """psi_i = p_i (s + (1 - s) sum over j != i of p_j / (1 - p_j))."""
    p, s = as_probabilities(parts), Fraction(tenths, 10)
    psi = [
        p_i * (s + (1 - s) * sum(p_j / (1 - p_j) for j, p_j in enumerate(p) if j != i))
        for i, p_i in enumerate(p)
    ]
    split = top_two_split([float(x) for x in p], leader_share=tenths / 10)
    assert split.tolist() == pytest.approx([float(x) for x in psi], rel=1e-9)


@given(weights)
def test_both_splits_sum_to_exactly_one_in_any_order_and_keep_the_order(parts):
    p = np.array([float(x) for x in as_probabilities(parts)])
    for split in (thompson_split(p), top_two_split(p)):
        assert split.sum() == sum(split) == sum(sorted(split)) == 1.0
        assert np.all(np.diff(split[np.argsort(p)]) >= -1e-15)


@given(weights)
def test_thompson_serves_the_probability_itself(parts):
    p = [float(x) for x in as_probabilities(parts)]
    assert thompson_split(p).tolist() == pytest.approx(p, abs=1e-15)


@given(st.floats(0, 1))
def test_two_arms_get_half_each_whatever_their_probabilities(p):
    assert top_two_split([p, 1.0 - p]).tolist() == pytest.approx([0.5, 0.5], abs=1e-15)


def test_a_leader_share_of_one_is_thompson_sampling():
    p = [0.6, 0.3, 0.1]
    assert top_two_split(p, leader_share=1.0).tolist() == pytest.approx(thompson_split(p).tolist(), abs=1e-15)


@pytest.mark.parametrize("p", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
def test_a_certain_leader_shares_evenly_with_the_hopeless(p):
    """The limit of the formula as the others shrink together."""
    leader, k = int(np.argmax(p)), len(p)
    wanted = [0.5 if i == leader else 0.5 / (k - 1) for i in range(k)]
    assert top_two_split(p).tolist() == pytest.approx(wanted, abs=1e-15)


@pytest.mark.parametrize("scale", [1e-3, 1e-20, 1e-300])
def test_challengers_share_by_their_odds_however_hopeless(scale):
    """1 - p of the leader is 0 in float64 from 1e-16 on; as the sum of the others it keeps the ratio 3 : 1."""
    split = top_two_split([1.0 - 4 * scale, scale, 3 * scale])
    assert split.tolist() == pytest.approx([0.5, 0.125, 0.375], abs=2 * scale + 1e-15)


def test_a_single_arm_gets_everything():
    assert thompson_split([1.0]).tolist() == top_two_split([1.0]).tolist() == [1.0]


@pytest.mark.parametrize("split", [thompson_split, top_two_split])
@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([np.nan, 1.0], r"probability_best\[0\] == nan, must be finite; an arm without data"),
        ([1.5, -0.5], r"probability_best\[1\] == -0\.5, must not be negative"),
        ([0.5, 0.4], r"probability_best sums to 0\.9, must be 1"),
        ([], r"probability_best sums to 0, must be 1"),
    ],
)
def test_what_is_no_probability_vector_is_refused(split, p, message):
    with pytest.raises(ValueError, match=message):
        split(p)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_leader_share_outside_of_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match="leader_share"):
        top_two_split([0.5, 0.5], leader_share=share)


shapes = st.lists(st.tuples(st.floats(0.5, 1e5), st.floats(0.5, 1e5)), min_size=2, max_size=6)


def beta_of(pairs) -> BetaPosterior:
    return BetaPosterior(np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]))


def divergence(p: float, q: float) -> float:
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


@given(shapes)
@example([(0.5, 0.5), (0.5000000000000001, 0.5)])  # the evidence of a rounding error
def test_the_transport_split_is_its_definition_arm_by_arm(pairs):
    """Each possible leader with its closest challenger, written out in loops."""
    posterior = beta_of(pairs)
    p = probability_best(posterior)
    n, mean = posterior.alpha + posterior.beta, posterior.mean
    expected = np.zeros(len(pairs))
    for i in range(len(pairs)):
        parts = {}
        for j in range(len(pairs)):
            if j != i:
                middle = (n[i] * mean[i] + n[j] * mean[j]) / (n[i] + n[j])
                ahead = mean[i] > mean[j]
                parts[j] = [n[k] * divergence(mean[k], middle) if ahead else 0.0 for k in (i, j)]
        least = min(sum(part) for part in parts.values())
        closest = [j for j, part in parts.items() if sum(part) <= least + 1e-12]
        for j in closest:
            whole = sum(parts[j])
            share = parts[j][0] / whole if whole > 1e-12 else 0.5
            expected[i] += p[i] / len(closest) * share
            expected[j] += p[i] / len(closest) * (1 - share)
    assert transport_split(p, posterior).tolist() == pytest.approx(expected.tolist(), abs=1e-3)


@given(shapes, st.randoms())
def test_the_transport_split_follows_its_arms_and_does_not_care_for_the_direction(pairs, random):
    order = list(range(len(pairs)))
    random.shuffle(order)
    posterior = beta_of(pairs)
    p = probability_best(posterior)
    moved = transport_split(p[order], beta_of([pairs[i] for i in order]))
    assert moved.tolist() == pytest.approx(transport_split(p, posterior)[order].tolist(), abs=1e-9)
    assert moved.sum() == 1.0


def test_two_means_known_alike_share_the_calls_and_the_less_known_gets_more():
    """h = v_i / (v_i + v_j): You et al. (2023), Gaussian case."""
    even = NormalPosterior(np.array([1.0, 0.0]), np.array([0.1, 0.1]))
    assert transport_split([0.9, 0.1], even).tolist() == pytest.approx([0.5, 0.5])
    leader_known = NormalPosterior(np.array([1.0, 0.0]), np.array([0.1, 0.3]))
    assert transport_split([1.0, 0.0], leader_known).tolist() == pytest.approx([0.1, 0.9])


def test_the_transport_split_refuses_what_it_cannot_use():
    posterior = NormalPosterior(np.array([1.0, np.nan]), np.array([0.1, np.inf]))
    with pytest.raises(ValueError, match=r"posterior\.sd\[1\] == inf, must be finite"):
        transport_split([0.5, 0.5], posterior)
    with pytest.raises(ValueError, match=r"posterior has 2 arms, probability_best 3"):
        transport_split([0.5, 0.5, 0.0], beta_of([(1.0, 1.0), (2.0, 2.0)]))
    assert transport_split([1.0], beta_of([(1.0, 1.0)])).tolist() == [1.0]
