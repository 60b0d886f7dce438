"""Arms by segments: a textbook integral, a finer grid, laws, coverage over simulated worlds, real calls."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, special

from engine import segment_nodes, tabulated
from engine.beta_binomial import BetaPosterior
from engine.hierarchical import fit_segments, prior_predictive
from engine.segment_fit import judged
from engine.segment_trials import dispersion, trials_of
from engine.statistics import BinaryCounts, Moments
from engine.strata import stratified_estimate
from tests.engine.references import FOLDER

ROOT = Path(__file__).resolve().parents[2]
CALLS = FOLDER.parent / "data" / "tau_bench" / "airline_calls.jsonl.gz"
SMALL = BinaryCounts(n=[[9, 4], [3, 6], [7, 0]], successes=[[6, 1], [0, 5], [5, 0]])
MIXED = BinaryCounts(
    n=[[400, 380, 20], [12, 9, 0], [0, 55, 3], [90, 110, 5]],
    successes=[[300, 310, 20], [12, 2, 0], [0, 20, 0], [50, 80, 3]],
)


def numbers(fit):
    """Everything that a fit says, as one array."""
    people, rows = fit.population, (fit.segments, fit.overall)
    intervals = [people.mean_interval, people.intraclass_interval]
    intervals += [interval for row in rows for interval in (row.interval, row.lift_interval)]
    arrays = [
        people.mean,
        people.intraclass,
        fit.shrinkage,
        *(end for i in intervals for end in (i.lower, i.upper)),
    ]
    arrays += [
        array for row in rows for array in (row.mean, row.lift, row.probability_best, row.probability_better)
    ]
    return np.concatenate([array.ravel() for array in arrays])


# --- sources ----------------------------------------------------------------------------------------------


class Textbook:
    """The posterior of one arm on a plain grid: no gamma functions, only products of whole numbers.

    Multiplied by u^2 every factor m k + j of a rising factorial is a polynomial of m and u, so 80 × 80 nodes of
    Gauss and Legendre are exact to rounding.
    """

    def __init__(self, n, successes, size=80):
        nodes, weights = np.polynomial.legendre.leggauss(size)
        x, w = 0.5 * (1.0 + nodes), 0.5 * weights
        self.mean, u = np.meshgrid(x, x, indexing="ij")
        self.k = (1.0 - u**2) / u**2
        density = np.outer(w, w)
        for trials, good in zip(n, successes, strict=True):
            for side, number in ((self.mean, good), (1.0 - self.mean, trials - good)):
                for j in range(number):
                    density = density * (side * (1.0 - u**2) + j * u**2)
            for j in range(trials):
                density = density / ((1.0 - u**2) + j * u**2)
        self.u, self.weight = u, density / density.sum()

    def expect(self, values):
        return float((self.weight * values).sum())


def test_means_agree_with_a_textbook_integral():
    fit = fit_segments(SMALL, control=0)
    for arm in range(2):
        n, good = SMALL.n[:, arm].tolist(), SMALL.successes[:, arm].tolist()
        book = Textbook(n, good)
        assert fit.population.mean[arm] == pytest.approx(book.expect(book.mean), abs=1e-11)
        assert fit.population.intraclass[arm] == pytest.approx(book.expect(book.u**2), abs=1e-11)
        for segment in range(3):
            rate = (book.mean * book.k + good[segment]) / (book.k + n[segment])
            assert fit.segments.mean[segment, arm] == pytest.approx(book.expect(rate), abs=1e-10)
            share = book.k / (book.k + n[segment])
            assert fit.shrinkage[segment, arm] == pytest.approx(book.expect(share), abs=1e-10)


def marginal(n, successes, segment, x):
    """P(rate of a segment <= x) by scipy's adaptive rules in (mean, u): slow, and without any of our parts."""
    good, bad = successes[segment], n[segment] - successes[segment]

    def density(mean, u):
        square, value = u * u, 1.0
        for trials, number in zip(n, successes, strict=True):
            for j in range(number):
                value *= mean * (1.0 - square) + j * square
            for j in range(trials - number):
                value *= (1.0 - mean) * (1.0 - square) + j * square
            for j in range(trials):
                value /= 1.0 - square + j * square
        return value

    def below(mean, u):
        k = (1.0 - u * u) / (u * u)
        return density(mean, u) * special.betainc(mean * k + good, (1.0 - mean) * k + bad, x)

    def inner(u, values):
        exact = {"epsabs": 1e-14, "epsrel": 1e-10, "limit": 100, "full_output": 1}
        return integrate.quad(values, 0.0, 1.0, args=(u,), points=[x], **exact)[0]

    parts = [
        integrate.quad(inner, 0.0, 1.0, args=(part,), epsabs=1e-14, epsrel=1e-9, limit=60, full_output=1)[0]
        for part in (below, density)
    ]
    return parts[0] / parts[1]


