"""The same posterior as the quadrature's, by PyMC: its twin, to be compared with. Nothing else imports PyMC,
and this module only within its functions: that takes seconds.

Only each arm's mean and spread are sampled; the rates of segments are conjugate and drawn afterwards. The
model is compiled once per shape of the counts.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.segment_fit import Diagnostics, Population, Rates, SegmentsFit, judged
from engine.segment_trials import Trials
from engine.statistics import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """How `method="nuts"` draws: each chain keeps `draws` after `tune`, and a seed gives the same again."""

    draws: int = 1_000
    tune: int = 1_000
    chains: int = 4
    seed: int = 0
    target_accept: float = 0.9


def sampled(
    trials: Trials, sampler: Sampler, *, weights: np.ndarray, control: int, confidence_level: float
) -> SegmentsFit:
    """Everything that a fit holds; see `hierarchical.fit_segments`."""
    tree = draw(trials, sampler)
    rng = np.random.default_rng(sampler.seed)
    mean, spread = (_flat(tree["posterior"][name]) for name in ("mean", "spread"))
    concentration = (1.0 - spread) * (1.0 + spread) / spread**2
    pulled = (mean * concentration)[:, None, :], ((1.0 - mean) * concentration)[:, None, :]
    rates = rng.beta(pulled[0] + trials.successes, pulled[1] + trials.failures)
    share = concentration[:, None, :] / (concentration[:, None, :] + trials.n)
    return SegmentsFit(
        population=_population(mean, spread, confidence_level),
        segments=_rates(rates, control, confidence_level),
        shrinkage=share.mean(axis=0),
        weights=weights,
        overall=_rates(np.einsum("s,dsa->da", weights, rates), control, confidence_level),
        confidence_level=confidence_level,
        method="nuts",
        diagnostics=diagnosed(tree, confidence_level),
    )


def draw(trials: Trials, sampler: Sampler) -> Any:
    """Chains of `mean` and `spread`, as an xarray DataTree."""
    import pymc as pm

    model, step = _compiled(trials.n.shape, sampler.target_accept)
    with model:
        pm.set_data({"successes": trials.successes, "failures": trials.failures})
        return pm.sample(
            draws=sampler.draws,
            tune=sampler.tune,
            chains=sampler.chains,
            cores=1,
            step=step,
            nuts_sampler="pymc",
            random_seed=sampler.seed,
            progressbar=False,
            quiet=True,
            compute_convergence_checks=False,  # ours decide
        )


def diagnosed(tree: Any, confidence_level: float) -> Diagnostics:
    """R-hat, effective sample sizes and divergences of the draws, and what is wrong with them."""
    import arviz as az

    # ArviZ 1 would otherwise take 89 % and highest density, and call them by its own names.
    table = az.summary(
        tree, kind="diagnostics", ci_prob=confidence_level, ci_kind="eti", round_to="none", fmt="wide"
    )
    return judged(
        r_hat=_worst(table["r_hat"], np.max),
        ess_bulk=_worst(table["ess_bulk"], np.min),
        ess_tail=_worst(table["ess_tail"], np.min),
        divergences=int(tree["sample_stats"]["diverging"].to_numpy().sum()),
    )


def save_ranks(tree: Any, path: str | Path) -> Path:
    """Write how the chains' draws rank among each other: what R-hat says in one number.

    Left the density of every parameter, a line a chain; right the ranks' distribution less the uniform one, with
    a band that chains of one posterior stay in.

    Parameters
    ----------
    tree : Of `draw`.
    path : Ends in .png, .svg or .pdf.

    References
    ----------
    Säilynoja, Bürkner and Vehtari (2022), Graphical test for discrete uniformity, Statistics and Computing 32.
    """
    import arviz as az
    from matplotlib import pyplot

    drawn = az.plot_rank_dist(tree, var_names=["mean", "spread"], backend="matplotlib")
    drawn.savefig(Path(path))
    pyplot.close(drawn.get_viz("figure"))
    return Path(path)


def _worst(column: Any, of: Any) -> float:
    return float(of(np.asarray(column, dtype=np.float64)))


@cache
def _compiled(shape: tuple[int, int], target_accept: float) -> tuple[Any, Any]:
    """A model for counts of this shape, and its compiled sampler; the counts are put in afterwards."""
    import pymc as pm

    with pm.Model() as model:
        successes = pm.Data("successes", np.zeros(shape))
        failures = pm.Data("failures", np.zeros(shape))
        mean = pm.Uniform("mean", 0.0, 1.0, shape=shape[1])
        spread = pm.Uniform("spread", 0.0, 1.0, shape=shape[1])
        concentration = (1.0 - spread) * (1.0 + spread) / spread**2
        pm.Potential(
            "beta_binomial",
            _log_rising(mean * concentration, successes)
            + _log_rising((1.0 - mean) * concentration, failures)
            - _log_rising(concentration, successes + failures),
        )
        step = pm.NUTS(target_accept=target_accept)
    return model, step


def _log_rising(a: Any, n: Any) -> Any:
    from pytensor.tensor import gammaln

    return gammaln(a + n) - gammaln(a)


def _flat(values: Any) -> np.ndarray:
    array = values.to_numpy()
    return np.asarray(array.reshape(-1, array.shape[-1]))


def _population(mean: np.ndarray, spread: np.ndarray, confidence_level: float) -> Population:
    concentration = (1.0 - spread) * (1.0 + spread) / spread**2
    return Population(
        mean=mean.mean(axis=0),
        mean_interval=_interval(mean, confidence_level),
        concentration=np.median(concentration, axis=0),
        concentration_interval=_interval(concentration, confidence_level),
        intraclass=(spread**2).mean(axis=0),
        intraclass_interval=_interval(spread**2, confidence_level),
    )


def _rates(rates: np.ndarray, control: int, confidence_level: float) -> Rates:
    """Shares of the draws, shape (draw, ..., arm)."""
    arms = rates.shape[-1]
    own = rates[..., control : control + 1]
    better = (rates > own).mean(axis=0)
    better[..., control] = 0.5
    return Rates(
        mean=rates.mean(axis=0),
        interval=_interval(rates, confidence_level),
        probability_best=(rates.argmax(axis=-1)[..., None] == np.arange(arms)).mean(axis=0),
        probability_better=better,
        lift=(rates - own).mean(axis=0),
        lift_interval=_interval(rates - own, confidence_level),
    )


def _interval(values: np.ndarray, confidence_level: float) -> Interval:
    tail = (1.0 - confidence_level) / 2.0
    lower, upper = np.quantile(values, [tail, 1.0 - tail], axis=0)
    return Interval(np.asarray(lower), np.asarray(upper))
