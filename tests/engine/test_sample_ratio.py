"""The sample ratio against Lindon and Malek, a fair game in every tiny experiment, and its alarms."""

from itertools import product
from math import comb, exp, inf, log, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, chisquare, kstest

from engine.sample_ratio import ALARM, sample_ratio_test
from tests.engine.references import cases

laws = settings(max_examples=60)


@st.composite
def experiments(draw, most=5):
    """Units of up to 5 allocations and 4 arms, and splits that move; some arms are not served in some."""
    arms = draw(st.integers(2, 4))
    rows = draw(
        st.lists(
            st.lists(st.integers(0, 6), min_size=arms, max_size=arms).filter(any), min_size=1, max_size=most
        )
    )
    pi = np.array(rows, float)
    pi /= pi.sum(axis=1, keepdims=True)
    n = np.array([draw(st.lists(st.integers(0, 300), min_size=arms, max_size=arms)) for _ in rows])
    return np.where(pi > 0, n, 0), pi


# --- sources ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("paper_cases", category="ssrm_example"))
def test_the_published_package_gives_the_same_p_after_every_look(case):
    for looks in range(1, len(case["data"]) + 1):
        found = sample_ratio_test(case["data"][:looks], [case["null"]] * looks, concentration=10_000)
        assert found.p_value == pytest.approx(case["sequential_p"][looks - 1], abs=case["tol"])
        assert not found.mismatch
    odds = found.e_value
    assert 1.0 - 1.0 / (1.0 + odds) == pytest.approx(case["posterior_prob"], abs=case["tol"])


@pytest.mark.parametrize("case", cases("peer_vectors", category="srm_chi2"))
def test_peers_chi_squares_are_reproduced(case):
    """Units of an arm without a share are left out there; here they are a mismatch, see below."""
    observed, weights = np.array(case["inputs"]["observed"]), np.array(case["inputs"]["weights"])
    observed[weights == 0.0] = 0
    found = sample_ratio_test([observed], [weights / weights.sum()]).fixed_p_value
    assert found == pytest.approx(case["expected"], abs=case["abs_tolerance"])


def dirichlet_multinomial(n, alpha):
    """Chance of one order of these units, from Polya's urn: (alpha + seen) / (sum of alpha + drawn)."""
    chance, drawn = 0.0, 0
    for units, weight in zip(n, alpha, strict=True):
        for seen in range(units):
            chance += log(weight + seen) - log(sum(alpha) + drawn)
            drawn += 1
    return chance


@given(st.lists(st.integers(0, 40), min_size=2, max_size=4), st.sampled_from([10_000.0, 100, 3.0]))
@laws
def test_one_allocation_is_the_urn_against_the_split(n, concentration):
    pi = np.arange(1.0, len(n) + 1)
    pi /= pi.sum()
    found = sample_ratio_test([n], [pi], concentration=concentration)
    wanted = dirichlet_multinomial(n, concentration * pi) - np.array(n) @ np.log(pi)
    assert found.log_e == pytest.approx(wanted, abs=1e-8)


def test_several_concentrations_share_the_wealth_evenly():
    n, pi = [[30, 70], [300, 200]], [[0.5, 0.5], [0.6, 0.4]]
    each = [sample_ratio_test(n, pi, concentration=one).e_value for one in (100, 10_000)]
    assert sample_ratio_test(n, pi).e_value == pytest.approx(sum(each) / 2, rel=1e-10)


@given(st.lists(st.integers(1, 500), min_size=2, max_size=6))
@laws
def test_one_allocation_has_pearsons_p(n):
    pi = np.arange(2.0, len(n) + 2)
    pi /= pi.sum()
    wanted = chisquare(n, f_exp=sum(n) * pi).pvalue
    assert sample_ratio_test([n], [pi]).fixed_p_value == pytest.approx(wanted, rel=1e-8, abs=1e-300)


@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.integers(0, 300), st.floats(0.05, 0.95)), min_size=1, max_size=5
    )
)
@laws
def test_two_arms_under_moving_splits_have_the_exact_variance(rows):
    n = [[a, c] for a, c, _ in rows]
    pi = [[p, 1.0 - p] for _, _, p in rows]
    surprise = sum(a - (a + c) * p for a, c, p in rows)
    variance = sum((a + c) * p * (1.0 - p) for a, c, p in rows)
    wanted = chi2.sf(surprise**2 / variance, 1)
    assert sample_ratio_test(n, pi).fixed_p_value == pytest.approx(wanted, rel=1e-7, abs=1e-300)