def test_an_interval_holds_what_it_says_by_scipys_adaptive_quadrature():
    counts = BinaryCounts(n=[[9], [3]], successes=[[6], [0]])
    fit = fit_segments(counts, control=0)
    for segment in range(2):
        end = fit.segments.interval.upper[segment, 0]
        below = marginal([9, 3], [6, 0], segment, end)
        assert below == pytest.approx(0.975, abs=1e-7)


def test_a_finer_grid_says_the_same(monkeypatch):
    """Three times the nodes in every direction; arms with 0, 20 and 1 000 trials beside each other."""
    plain = numbers(fit_segments(MIXED, control=0))
    monkeypatch.setattr(segment_nodes, "SIZES", (72, 96, 144, 192, 288, 384, 576, 768))
    monkeypatch.setattr(segment_nodes, "INTERPOLATED", 96)
    monkeypatch.setattr(segment_nodes, "WIDEST", 0.7)
    monkeypatch.setattr(segment_nodes, "LEFT_PART", 0.35)
    monkeypatch.setattr(tabulated, "COARSER", 0.8)
    np.testing.assert_allclose(numbers(fit_segments(MIXED, control=0)), plain, atol=1e-7)


# --- laws -------------------------------------------------------------------------------------------------


def test_without_data_the_prior_comes_back():
    fit = fit_segments(BinaryCounts(np.zeros((3, 2)), np.zeros((3, 2))), control=0)
    people = fit.population
    np.testing.assert_allclose(people.mean, 0.5, atol=1e-10)
    np.testing.assert_allclose(people.mean_interval.lower, 0.025, atol=1e-9)
    np.testing.assert_allclose(people.mean_interval.upper, 0.975, atol=1e-9)
    # u is uniform, and the intraclass correlation is u^2.
    np.testing.assert_allclose(people.intraclass, 1 / 3, atol=1e-10)
    np.testing.assert_allclose(people.intraclass_interval.upper, 0.975**2, atol=1e-9)
    np.testing.assert_allclose(people.concentration, 3.0, atol=1e-8)
    np.testing.assert_allclose(people.concentration_interval.lower, 1 / 0.975**2 - 1, atol=1e-8)
    np.testing.assert_allclose(people.concentration_interval.upper, 1 / 0.025**2 - 1, rtol=1e-8)
    np.testing.assert_allclose(fit.shrinkage, 1.0)
    np.testing.assert_allclose(fit.segments.probability_best, 0.5, atol=1e-9)
    np.testing.assert_allclose(fit.segments.lift_interval.lower, -fit.segments.lift_interval.upper, atol=1e-7)
    np.testing.assert_allclose(fit.weights, 1 / 3)


