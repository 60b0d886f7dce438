"""Adaptive estimates against the published pseudo-outcomes, unit by unit in fractions, and their unbiasedness."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from engine.adaptive import aipw_estimate
from engine.sequential import SHRINKAGE, confidence_sequence_factor
from engine.statistics import BinaryCounts, Moments
from tests.engine.references import cases

laws = settings(max_examples=40)
HALF = Fraction(1, 2)


# --- the definition, one unit after the other -------------------------------------------------------------


def pseudo_outcomes(past, units, pi):
    """G_a = m_a + 1{given a} (y - m_a) / pi_a for each unit of one allocation, m_a made without the unit.

    `past` and `units` are lists of (arm, y). The guess from earlier allocations weighs as much as the arm had
    units there and one more, at most kappa; the other units of the allocation weigh one each.
    """
    arms, kappa = range(len(pi)), int(SHRINKAGE)
    pool = Fraction(sum(y for _, y in past) + 1) / (len(past) + 2)
    of_arm = [[y for given, y in past if given == a] for a in arms]
    guess = [(sum(seen) + kappa * pool) / (len(seen) + kappa) for seen in of_arm]
    strength = [min(1 + len(seen), kappa) for seen in of_arm]
    rows = []
    for i, (served, y) in enumerate(units):
        others = units[:i] + units[i + 1 :]
        row = []
        for a in arms:
            seen = [other for arm, other in others if arm == a]
            m = (strength[a] * guess[a] + sum(seen)) / (strength[a] + len(seen))
            if pi[a] == 0:
                row.append(None)
            else:
                row.append(m + ((y - m) / pi[a] if served == a else 0))
        rows.append(row)
    return rows


def contrasts(allocations, arm, control):
    """G_arm - G_control of every unit of the allocations that served both."""
    past, found = [], []
    for units, pi in allocations:
        if pi[arm] and pi[control]:
            found += [row[arm] - row[control] for row in pseudo_outcomes(past, units, pi)]
        past = past + units
    return found


def summed(allocations):
    """The same units as sums per allocation and arm, and the splits."""
    arms = len(allocations[0][1])
    table = np.zeros((3, len(allocations), arms))
    for j, (units, _) in enumerate(allocations):
        for arm, y in units:
            table[:, j, arm] += [1.0, float(y), float(y) ** 2]
    return Moments(*table), [[float(p) for p in pi] for _, pi in allocations]


splits = st.lists(st.integers(0, 6), min_size=3, max_size=3).filter(lambda parts: sum(parts) > 0)


@st.composite
def experiments(draw):
    """Up to 4 allocations of 3 arms with outcomes in eighths; an arm without a share has no units."""
    allocations = []
    for parts in draw(st.lists(splits, min_size=1, max_size=4)):
        served = [a for a in range(3) if parts[a]]
        unit = st.tuples(st.sampled_from(served), st.integers(0, 8).map(lambda y: Fraction(y, 8)))
        times = draw(st.sampled_from([1, 1, 7]))  # 60 units and more: the guess weighs at most kappa = 50
        units = draw(st.lists(unit, max_size=12)) * times
        allocations.append((units, [Fraction(part, sum(parts)) for part in parts]))
    return allocations


@given(experiments())
@laws
def test_sums_give_what_the_units_give_one_by_one(allocations):
    statistics, pi = summed(allocations)
    found = aipw_estimate(statistics, pi, control=0)
    for arm in (1, 2):
        each = contrasts(allocations, arm, 0)
        together = [units for units, split in allocations if split[arm] and split[0]]
        of = [sum(given == a for units in together for given, _ in units) for a in (arm, 0)]
        assert found.n[arm] == len(each)
        if min(of) == 0:
            assert np.isnan(found.estimate[arm])
            assert np.isnan(found.standard_error[arm])
            continue
        mean = sum(each) / len(each)
        variance = (sum(z * z for z in each) / len(each) - mean**2) / len(each)
        variance += Fraction(1, of[0] ** 2) + Fraction(1, of[1] ** 2)
        assert found.estimate[arm] == pytest.approx(float(mean), rel=1e-10, abs=1e-11)
        assert found.standard_error[arm] ** 2 == pytest.approx(float(variance), rel=1e-9)
    assert np.isnan(found.estimate[0])


def expected_sum(first_split, second_split, outcomes, sizes):
    """E[sum of G_1 - G_0] over every assignment of two allocations, the second split moved by the first.

    `outcomes[u]` is what unit u yields under (control, arm): fixed, so all chance is that of the assignment.
    """
    total, mass = Fraction(0), Fraction(0)
    for arms in product((0, 1), repeat=sum(sizes)):
        units = [(arm, outcomes[u][arm]) for u, arm in enumerate(arms)]
        early, late = units[: sizes[0]], units[sizes[0] :]
        second = second_split(early)
        chance = Fraction(1)
        for u, arm in enumerate(arms):
            split = first_split if u < sizes[0] else second
            chance *= split[arm]
        mass += chance
        total += chance * sum(contrasts([(early, first_split), (late, second)], 1, 0))
    assert mass == 1
    return total


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=5, max_size=5),
    st.integers(1, 9),
)
@settings(max_examples=20)
def test_the_sum_of_pseudo_outcomes_is_unbiased_in_fractions_over_every_assignment(outcomes, tenths):
    """Whatever the outcomes are and however greedily the second split follows the first: exactly.

    The estimate is this sum over the number of units (the test above), so it is unbiased but for the runs in
    which an arm got nobody, where there is none.
    """
    first = [Fraction(tenths, 10), 1 - Fraction(tenths, 10)]

    def greedy(early):
        lead = sum(y if arm else -y for arm, y in early)
        mine = min(max(HALF + Fraction(3, 10) * lead, Fraction(1, 20)), Fraction(19, 20))
        return [1 - mine, mine]

    wanted = sum(under_arm - under_control for under_control, under_arm in outcomes)
    assert expected_sum(first, greedy, outcomes, (3, 2)) == wanted


@pytest.mark.parametrize("case", cases("paper_cases", category="eprocess_rows"))
def test_the_worked_pseudo_outcomes_are_reproduced(case):
    """Each unit is its own allocation; t times the estimate is the sum of the first t pseudo-outcomes."""
    arm, y, pi = np.array(case["A"]), np.array(case["y"]), np.array(case["pi1"])
    n = np.stack([arm == 0, arm == 1], axis=1).astype(int)
    split = np.stack([1.0 - pi, pi], axis=1)
    for t in range(2, len(y) + 1):  # before, one arm has nobody
        found = aipw_estimate(BinaryCounts(n[:t], n[:t] * y[:t, None]), split[:t], control=0)
        assert t * found.estimate[1] == pytest.approx(sum(case["aipw_pseudo"][:t]), abs=t * case["tol"])


@given(
    st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1), st.integers(1, 9)), min_size=2, max_size=4),
    st.integers(0, 300),
)
@laws
def test_one_allocation_is_the_difference_of_means_and_a_little_of_the_first_guess(arms, control):
    """Derived by hand: mean_a + (1/2 - mean_a) ((N + 1) / (N (n_a + 1)) - 1 / (N pi_a)) estimates arm a."""
    n = np.array([units for units, _, _ in arms])
    good = np.array([int(rate * units) for units, rate, _ in arms])
    pi = np.array([weight for _, _, weight in arms], float)
    pi /= pi.sum()
    control %= len(arms)
    whole, mean = n.sum(), good / n
    level = mean + (0.5 - mean) * ((whole + 1) / (whole * (n + 1)) - 1 / (whole * pi))
    found = aipw_estimate(BinaryCounts(n[None], good[None]), pi[None], control=control).estimate
    wanted = np.where(np.arange(n.size) == control, np.nan, level - level[control])
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-10)


# --- laws -------------------------------------------------------------------------------------------------


def three_arms(seed=0, allocations=4):
    rng = np.random.default_rng(seed)
    pi = rng.dirichlet([4.0, 3.0, 2.0], size=allocations)
    n = np.stack([rng.multinomial(200, split) for split in pi])
    return BinaryCounts(n=n, successes=rng.binomial(n, 0.6)), pi


@given(st.integers(0, 1000), st.permutations(range(3)), st.integers(0, 2))
@laws
def test_the_order_of_the_arms_does_not_matter(seed, order, control):
    counts, pi = three_arms(seed)
    order = list(order)
    moved = aipw_estimate(
        BinaryCounts(counts.n[:, order], counts.successes[:, order]),
        pi[:, order],
        control=order.index(control),
    )
    found = aipw_estimate(counts, pi, control=control)
    for name in ("estimate", "standard_error", "n"):
        np.testing.assert_allclose(getattr(moved, name), getattr(found, name)[order], rtol=1e-12)


@given(st.integers(0, 1000))
@laws
def test_failures_are_the_mirror_image_of_successes(seed):
    counts, pi = three_arms(seed)
    one, other = (aipw_estimate(c, pi, control=1) for c in (counts, counts.flipped()))
    np.testing.assert_allclose(other.estimate, -one.estimate, atol=1e-12)
    np.testing.assert_allclose(other.standard_error, one.standard_error, rtol=1e-9)


def test_asked_from_either_side_the_difference_is_one_number():
    counts, pi = three_arms(3)
    there, back = (aipw_estimate(counts, pi, control=c) for c in (0, 2))
    assert there.estimate[2] == pytest.approx(-back.estimate[0], rel=1e-12)
    assert there.standard_error[2] == pytest.approx(back.standard_error[0], rel=1e-12)


@given(st.integers(0, 1000), st.sampled_from([0.001, 60.0, 3.6e6]))
@laws
def test_minutes_are_sixty_times_less_than_seconds(seed, unit):
    counts, pi = three_arms(seed)
    rng = np.random.default_rng(seed)
    total = counts.n * rng.uniform(50.0, 300.0, counts.n.shape)
    squares = total**2 / np.maximum(counts.n, 1) * 1.3
    one, other = (
        aipw_estimate(Moments(counts.n, total * u, squares * u**2), pi, control=0, in_unit_interval=False)
        for u in (1.0, unit)
    )
    np.testing.assert_allclose(other.estimate, unit * one.estimate, rtol=1e-9)
    np.testing.assert_allclose(other.standard_error, unit * one.standard_error, rtol=1e-8)
    negative = Moments(counts.n, -total, squares)
    mirrored = aipw_estimate(negative, pi, control=0, in_unit_interval=False)
    np.testing.assert_allclose(mirrored.estimate, -one.estimate, rtol=1e-9)


def test_cutting_an_allocation_in_two_hardly_matters():
    """Not exactly: the later half is predicted with the help of the earlier one. a tenth of an error at 2 000 units."""
    rng = np.random.default_rng(4)
    n = np.array([[500, 500], [480, 520]])
    good = rng.binomial(n, [[0.6, 0.7], [0.6, 0.7]])
    cut = aipw_estimate(BinaryCounts(n, good), [[0.5, 0.5]] * 2, control=0)
    whole = aipw_estimate(BinaryCounts(n.sum(0)[None], good.sum(0)[None]), [[0.5, 0.5]], control=0)
    assert cut.estimate[1] == pytest.approx(whole.estimate[1], abs=0.1 * whole.standard_error[1])
    assert cut.standard_error[1] == pytest.approx(whole.standard_error[1], rel=0.01)
    assert cut.n[1] == whole.n[1] == 2000


def test_a_long_history_does_not_hold_on_to_what_it_knew():
    """After ten thousand calls at 20 % come two thousand at 80 %, under an even split: what was known is outvoted.

    The error is that of the plain difference, n pq / n^2 for either arm of either time, and little more.
    """
    counts = BinaryCounts(n=[[5_000, 5_000], [1_000, 1_000]], successes=[[1_000, 1_000], [800, 800]])
    found = aipw_estimate(counts, [[0.5, 0.5], [0.5, 0.5]], control=0)
    plain = np.sqrt(2.0 * (5_000 + 1_000) * 0.2 * 0.8) / 6_000
    assert plain < found.standard_error[1] < 1.02 * plain


def test_a_hundred_successes_of_a_hundred_are_no_certainty():
    counts = BinaryCounts(n=[[100, 400]], successes=[[100, 400]])
    found = aipw_estimate(counts, [[0.2, 0.8]], control=0)
    assert found.standard_error[1] >= np.hypot(1 / 100, 1 / 400)


def test_a_late_arm_is_compared_with_the_control_of_its_own_time():
    """The control fell from 90 to 50 % before the arm came; pooled, the arm with 50 % looks 20 points worse."""
    n = [[1000, 0], [500, 500]]
    found = aipw_estimate(BinaryCounts(n, [[900, 0], [250, 250]]), [[1.0, 0.0], [0.5, 0.5]], control=0)
    assert abs(found.estimate[1]) < 0.002
    assert found.n.tolist() == [2000, 1000]


def test_an_arm_that_never_met_the_control_is_not_compared():
    found = aipw_estimate(BinaryCounts([[50, 0], [0, 50]], [[20, 0], [0, 40]]), np.eye(2), control=0)
    assert np.isnan(found.estimate).all()
    assert found.n[1] == 0
    interval = found.sequence(planned=1000)
    assert np.isnan(interval.lower).all()
    assert np.isnan(interval.upper).all()


def test_runs_side_by_side_are_the_single_ones():
    pairs = [three_arms(seed) for seed in range(3)]
    n, good = (np.stack([getattr(c, name) for c, _ in pairs]) for name in ("n", "successes"))
    together = aipw_estimate(BinaryCounts(n, good), np.stack([pi for _, pi in pairs]), control=0)
    for i, (counts, pi) in enumerate(pairs):
        single = aipw_estimate(counts, pi, control=0)
        np.testing.assert_allclose(together.estimate[i], single.estimate, rtol=1e-12)
        np.testing.assert_allclose(together.standard_error[i], single.standard_error, rtol=1e-12)


def test_intervals_are_the_error_times_z_and_times_the_price_of_looking():
    counts, pi = three_arms(1)
    found = aipw_estimate(counts, pi, control=0)
    for interval, factor in (
        (found.interval(0.9), ndtri(0.95)),
        (
            found.sequence(planned=700, confidence_level=0.9),
            confidence_sequence_factor(800, planned=700, alpha=0.1),
        ),
    ):
        np.testing.assert_allclose(interval.upper - found.estimate, factor * found.standard_error, rtol=1e-9)
        np.testing.assert_allclose(found.estimate - interval.lower, factor * found.standard_error, rtol=1e-9)


# --- a frequency ------------------------------------------------------------------------------------------


def test_the_interval_covers_and_the_mean_is_unbiased_where_the_split_chases_luck_and_drift():
    """1 500 runs of 12 allocations of 60 units; each split leans towards whoever is ahead, and rates swing."""
    rng = np.random.default_rng(11)
    runs, allocations, size, lift = 1_500, 12, 60, 0.1
    n, good, splits = [], [], []
    for j in range(allocations):
        seen = np.maximum(sum(n), 1) if n else np.ones((runs, 2))
        rate = (sum(good) if good else np.zeros((runs, 2))) / seen
        share = np.clip(0.5 + 2.0 * (rate[:, 1] - rate[:, 0]), 0.1, 0.9) if j else np.full(runs, 0.5)
        arm = rng.binomial(size, share)
        n.append(np.stack([size - arm, arm], axis=1))
        swing = 0.2 * np.sin(j)
        good.append(rng.binomial(n[-1], [0.5 + swing, 0.5 + lift + swing]))
        splits.append(np.stack([1.0 - share, share], axis=1))
    counts = BinaryCounts(np.stack(n, axis=1), np.stack(good, axis=1))
    found = aipw_estimate(counts, np.stack(splits, axis=1), control=0)
    estimate, interval = found.estimate[:, 1], found.interval()
    covered = (interval.lower[:, 1] <= lift) & (lift <= interval.upper[:, 1])
    assert covered.mean() >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)
    error = estimate.std() / np.sqrt(runs)
    assert abs(estimate.mean() - lift) < 3.5 * error
    assert found.standard_error[:, 1].mean() == pytest.approx(estimate.std(), rel=0.1)


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "probability", "control", "message"),
    [
        ([5, 5], [0.5, 0.5], 0, r"statistics have shape \(2,\), must be \(\.\.\., allocation, arm\)"),
        ([[5, 5]], [[0.5, 0.5]], 2, r"control == 2, must be in 0\.\.1"),
        ([[5, 5]], [[0.5, 1.5]], 0, r"probability\[0, 1\] == 1\.5, must be in \[0, 1\]; give shares"),
        ([[5, 5]], [[-0.5, 1.5]], 0, r"probability\[0, 0\] == -0\.5, must be in \[0, 1\]"),
        ([[5, 5]], [[1.0, 0.0]], 0, r"statistics\.n\[0, 1\] == 5, must be 0 where the split has no share"),
    ],
)
def test_counts_that_do_not_fit_their_splits_are_refused(n, probability, control, message):
    with pytest.raises(ValueError, match=message):
        aipw_estimate(BinaryCounts(n, np.zeros_like(n)), probability, control=control)
