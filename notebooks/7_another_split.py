# %% [markdown]
# # What would another split have earned?
#
# **For** whoever has the log of one policy and wonders about another.
#
# **The question:** how many calls would have been resolved under a split that nobody served?
#
# A log of prompts and outcomes cannot answer that. A log that also holds the **probability** of each assignment can.
# PromptBandit writes it with every call.

# %%
import altair as alt
import numpy as np
import polars as pl

import engine as ab
from engine.simulated_looks import batch_statistics

alt.renderers.enable("svg")  # drawn here, shown without a network
RUNS, UNITS = 400, 4_000


def agrees(runs, stated):
    """Whether the mean of these runs is the stated one, within three of its standard errors."""
    return abs(np.mean(runs) - stated) <= 3.0 * np.std(runs, ddof=1) / np.sqrt(len(runs))


# %% [markdown]
# ## A log
#
# A bandit over three prompts that truly resolve 60, 70 and 65 % of the calls at the start. The shop gets better
# meanwhile, and at the end each resolves 15 points more. 400 such logs show how often an answer is right.

# %%
world = ab.Scenario([0.60, 0.70, 0.65], drift=0.15, drift_period=4 * UNITS)  # a quarter of a wave
logs = ab.simulate(world, ab.Policy(name="thompson"), units=UNITS, runs=RUNS, rng=np.random.default_rng(1))
batch = np.arange(UNITS) // logs.batch


def log_of(run):
    """The columns of an export: outcome, arm, and the probability of that arm at that time."""
    arm = logs.arm[run].astype(int)
    return {"outcome": logs.outcome[run], "arm": arm, "probability": logs.probability[run, batch, arm]}


assert log_of(0)["probability"].min() >= 0.05  # the floor: everything stays possible
pl.DataFrame(log_of(0)).head(3)

# %% [markdown]
# ## One question: what would an even split have earned?
#
# Each call counts with the weight *probability under the other split / logged probability*. Calls that the other split
# would have made more often count for several. `snips` is the weighted mean. `effective_sample_size` says how many
# calls of the other split itself would have told as much.

# %%
EVEN = [1 / 3, 1 / 3, 1 / 3]
even = ab.snips(**log_of(0), target=EVEN)
truth = float((logs.mean @ EVEN).mean())
assert abs(even.estimate - truth) < 3 * even.standard_error
assert even.effective_sample_size < UNITS
assert not even.reason  # nothing to warn of
even

# %% [markdown]
# ## Why not multiply each prompt's rate by its share?
#
# Because the rates of a bandit's log belong to different times. In this log the second prompt got most of its calls
# late, when the shop was better, the others got theirs at the beginning.

# %%
study = ab.Study(
    arm="variant",
    control="1",
    metrics=[ab.Binary("resolved")],
    allocation="allocation",
    probability="probability",
)
log = pl.DataFrame(log_of(0)).select(
    pl.col("probability"),
    variant=(pl.col("arm") + 1).cast(pl.String),
    resolved=pl.col("outcome") == 1.0,
    allocation=pl.Series(batch),
)
assert log["variant"].value_counts().sort("count")["variant"][-1] == "2"
study.analyze(log).plot("split")

# %% [markdown]
# In 400 logs the estimate of rates times shares is off in one direction, by 1.5 points on average: it takes the times
# for the prompts. The weighted one is right on average, and its 95 % interval contains the truth in 95 % of the logs.

# %%
counts = batch_statistics(logs)
naive = (counts.successes.sum(axis=1) / counts.n.sum(axis=1)) @ EVEN
answers = [ab.snips(**log_of(run), target=EVEN) for run in range(RUNS)]
weighted = np.array([one.estimate for one in answers])
inside = [one.lower <= truth <= one.upper for one in answers]
assert agrees(weighted, truth)
assert agrees(inside, 0.95)
assert agrees(naive, truth - 0.015)
pl.DataFrame(
    {
        "naive bias": [naive.mean() - truth],
        "weighted bias": [weighted.mean() - truth],
        "inside": [np.mean(inside)],
    }
)

# %%
chart = pl.DataFrame({"rates times shares": naive, "weighted": weighted}).unpivot()
assert chart.height == 2 * RUNS
x = alt.X("value", title="resolved under an even split, by log", axis=alt.Axis(format=".0%"))
ticks = (
    alt.Chart(chart)
    .mark_tick(opacity=0.2, height=14)
    .encode(x=x.scale(zero=False), y=alt.Y("variable", title=None))
)
ticks + alt.Chart(pl.DataFrame({"truth": [truth]})).mark_rule(color="red").encode(x="truth")

# %% [markdown]
# ## Several questions to one log
#
# The further a split is from what was served, the fewer calls speak for it, and the wider the interval. The split that
# was served itself has weight 1 everywhere: its value is the plain mean of the log, exactly.

# %%
TARGETS = {"even": EVEN, "all to the second": [0, 1, 0], "all to the first": [1, 0, 0]}
values = {name: ab.snips(**log_of(0), target=target) for name, target in TARGETS.items()}
values["as served"] = ab.snips(**log_of(0), target=logs.probability[0][batch])
assert abs(values["as served"].estimate - logs.outcome[0].mean()) < 1e-12
assert values["as served"].effective_sample_size == UNITS
assert values["all to the first"].standard_error > values["all to the second"].standard_error
pl.DataFrame(
    {
        "split": list(values),
        "resolved": [one.estimate for one in values.values()],
        "standard error": [one.standard_error for one in values.values()],
        "worth calls": [one.effective_sample_size for one in values.values()],
    }
)

# %% [markdown]
# ## Sharper with a prediction
#
# `doubly_robust` starts from a prediction of each call's outcome and corrects it with the weighted rest. It stays right
# however bad the prediction is; a good one saves calls. The prediction must come from other calls: here, each prompt's
# rate before the call's own batch. It knows hardly more than `snips` does, so it gains hardly anything; a model of the
# callers would.

# %%
before_n, before = (np.cumsum(part, axis=0) - part for part in (counts.n[0], counts.successes[0]))
prediction = ((before + 1.0) / (before_n + 2.0))[batch]
robust = ab.doubly_robust(**log_of(0), target=EVEN, prediction=prediction)
nonsense = ab.doubly_robust(**log_of(0), target=EVEN, prediction=np.full((UNITS, 3), 5.0))
assert abs(robust.estimate - truth) < 3 * robust.standard_error
assert abs(nonsense.estimate - truth) < 3 * nonsense.standard_error
assert robust.standard_error < nonsense.standard_error / 2
pl.DataFrame(
    {"robust": [robust.standard_error], "nonsense": [nonsense.standard_error], "snips": [even.standard_error]}
)

# %% [markdown]
# ## When there is no answer
#
# Somebody did not log the probabilities and takes those of today for all calls. The weights then do not average 1, and
# the result says so.

# %%
guessed = log_of(0) | {"probability": logs.probability[0, -1][log_of(0)["arm"]]}
wrong = ab.ips(**guessed, target=EVEN)
assert wrong.weights_off
print(wrong.reason)

# %% [markdown]
# And a prompt that was never served has no value in this log, whoever computes it.

# %%
try:
    ab.ips(**log_of(0), target=[0.3, 0.3, 0.3, 0.1])
    refusal = ""
except ValueError as refused:
    refusal = str(refused)
assert "never served" in refusal
print(refusal)

# %% [markdown]
# **So** keep the probability with every call, and keep a floor under every prompt. Then questions that nobody has
# thought of yet can be answered from the log of today.
