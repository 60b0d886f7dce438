# %% [markdown]
# # Reading a finished bandit: Simpson's paradox, shown and cured
#
# **For** whoever has the calls of a bandit in a frame and is about to group them by variant.
#
# **The question:** why is that wrong, and what is right?

# %%
import altair as alt
import numpy as np
import polars as pl

import engine as ab
from engine.periods import beta_posterior
from engine.simulated_looks import batch_statistics

alt.renderers.enable("svg")
RUNS, UNITS = 200, 5_000

# %% [markdown]
# ## The paradox in eight numbers
#
# A bad day and a good day. On the bad day each variant resolves 50 % of its calls, on the good day 90 %. The variants
# are identical. But on the good day the split had moved to `b`.

# %%
days = ab.BinaryCounts(n=[[90, 10], [10, 90]], successes=[[45, 5], [9, 81]])  # (day, variant)
SPLITS = np.array([[0.9, 0.1], [0.1, 0.9]])
assert (days.rate == [[0.5, 0.5], [0.9, 0.9]]).all()

# %% [markdown]
# Grouped by variant, `b` resolves 86 % and `a` 54 %. The z-test is sure, the belief is sure, and both are wrong: the
# day passes for the prompt.

# %%
pooled = ab.compare({"a": (54, 100), "b": (86, 100)}, control="a")
assert [pooled[arm].rate for arm in "ab"] == [0.54, 0.86]
assert pooled["b"].z_test.p_value < 1e-5
assert pooled["b"].probability_better > 0.999999
pooled

# %% [markdown]
# ## The cure
#
# Within a day the split stood still, so within a day the comparison is fair. Three ways to use that:
#
# - **AIPW** weighs each call by the logged probability of what it was given;
# - **stratification** compares within each day, and averages over the days;
# - **the posterior by period** does the same for the belief that steers the split.
#
# All three say: no difference to speak of.

# %%
weighed = ab.aipw_estimate(days, SPLITS, control=0)
stratified = ab.stratified_estimate(days, control=0, period=[0, 1])
belief = beta_posterior(days, days.n > 0, control=0)
assert abs(weighed.estimate[1]) < 0.1
assert weighed.interval().lower[1] < 0 < weighed.interval().upper[1]
assert abs(stratified.estimate[1]) < 1e-12
assert [round(mean, 2) for mean in belief.mean.tolist()] == [0.68, 0.70]

# %% [markdown]
# ## Is that a curiosity?
#
# No. It needs two things: rates that move, as they do between weekdays and weekends, and a split that follows the
# outcomes, which is what a bandit is. Here are 200 bandits over 5 000 calls with two **identical** prompts. Both
# resolve 70 % of the calls at the start, 15 points more in the middle, and 70 % again at the end.

# %%
world = ab.Scenario([0.70, 0.70], drift=0.15, drift_period=2 * UNITS)
bandits = ab.simulate(world, ab.Policy(name="thompson"), units=UNITS, runs=RUNS, rng=np.random.default_rng(1))
counts = batch_statistics(bandits)
whole = ab.BinaryCounts(n=counts.n.sum(axis=1), successes=counts.successes.sum(axis=1))
assert counts.n.shape == (RUNS, 100, 2)
assert (whole.n.sum(axis=1) == UNITS).all()


# %%
def misses(interval_lower, interval_upper):
    """Share of the runs whose 95 % interval does not contain the true difference, 0."""
    return ((interval_lower[:, 1] > 0) | (interval_upper[:, 1] < 0)).mean()


plain = ab.z_test(whole, control=0)
right = ab.aipw_estimate(counts, bandits.probability, control=0)
missed = {
    "grouped by variant": misses(plain.lower, plain.upper),
    "AIPW": misses(right.interval().lower, right.interval().upper),
}

# %% [markdown]
# Grouped by variant, the 95 % interval is wrong in about half of the bandits, though it is read only once. The AIPW
# interval keeps its word.

# %%
assert 0.39 < missed["grouped by variant"] < 0.61
assert missed["AIPW"] < 0.10
missed

# %% [markdown]
# ## One of them, call by call
#
# We take the bandit that a plain analysis gets most wrong, and give its calls to `Study` as an export would: variant,
# allocation, probability, outcome.

# %%
worst = int(np.abs(plain.estimate[:, 1]).argmax())
batch = np.arange(UNITS) // bandits.batch
arm = bandits.arm[worst].astype(int)
calls = pl.DataFrame(
    {
        "variant": np.array(["a", "b"])[arm],
        "allocation": batch,
        "probability": bandits.probability[worst, batch, arm],
        "resolved": bandits.outcome[worst] == 1.0,
    }
)
calls.head(3)

# %% [markdown]
# In each part of the time both variants do about equally well. The share of `b` is what moves with the good time, and
# so do its calls.

# %%
thirds = calls.with_columns(part=pl.col("allocation") * 3 // 100)
table = thirds.group_by("part", "variant").agg(calls=pl.len(), resolved=pl.col("resolved").mean())
assert table.height == 6
table.sort("part", "variant")

# %%
moving = pl.DataFrame(
    {
        "calls": 50 * np.arange(100),
        "share of b": bandits.probability[worst, :, 1],
        "rate of both": bandits.mean[::50, 0],
    }
).unpivot(index="calls")
assert moving.height == 200
alt.Chart(moving).mark_line().encode(x="calls", y="value", color="variable")

# %% [markdown]
# `Study` knows the columns, so it does all of the above by itself. The plain z-test stands in the result, too, and is
# far off. The adaptive estimate and the sequence that may be looked at any time contain the truth.

# %%
study = ab.Study(
    arm="variant",
    control="a",
    metrics=[ab.Binary("resolved", goal=True)],
    allocation="allocation",
    probability="probability",
)
b = study.analyze(calls)["resolved"]["b"]
assert abs(b.z_test.estimate) > 0.06
assert b.z_test.p_value < 0.001
assert abs(b.adaptive.estimate) < abs(b.z_test.estimate) / 2
lower, upper = b.always_valid.interval
assert lower < 0 < upper
b.z_test, b.adaptive

# %% [markdown]
# **So:** after a bandit, never group by variant alone. Keep `allocation` and `probability` with each call (an export
# has both), name them in `Study`, and read `adaptive`, `posterior` and `always_valid`. `z_test` and `welch_test` are
# for splits that stood still.