def test_a_split_written_with_seven_digits_is_the_split():
    """Thirds that sum to 0.9999999: the third that is missing is no fourth direction."""
    n = [[3400, 3300, 3300]]
    rounded = sample_ratio_test(n, [[0.3333333] * 3])
    assert rounded.fixed_p_value == pytest.approx(0.36788, abs=1e-5)  # Flagsmith's own test
    assert rounded.expected.sum() == pytest.approx(10_000, rel=1e-12)


# --- a fair game ------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any),
    st.sampled_from([1.0, 7.0, (2.0, 10_000.0)]),
    st.booleans(),
)
@settings(max_examples=12)
def test_the_expected_e_value_is_one_over_every_way_the_units_can_fall(parts, concentration, retires):
    """4 units, then 3 whose split leans towards whoever got more; an arm may be taken out in between."""
    first = np.array(parts, float) / sum(parts)
    total, mass = 0.0, 0.0
    for early in falls(4, 3):
        second = first * (1.0 + np.array(early))
        if retires and second[:2].sum() > 0:
            second[2] = 0.0
        second /= second.sum()
        for late in falls(3, 3):
            chance = chance_of(early, first) * chance_of(late, second)
            if chance > 0.0:
                found = sample_ratio_test([early, late], [first, second], concentration=concentration)
                total += chance * found.e_value
                mass += chance
    assert mass == pytest.approx(1.0, abs=1e-12)
    assert total == pytest.approx(1.0, abs=1e-9)


def falls(units, arms):
    return [n for n in product(range(units + 1), repeat=arms) if sum(n) == units]


def chance_of(n, pi):
    ways, left = 1, sum(n)
    for units in n:
        ways *= comb(left, units)
        left -= units
    return ways * prod(float(p) ** units for p, units in zip(pi, n, strict=True))


# --- laws -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.integers(0, 400), min_size=3, max_size=3), min_size=1, max_size=6),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.sampled_from([50.0, (100.0, 10_000.0)]),
)
@laws
def test_cutting_a_split_that_stands_still_changes_nothing(rows, parts, concentration):
    pi = np.array(parts, float) / sum(parts)
    cut = sample_ratio_test(rows, [pi] * len(rows), concentration=concentration)
    whole = sample_ratio_test([np.sum(rows, axis=0)], [pi], concentration=concentration)
    assert cut.log_e == pytest.approx(whole.log_e, abs=1e-8)
    assert cut.fixed_p_value == pytest.approx(whole.fixed_p_value, rel=1e-7, abs=1e-300, nan_ok=True)
    np.testing.assert_allclose(cut.expected, whole.expected, rtol=1e-12, atol=1e-9)


@given(experiments(), st.randoms(use_true_random=False))
@laws
def test_the_order_of_the_arms_does_not_matter(drawn, random):
    n, pi = drawn
    order = list(range(n.shape[1]))
    random.shuffle(order)
    one, other = sample_ratio_test(n, pi), sample_ratio_test(n[:, order], pi[:, order])
    assert other.log_e == pytest.approx(one.log_e, abs=1e-8)
    assert other.p_value == pytest.approx(one.p_value, rel=1e-7)
    assert other.fixed_p_value == pytest.approx(one.fixed_p_value, rel=1e-6, abs=1e-300, nan_ok=True)
    np.testing.assert_allclose(other.expected, one.expected[order], rtol=1e-12)


@given(experiments())
@laws
def test_a_variant_that_is_never_served_changes_nothing(drawn):
    n, pi = drawn
    beside = np.zeros((len(n), 1))
    found = sample_ratio_test(np.hstack([n, beside.astype(int)]), np.hstack([pi, beside]))
    alone = sample_ratio_test(n, pi)
    assert found.log_e == pytest.approx(alone.log_e, abs=1e-8)
    assert found.fixed_p_value == pytest.approx(alone.fixed_p_value, rel=1e-6, abs=1e-300, nan_ok=True)


