# %% [markdown]
# # Planning: how many calls, how many days, and what it costs to look
#
# **For** whoever is about to start an experiment.
#
# **The question:** how long will it take, and is it better to look once at the end or whenever one likes?

# %%
import altair as alt
import numpy as np
import polars as pl

import engine as ab
from engine.guardrails import thresholds
from engine.power import power
from engine.simulated_looks import first_claim, running_counts, z_test_claims

alt.renderers.enable("svg")  # drawn here, shown without a network
EFFECTS = (0.02, 0.025, 0.05, 0.10)


def agrees(runs, stated):
    """Whether the mean of these runs is the stated one, within three of its standard errors."""
    return abs(np.mean(runs) - stated) <= 3.0 * np.std(runs, ddof=1) / np.sqrt(len(runs))


# %% [markdown]
# ## Calls
#
# 70 % of the calls are resolved today. How many does each variant need to show a gain, with a chance of 80 % if the
# gain is there and 5 % false alarms if it is not? 5 points need 1 251 calls a variant, the number that R's
# `power.prop.test` gives, too.

# %%
needed = {
    gain: ab.sample_size(baseline=0.70, minimum_detectable_effect=gain).per_arm_ceil for gain in EFFECTS
}
assert needed[0.05] == 1_251
pl.DataFrame({"gain": EFFECTS, "calls a variant": list(needed.values())})

# %% [markdown]
# Half the gain needs about four times the calls. So the first question is not "how many calls have we got" but
# "which gain would we act on".

# %%
assert round(needed[0.025] / needed[0.05], 1) == 4.1

# %% [markdown]
# A plan draws itself: the chance to find the planned gain, half of it and twice of it. With the calls for 5 points
# a gain of 10 is found nearly always, and one of 2.5 in little more than a quarter of the experiments.

# %%
two = ab.sample_size(baseline=0.70, minimum_detectable_effect=0.05)
chances = {
    gain: power(baseline=0.70, minimum_detectable_effect=gain, per_arm=two.per_arm) for gain in EFFECTS
}
assert [round(100 * chances[gain]) for gain in (0.025, 0.05, 0.10)] == [28, 80, 100]
two.plot()

# %% [markdown]
# ## Days
#
# With 300 calls a day, two variants need a bit more than eight days. Callers differ between weekdays, so plan whole
# weeks: two. A third variant brings a second comparison. Each of the two gets half of alpha, and with three variants
# to fill it takes 15.2 days.

# %%
three = ab.sample_size(baseline=0.70, minimum_detectable_effect=0.05, alpha=0.05 / 2)
days = [ab.days_needed(plan, calls_per_day=300, variants=n) for plan, n in ((two, 2), (three, 3))]
assert [round(one, 1) for one in days] == [8.3, 15.2]

# %% [markdown]
# ## What one week can show
#
# The other way round: one week of 300 calls a day is 1 050 calls a variant. They detect 5.4 points, not less.

# %%
seen = ab.minimum_detectable_effect(baseline=0.70, per_arm=1_050)
assert round(100 * seen, 1) == 5.4
assert round(ab.sample_size(baseline=0.70, minimum_detectable_effect=seen).per_arm) == 1_050

# %% [markdown]
# ## Is that true?
#
# A formula is a claim like any other. So here are 2 000 experiments with a gain of 5 points, each with twice 1 251
# calls and one look at the end. 80 % of them find it, as nearly as 2 000 experiments can tell.

# %%
world = ab.Scenario([0.70, 0.75])
planned = ab.simulate(world, ab.Policy(batch=2_502), units=2_502, runs=2_000, rng=np.random.default_rng(1))
found = z_test_claims(running_counts(planned)).any(axis=(1, 2))
assert agrees(found, 0.80)
float(found.mean())

# %% [markdown]
# ## Looking whenever you like
#
# Who looks every morning must not use that z-test: the third notebook shows what happens. A test that stays valid at
# every look is planned with 1.9 times the calls.

# %%
any_time = ab.sample_size(baseline=0.70, minimum_detectable_effect=0.05, design="always_valid")
assert any_time.per_arm_ceil == 2_390
assert round(any_time.per_arm / two.per_arm, 1) == 1.9

# %% [markdown]
# That is the longest wait, not the usual one: such a test may stop as soon as it has seen enough. We let 400
# experiments run, with a look after every 50 calls, once with the gain that was planned and once with twice as much.


# %%
def calls_until_claimed(gain, *, runs=400):
    """Calls of both variants until "b is better" is claimed; infinite where it never is."""
    world, rng = ab.Scenario([0.70, 0.70 + gain]), np.random.default_rng(2)
    history = ab.simulate(world, ab.Policy(), units=any_time.total, runs=runs, rng=rng)
    test = ab.EProcess.start(direction="better", effects=[0.025, 0.05, 0.10], batch=(runs,))
    level = np.exp(thresholds(alpha=0.05, contrasts=1).direction)
    return first_claim(history, test, arm=1, threshold=float(level))


until = {gain: calls_until_claimed(gain) for gain in (0.05, 0.10)}

# %% [markdown]
# With the planned gain nearly nine of ten experiments have claimed it by the end: more than the 80 % that were planned,
# because every look before the last one is a chance, too. They took half of the planned calls on average, about as
# many as the plan with one look always takes. With twice the gain all claim it, after a seventh of the calls.

# %%
claimed = {gain: np.isfinite(calls) for gain, calls in until.items()}
used = {gain: np.minimum(calls, any_time.total) / any_time.total for gain, calls in until.items()}
assert agrees(claimed[0.05], 0.89)
assert claimed[0.10].all()
assert agrees(used[0.05], 0.50)
assert agrees(used[0.10], 1 / 7)
pl.DataFrame(
    {
        "true gain": list(until),
        "claimed": [claimed[gain].mean() for gain in until],
        "share of the calls": [used[gain].mean() for gain in until],
    }
)

# %% [markdown]
# The dashed line is the plan with one look. Right of it lie the experiments that pay for looking; left of it, those
# that are over before.

# %%
LOOKS = np.arange(50, any_time.total + 1, 50)
chart = pl.concat(
    pl.DataFrame({"calls": LOOKS, "share": [(calls <= look).mean() for look in LOOKS]}).with_columns(
        gain=pl.lit(f"{100 * gain:.0f} points")
    )
    for gain, calls in until.items()
)
assert chart.group_by("gain").agg(pl.col("share").last()).height == 2
curves = alt.Chart(chart).encode(
    x=alt.X("calls", title="calls of both variants"),
    y=alt.Y("share", title="share that has claimed the gain", axis=alt.Axis(format="%")),
    color=alt.Color("gain", title="true gain"),
)
once = alt.Chart(pl.DataFrame({"calls": [two.total]})).mark_rule(strokeDash=[4, 3]).encode(x="calls")
curves.mark_line() + once

# %% [markdown]
# **Choose** the fixed design when the day of the decision is set and nobody will look before it. In all other cases
# the test that may be looked at is the cheaper one, because real experiments are looked at. `POST /experiments` plans
# with it.
