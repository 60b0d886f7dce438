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

alt.renderers.enable("svg")
RUNS, UNITS = 100, 4_000

# %% [markdown]
# ## A log
#
# A bandit over three prompts that truly resolve 60, 70 and 65 % of the calls at the start, 15 points more in the
# middle, and the same as before at the end. 100 such logs, so that we can see how often an answer is right.

# %%
world = ab.Scenario([0.60, 0.70, 0.65], drift=0.15, drift_period=2 * UNITS)
logs = ab.simulate(world, ab.Policy(name="thompson"), units=UNITS, runs=RUNS, rng=np.random.default_rng(1))
batch = np.arange(UNITS) // logs.batch


def log_of(run):
    """The columns of an export: outcome, arm, and the probability of that arm at that time."""
    arm = logs.arm[run].astype(int)
    return {"outcome": logs.outcome[run], "arm": arm, "probability": logs.probability[run, batch, arm]}


assert log_of(0)["probability"].min() >= 0.05  # the floor: everything stays possible
{name: column[:5] for name, column in log_of(0).items()}

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
# Because the rates of a bandit's log belong to different times. The leader got its calls while all callers were easy to
# please, the others before. In 100 logs that estimate is off by about twice as much as the weighted one, and it is off
# in one direction. The weighted one is right on average, and its 95 % interval contains the truth as often as it says.

# %%
counts = batch_statistics(logs)
rates = counts.successes.sum(axis=1) / counts.n.sum(axis=1)
naive = rates @ EVEN
answers = [ab.snips(**log_of(run), target=EVEN) for run in range(RUNS)]
weighted = np.array([one.estimate for one in answers])
inside = np.mean([one.lower <= truth <= one.upper for one in answers])
off = {"naive": np.sqrt(((naive - truth) ** 2).mean()), "weighted": np.sqrt(((weighted - truth) ** 2).mean())}
assert off["naive"] > 1.4 * off["weighted"]
assert abs(weighted.mean() - truth) < 0.005 < abs(naive.mean() - truth)
assert inside > 0.88
off, inside

# %%
chart = pl.DataFrame({"naive": naive, "weighted": weighted}).unpivot()
assert chart.height == 2 * RUNS
points = alt.Chart(chart).mark_tick().encode(x=alt.X("value", scale=alt.Scale(zero=False)), y="variable")
points + alt.Chart(pl.DataFrame({"truth": [truth]})).mark_rule(color="red").encode(x="truth")

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
# however bad the prediction is. The prediction must come from other calls: here, each prompt's rate before the
# call's own batch.

# %%
before_n, before = (np.cumsum(part, axis=0) - part for part in (counts.n[0], counts.successes[0]))
prediction = ((before + 1.0) / (before_n + 2.0))[batch]
robust = ab.doubly_robust(**log_of(0), target=EVEN, prediction=prediction)
assert abs(robust.estimate - truth) < 3 * robust.standard_error
robust.estimate, robust.standard_error

# %% [markdown]
# ## When there is no answer
#
# Somebody did not log the probabilities and takes those of today for all calls. The weights then do not average 1, and
# the result says so.

# %%
guessed = log_of(0) | {"probability": logs.probability[0, -1][log_of(0)["arm"]]}
wrong = ab.ips(**guessed, target=EVEN)
assert wrong.weights_off or wrong.small_sample
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