@given(experiments())
@laws
def test_p_is_one_over_the_largest_evidence_so_far(drawn):
    n, pi = drawn
    looks = [sample_ratio_test(n[: t + 1], pi[: t + 1]) for t in range(len(n))]
    highest = np.maximum.accumulate([max(look.log_e, 0.0) for look in looks])
    assert [look.p_value for look in looks] == pytest.approx(np.exp(-highest).tolist(), rel=1e-9)
    assert [look.mismatch for look in looks] == (highest >= log(ALARM)).tolist()
    for look in looks:
        assert look.e_value == (inf if look.log_e >= 690.0 else pytest.approx(exp(look.log_e), rel=1e-12))
    np.testing.assert_allclose(looks[-1].expected, (n.sum(axis=1)[:, None] * pi).sum(axis=0), rtol=1e-12)


def test_a_single_unit_of_an_arm_without_a_share_is_proof():
    found = sample_ratio_test([[50, 50, 1], [30, 20, 0]], [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    assert found.e_value == found.log_e == inf
    assert found.p_value == found.fixed_p_value == 0.0
    assert found.mismatch


def test_nothing_assigned_and_nothing_randomised_say_nothing():
    for n, pi in (([[0, 0]], [[0.5, 0.5]]), ([[70, 0]], [[1.0, 0.0]])):
        found = sample_ratio_test(n, pi)
        assert found.log_e == pytest.approx(0.0, abs=1e-12)
        assert found.p_value == pytest.approx(1.0)
        assert np.isnan(found.fixed_p_value)
        assert not found.mismatch


def test_evidence_beyond_the_range_of_floats_is_infinite_and_a_mismatch():
    found = sample_ratio_test([[20_000, 0]], [[0.5, 0.5]])
    assert found.e_value == inf
    assert np.isfinite(found.log_e)
    assert found.mismatch


# --- frequencies ------------------------------------------------------------------------------------------


def moving(seed, runs, allocations=15, size=400, loss=0.0):
    """Splits drawn anew for each allocation around (.5, .3, .2); the second arm loses a share of its units."""
    rng = np.random.default_rng(seed)
    for _ in range(runs):
        pi = rng.dirichlet([5.0, 3.0, 2.0], size=allocations)
        n = np.stack([rng.multinomial(size, split) for split in pi])
        n[:, 1] -= rng.binomial(n[:, 1], loss)
        yield n, pi


@pytest.mark.parametrize("concentration", [100, (100, 10_000)])
def test_false_alarms_stay_under_alpha_under_moving_splits(concentration):
    """p counts the largest e-value after any of the 15 allocations: looking each time is allowed."""
    found = [sample_ratio_test(n, pi, concentration=concentration) for n, pi in moving(1, 400)]
    assert np.mean([one.p_value <= 0.05 for one in found]) <= 0.05
    assert np.mean([one.p_value <= 0.3 for one in found]) <= 0.3
    assert sum(one.mismatch for one in found) <= 3  # 0.4 expected at most
    assert kstest([one.fixed_p_value for one in found], "uniform").pvalue > 0.001


@pytest.mark.parametrize(("size", "loss"), [(2_000, 0.10), (8_000, 0.05)])
def test_an_arm_that_gets_too_few_is_caught_although_its_share_moves(size, loss):
    """15 allocations: 900 of 30 000 calls are lost, or 1 800 of 120 000; all arms' shares change each time."""
    found = [sample_ratio_test(n, pi) for n, pi in moving(2, 60, size=size, loss=loss)]
    assert np.mean([one.mismatch for one in found]) > 0.95


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assigned", "probability", "message"),
    [
        ([[5, -1]], [[0.5, 0.5]], r"assigned\[0, 1\] == -1, must not be negative"),
        ([[5, 1.5]], [[0.5, 0.5]], r"assigned\[0, 1\] == 1\.5, must be a whole number"),
        ([[5, 1]], [[0.5, 0.4]], r"probability\[0\] == 0\.9, must sum to 1 within 1e-6"),
        ([[5, 1]], [[1.5, -0.5]], r"probability\[0\] == 1\.0, must sum to 1 within 1e-6"),
        ([[5, 1]], [[0.5, 0.5]] * 2, r"probability has shape \(2, 2\) and assigned \(1, 2\), both must be"),
    ],
)
def test_units_and_splits_that_do_not_fit_are_refused(assigned, probability, message):
    with pytest.raises(ValueError, match=message):
        sample_ratio_test(assigned, probability)


def test_a_concentration_that_is_none_is_refused():
    with pytest.raises(
        ValueError, match=r"concentration\[0\] == 0\.0, must be greater than 0; it counts units"
    ):
        sample_ratio_test([[1, 1]], [[0.5, 0.5]], concentration=0)
