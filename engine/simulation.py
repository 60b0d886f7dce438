"""Simulated experiments: many runs at once, with drift, delay, missing outcomes, arms that come and go.

A `Scenario` is the world, a `Policy` what the product does in it, a `History` what the log then holds. Tests,
benchmarks and notebooks draw from here; `simulated_looks` says what a watcher would have claimed.
Time is counted in units: unit u is assigned at time u. Arm 0 is the control.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int8

from engine.checks import Numbers, check_positive, finite_numbers, refuse_where
from engine.simulated_policy import Learned, Policy, splits

# Drift keeps every mean this far from 0 and 1, where an outcome would be certain.
MARGIN_OF_RATES = 0.005


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Scenario:
    """The world: what each arm yields, when, and how much of it is seen.

    Parameters
    ----------
    means : Success rates, or means of a score in [0, 1], shape (arm,).
    spread : Standard deviation of a score within an arm, one number or shape (arm,); None for outcomes that
        are 0 or 1.
    drift : Points by which all means rise and fall together, in [0, 1): differences between arms stay. Where
        an arm would come within 0.005 of 0 or 1, all stop there.
    drift_shape : "sine" starts in the middle and rises; "step" is down in the first half of a period.
    drift_period : Units of one period; None for all units of the simulation.
    delay : Mean units until an outcome arrives (exponential), one number or shape (arm,).
    missing : Share of outcomes that never arrive, one number or shape (arm,).
    arrival, retirement : The arm takes units from `arrival` on, before `retirement`, rounded up to the next
        reallocation; one number or shape (arm,). The control is there all the time.

    Raises
    ------
    ValueError
        Means outside (0, 1), a spread that no distribution on [0, 1] has, a negative delay, and the like.
    """

    means: Float64[np.ndarray, " arm"]
    spread: Float64[np.ndarray, " arm"] | None
    drift: float
    drift_shape: Literal["sine", "step"]
    drift_period: int | None
    delay: Float64[np.ndarray, " arm"]
    missing: Float64[np.ndarray, " arm"]
    arrival: Float64[np.ndarray, " arm"]
    retirement: Float64[np.ndarray, " arm"]

    def __init__(
        self,
        means: Numbers,
        *,
        spread: Numbers | None = None,
        drift: float = 0.0,
        drift_shape: Literal["sine", "step"] = "sine",
        drift_period: int | None = None,
        delay: Numbers = 0.0,
        missing: Numbers = 0.0,
        arrival: Numbers = 0.0,
        retirement: Numbers = inf,
    ) -> None:
        middle = np.atleast_1d(finite_numbers(means, name="means"))
        refuse_where((middle <= 0) | (middle >= 1), middle, name="means", rule="must be in (0, 1)")
        if not 0.0 <= drift < 1.0:
            raise ValueError(f"drift == {drift!r}, must be in [0, 1); write 0.15 for 15 points")
        width = None if spread is None else _per_arm(spread, middle.size, name="spread")
        if width is not None:
            widest = np.sqrt(middle * (1.0 - middle))
            rule = "must be above 0 and below sqrt(mean (1 - mean)) == {:g}; leave it out for zeros and ones"
            refuse_where((width >= widest) | (width <= 0.0), width, name="spread", rule=rule, bound=widest)
        values = {
            "means": middle,
            "spread": width,
            "drift": float(drift),
            "drift_shape": drift_shape,
            "drift_period": drift_period,
            "delay": _per_arm(delay, middle.size, name="delay"),
            "missing": _per_arm(missing, middle.size, name="missing", most=1.0),
            "arrival": _per_arm(arrival, middle.size, name="arrival"),
            "retirement": _per_arm(retirement, middle.size, name="retirement"),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if not self.live_at(0)[0] or self.retirement[0] < inf:
            raise ValueError("the control is arm 0; it must be there from unit 0 to the end")

    @property
    def binary(self) -> bool:
        """Whether outcomes are 0 or 1."""
        return self.spread is None

    def live_at(self, unit: int) -> Bool[np.ndarray, " arm"]:
        """Arms that may be served from this unit on."""
        return np.asarray((self.arrival <= unit) & (unit < self.retirement))

    def means_over(self, units: int) -> Float64[np.ndarray, "unit arm"]:
        """Expected outcome of each arm at each unit."""
        phase = 2.0 * np.pi * (np.arange(units) + 0.5) / (self.drift_period or units)
        wave = np.sin(phase) if self.drift_shape == "sine" else -np.sign(np.sin(phase))
        room = (
            min(MARGIN_OF_RATES - self.means.min(), 0.0),
            max(1.0 - MARGIN_OF_RATES - self.means.max(), 0.0),
        )
        return np.asarray(self.means + np.clip(self.drift * wave, *room)[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What the log holds afterwards.

    Attributes
    ----------
    arm : Arm of each unit.
    outcome : Its outcome; nan where it is missing or came after the maturity window.
    probability : The logged split of each batch of `batch` units.
    arrived : Time at which the outcome arrived; nan where it never did.
    mean : Expected outcome of each arm at each unit.
    live : Whether each arm could be served in each batch.
    """

    arm: Int8[np.ndarray, "run unit"]
    outcome: Float64[np.ndarray, "run unit"]
    probability: Float64[np.ndarray, "run batch arm"]
    arrived: Float32[np.ndarray, "run unit"]
    mean: Float64[np.ndarray, "unit arm"]
    live: Bool[np.ndarray, "batch arm"]
    batch: int
    binary: bool


