"""The sampler against the quadrature, and fits that must be refused. One compiled model serves all tests here."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from engine.hierarchical import fit_segments
from engine.segment_fit import SegmentsFit, UnreliableFit
from engine.segment_sampling import Sampler
from engine.statistics import BinaryCounts

# Collecting this file must not import PyMC: every worker would wait for it.
pytestmark = [
    pytest.mark.skipif(find_spec("pymc") is None, reason="PyMC is not installed: the extra `segments`"),
    pytest.mark.timeout(600),  # importing and compiling take half a minute of CPU
]
COUNTS = BinaryCounts(
    n=[[40, 60], [12, 8], [80, 70], [0, 25]], successes=[[30, 52], [4, 6], [31, 40], [0, 20]]
)
OTHER = BinaryCounts(n=COUNTS.n, successes=COUNTS.n - COUNTS.successes)
SETTINGS = Sampler(draws=1_000, tune=600, seed=7)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SegmentsFit]:
    """Nothing is compiled into the home or the source tree."""
    before = os.environ.get("PYTENSOR_FLAGS")
    os.environ["PYTENSOR_FLAGS"] = f"base_compiledir={tmp_path_factory.mktemp('pytensor')}"
    yield fit_segments(COUNTS, control=0, method="nuts", sampler=SETTINGS)
    if before is None:
        del os.environ["PYTENSOR_FLAGS"]
    else:
        os.environ["PYTENSOR_FLAGS"] = before


def test_the_sampler_agrees_with_the_quadrature(sampled: SegmentsFit):
    """4 000 draws with at least 400 effective ones: a mean is off by sd / 20 (one in 20 more than that).

    The seed is fixed; five such errors are allowed, and for a probability 5 * 0.5 / 20.
    """
    exact = fit_segments(COUNTS, control=0)
    assert sampled.method == "nuts"
    assert sampled.diagnostics.problems == ()
    assert sampled.diagnostics.r_hat is not None
    assert 0.99 < sampled.diagnostics.r_hat < 1.01
    effective = min(sampled.diagnostics.ess_bulk, 4_000)
    assert effective > 400
    for drawn, true in ((sampled.segments, exact.segments), (sampled.overall, exact.overall)):
        sd = (true.interval.upper - true.interval.lower) / 3.9
        assert (np.abs(drawn.mean - true.mean) < 5 * sd / np.sqrt(effective)).all()
        # A 2.5 % quantile is 2.7 times as uncertain as a mean (normal; sqrt(.025 * .975) / .058).
        for end in ("lower", "upper"):
            gap = np.abs(getattr(drawn.interval, end) - getattr(true.interval, end))
            assert (gap < 5 * 2.7 * sd / np.sqrt(effective)).all()
            gap = np.abs(getattr(drawn.lift_interval, end) - getattr(true.lift_interval, end))
            assert (gap < 5 * 2.7 * 2 * sd.max() / np.sqrt(effective)).all()
        for name in ("probability_best", "probability_better"):
            gap = np.abs(getattr(drawn, name) - getattr(true, name))
            assert (gap < 2.5 / np.sqrt(effective)).all()
    np.testing.assert_allclose(sampled.shrinkage, exact.shrinkage, atol=2.5 / np.sqrt(effective))
    people = sampled.population
    np.testing.assert_allclose(people.mean, exact.population.mean, atol=1.0 / np.sqrt(effective))
    np.testing.assert_allclose(people.intraclass, exact.population.intraclass, atol=1.0 / np.sqrt(effective))
    np.testing.assert_allclose(people.mean_interval.lower, exact.population.mean_interval.lower, atol=0.06)
    ratio = people.concentration / exact.population.concentration
    np.testing.assert_allclose(ratio, 1.0, atol=0.3)


def test_a_second_fit_of_that_shape_compiles_nothing_and_repeats_itself(sampled: SegmentsFit):
    from engine.segment_sampling import _compiled

    before = _compiled.cache_info().misses
    few = Sampler(draws=40, tune=100, seed=1)
    fits = [
        fit_segments(counts, control=0, method="nuts", sampler=few, strict=False)
        for counts in (COUNTS, OTHER, COUNTS)
    ]
    assert _compiled.cache_info().misses == before
    np.testing.assert_array_equal(fits[2].segments.mean, fits[0].segments.mean)
    # The other counts were really put in: success and failure are exchanged.
    np.testing.assert_allclose(fits[1].population.mean, 1.0 - sampled.population.mean, atol=0.15)


def test_too_few_draws_are_refused_or_flagged(sampled: SegmentsFit):
    few = Sampler(draws=40, tune=100, seed=1)
    with pytest.raises(UnreliableFit, match="effective sample size") as refused:
        fit_segments(COUNTS, control=0, method="nuts", sampler=few)
    assert refused.value.diagnostics.ess_bulk < 400
    flagged = fit_segments(COUNTS, control=0, method="nuts", sampler=few, strict=False)
    assert flagged.diagnostics.problems


def test_chains_that_disagree_and_planted_divergences_are_refused(sampled: SegmentsFit):
    """One chain that never left its start, and draws at which the integrator is said to have failed."""
    import arviz as az

    from engine.segment_sampling import diagnosed

    rng = np.random.default_rng(4)
    told = {"mean": rng.normal(size=(4, 1_000, 2)), "spread": rng.normal(size=(4, 1_000, 2))}
    quiet = {"diverging": np.zeros((4, 1_000), bool)}
    tree = az.from_dict({"posterior": told, "sample_stats": quiet})
    assert diagnosed(tree, 0.95).problems == ()
    stuck = tree.copy(deep=True)
    stuck["posterior"]["mean"].values[0] = 0.9
    assert any("R-hat" in problem for problem in diagnosed(stuck, 0.95).problems)
    failed = tree.copy(deep=True)
    failed["sample_stats"]["diverging"].values[1, :3] = True
    assert diagnosed(failed, 0.95).problems == ("3 divergences, must be 0",)


def test_the_ranks_of_chains_become_a_file(tmp_path: Path):
    import arviz as az

    from engine.segment_sampling import save_ranks

    rng = np.random.default_rng(5)
    told = {name: rng.uniform(size=(4, 100, 2)) for name in ("mean", "spread")}
    tree = az.from_dict({"posterior": told, "sample_stats": {"diverging": np.zeros((4, 100), bool)}})
    assert save_ranks(tree, tmp_path / "ranks.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def neals_funnel(draws, chains, rng):
    """Hamiltonian Monte Carlo with one step length on Neal's funnel: v ~ N(0, 3), nine x ~ N(0, e^(v/2))."""

    def energy(q):
        return q[0] ** 2 / 18.0 + 4.5 * q[0] + 0.5 * (q[1:] ** 2).sum(axis=0) * np.exp(-q[0])

    def slope(q):
        pull = q[1:] * np.exp(-q[0])
        return np.vstack([q[:1] / 9.0 + 4.5 - 0.5 * (q[1:] * pull).sum(axis=0), pull])

    q = rng.normal(size=(10, chains))
    kept, diverging = np.empty((chains, draws)), np.empty((chains, draws), bool)
    for draw in range(draws):
        p = start = rng.normal(size=q.shape)
        new = q
        for _ in range(15):
            p = p - 0.3 * slope(new)
            new = new + 0.6 * p
            p = p - 0.3 * slope(new)
        error = energy(new) + 0.5 * (p**2).sum(axis=0) - energy(q) - 0.5 * (start**2).sum(axis=0)
        diverging[:, draw] = ~(error < 1_000.0)  # as NUTS counts them
        q = np.where(rng.random(chains) < np.exp(np.minimum(-error, 0.0)), new, q)
        kept[:, draw] = q[0]
    return kept, diverging


def test_a_real_funnel_is_refused(sampled: SegmentsFit):
    """Its neck is narrower than any step that suits its mouth: the integrator leaves it, the chains pass it by."""
    import arviz as az

    from engine.segment_sampling import diagnosed

    with np.errstate(all="ignore"):
        kept, diverging = neals_funnel(1_000, 4, np.random.default_rng(2))
    tree = az.from_dict({"posterior": {"v": kept}, "sample_stats": {"diverging": diverging}})
    found = diagnosed(tree, 0.95)
    assert found.divergences > 0
    assert any("divergences" in problem for problem in found.problems)
    assert any("effective sample size" in problem for problem in found.problems)
