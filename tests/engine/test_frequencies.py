"""How often claims are false, and true: the fast part of `benchmarks/calibrate.py`, seeded.

A share of runs is compared with its level itself where it lies well below, else with the level and two
simulation errors.
"""

import numpy as np
import pytest

from engine.adaptive import aipw_estimate
from engine.guardrails import thresholds
from engine.sequential import EProcess
from engine.simulated_looks import (
    batch_statistics,
    first_claim,
    probability_best_claims,
    running_counts,
    running_sequences,
    z_test_claims,
)
from engine.simulated_policy import Policy
from engine.simulation import Scenario, simulate
from tests.engine.references import reference

ALPHA, UNITS, MDE = 0.05, 5_000, 0.05
SLOW_DRIFT = {"drift": 0.15, "drift_period": 2 * UNITS}  # half a wave: the split follows it


def run(world, policy, *, runs, seed):
    return simulate(world, policy, units=UNITS, runs=runs, rng=np.random.default_rng(seed))


def ever(history, direction, *, log_threshold, margin=0.0, effects=(MDE / 2, MDE, 2 * MDE)):
    """Whether each run makes the claim about each arm, shape (run, contrast)."""
    runs, arms = history.arm.shape[0], history.probability.shape[2]
    claims = []
    for arm in range(1, arms):
        process = EProcess.start(direction=direction, margin=margin, effects=list(effects), batch=(runs,))
        claims.append(
            np.isfinite(first_claim(history, process, arm=arm, threshold=float(np.exp(log_threshold))))
        )
    return np.stack(claims, axis=1)


def any_false_claim(history):
    level = thresholds(alpha=ALPHA, contrasts=history.probability.shape[2] - 1).direction
    return np.any([ever(history, way, log_threshold=level) for way in ("better", "worse")], axis=(0, 2))


def errors(share, runs):
    return np.sqrt(share * (1.0 - share) / runs)


@pytest.mark.parametrize("rate", [0.5, 0.95])
def test_false_alarms_stay_under_alpha_under_thompson_sampling_and_drift(rate):
    history = run(Scenario([rate] * 2, **SLOW_DRIFT), Policy(name="thompson"), runs=400, seed=1)
    assert any_false_claim(history).mean() <= ALPHA


def test_false_alarms_stay_under_alpha_when_long_calls_report_late():
    """Mean delays of 20 and 60 units, a window of 200: 3.6 % of the variant's outcomes come too late."""
    world = Scenario([0.7, 0.7], delay=[20.0, 60.0], **SLOW_DRIFT)
    history = run(world, Policy(name="thompson", maturity=200), runs=400, seed=2)
    assert np.isnan(history.outcome[history.arm == 1]).mean() == pytest.approx(np.exp(-201 / 60), abs=0.003)
    assert any_false_claim(history).mean() <= ALPHA


def test_false_alarms_stay_under_alpha_with_three_arms():
    history = run(Scenario([0.7] * 3, **SLOW_DRIFT), Policy(name="top_two"), runs=400, seed=3)
    assert any_false_claim(history).mean() <= ALPHA


def test_false_alarms_stay_under_alpha_for_scores_of_unequal_spread():
    world = Scenario([0.6, 0.6], spread=[0.1, 0.35], drift=0.05)
    history = run(world, Policy(name="thompson"), runs=300, seed=4)
    assert any_false_claim(history).mean() <= ALPHA


def test_identical_prompts_fool_the_seeds_rule_and_a_probability_of_95_percent():
    """The contrast: what the same watcher would have said about the same runs by the rules we do not use."""
    history = run(Scenario([0.7, 0.7]), Policy(name="fixed"), runs=300, seed=5)
    counts = running_counts(history)
    assert z_test_claims(counts, least=10).any(axis=(1, 2)).mean() > 0.25
    assert probability_best_claims(counts).any(axis=(1, 2)).mean() > 0.40
    assert any_false_claim(history).mean() <= ALPHA


