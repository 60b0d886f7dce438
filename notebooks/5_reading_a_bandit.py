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

alt.renderers.enable("svg")  # drawn here, shown without a network
RUNS, UNITS = 400, 5_000


def agrees(runs, stated):
    """Whether the mean of these runs is the stated one, within three of its standard errors."""
    return abs(np.mean(runs) - stated) <= 3.0 * np.std(runs, ddof=1) / np.sqrt(len(runs))


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
assert weighed.interval().lower[1] < 0 < weighed.interval().upper[1]
assert abs(weighed.estimate[1]) < weighed.standard_error[1]
assert abs(stratified.estimate[1]) < 1e-12
assert [round(mean, 2) for mean in belief.mean.tolist()] == [0.68, 0.70]

# %% [markdown]
# ## Is that a curiosity?
#
# No. It needs two things: rates that move, as they do between weekdays and weekends, and a split that follows the
# outcomes, which is what a bandit is. Here are 400 bandits over 5 000 calls with two **identical** prompts. Both
# resolve 70 % of the calls at the start, 85 % in the middle, and 70 % again at the end.

# %%
world = ab.Scenario([0.70, 0.70], drift=0.15, drift_period=2 * UNITS)
bandits = ab.simulate(world, ab.Policy(name="thompson"), units=UNITS, runs=RUNS, rng=np.random.default_rng(1))
counts = batch_statistics(bandits)
whole = ab.BinaryCounts(n=counts.n.sum(axis=1), successes=counts.successes.sum(axis=1))
assert (whole.n.sum(axis=1) == UNITS).all()
assert round(bandits.mean.max(), 2) == 0.85

# %% [markdown]
# Grouped by variant, the 95 % interval misses the truth in nearly half of the bandits (48 %), though it is read only
# once. The AIPW interval keeps its word: it misses in 5 % at most.


# %%
def misses(interval):
    """Whether the interval of b does not contain the true difference, 0; by run."""
    return (interval.lower[:, 1] > 0) | (interval.upper[:, 1] < 0)


plain = ab.z_test(whole, control=0)
right = ab.aipw_estimate(counts, bandits.probability, control=0)
assert agrees(misses(plain), 0.48)
assert misses(right.interval()).mean() <= 0.05
float(misses(plain).mean()), float(misses(right.interval()).mean())

# %% [markdown]
# The differences themselves, of identical prompts. Grouped by variant they have two humps: whichever prompt the bandit
# came to prefer served the good middle, and looks 3 points better for it. A difference of 0, the truth, is rare.
# Weighed, the bandits scatter around 0.

# %%
ESTIMATES = {"grouped by variant": plain.estimate[:, 1], "AIPW": right.estimate[:, 1]}
assert agrees(ESTIMATES["AIPW"], 0.0)
near = {name: (np.abs(values) < 0.01).mean() for name, values in ESTIMATES.items()}
assert near["grouped by variant"] < near["AIPW"] / 3
alt.Chart(pl.DataFrame(ESTIMATES).unpivot()).mark_bar(opacity=0.6).encode(
    x=alt.X("value", bin=alt.Bin(step=0.01), title="b minus a", axis=alt.Axis(format="+.0%")),
    y=alt.Y("count()", stack=None, title="bandits"),
    row=alt.Row("variable", title=None),
).properties(height=90)

# %% [markdown]
# ## One of them, call by call
#
# We take the first bandit that a plain analysis gets wrong, and give its calls to `Study` as an export would: variant,
# allocation, probability, outcome.

# %%
wrong = int(misses(plain).argmax())
batch = np.arange(UNITS) // bandits.batch
arm = bandits.arm[wrong].astype(int)
calls = pl.DataFrame(
    {
        "variant": np.array(["a", "b"])[arm],
        "allocation": batch,
        "probability": bandits.probability[wrong, batch, arm],
        "resolved": bandits.outcome[wrong] == 1.0,
    }
)
assert calls.height == UNITS
calls.head(3)

# %%
study = ab.Study(
    arm="variant",
    control="a",
    metrics=[ab.Binary("resolved", goal=True)],
    allocation="allocation",
    probability="probability",
)
found = study.analyze(calls)
assert found.plan.split_moves
found.plot("split")

# %% [markdown]
# `Study` knows the columns, so it does all of the above by itself. The plain z-test stands in the result, too, and is
# "significant". The adaptive estimate is nearer to the truth, and its intervals contain it, for one look and for any.
# The picture leaves the z-test out, because the split moved.

# %%
b = found["resolved"]["b"]
assert b.z_test.p_value < 0.05
assert abs(b.adaptive.estimate) < abs(b.z_test.estimate)
for lower, upper in (b.adaptive.interval, b.always_valid.interval):
    assert lower < 0 < upper
found.plot("lift")

# %% [markdown]
# **So:** after a bandit, never group by variant alone. Keep `allocation` and `probability` with each call (an export
# has both), name them in `Study`, and read `adaptive`, `posterior` and `always_valid`. `z_test` and `welch_test` are
# for splits that stood still.