def test_a_large_segment_on_its_own_is_not_pooled():
    counts = BinaryCounts(n=[[20_000, 20_000]], successes=[[14_000, 14_300]])
    fit, alone = (
        fit_segments(counts, control=0),
        BetaPosterior.from_counts(BinaryCounts([20_000, 20_000], [14_000, 14_300])),
    )
    np.testing.assert_allclose(fit.segments.mean[0], alone.mean, atol=0.01 * alone.sd.max())
    np.testing.assert_allclose(
        fit.segments.interval.lower[0], alone.interval().lower, atol=0.01 * alone.sd.max()
    )
    np.testing.assert_array_equal(fit.overall.mean, fit.segments.mean[0])  # one segment is all of them


def test_segments_that_agree_are_pooled_and_segments_that_differ_are_not():
    n = np.full((12, 1), 500)
    alike = fit_segments(BinaryCounts(n, np.full((12, 1), 350)), control=0)
    apart = fit_segments(BinaryCounts(n, np.linspace(25, 475, 12).round()[:, None]), control=0)
    assert alike.shrinkage.min() > 0.9
    assert apart.shrinkage.max() < 0.02
    pooled = 2 * 1.96 * np.sqrt(0.7 * 0.3 / 6000)
    single = 2 * 1.96 * np.sqrt(0.7 * 0.3 / 500)
    width = float((alike.segments.interval.upper - alike.segments.interval.lower)[0, 0])
    assert pooled < width < 0.6 * single


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fit_does_not_know_the_order_of_arms_and_segments_nor_which_side_is_success(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(0, 60, (4, 2))
    good = rng.binomial(n, rng.uniform(size=(4, 1)))
    fit = fit_segments(BinaryCounts(n, good), control=0)
    rows = rng.permutation(4)
    moved = fit_segments(BinaryCounts(n[rows], good[rows]), control=0)
    np.testing.assert_allclose(moved.segments.mean, fit.segments.mean[rows], atol=1e-10)
    np.testing.assert_allclose(moved.segments.interval.lower, fit.segments.interval.lower[rows], atol=1e-9)
    np.testing.assert_allclose(moved.overall.probability_best, fit.overall.probability_best, atol=1e-9)
    other = fit_segments(BinaryCounts(n[:, ::-1], n[:, ::-1] - good[:, ::-1]), control=1)
    np.testing.assert_allclose(other.segments.mean[:, ::-1], 1.0 - fit.segments.mean, atol=1e-9)
    np.testing.assert_allclose(
        other.segments.interval.lower[:, ::-1], 1.0 - fit.segments.interval.upper, atol=1e-7
    )
    np.testing.assert_allclose(other.segments.lift_interval.lower[:, 1], 0.0)
    np.testing.assert_allclose(
        other.segments.lift_interval.lower[:, 0], -fit.segments.lift_interval.upper[:, 1], atol=1e-7
    )
    np.testing.assert_allclose(fit.segments.probability_best.sum(axis=1), 1.0)
    # Of two arms the better one is the best one.
    np.testing.assert_allclose(
        fit.segments.probability_best[:, 1], fit.segments.probability_better[:, 1], atol=1e-7
    )


def test_more_of_the_same_data_narrows_every_interval():
    few = fit_segments(SMALL, control=0)
    many = fit_segments(BinaryCounts(SMALL.n * 20, SMALL.successes * 20), control=0)
    told = SMALL.n > 0
    widths = [fit.segments.interval.upper - fit.segments.interval.lower for fit in (few, many)]
    assert (widths[1] < 0.5 * widths[0])[told].all()
    # A segment without calls stays as uncertain as another segment of its arm.
    assert widths[1][~told].min() > 0.5


def test_weights_of_one_segment_make_it_all_of_them():
    fit = fit_segments(MIXED, control=1, weights=[0.0, 0.0, 3.0, 0.0])
    for name in ("mean", "probability_best", "probability_better", "lift"):
        np.testing.assert_allclose(getattr(fit.overall, name), getattr(fit.segments, name)[2], atol=1e-12)
    np.testing.assert_array_equal(fit.weights, [0.0, 0.0, 1.0, 0.0])


def test_ordinary_counts_are_fitted_without_a_gap():
    """At the highest concentration the rates of a segment, given each mean, lay too far apart in 2 % of such worlds."""
    n = np.repeat([[6], [10], [15], [25], [40], [60], [120], [200]], 2, axis=1)
    successes = np.array([[3, 9, 11, 17, 24, 39, 83, 136], [3, 7, 9, 20, 28, 42, 89, 124]]).T
    assert fit_segments(BinaryCounts(n=n, successes=successes), control=0).diagnostics.mass_gap < 1e-8


def test_arms_of_very_different_size_are_fitted_without_a_gap():
    """A million calls in one segment, one in the next; all and none of them resolved."""
    counts = BinaryCounts(n=[[10**6, 1], [1, 10**6], [50, 0]], successes=[[999_990, 0], [0, 0], [50, 0]])
    fit = fit_segments(counts, control=0)
    assert fit.diagnostics.mass_gap < 1e-8
    assert np.isfinite(numbers(fit)).all()
    # Its neighbours add less than a failure to the ten of the large segment.
    lower = fit.segments.interval.lower[0, 0]
    assert BetaPosterior(np.array([999_990.0]), np.array([11.0])).interval().lower[0] < lower
    assert lower < BetaPosterior(np.array([999_991.0]), np.array([10.0])).interval().lower[0]


# --- scores -----------------------------------------------------------------------------------------------


def test_scores_of_zero_and_one_are_counts():
    """The one degree of freedom that is added makes no difference: zeros and ones scatter most."""
    counts = BinaryCounts(n=[[30, 40], [20, 25]], successes=[[12, 28], [15, 5]])
    as_scores = trials_of(counts.as_moments())
    np.testing.assert_allclose(dispersion(counts.as_moments()), 1.0)
    np.testing.assert_array_equal(as_scores.successes, counts.successes)
    np.testing.assert_array_equal(as_scores.failures, counts.n - counts.successes)


def test_scores_that_scatter_little_are_worth_more_and_equal_ones_are_not_certain():
    rng = np.random.default_rng(3)
    scores = rng.beta(12.0, 8.0, (2, 4_000))  # variance m (1 - m) / 21
    moments = Moments([[4_000]] * 2, scores.sum(axis=1)[:, None], (scores**2).sum(axis=1)[:, None])
    assert 1.0 / dispersion(moments)[0] == pytest.approx(21.0, rel=0.05)
    same = trials_of(Moments([[6], [4]], [[3.0], [2.0]], [[1.5], [1.0]]))
    assert same.n.sum() == pytest.approx(10 * (8 + 1))  # 8 degrees of freedom without scatter, one with all


@pytest.mark.parametrize(
    ("moments", "problem"),
    [
        (Moments([[10]], [[300.0]], [[9_500.0]]), r"total\[0, 0\] == 300.0, must be in \[0, 10\]"),
        (Moments([[10]], [[-3.0]], [[9.0]]), "scores lie in"),
        (Moments([[10]], [[8.0]], [[12.0]]), "total_sq.*must be at most total == 8"),
        (Moments([10], [8.0], [7.0]), r"must be \(segment, arm\)"),
    ],
)
def test_what_is_no_score_is_refused_by_name(moments, problem):
    with pytest.raises(ValueError, match=problem):
        fit_segments(moments, control=0)


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0, 0.0], [1.0, -1.0, 1.0]])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        fit_segments(SMALL, control=0, weights=weights)