@pytest.mark.parametrize("difference", [MDE, -MDE])
def test_equivalence_is_rarely_claimed_at_the_edge_of_its_region(difference):
    history = run(Scenario([0.7, 0.7 + difference]), Policy(name="thompson"), runs=300, seed=6)
    level = thresholds(alpha=ALPHA, contrasts=1).equivalence
    both = [ever(history, way, log_threshold=level, margin=-MDE) for way in ("better", "worse")]
    assert np.all(both, axis=(0, 2)).mean() <= ALPHA + 2 * errors(ALPHA, 300)


def test_a_guardrail_is_rarely_called_harmed_at_its_margin():
    history = run(Scenario([0.7, 0.65], **SLOW_DRIFT), Policy(name="thompson"), runs=400, seed=7)
    level = thresholds(alpha=ALPHA, contrasts=1).harm
    harmed = ever(history, "worse", log_threshold=level, margin=MDE)
    assert harmed.mean() <= 0.01 + 2 * errors(0.01, 400)


def test_the_adaptive_estimate_covers_where_the_plain_difference_does_not():
    """`fpr_under_ts`: under drift of 15 points the plain interval covers 46 %, the adaptive one 95.5 %."""
    runs = 400
    world = Scenario([0.60, 0.65], **SLOW_DRIFT)
    history = run(world, Policy(name="thompson", floor=0.1), runs=runs, seed=8)
    statistics = batch_statistics(history)
    found = aipw_estimate(statistics, history.probability, control=0)
    interval = found.interval()
    covered = (interval.lower[:, 1] <= 0.05) & (interval.upper[:, 1] >= 0.05)
    assert covered.mean() >= 0.95 - 3 * errors(0.95, runs)
    assert abs(found.estimate[:, 1].mean() - 0.05) < 4 * found.estimate[:, 1].std() / np.sqrt(runs)
    counts = running_counts(history)
    rate = counts.successes[:, -1] / counts.n[:, -1]
    half = 1.96 * np.sqrt((rate * (1 - rate) / counts.n[:, -1]).sum(axis=1))
    assert (np.abs(rate[:, 1] - rate[:, 0] - 0.05) <= half).mean() < 0.85


@pytest.mark.parametrize("policy", ["fixed", "thompson"])
def test_the_confidence_sequence_rarely_ever_misses(policy):
    runs = 250
    history = run(Scenario([0.60, 0.65], **SLOW_DRIFT), Policy(name=policy), runs=runs, seed=9)
    seen = running_sequences(history, planned=UNITS)
    missed = ((seen.lower > 0.05) | (seen.upper < 0.05)).any(axis=(1, 2))
    assert missed.mean() <= ALPHA
    width = np.nanmean(seen.upper[:, -1] - seen.lower[:, -1])
    assert width < 0.2  # it misses rarely for another reason than being endless


def test_an_even_split_finds_five_points_in_five_thousand_calls():
    runs = 600
    history = run(Scenario([0.62, 0.67]), Policy(name="fixed"), runs=runs, seed=10)
    power = ever(history, "better", log_threshold=thresholds(alpha=ALPHA, contrasts=1).direction).mean()
    assert power >= 0.79 - 2 * errors(0.79, runs)


@pytest.mark.parametrize(("policy", "name"), [("thompson", "ts"), ("fixed", "fixed")])
def test_earning_costs_the_power_it_cost_in_the_reference_runs(policy, name):
    """`fpr_under_ts`, kappa 50, looks from the start: the plug-in test finds +5 points in .788 and .39."""
    case = next(c for c in reference("paper_cases") if c["id"] == "fpr_under_ts")
    expected, runs = case["own_power"][f"lift5 {name}"]["eprocess_k50"], 500
    history = run(Scenario([0.62, 0.67]), Policy(name=policy, floor=0.1, burn_in=0), runs=runs, seed=11)
    power = ever(history, "two-sided", log_threshold=np.log(1 / ALPHA), effects=()).mean()
    error = np.hypot(errors(expected, runs), errors(expected, 2000))
    assert power == pytest.approx(expected, abs=3.5 * error)
