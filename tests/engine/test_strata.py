"""Post-stratification against Welch, a plain analysis of variance, and its own coverage."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.means import welch_test
from engine.statistics import BinaryCounts, Moments
from engine.strata import stratified_estimate
from tests.engine.references import FOLDER

CALLS = FOLDER.parent / "data" / "tau_bench" / "airline_calls.jsonl.gz"
laws = settings(max_examples=40)
FIELDS = ("estimate", "standard_error", "degrees", "variance_explained", "gain")


def cells(groups):
    """Sums of lists of outcomes, `groups[stratum][arm]`."""
    parts = [[np.asarray(group, float) for group in row] for row in groups]
    return Moments(
        *(
            np.array([[fun(group) for group in row] for row in parts])
            for fun in (np.size, np.sum, lambda x: (x**2).sum())
        )
    )


def some_world(seed, strata=5, arms=3, least=2):
    rng = np.random.default_rng(seed)
    n = rng.integers(least, 40, (strata, arms))
    return BinaryCounts(n, rng.binomial(n, rng.uniform(0.1, 0.9, (strata, 1))))


# --- sources ----------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(-20, 20), min_size=2, max_size=15), min_size=2, max_size=3))
@laws
def test_one_stratum_is_welchs_difference_and_error(groups):
    """The degree of freedom that is lent to each cell gives back its own: inside (1 + 1 / (n - 1)) / n^2."""
    moments = cells([groups])
    plain = Moments(moments.n[0], moments.total[0], moments.total_sq[0])
    assume((plain.variance > 0).all())
    found, welch = stratified_estimate(moments, control=0), welch_test(plain, control=0)
    np.testing.assert_allclose(found.estimate[1:], welch.estimate[1:], rtol=1e-9, atol=1e-12)
    error = np.sqrt(plain.variance[1:] / plain.n[1:] + plain.variance[0] / plain.n[0])
    np.testing.assert_allclose(found.standard_error[1:], error, rtol=1e-9)
    np.testing.assert_allclose(found.gain[1:], 1.0, rtol=1e-9)
    np.testing.assert_allclose(found.variance_explained[1:], 0.0, atol=1e-9)
    np.testing.assert_array_equal(found.degrees[1:], plain.n[1:] + plain.n[0] - 2)


def real_calls():
    if not CALLS.exists():
        pytest.skip(f"{CALLS} is not part of this checkout")
    with gzip.open(CALLS, "rt") as file:
        rows = [json.loads(line) for line in file]
    tasks = sorted({row["segment"] for row in rows})
    groups = [[[], []] for _ in tasks]
    for row in rows:
        groups[tasks.index(row["segment"])][row["trial"] % 2].append(float(row["metrics"]["resolved"]))
    return groups


def test_the_reason_explains_four_tenths_of_how_real_calls_end():
    """tau-bench, airline, gpt-4o: 38 tasks of 4 calls, odd trials as the arm, by an analysis of variance here.

    With equal cells the gain is the total over the within-task mean square, whatever an arm does.
    """
    groups = real_calls()
    found = stratified_estimate(cells(groups), control=0)
    outcome = np.array(groups)  # (task, arm, call)
    assert outcome.shape == (38, 2, 2)
    total = outcome.var(axis=(0, 2), ddof=1).sum()
    within = outcome.var(axis=2, ddof=1).mean(axis=0).sum()
    assert found.variance_explained[1] == pytest.approx(1.0 - within / total, rel=1e-9)
    assert found.gain[1] == pytest.approx(total / within, rel=1e-9)
    means = outcome.mean(axis=(0, 2))
    assert found.estimate[1] == pytest.approx(means[1] - means[0], abs=1e-12)
    assert found.standard_error[1] == pytest.approx(np.sqrt(within / 76), rel=1e-9)
    assert 0.35 < found.variance_explained[1] < 0.62  # statistics.md: .40 to .62 on real agents


def test_a_worked_example_by_hand():
    """Two reasons of 100 calls each: 90 and 20 % for the control, 95 and 25 % for the arm."""
    counts = BinaryCounts(n=[[60, 40], [40, 60]], successes=[[54, 38], [8, 15]])
    found = stratified_estimate(counts, control=0)
    assert found.estimate[1] == pytest.approx((0.05 + 0.05) / 2, abs=1e-12)
    inside = np.array([[54 * 6 / 60, 38 * 2 / 40], [8 * 32 / 40, 15 * 45 / 60]])  # x (n - x) / n
    pooled = inside.sum(axis=0) / (100 - 2)
    variance = ((inside + pooled) / counts.n**2).sum() / 4
    assert found.standard_error[1] ** 2 == pytest.approx(variance, rel=1e-12)
    assert found.degrees[1] == 100 + 100 - 4
    plain = np.array([62 * 38 / 100, 53 * 47 / 100]) / 99
    assert found.variance_explained[1] == pytest.approx(1 - pooled.sum() / plain.sum(), rel=1e-12)
    assert found.gain[1] == pytest.approx(plain.sum() / 100 / variance, rel=1e-12)


# --- laws -------------------------------------------------------------------------------------------------


def permuted(counts, order):
    return BinaryCounts(counts.n[:, order], counts.successes[:, order])


@given(st.integers(0, 10_000), st.permutations(range(3)), st.integers(0, 2))
@laws
def test_neither_the_order_of_the_arms_nor_of_the_strata_matters(seed, order, control):
    counts, order = some_world(seed), list(order)
    moved = stratified_estimate(permuted(counts, order), control=order.index(control))
    turned = stratified_estimate(BinaryCounts(counts.n[::-1], counts.successes[::-1]), control=control)
    found = stratified_estimate(counts, control=control)
    for name in FIELDS:
        wanted = getattr(found, name)
        np.testing.assert_allclose(getattr(moved, name), wanted[order], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(getattr(turned, name), wanted, rtol=1e-9, atol=1e-12)


@given(st.integers(0, 10_000))
@laws
def test_failures_are_the_mirror_image_of_successes(seed):
    counts = some_world(seed)
    one, other = (stratified_estimate(c, control=0) for c in (counts, counts.flipped()))
    np.testing.assert_allclose(other.estimate, -one.estimate, atol=1e-12)
    for name in FIELDS[1:]:
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-7, atol=1e-9)


@given(st.integers(0, 10_000), st.sampled_from([0.001, 1000.0]))
@laws
def test_the_unit_of_the_metric_scales_the_answer_and_a_level_per_stratum_drops_out(seed, unit):
    rng = np.random.default_rng(seed)
    groups = [[rng.normal(size=rng.integers(2, 9)) for _ in range(2)] for _ in range(4)]
    level = rng.normal(size=4) * 3.0
    moved = [[unit * (g + level[i]) for g in row] for i, row in enumerate(groups)]
    one, other = (stratified_estimate(cells(g), control=0) for g in (groups, moved))
    np.testing.assert_allclose(other.estimate, unit * one.estimate, rtol=1e-7, atol=1e-9 * unit)
    np.testing.assert_allclose(other.standard_error, unit * one.standard_error, rtol=1e-7)


def test_strata_weigh_by_the_units_of_all_arms():
    """Differences of 20 and 0 points; the third arm has its calls where the first two have few."""
    counts = BinaryCounts(n=[[50, 50, 500], [150, 150, 100]], successes=[[20, 30, 0], [75, 75, 0]])
    found = stratified_estimate(counts, control=0)
    assert found.estimate[1] == pytest.approx(0.2 * 600 / 1000, abs=1e-12)
    assert np.isnan(found.estimate[0])


def test_a_mix_that_differs_between_the_arms_is_held_equal():
    """Simpson: both arms end 80 % of the easy and 30 % of the hard calls well; plain means say 70 and 40 %."""
    counts = BinaryCounts(n=[[400, 100], [100, 400]], successes=[[320, 80], [30, 120]])
    assert stratified_estimate(counts, control=0).estimate[1] == pytest.approx(0.0, abs=1e-12)


def same(one, other):
    for name in FIELDS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12)


def test_sparse_strata_are_compared_together_within_their_period():
    n = [[30, 30], [5, 1], [1, 6], [20, 25], [1, 3], [4, 1]]
    good = [[20, 25], [3, 1], [0, 4], [10, 10], [1, 2], [3, 0]]
    found = stratified_estimate(BinaryCounts(n, good), control=0, period=[0, 0, 0, 1, 1, 1])
    merged = BinaryCounts([[30, 30], [6, 7], [20, 25], [5, 4]], [[20, 25], [3, 5], [10, 10], [4, 2]])
    same(found, stratified_estimate(merged, control=0))
    in_one = stratified_estimate(BinaryCounts(n, good), control=0)
    merged = BinaryCounts([[30, 30], [11, 11], [20, 25]], [[20, 25], [7, 7], [10, 10]])
    same(in_one, stratified_estimate(merged, control=0))


def test_where_a_periods_sparse_strata_are_too_few_those_of_all_periods_are_joined():
    n, good = [[30, 30], [1, 1], [20, 25], [3, 1]], [[20, 25], [1, 0], [10, 10], [2, 1]]
    found = stratified_estimate(BinaryCounts(n, good), control=0, period=[0, 0, 1, 1])
    same(
        found,
        stratified_estimate(
            BinaryCounts([[30, 30], [4, 2], [20, 25]], [[20, 25], [3, 1], [10, 10]]), control=0
        ),
    )


def test_what_is_left_over_joins_the_largest_stratum():
    n, good = [[30, 30], [1, 0], [20, 25]], [[20, 25], [1, 0], [10, 10]]
    found = stratified_estimate(BinaryCounts(n, good), control=0)
    same(found, stratified_estimate(BinaryCounts([[31, 30], [20, 25]], [[21, 25], [10, 10]]), control=0))


@pytest.mark.parametrize("n", [[[1, 5], [0, 5]], [[5, 0], [5, 1]], [[0, 0], [0, 0]]])
def test_an_arm_with_fewer_than_two_outcomes_is_not_compared(n):
    found = stratified_estimate(BinaryCounts(n, np.zeros_like(n)), control=0)
    for name in FIELDS:
        assert np.isnan(getattr(found, name)).all()
    assert np.isnan(found.interval().lower).all()


def test_two_equal_outcomes_in_a_cell_are_no_certainty():
    """The small stratum shows no spread; each of its cells borrows one degree of freedom of its arm's."""
    counts = BinaryCounts(n=[[2, 2], [40, 40]], successes=[[2, 0], [20, 20]])
    found = stratified_estimate(counts, control=0)
    pooled = 10.0 / 40  # of 40 + 2 - 2 degrees
    variance = (4 / 84) ** 2 * 2 * pooled / 4 + (80 / 84) ** 2 * 2 * (10.0 + pooled) / 1600
    assert found.standard_error[1] ** 2 == pytest.approx(variance, rel=1e-12)