# --- frequencies ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coverage():
    """The shares that `segment_coverage` finds."""
    command = [sys.executable, "-m", "tests.engine.segment_coverage"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("share", "margin"),
    [("rates", 0.03), ("lifts", 0.04), ("means", 0.06), ("spreads", 0.06), ("together", 0.06)],
)
def test_intervals_cover_the_truth_as_often_as_they_say_over_the_prior(coverage, share, margin):
    """A Bayesian interval covers exactly 95 % of worlds drawn from its prior (Cook, Gelman and Rubin 2006).

    40 worlds of 6 segments from 0 to 80 calls. Segments of a world go together, so the bounds take
    only the worlds as independent: 4 standard errors of a share of 40 at 95 % are 14 points, of the mean of
    six weakly dependent ones about 4.
    """
    assert coverage[share] == pytest.approx(0.95, abs=margin)


@pytest.mark.timeout(600)
def test_intervals_of_scores_cover_the_truth(coverage):
    """Scores from Beta distributions around each segment's mean, whose variance follows m (1 - m) / 9."""
    assert coverage["scores"] == pytest.approx(0.95, abs=0.03)


def test_worlds_of_the_prior_have_its_moments():
    """u is uniform, so the intraclass correlation has mean 1/3; a rate is uniform in the mean, so 1/2."""
    worlds = prior_predictive([[30, 0], [30, 5]], draws=20_000, rng=np.random.default_rng(5))
    assert worlds.counts.n.shape == (20_000, 2, 2)
    assert (1.0 / (1.0 + worlds.concentration)).mean() == pytest.approx(1 / 3, abs=0.01)
    assert worlds.rates.mean() == pytest.approx(0.5, abs=0.01)
    assert (worlds.counts.successes[:, 0, 1] == 0).all()
    assert worlds.counts.rate[:, 0, 0].mean() == pytest.approx(0.5, abs=0.01)


