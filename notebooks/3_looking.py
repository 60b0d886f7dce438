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
from scipy.stats import norm

import engine as ab
from engine.guardrails import thresholds
from engine.simulated_looks import contrast_units, probability_best_claims, running_counts, z_test_claims

alt.renderers.enable("svg")  # drawn here, shown without a network
RUNS, UNITS = 600, 5_000


def agrees(runs, stated):
    """Whether the mean of these runs is the stated one, within three of its standard errors."""
    return abs(np.mean(runs) - stated) <= 3.0 * np.std(runs, ddof=1) / np.sqrt(len(runs))


# %% [markdown]
# ## 600 experiments in which nothing differs
#
# Both prompts resolve 70 % of the calls. Half of the calls go to each, and somebody looks after every 50 of 5 000.

# %%
world, rng = ab.Scenario([0.70, 0.70]), np.random.default_rng(3)
same = ab.simulate(world, ab.Policy(), units=UNITS, runs=RUNS, rng=rng)
counts = running_counts(same)
LOOKS = same.batch * np.arange(1, counts.n.shape[1] + 1)
assert counts.n.shape == (RUNS, 100, 2)
assert (counts.n.sum(axis=2) == LOOKS).all()

# %% [markdown]
# ## What to expect
#
# The false alarms of a rule that looks again and again can be computed. The z statistic of all calls so far is a
# random walk, divided by the root of its steps. So follow the walk from look to look, and take out what has crossed
# the line. Armitage, McPherson and Rowe did that in 1969 (JRSS A 132): 19.3 % after 10 looks, 37.4 % after 100.


# %%
def chance_to_cross(line, looks, *, step=0.02):
    """That a z statistic is beyond the line at one of so many evenly spaced looks, though nothing differs."""
    reach = max(line * looks**0.5, 8.0)
    walk = step * np.arange(-int(reach / step) - 1, int(reach / step) + 2)
    stride = step * norm.pdf(step * np.arange(-int(8.0 / step), int(8.0 / step) + 1))
    inside = (walk == 0.0).astype(float)
    for look in range(1, looks + 1):
        inside = np.convolve(inside, stride, mode="same") * (np.abs(walk) <= line * look**0.5)
    return 1.0 - inside.sum()


assert abs(chance_to_cross(1.96, 10) - 0.193) < 0.002
assert abs(chance_to_cross(1.96, 100) - 0.374) < 0.002

# %% [markdown]
# ## Four ways to see a winner
#
# 1. **the z-test, once**: p < 0.05 at the end, as it was made for;
# 2. **the z-test, at every look**: stop when p < 0.05;
# 3. **"the probability of being best is over 95 %"**, at every look. For two variants that is, nearly, z beyond 1.645;
# 4. **ours**: an e-process, one for "b is better" and one for "b is worse", each with half of alpha.