# --- a frequency ------------------------------------------------------------------------------------------


def test_the_interval_covers_and_is_shorter_by_its_gain():
    """800 experiments of 240 calls over 12 reasons whose rates run from 10 to 90 %; the lift is 5 points."""
    rng = np.random.default_rng(7)
    base, lift, runs = np.linspace(0.1, 0.85, 12), 0.05, 800
    covered, errors, estimates, gains, plain = [], [], [], [], []
    for _ in range(runs):
        reason, arm = rng.integers(0, 12, 240), rng.integers(0, 2, 240)
        outcome = rng.random(240) < base[reason] + lift * arm
        n, good = np.zeros((12, 2), int), np.zeros((12, 2), int)
        np.add.at(n, (reason, arm), 1)
        np.add.at(good, (reason, arm), outcome)
        counts = BinaryCounts(n, good)
        found = stratified_estimate(counts, control=0)
        interval = found.interval()
        covered.append(interval.lower[1] <= lift <= interval.upper[1])
        errors.append(found.standard_error[1])
        estimates.append(found.estimate[1])
        gains.append(found.gain[1])
        plain.append(good[:, 1].sum() / n[:, 1].sum() - good[:, 0].sum() / n[:, 0].sum())
    assert abs(np.mean(covered) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / runs)
    assert np.mean(estimates) == pytest.approx(lift, abs=3 * np.std(estimates) / np.sqrt(runs))
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.08)
    assert np.median(gains) == pytest.approx(np.var(plain) / np.var(estimates), rel=0.15)
    assert np.median(gains) > 1.15


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "arguments", "message"),
    [
        ([5, 5], {"control": 0}, r"statistics have shape \(2,\), must be \(stratum, arm\)"),
        ([[5, 5]], {"control": 2}, r"control == 2, must be in 0\.\.1"),
        ([[5, 5]], {"control": 0, "period": [0, 1]}, r"period has shape \(2,\), must be \(1,\)"),
        ([[5, 5]], {"control": 0, "period": [0.5]}, r"period\[0\] == 0\.5, must be a whole number"),
    ],
)
def test_strata_that_do_not_fit_are_refused(n, arguments, message):
    with pytest.raises(ValueError, match=message):
        stratified_estimate(BinaryCounts(n, np.zeros_like(n)), **arguments)