def simulate(
    scenario: Scenario, policy: Policy, *, units: int, runs: int, rng: np.random.Generator
) -> History:
    """Run the same experiment many times.

    At each reallocation the split sees the outcomes of units older than the maturity window, and only those
    that had arrived within it.

    Parameters
    ----------
    units : Length of each run.
    runs : How many, each with its own randomness.

    Raises
    ------
    ValueError
        No units or no runs; floors that do not fit the number of arms.

    Examples
    --------
    >>> world = Scenario([0.6, 0.8])
    >>> history = simulate(world, Policy(name="thompson"), units=2000, runs=20, rng=np.random.default_rng(1))
    >>> (history.probability[:, -1, 1] > 0.5).mean()
    np.float64(1.0)
    """
    check_positive(units, name="units")
    check_positive(runs, name="runs")
    starts = range(0, units, policy.batch)
    mean = scenario.means_over(units)
    live = np.array([scenario.live_at(start) for start in starts])
    arm = np.empty((runs, units), dtype=np.int8)
    outcome = np.empty((runs, units))
    arrived = np.empty((runs, units), dtype=np.float32)
    probability = np.empty((runs, len(starts), scenario.means.size))
    learned, seen = Learned.nothing(runs, scenario.means.size), 0
    kept = 1.0 if policy.half_life is None else 2.0 ** (-policy.batch / policy.half_life)
    for batch, start in enumerate(starts):
        matured = slice(seen, max(start - policy.maturity, seen))
        learned = learned.after(arm[:, matured], outcome[:, matured], kept=kept)
        seen = matured.stop
        split = splits(policy, learned, live[batch], live[0], binary=scenario.binary)
        now = slice(start, min(start + policy.batch, units))
        probability[:, batch] = split
        arm[:, now] = _assign(split, now.stop - start, rng)
        outcome[:, now] = _outcomes(scenario, arm[:, now], mean[now], rng)
        waited = _delays(scenario, arm[:, now], rng)
        arrived[:, now] = np.arange(start, now.stop) + waited
        outcome[:, now] = np.where(waited <= policy.maturity, outcome[:, now], np.nan)
    return History(
        arm=arm,
        outcome=outcome,
        probability=probability,
        arrived=arrived,
        mean=mean,
        live=live,
        batch=policy.batch,
        binary=scenario.binary,
    )


def _assign(split: np.ndarray, units: int, rng: np.random.Generator) -> np.ndarray:
    edges = np.cumsum(split, axis=1)
    # Rounding may leave the last edge below 1: what lies above goes to the last arm that has a share.
    last = split.shape[1] - 1 - np.argmax(split[:, ::-1] > 0.0, axis=1)
    edges[np.arange(split.shape[1]) >= last[:, None]] = 2.0
    draw = rng.random((split.shape[0], units))
    arm = np.zeros(draw.shape, dtype=np.int8)
    for edge in edges.T:
        arm += draw >= edge[:, None]
    return arm


def _outcomes(scenario: Scenario, arm: np.ndarray, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    expected = mean[np.arange(mean.shape[0]), arm]
    if scenario.spread is None:
        return np.asarray(rng.random(arm.shape) < expected, dtype=np.float64)
    size = np.maximum(expected * (1.0 - expected) / scenario.spread[arm] ** 2 - 1.0, 1e-3)
    return np.asarray(rng.beta(expected * size, (1.0 - expected) * size))


def _delays(scenario: Scenario, arm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole units until each outcome arrives; nan where it never does."""
    waited = np.zeros(arm.shape)
    if scenario.delay.any():
        waited = np.floor(rng.exponential(1.0, arm.shape) * scenario.delay[arm])
    if scenario.missing.any():
        waited[rng.random(arm.shape) < scenario.missing[arm]] = np.nan
    return waited


def _per_arm(value: Numbers, arms: int, *, name: str, most: float = inf) -> np.ndarray:
    given = np.asarray(value, dtype=np.float64)
    if given.shape not in ((), (arms,)):
        raise ValueError(f"{name} has shape {given.shape}, must be one number or ({arms},), one per arm")
    refuse_where(~((given >= 0) & (given <= most)), given, name=name, rule=f"must be in [0, {most:g}]")
    return np.array(np.broadcast_to(given, (arms,)))