# %%
z = z_test_claims(counts).any(axis=2)
belief = probability_best_claims(counts).any(axis=2)
outcome, treated, probability, unit = contrast_units(same, 1)
ours = np.zeros(z.shape, dtype=bool)
for direction in ("better", "worse"):
    test = ab.EProcess.start(direction=direction, effects=[0.025, 0.05, 0.10], batch=(RUNS,))
    wealth = test.path(outcome, treated, probability)
    run, bet = np.nonzero(wealth >= thresholds(alpha=0.05, contrasts=1).direction)
    ours[run, unit[run, bet].astype(int) // same.batch] = True
assert ours.shape == (RUNS, 100)

# %% [markdown]
# ## How many experiments call a winner
#
# | rule | identical prompts with a "winner" | computed |
# |---|---|---|
# | z-test, once at the end | 5 % | 5.0 % |
# | z-test, at every look | 37 % | 37.4 % |
# | P(best) over 95 %, at every look | 59 % | 59 % |
# | ours, at every look | 3 % | at most 5 % |

# %%
false_alarms = {
    "z-test, once": z[:, -1],
    "z-test, every look": z.any(axis=1),
    "P(best) > 95 %, every look": belief.any(axis=1),
    "ours, every look": ours.any(axis=1),
}
assert agrees(false_alarms["z-test, once"], 0.05)
assert agrees(false_alarms["z-test, every look"], chance_to_cross(1.96, 100))
assert agrees(false_alarms["P(best) > 95 %, every look"], chance_to_cross(1.645, 100))
assert round(100 * chance_to_cross(1.645, 100)) == 59
assert agrees(false_alarms["ours, every look"], 0.03)
pl.DataFrame({"rule": list(false_alarms), "a winner": [winners.mean() for winners in false_alarms.values()]})

# %% [markdown]
# The z-test keeps its promise if it is asked once. Asked a hundred times, it gets a hundred chances to be lucky, and
# who stops at a lucky look has stopped. False alarms pile up with every look, and there is no end to it.

# %%
curves = {"z-test": z, "P(best) > 95 %": belief, "ours": ours}
chart = pl.concat(
    pl.DataFrame({"calls": LOOKS, "winners": np.maximum.accumulate(seen, axis=1).mean(axis=0)}).with_columns(
        rule=pl.lit(rule)
    )
    for rule, seen in curves.items()
)
assert chart.height == 3 * len(LOOKS)
alt.Chart(chart).mark_line().encode(
    x=alt.X("calls", title="calls of both variants"),
    y=alt.Y("winners", title="experiments with a winner", axis=alt.Axis(format="%")),
    color=alt.Color("rule", sort=list(curves)),
)

# %% [markdown]
# ## A discovery under that rule is worth little
#
# Now `b` is better, by 2 points. Every experiment is stopped at its first p < 0.05, from 10 calls a variant on, with a
# look after every 20 calls until 2 000.

# %%
world, rng = ab.Scenario([0.70, 0.72]), np.random.default_rng(2)
small = ab.simulate(world, ab.Policy(batch=20), units=2_000, runs=1_500, rng=rng)
seen = running_counts(small)
claimed = z_test_claims(seen, least=10)[:, :, 1]
stopped = claimed.any(axis=1)
first = claimed.argmax(axis=1)[stopped]
gain = (seen.rate[..., 1] - seen.rate[..., 0])[stopped, first]
assert len(gain) == stopped.sum()

# %% [markdown]
# Half of the experiments "find" something. Of these discoveries 17 % have the **wrong sign**, and the gain that they
# report is 14 points on average, seven times the truth. Not one of them reports the truth.

# %%
assert agrees(stopped, 0.48)
assert agrees(gain < 0, 0.17)
assert agrees(np.abs(gain), 0.14)
assert (np.abs(gain) > 0.03).all()
pl.DataFrame(
    {"stopped": [stopped.mean()], "wrong sign": [(gain < 0).mean()], "reported gain": [np.abs(gain).mean()]}
)

# %% [markdown]
# A picture shows why. A look at n calls a variant can only pass with a difference beyond the curves, 1.96 standard
# errors, which is 40 points at n = 10 and 4 at n = 1 000. The truth, the dashed line, is inside all along: an absurd
# estimate is the ticket to an early end.

# %%
a_variant = 2.0 / (1.0 / seen.n).sum(axis=2)[stopped, first]  # what counts of two that differ a little
SIZES = np.arange(10, 1_001)
bar = 1.96 * np.sqrt(2 * 0.7 * 0.3 / SIZES)
assert [round(100 * bar[n == SIZES][0]) for n in (10, 1_000)] == [40, 4]
x = alt.X("n", title="calls a variant at the stop", scale=alt.Scale(type="log"))
y = alt.Y("gain", title="gain that is reported", axis=alt.Axis(format="+%"))
ends = pl.DataFrame({"n": a_variant, "gain": gain, "sign": np.where(gain > 0, "right", "wrong")})
stops = alt.Chart(ends).mark_point(size=12).encode(x=x, y=y, color="sign")
bars = alt.Chart(pl.DataFrame({"n": SIZES, "above": bar, "below": -bar, "truth": 0.02})).encode(x=x)
above, below = (bars.mark_line(color="black").encode(y=name) for name in ("above", "below"))
stops + above + below + bars.mark_line(color="black", strokeDash=[4, 3]).encode(y="truth")

# %% [markdown]
# ## Why ours survives looking
#
# An e-process is the wealth of a gambler who bets, call by call, on which variant the next outcome will favour. The
# assignment is random with a probability that was logged before, so if the prompts are alike every bet is fair.
# Nobody gets rich on fair bets: the chance to ever multiply the stake by 20 is at most 1 in 20. "Ever" includes every
# look. That is Ville's inequality, and it needs no model of the callers.
#
# Most gamblers in our 600 experiments end poorer than they began.

# %%
gambler = ab.EProcess.start(batch=(RUNS,)).update(outcome, treated, probability)
assert (gambler.e_value < 1.0).mean() > 0.5
assert (gambler.p_value <= 0.05).mean() <= 0.05
float(np.median(gambler.e_value))

# %% [markdown]
# Of the experiments that fool the z-test, nine of ten leave the e-value below its line. Here is the first of them, as
# the product shows it.

# %%
fooled = z.any(axis=1)
assert agrees(~ours.any(axis=1)[fooled], 0.90)
one = int((fooled & ~ours.any(axis=1)).argmax())
calls = pl.DataFrame(
    {
        "variant": np.array(["a", "b"])[same.arm[one].astype(int)],
        "resolved": same.outcome[one] == 1.0,
        "probability": 0.5,
        "number": np.arange(UNITS),
    }
)

# %%
study = ab.Study(
    arm="variant", control="a", metrics=[ab.Binary("resolved")], probability="probability", time="number"
)
found = study.analyze(calls, in_order=True)
assert found["resolved"]["b"].always_valid.p_value > 0.05
found.plot("e_value")

# %% [markdown]
# **So** look as often as you like, at the e-value. P(best) stands beside it in every report, as what it is: belief, and
# good for sending calls to the better prompt while nobody has to be sure.
