"""The textbook's algorithms that our splits are measured against are the textbook's."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.bandits import DECIDE_BY, DECISIONS, closest_challenger, lai_robbins, until_decided
from benchmarks.track_and_stop import (
    characteristic_time,
    evidence,
    kl,
    optimal_proportions,
    stopping_threshold,
    track,
)
from engine.beta_binomial import BetaPosterior, probability_best
from engine.thompson import transport_split
from tests.engine.references import cases, reference


@pytest.mark.parametrize("case", cases("paper_cases", category="garivier_kaufmann_wstar"))
def test_optimal_proportions_and_their_time_agree_with_the_paper(case):
    """Garivier and Kaufmann (2016), section 6: two digits there, six in our own earlier computation."""
    means = np.array([case["mu"]])
    np.testing.assert_allclose(optimal_proportions(means)[0], case["w_star"], atol=case["tol"])
    if case["published_w_star"]:
        np.testing.assert_allclose(optimal_proportions(means)[0], case["published_w_star"], atol=0.0051)
    time = characteristic_time(means)[0]
    assert time == pytest.approx(case["T_star"], rel=1e-6)
    assert time * kl(np.array(0.1), np.array(0.9)) == pytest.approx(case["lower_bound_delta_0_1"], rel=1e-6)


@pytest.mark.parametrize("case", cases("paper_cases", category="lai_robbins"))
def test_the_bound_of_lai_and_robbins_agrees_with_its_formula_in_the_reference(case):
    mu = case["mu"]
    means = [mu["best"]] + [mu["others"]] * (mu["K"] - 1) if isinstance(mu, dict) else mu
    assert lai_robbins(means) == pytest.approx(case["value"], rel=1e-9)


def test_evidence_is_the_likelihood_ratio_of_the_closest_rival():
    """By hand: 7 of 10 against 5 of 10 is 10 kl(.7, .6) + 10 kl(.5, .6); 1 of 10 is further away."""
    expected = 10 * kl(np.array([0.7, 0.5]), np.array([0.6, 0.6])).sum()
    assert evidence(np.array([[7.0, 5.0, 1.0]]), np.full((1, 3), 10.0)) == pytest.approx([expected])


def test_the_threshold_is_the_one_of_the_papers_experiments():
    assert stopping_threshold(1, 0.1) == pytest.approx(np.log(10.0))


def test_tracking_serves_the_starved_first_then_the_one_furthest_behind():
    shares = np.array([[0.6, 0.3, 0.1]] * 2)
    n = np.array([[60.0, 39.0, 1.0], [50.0, 38.0, 12.0]])
    assert track(n, shares).tolist() == [2, 0]


def test_an_even_split_needs_the_samples_it_needed_in_the_reference_runs():
    case = next(c for c in reference("paper_cases") if c["id"] == "garivier_kaufmann_table1")["own_R200"][
        "mu2"
    ]
    means = np.array(DECISIONS["mu2"])
    samples, correct = until_decided(means, DECIDE_BY["even"], runs=200, rng=np.random.default_rng(1))
    error = samples.std() / np.sqrt(200)
    assert samples.mean() == pytest.approx(case["uniform"], abs=3.5 * np.sqrt(2) * error)
    assert correct.mean() >= 0.9


@given(st.lists(st.floats(0.05, 0.95), min_size=2, max_size=5), st.floats(0.05, 0.95))
def test_no_share_of_the_leader_beats_the_optimal_one(means, share):
    mu = np.array([means])
    assume(np.diff(np.sort(mu[0]))[-1] > 0.01)
    best = characteristic_time(mu)[0]
    assert characteristic_time(mu, share)[0] >= best * (1 - 1e-6)
    optimal = float(optimal_proportions(mu)[0, np.argmax(mu)])
    assert characteristic_time(mu, optimal)[0] == pytest.approx(best, rel=1e-4)


@given(st.lists(st.floats(0.05, 0.95), min_size=2, max_size=5))
def test_half_for_the_leader_never_takes_twice_as_long(means):
    """Russo (2020), Simple Bayesian algorithms for best-arm identification: one half is at most twice as slow."""
    mu = np.array([means])
    assume(np.diff(np.sort(mu[0]))[-1] > 0.01)
    assert characteristic_time(mu, 0.5)[0] <= 2.0 * characteristic_time(mu)[0]


def test_top_two_stays_close_to_track_and_stop():
    """In theory 11 % more samples on mu2; `garivier_kaufmann_table1` has 1 553 ± 87 for Track-and-Stop."""
    runs, means = 100, np.array(DECISIONS["mu2"])
    found = [
        until_decided(means, DECIDE_BY[name], runs=runs, rng=np.random.default_rng(seed))
        for seed, name in enumerate(("top-two", "Track-and-Stop"))
    ]
    top_two, rival = (samples for samples, _ in found)
    in_theory = characteristic_time(means[None], 0.5)[0] / characteristic_time(means[None])[0]
    error = np.sqrt((top_two.var() + in_theory**2 * rival.var()) / runs)
    assert top_two.mean() <= in_theory * rival.mean() + 2 * error
    assert rival.mean() == pytest.approx(1553, abs=3.5 * np.hypot(rival.std() / np.sqrt(runs), 87))
    assert all(correct.mean() >= 0.9 for _, correct in found)


@given(st.integers(0, 10_000))
def test_the_closest_challenger_of_many_runs_is_the_engines(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 400, (3, 4)).astype(float)
    successes = np.floor(n * rng.random((3, 4)))
    for row, found in enumerate(closest_challenger(n, successes)):
        posterior = BetaPosterior(1.0 + successes[row], 1.0 + n[row] - successes[row])
        expected = transport_split(probability_best(posterior), posterior)
        np.testing.assert_allclose(found, expected, atol=1e-5)
