"""Simulated experiments obey their world and the product's policy; the fast forms agree with the exact ones."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine import beta_binomial, normal
from engine.allocation import project_kl
from engine.many_posteriors import probability_best_means, probability_best_rates
from engine.sequential import EProcess
from engine.simulated_looks import (
    batch_statistics,
    contrast_units,
    first_claim,
    probability_best_claims,
    pseudo_regret,
    running_counts,
    running_sequences,
    z_test_claims,
)
from engine.simulated_policy import Learned, Policy, project_rows, splits, top_two_rows
from engine.simulation import Scenario, simulate
from engine.statistics import BinaryCounts, Moments
from engine.thompson import top_two_split
from tests.engine.references import reference

EARN = Policy(name="thompson")
shapes = st.tuples(st.integers(0, 10**5), st.integers(0, 10**5))


def rng(seed=1):
    return np.random.default_rng(seed)


def standard_error(share, runs):
    return np.sqrt(share * (1.0 - share) / runs)


# P(best) for many runs


@given(st.lists(st.lists(shapes, min_size=3, max_size=3), min_size=1, max_size=4))
@settings(max_examples=80)
def test_many_rates_are_the_exact_probabilities_to_six_digits(counts):
    alpha, beta = 1.0 + np.array(counts, dtype=float).transpose(2, 0, 1)
    exact = [
        beta_binomial.probability_best(beta_binomial.BetaPosterior(a, b))
        for a, b in zip(alpha, beta, strict=True)
    ]
    np.testing.assert_allclose(probability_best_rates(alpha, beta), exact, atol=1e-6, rtol=0)


@pytest.mark.parametrize("arms", [2, 5, 10])
@pytest.mark.parametrize("most", [10, 1_000, 100_000])
def test_many_rates_are_exact_for_close_rates_too(arms, most):
    """Random counts of Hypothesis are rarely a close race; these are."""
    draw = rng(arms * most)
    n = np.exp(draw.uniform(0, np.log(most), (40, arms)))
    successes = draw.binomial(n.astype(int), draw.uniform(0.02, 0.98, (40, 1)))
    alpha, beta = 1.0 + successes, 1.0 + np.floor(n) - successes
    exact = [
        beta_binomial.probability_best(beta_binomial.BetaPosterior(a, b))
        for a, b in zip(alpha, beta, strict=True)
    ]
    np.testing.assert_allclose(probability_best_rates(alpha, beta), exact, atol=1e-6, rtol=0)


@given(
    st.lists(
        st.lists(st.tuples(st.floats(-1, 1), st.floats(1e-3, 1)), min_size=3, max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_many_means_are_the_exact_probabilities_to_six_digits(arms):
    mean, sd = np.array(arms).transpose(2, 0, 1)
    exact = [
        normal.probability_best(normal.NormalPosterior(m, s))
        for m, s in zip(mean.copy(), sd.copy(), strict=True)
    ]
    np.testing.assert_allclose(probability_best_means(mean, sd), exact, atol=1e-6, rtol=0)


# Splits


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=5),
    st.floats(0, 0.25),
    st.floats(0.25, 1),
)
def test_projecting_rows_is_projecting_each(rows, floor, cap):
    weights = np.array(rows)
    assume((weights.max(axis=1) > 0).all())
    assume((weights[weights > 0] > 1e-250).all())
    lower, upper = np.full(4, floor), np.full(4, cap)
    each = [project_kl(w, lower=lower, upper=upper) for w in weights]
    np.testing.assert_allclose(project_rows(weights, lower=lower, upper=upper), each, atol=1e-9)


@given(st.lists(st.lists(st.integers(1, 10**6), min_size=4, max_size=4), min_size=1, max_size=5))
def test_top_two_of_rows_is_top_two_of_each(rows):
    best = np.array(rows, dtype=float)
    best /= best.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(top_two_rows(best), [top_two_split(p) for p in best], atol=1e-12)


def learned(successes, n):
    total, n = (np.array([x], dtype=float) for x in (successes, n))
    return Learned(outcomes=n, n=n, total=total, total_sq=total)


def test_a_split_keeps_the_products_floors_and_cap():
    """Design, section 7: floor 5 %, control floor 10 %, cap 90 %, P(best) between them."""
    live = np.ones(3, dtype=bool)
    hopeless_control = splits(EARN, learned([10, 500, 10], [500] * 3), live, live, binary=True)
    np.testing.assert_allclose(hopeless_control, [[0.10, 0.85, 0.05]])
    leading_control = splits(EARN, learned([500, 10, 10], [500] * 3), live, live, binary=True)
    np.testing.assert_allclose(leading_control, [[0.9, 0.05, 0.05]])


def test_an_even_split_lasts_until_every_arm_of_the_start_has_its_outcomes():
    live, started = np.array([True, True, True]), np.array([True, True, False])
    early = splits(EARN, learned([90, 10, 0], [150, 99, 0]), live, started, binary=True)
    np.testing.assert_allclose(early, [[1 / 3] * 3])
    newcomer_waits_for_nobody = splits(EARN, learned([90, 10, 0], [150, 100, 0]), live, started, binary=True)
    assert newcomer_waits_for_nobody[0, 0] > 0.35


def test_an_arm_without_scores_is_as_likely_the_best_as_any_other():
    n, total = np.array([[200.0, 200.0, 0.0]]), np.array([[100.0, 100.0, 0.0]])
    scores = Learned(outcomes=n, n=n, total=total, total_sq=0.6 * total)
    best = scores.probability_best(np.ones(3, dtype=bool), binary=False)
    np.testing.assert_allclose(best, [[1 / 3] * 3], atol=1e-6)


def test_scores_are_steered_by_the_products_normal_posterior():
    n, total = np.array([[200, 150]]), np.array([[100.0, 80.0]])
    moments = Moments(n=n[0], total=total[0], total_sq=0.6 * total[0])
    floats = n.astype(float)
    scores = Learned(outcomes=floats, n=floats, total=total, total_sq=0.6 * total)
    best = scores.probability_best(np.ones(2, dtype=bool), binary=False)
    exact = normal.probability_best(normal.NormalPosterior.from_moments(moments))
    np.testing.assert_allclose(best[0], exact, atol=1e-6)


def test_a_half_life_makes_an_outcome_weigh_half_after_it():
    first, arm = np.ones((1, 10)), np.zeros((1, 10), dtype=np.int8)
    once = Learned.nothing(1, 2).after(arm, first, kept=1.0)
    later = once.after(arm[:, :0], first[:, :0], kept=0.5)
    assert (later.n[0, 0], later.total[0, 0], later.outcomes[0, 0]) == (5.0, 5.0, 10.0)


# The world


@given(
    st.lists(st.floats(0.01, 0.99), min_size=2, max_size=4),
    st.floats(0, 0.5),
    st.sampled_from(["sine", "step"]),
)
def test_drift_moves_all_arms_alike_and_none_to_certainty(means, drift, shape):
    path = Scenario(means, drift=drift, drift_shape=shape).means_over(101)
    assert ((path > 0.0049) & (path < 0.9951)).all()
    np.testing.assert_allclose(path - path[:, :1], np.tile(np.array(means) - means[0], (101, 1)), atol=1e-12)
    assert np.abs(path - means).max() <= drift + 1e-12


def test_drift_has_the_shape_that_was_asked_for():
    sine = Scenario([0.5], drift=0.1).means_over(1000)[:, 0]
    assert (sine[250], sine[750]) == pytest.approx((0.6, 0.4), abs=1e-5)
    step = Scenario([0.5], drift=0.1, drift_shape="step", drift_period=100).means_over(200)[:, 0]
    assert step.round(9).tolist() == [0.4] * 50 + [0.6] * 50 + [0.4] * 50 + [0.6] * 50


def test_outcomes_follow_the_rates_and_arms_follow_the_split():
    history = simulate(Scenario([0.3, 0.8, 0.5]), Policy(), units=2000, runs=50, rng=rng())
    counts = batch_statistics(history)
    assert isinstance(counts, BinaryCounts)
    n, successes = counts.n.sum(axis=(0, 1)), counts.successes.sum(axis=(0, 1))
    assert n.sum() == 100_000
    assert (np.abs(n / 100_000 - 1 / 3) < 4 * standard_error(1 / 3, 100_000)).all()
    assert (np.abs(successes / n - [0.3, 0.8, 0.5]) < 4 * standard_error(0.5, 33_000)).all()


def test_scores_have_their_mean_and_spread():
    world = Scenario([0.3, 0.7], spread=[0.2, 0.1])
    history = simulate(world, EARN, units=1000, runs=40, rng=rng())
    moments = batch_statistics(history)
    assert isinstance(moments, Moments)
    whole = Moments(*(np.sum(x, axis=(0, 1)) for x in (moments.n, moments.total, moments.total_sq)))
    assert whole.mean.tolist() == pytest.approx([0.3, 0.7], abs=0.01)
    assert np.sqrt(whole.variance).tolist() == pytest.approx([0.2, 0.1], abs=0.01)
    assert (history.probability[:, -1, 1] > 0.85).all()


def test_late_and_missing_outcomes_are_missing_by_arm():
    """P(late) = exp(-(window + 1) / mean) for an exponential delay in whole units."""
    world = Scenario([0.5, 0.5], delay=[10.0, 60.0], missing=[0.0, 0.2])
    history = simulate(world, Policy(maturity=99), units=1000, runs=100, rng=rng())
    absent = np.isnan(history.outcome)
    share = [absent[history.arm == arm].mean() for arm in (0, 1)]
    expected = [np.exp(-10), 0.2 + 0.8 * np.exp(-100 / 60)]
    assert share == pytest.approx(expected, abs=4 * standard_error(0.35, 50_000))
    assert np.isnan(history.arrived[history.arm == 1]).mean() == pytest.approx(0.2, abs=0.01)
    on_time = history.arrived - np.arange(1000) <= 99
    assert (on_time == ~absent).all()


def test_the_split_sees_matured_units_only():
    """Two arms as different as can be: the split stands still until window and burn-in are over, not longer."""
    policy = Policy(name="thompson", burn_in=10, maturity=500)
    history = simulate(Scenario([0.02, 0.98]), policy, units=1000, runs=20, rng=rng())
    np.testing.assert_allclose(history.probability[:, :11], 0.5)  # batch 10 starts at 500: nothing matured
    np.testing.assert_allclose(history.probability[:, 13:], np.tile([0.1, 0.9], (20, 7, 1)))


def test_outcomes_before_the_window_has_passed_do_not_change_the_split():
    """The same draws with other outcomes in the last 200 units: the splits up to the end are the same."""
    policy = replace(EARN, maturity=200)
    first = simulate(Scenario([0.4, 0.6]), policy, units=1000, runs=5, rng=rng(3))
    assert np.isfinite(first.outcome).all()
    known = Learned.nothing(5, 2).after(first.arm[:, :750], first.outcome[:, :750], kept=1.0)
    live = np.ones(2, dtype=bool)
    np.testing.assert_allclose(splits(policy, known, live, live, binary=True), first.probability[:, 19])


def test_arms_come_and_go():
    world = Scenario([0.5, 0.5, 0.5], arrival=[0, 0, 230], retirement=[np.inf, 400, np.inf])
    history = simulate(world, Policy(), units=600, runs=10, rng=rng())
    assert not (history.arm[:, :250] == 2).any()
    assert not (history.arm[:, 400:] == 1).any()
    np.testing.assert_allclose(history.probability[0, [0, 5, 8]], [[0.5, 0.5, 0], [1 / 3] * 3, [0.5, 0, 0.5]])
    outcome, _, probability, unit = contrast_units(history, 2)
    assert np.nanmin(np.where(np.isfinite(outcome) & (probability > 0), unit, np.nan)) >= 250


def test_the_same_seed_gives_the_same_history():
    first, second = (simulate(Scenario([0.4, 0.6]), EARN, units=500, runs=5, rng=rng(7)) for _ in range(2))
    assert (first.outcome == second.outcome).all()
    assert (first.arm == second.arm).all()


# Looks


def textbook_units(history, run, arm):
    """Unit by unit: outcome, treated, probability among the two."""
    rows = []
    for unit, given_arm in enumerate(history.arm[run]):
        y, split = history.outcome[run, unit], history.probability[run, unit // history.batch]
        if given_arm in (0, arm) and np.isfinite(y):
            rows.append((y, given_arm == arm, split[arm] / (split[0] + split[arm]), unit))
    return np.array(rows, dtype=float).T


@pytest.mark.parametrize("arm", [1, 2])
def test_contrast_units_are_those_of_the_two_arms_in_order(arm):
    world = Scenario([0.5, 0.6, 0.4], missing=0.1)
    history = simulate(world, EARN, units=500, runs=4, rng=rng())
    parts = contrast_units(history, arm)
    for run in range(4):
        expected = textbook_units(history, run, arm)
        known = np.isfinite(parts[0][run])
        for part, wanted in zip(parts, expected, strict=True):
            np.testing.assert_allclose(part[run][known].astype(float), wanted)


def test_a_claim_comes_at_the_end_of_the_batch_in_which_the_process_crosses():
    history = simulate(Scenario([0.3, 0.6]), EARN, units=1500, runs=6, rng=rng())
    claims = first_claim(history, EProcess.start(batch=(6,)), arm=1, threshold=20.0)
    for run in range(6):
        process, at = EProcess.start(), np.inf
        for look in range(30):
            now = slice(50 * look, 50 * look + 50)
            probability = history.probability[run, look, 1]
            process = process.update(history.outcome[run, now], history.arm[run, now] == 1, probability)
            if at == np.inf and process.log_e_max >= np.log(20.0):
                at = 50.0 * look + 50.0
        assert claims[run] == at < np.inf


def test_pseudo_regret_is_the_gap_times_the_units_served_worse():
    history = simulate(Scenario([0.5, 0.7, 0.4], drift=0.1), EARN, units=500, runs=4, rng=rng())
    expected = 0.2 * (history.arm == 0).sum(axis=1) + 0.3 * (history.arm == 2).sum(axis=1)
    np.testing.assert_allclose(pseudo_regret(history), expected, atol=1e-9)


def test_running_counts_end_with_all_outcomes():
    history = simulate(Scenario([0.5, 0.7], missing=0.1), EARN, units=480, runs=3, rng=rng())
    last = running_counts(history)
    assert last.n[:, -1].sum() == np.isfinite(history.outcome).sum()
    assert last.successes[:, -1].sum() == np.nansum(history.outcome)
    assert last.n.shape == (3, 10, 2)


def test_the_watched_sequence_is_the_engines_at_each_look():
    from engine.adaptive import aipw_estimate

    history = simulate(Scenario([0.5, 0.6]), EARN, units=600, runs=3, rng=rng())
    seen = running_sequences(history, planned=600)
    counts = batch_statistics(history)
    one = BinaryCounts(n=counts.n[1, :9], successes=counts.successes[1, :9])
    alone = aipw_estimate(one, history.probability[1, :9], control=0).sequence(planned=600)
    assert seen.lower[1, 8, 1] == pytest.approx(alone.lower[1])
    assert np.isnan(seen.lower[:, 1]).all()


def test_peeking_costs_what_it_cost_in_the_reference_runs():
    """`fpr_under_ts`: .62 twice, batches of 50, looks from 200 to 5 000, Thompson from the first batch."""
    case = next(c for c in reference("paper_cases") if c["id"] == "fpr_under_ts")["own_R2000"]
    runs = 400
    for name, policy in (("ts", "thompson"), ("fixed", "fixed")):
        expected = case[f"null stationary {name}"]
        history = simulate(
            Scenario([0.62, 0.62]),
            Policy(name=policy, floor=0.1, burn_in=0),
            units=5000,
            runs=runs,
            rng=rng(11),
        )
        counts = running_counts(history)
        z = z_test_claims(counts)[:, 3:]
        best = probability_best_claims(counts)[:, 3:]
        for share, wanted in (
            (z.any(axis=(1, 2)).mean(), expected["z"]),
            (best.any(axis=(1, 2)).mean(), expected["bayes95"]),
            (z[:, -1].any(axis=1).mean(), expected["z_at_end"]),
        ):
            error = np.hypot(standard_error(wanted, runs), standard_error(wanted, 2000))
            assert share == pytest.approx(wanted, abs=3.5 * error)


def test_googles_experiment_of_two_pages_ends_as_in_the_reference_runs():
    """`scott_ga_two_arms`: 4 % and 5 %, 100 sessions a day, Thompson daily, stop at P(best) >= 95 %."""
    case = next(c for c in reference("paper_cases") if c["id"] == "scott_ga_two_arms")["own"]
    runs = 120
    daily = Policy(name="thompson", floor=0.0, control_floor=0.0, cap=1.0, burn_in=0, batch=100)
    history = simulate(Scenario([0.04, 0.05]), daily, units=40_000, runs=runs, rng=rng(14))
    all_claims = probability_best_claims(running_counts(history), least=0)
    for first_day, name in ((1, "min_days_1"), (14, "min_days_14")):
        claims = all_claims[:, first_day - 1 :]
        day = np.argmax(claims.any(axis=2), axis=1) + first_day
        correct = claims[np.arange(runs), day - first_day, 1].mean()
        error = np.hypot(day.std() / np.sqrt(runs), day.std() / np.sqrt(case["runs"]))
        assert day.mean() == pytest.approx(case[name]["mean_days"], abs=3.5 * error)
        error = np.hypot(standard_error(case[name]["correct"], runs), standard_error(0.95, case["runs"]))
        assert correct == pytest.approx(case[name]["correct"], abs=3.5 * error)


# What is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Scenario([0.5, 1.0]), r"means\[1\] == 1\.0, must be in \(0, 1\)"),
        (lambda: Scenario([0.5], drift=15.0), r"drift == 15\.0, must be in \[0, 1\); write 0\.15"),
        (
            lambda: Scenario([0.5, 0.1], spread=0.4),
            r"spread\[1\] == 0\.4, must be above 0 and below .* == 0\.3",
        ),
        (lambda: Scenario([0.5, 0.5], delay=[1, 2, 3]), r"delay has shape \(3,\)"),
        (lambda: Scenario([0.5, 0.5], missing=1.5), r"missing == 1\.5, must be in \[0, 1\]"),
        (lambda: Scenario([0.5, 0.5], arrival=[10, 0]), "the control is arm 0"),
        (lambda: Policy(floor=5.0), r"floor == 5\.0, must be in \[0, 1\]"),
        (lambda: Policy(batch=0), "batch == 0, must be finite and greater than 0"),
        (lambda: Policy(burn_in=-1), "burn_in == -1, must be at least 0"),
        (
            lambda: simulate(Scenario([0.5] * 3), Policy(floor=0.5), units=10, runs=1, rng=rng()),
            r"floors sum to 1\.1",
        ),
        (lambda: simulate(Scenario([0.5]), Policy(), units=0, runs=1, rng=rng()), "units == 0"),
    ],
)
def test_a_world_that_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_running_counts_of_scores_are_refused():
    history = simulate(Scenario([0.5, 0.5], spread=0.1), Policy(), units=100, runs=1, rng=rng())
    with pytest.raises(ValueError, match="take batch_statistics for scores"):
        running_counts(history)
