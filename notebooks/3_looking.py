# %% [markdown]
# # Why looking breaks the z-test, and what ours does
#
# **For** anybody who has ever stopped an experiment because it was "significant this morning".
#
# **The question:** how often does a rule call a winner where there is none?
#
# The experiment that answers it is an A/A test: two **identical** prompts. Every winner is a false alarm.

# %%
import altair as alt
import numpy as np
import polars as pl

import engine as ab
from engine.guardrails import thresholds
from engine.simulated_looks import contrast_units, probability_best_claims, running_counts, z_test_claims

alt.renderers.enable("svg")
RUNS, UNITS = 400, 5_000

# %% [markdown]
# ## 400 experiments in which nothing differs
#
# Both prompts resolve 70 % of the calls. Half of the calls go to each, and somebody looks after every 50 of 5 000.

# %%
same = ab.simulate(
    ab.Scenario([0.70, 0.70]), ab.Policy(), units=UNITS, runs=RUNS, rng=np.random.default_rng(1)
)
counts = running_counts(same)
LOOKS = same.batch * np.arange(1, counts.n.shape[1] + 1)
assert counts.n.shape == (RUNS, 100, 2)
assert len(LOOKS) == 100

# %% [markdown]
# ## Four ways to see a winner
#
# 1. **the z-test, once**: p < 0.05 at the end, as it was made for;
# 2. **the z-test, at every look**: from 10 calls a variant on, stop when p < 0.05;
# 3. **"the probability of being best is over 95 %"**, at every look;
# 4. **ours**: an e-process, one for "b is better" and one for "b is worse", each with half of alpha.

# %%
z = z_test_claims(counts, least=10).any(axis=2)
few = ab.BinaryCounts(n=counts.n[:200], successes=counts.successes[:200])  # this one is the slowest
belief = probability_best_claims(few).any(axis=2)


def claims_of_e_processes(history):
    """Where an e-process has claimed something by a look, shape (run, look)."""
    outcome, treated, probability, unit = contrast_units(history, 1)
    claimed = np.zeros(counts.n.shape[:2], dtype=bool)
    for direction in ("better", "worse"):
        test = ab.EProcess.start(direction=direction, effects=[0.025, 0.05, 0.10], batch=(RUNS,))
        path = test.path(outcome, treated, probability)
        run, bet = np.nonzero(path >= thresholds(alpha=0.05, contrasts=1).direction)
        claimed[run, unit[run, bet].astype(int) // history.batch] = True
    return claimed


ours = claims_of_e_processes(same)

# %% [markdown]
# ## How many experiments call a winner
#
# | rule | calls a winner between identical prompts |
# |---|---|
# | z-test, once at the end | about 5 % |
# | z-test, at every look | about 37 % |
# | P(best) over 95 %, at every look | about 58 % |
# | ours, at every look | under 5 % |

# %%
false_alarms = {
    "z-test, once": z[:, -1].mean(),
    "z-test, every look": z.any(axis=1).mean(),
    "P(best) > 95 %, every look": belief.any(axis=1).mean(),
    "ours, every look": ours.any(axis=1).mean(),
}
assert 0.02 < false_alarms["z-test, once"] < 0.08  # three simulation errors around 5 %
assert 0.30 < false_alarms["z-test, every look"] < 0.44  # around 37 %
assert 0.48 < false_alarms["P(best) > 95 %, every look"] < 0.68  # around 58 %
assert false_alarms["ours, every look"] < 0.05
false_alarms

# %% [markdown]
# The z-test keeps its promise if it is asked once. Asked a hundred times, it gets a hundred chances to be lucky, and
# it never forgets: who stops at a lucky look has stopped. The chart shows how false alarms pile up with every look,
# and that there is no end to it.

# %%
curves = {"z-test": z, "P(best) > 95 %": belief, "ours": ours}
chart = pl.concat(
    pl.DataFrame({"calls": LOOKS, "winners": np.maximum.accumulate(seen, axis=1).mean(axis=0)}).with_columns(
        rule=pl.lit(rule)
    )
    for rule, seen in curves.items()
)
assert chart.height == 3 * len(LOOKS)
alt.Chart(chart).mark_line().encode(x="calls", y="winners", color="rule").properties(
    title="Share of experiments with a winner, though nothing differs"
)

# %% [markdown]
# ## A discovery under that rule is worth little
#
# Now `b` is better, by 2 points. Every experiment is stopped at its first p < 0.05, from 10 calls a variant on, with a
# look after every 20 calls until 2 000.

# %%
small = ab.simulate(
    ab.Scenario([0.70, 0.72]), ab.Policy(batch=20), units=2_000, runs=1_000, rng=np.random.default_rng(2)
)
seen = running_counts(small)
claimed = z_test_claims(seen, least=10)[:, :, 1]
stopped = claimed.any(axis=1)
first = claimed.argmax(axis=1)[stopped]
gain = (seen.rate[..., 1] - seen.rate[..., 0])[stopped, first]

# %% [markdown]
# About half of the experiments "find" something. Of these discoveries one in five or six has the **wrong sign**, and
# the gain that they report is 16 points on average, eight times the truth. An early look can only pass the bar with an
# absurd estimate, so absurd estimates are what early stopping selects.

# %%
assert 0.42 < stopped.mean() < 0.54
assert 0.13 < (gain < 0).mean() < 0.24
assert 0.13 < np.abs(gain).mean() < 0.19
stopped.mean(), (gain < 0).mean(), np.abs(gain).mean()

# %% [markdown]
# ## Why ours survives looking
#
# An e-process is the wealth of a gambler who bets, call by call, on which variant the next outcome will favour. The
# assignment is random with a probability that was logged before, so if the prompts are alike every bet is fair.
# Nobody gets rich on fair bets: the chance to ever multiply the stake by 20 is at most 1 in 20. "Ever" includes every
# look. That is Ville's inequality, and it needs no model of the callers.
#
# Most gamblers in our 400 experiments end poorer than they began.

# %%
outcome, treated, probability, _ = contrast_units(same, 1)
wealth = ab.EProcess.start(batch=(RUNS,)).update(outcome, treated, probability)
assert (wealth.e_value < 1.0).mean() > 0.5
assert (wealth.p_value <= 0.05).mean() <= 0.05
float(np.median(wealth.e_value))

# %% [markdown]
# **So** look as often as you like, at the e-value. P(best) stands beside it in every report, as what it is: belief, and
# good for sending calls to the better prompt while nobody has to be sure.