# --- diagnostics ------------------------------------------------------------------------------------------


def test_each_threshold_of_a_sampler_is_named_when_it_is_missed():
    fine = {"r_hat": 1.005, "ess_bulk": 900.0, "ess_tail": 800.0, "divergences": 0}
    assert judged(**fine).problems == ()
    wrong = {"r_hat": 1.02, "ess_bulk": 399.0, "ess_tail": float("nan"), "divergences": 1}
    words = {"r_hat": "R-hat", "ess_bulk": "bulk", "ess_tail": "tail", "divergences": "divergences"}
    for name, value in wrong.items():
        (problem,) = judged(**{**fine, name: value}).problems
        assert words[name] in problem


# --- real calls -------------------------------------------------------------------------------------------


def test_on_real_calls_the_reason_explains_half_and_pooling_pays():
    """tau-bench, airline, gpt-4o: 38 tasks as segments, 4 trials each; odd trials stand as the second arm.

    The correlation within a task was found to be .40 to .62 (its analysis of variance: .43).
    """
    if not CALLS.exists():
        pytest.skip(f"{CALLS} is not part of this checkout")
    with gzip.open(CALLS, "rt") as file:
        rows = [json.loads(line) for line in file]
    tasks = sorted({row["segment"] for row in rows})
    n, good = np.zeros((2, 38, 2), int)
    for row in rows:
        place = tasks.index(row["segment"]), row["trial"] % 2
        n[place] += 1
        good[place] += row["metrics"]["resolved"]
    whole = fit_segments(
        BinaryCounts(n.sum(axis=1, keepdims=True), good.sum(axis=1, keepdims=True)), control=0
    )
    share = whole.population.intraclass[0]
    assert 0.40 < share < 0.62
    assert (
        whole.population.intraclass_interval.lower[0] < 0.43 < whole.population.intraclass_interval.upper[0]
    )
    arms = fit_segments(BinaryCounts(n, good), control=0)
    plain = BetaPosterior.from_counts(BinaryCounts(n.sum(axis=0), good.sum(axis=0)))
    adjusted = arms.overall.lift_interval
    width = float((adjusted.upper - adjusted.lower)[1])
    assert width < 0.85 * 2 * 1.96 * float(np.hypot(*plain.sd))
    gain = stratified_estimate(BinaryCounts(n, good), control=0).gain[1]
    assert gain > 1.3
