# %% [markdown]
# # Segments: twelve refund calls, and what they can say
#
# **For** whoever has been asked "is it better for refunds, too?"
#
# **The question:** what is known about a small segment?
#
# Why somebody calls explains much of how the call ends. A variant may be better on the whole and worse in one segment.
# But a segment with few calls shows anything: too good, too bad, hardly ever the truth.

# %%
import altair as alt
import numpy as np
import polars as pl
from scipy.stats import norm

import engine as ab

alt.renderers.enable("svg")  # drawn here, shown without a network
SIZES = np.array([6, 10, 15, 25, 40, 60, 120, 200])  # calls of each variant in a segment
MEAN, CONCENTRATION = np.array([0.60, 0.65]), 20.0
INTENTS = ["refund", "warranty", "invoice", "size", "stock", "change", "delivery", "order"]


def agrees(runs, stated):
    """Whether the mean of these runs is the stated one, within three of its standard errors."""
    return abs(np.mean(runs) - stated) <= 3.0 * np.std(runs, ddof=1) / np.sqrt(len(runs))


# %% [markdown]
# ## A world that we know
#
# Eight reasons to call. Their true rates scatter around 60 % (`a`) and 65 % (`b`) by 11 and 10 points: a Beta
# distribution with concentration 20, which means that 20 calls of its own tell as much of a segment as its neighbours.


# %%
def a_world(rng):
    """True rates of the segments, and what was counted; both of shape (segment, arm)."""
    rates = rng.beta(MEAN * CONCENTRATION, (1 - MEAN) * CONCENTRATION, size=(len(SIZES), 2))
    n = np.repeat(SIZES[:, None], 2, axis=1)
    return rates, ab.BinaryCounts(n=n, successes=rng.binomial(n, rates))


rates, counts = a_world(np.random.default_rng(4))
assert counts.n.sum() == 2 * SIZES.sum() == 952
assert (np.sqrt(MEAN * (1 - MEAN) / (1 + CONCENTRATION)).round(2) == [0.11, 0.10]).all()

# %% [markdown]
# ## Partial pooling
#
# `fit_segments` lets each segment borrow from its neighbours, as far as the data say that they are alike. It needs no
# sampler: the mean and the concentration of each arm are integrated over. `shrinkage` says how far a segment was drawn
# to its arm's mean. The smallest segment is drawn further than the largest.

# %%
fit = ab.fit_segments(counts, control=0)
assert fit.diagnostics.problems == ()
assert (fit.shrinkage[0] > fit.shrinkage[-1]).all()
table = pl.DataFrame(
    {
        "intent": INTENTS,
        "calls": SIZES,
        "true": rates[:, 1],
        "counted": counts.rate[:, 1],
        "pooled": fit.segments.mean[:, 1],
        "shrinkage": fit.shrinkage[:, 1],
    }
)
table

# %% [markdown]
# What is believed lies between what was counted and the mean of all segments. The smallest segments were drawn most.

# %%
chart = table.unpivot(["true", "counted", "pooled"], index="intent")
assert chart.height == 3 * len(INTENTS)
alt.Chart(chart).mark_point(filled=True, size=80).encode(
    x=alt.X("value", title="rate of b", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False)),
    y=alt.Y("intent", sort=INTENTS, title="the smallest segment on top"),
    color=alt.Color("variable", title=None),
    shape=alt.Shape("variable", title=None),
)

# %% [markdown]
# ## Is it nearer to the truth?
#
# One world proves nothing, so here are 100. What to expect can be computed. A counted rate is off by
# sqrt(p (1 - p) / n), which is 10.9 points over our segments (root mean square). Who knew the population, 60 and 65 %
# with concentration 20, would be off by 6.7 points, and nobody can do better. The fit has to find the population out
# from eight segments, and is off by 7.4. Its 95 % intervals contain the truth in 94 % of the cases.

# %%
inside, squares = [], {"counted": [], "pooled": []}
rng = np.random.default_rng(5)
for _ in range(100):
    true, seen = a_world(rng)
    one = ab.fit_segments(seen, control=0).segments
    squares["counted"].append(np.mean((seen.rate - true) ** 2))
    squares["pooled"].append(np.mean((one.mean - true) ** 2))
    inside.append(np.mean((one.interval.lower <= true) & (true <= one.interval.upper)))
variance = MEAN * (1 - MEAN) * CONCENTRATION / (1 + CONCENTRATION)  # p (1 - p) on average
expected = {
    "counted": (variance / SIZES[:, None]).mean(),
    "best": (variance / (SIZES[:, None] + CONCENTRATION)).mean(),
}
assert [round(100 * np.sqrt(one), 1) for one in expected.values()] == [10.9, 6.7]

# %%
assert agrees(squares["counted"], expected["counted"])
assert agrees(squares["pooled"], 0.074**2)
assert agrees(inside, 0.94)
pl.DataFrame(
    {name: [np.sqrt(np.mean(values))] for name, values in squares.items()} | {"inside": [np.mean(inside)]}
)

# %% [markdown]
# ## What the model takes for possible
#
# A prior is an assumption, so look at it. `prior_predictive` draws worlds before any outcome is seen. How much do the
# segments of `a` scatter there? In 31 % of the worlds less than in ours, in the others more, up to the 50 points that
# are possible. Worlds in which all are alike, within 2 points, are 6 % of all. That is what a prior of this kind
# should say: nothing much.

# %%
worlds = ab.prior_predictive(counts.n, draws=4_000, rng=np.random.default_rng(6))
mean, concentration = worlds.mean[:, 0], worlds.concentration[:, 0]
scatter = np.sqrt(mean * (1 - mean) / (1 + concentration))
ours = np.sqrt(MEAN[0] * (1 - MEAN[0]) / (1 + CONCENTRATION))
assert agrees(scatter < ours, 0.31)
assert agrees(scatter < 0.02, 0.02 * np.pi)  # the spread is uniform, and 1 / sqrt(m (1 - m)) is pi on average
assert 0.4 < scatter.max() < 0.5
alt.Chart(pl.DataFrame({"scatter": scatter})).mark_bar().encode(
    x=alt.X("scatter", bin=alt.Bin(step=0.02), title="standard deviation of the segments' rates"),
    y=alt.Y("count()", title="worlds of the prior"),
).properties(height=150)

# %% [markdown]
# ## The same posterior by PyMC
#
# The quadrature is our own code. So here is the same model written in PyMC and sampled by NUTS, a check, and a start
# for models that we do not have. Importing and compiling take most of the time.

# %%
sampled = ab.fit_segments(
    counts, control=0, method="nuts", sampler=ab.Sampler(draws=2_000, target_accept=0.99, seed=7)
)
assert sampled.diagnostics.problems == ()
assert sampled.diagnostics.divergences == 0
sampled.diagnostics

# %% [markdown]
# Means and ends of intervals agree within what these draws can tell: four standard errors of a mean, sd / sqrt(n), and
# of a 2.5 % quantile, which is known 2.7 times less well. n is the smallest effective sample size.

# %%
sd = (fit.segments.interval.upper - fit.segments.interval.lower) / (2 * 1.96)
error = sd / np.sqrt(min(sampled.diagnostics.ess_bulk, sampled.diagnostics.ess_tail))
of_mean = np.abs(sampled.segments.mean - fit.segments.mean)
of_end = np.abs(sampled.segments.interval.lower - fit.segments.interval.lower)
assert (of_mean < 4 * error).all()
assert (of_end < 4 * 2.7 * error).all()
assert round(np.sqrt(0.025 * 0.975) / norm.pdf(1.96), 1) == 2.7
float(of_mean.max()), float(of_end.max())

# %% [markdown]
# ## A sampler that was stopped too early says so
#
# A fit is refused where R-hat, the effective sample size or divergences speak against it. Sixty draws of each chain are
# too few, and nobody gets to read their means by accident.

# %%
hasty = ab.Sampler(draws=60, tune=200, seed=7)
try:
    ab.fit_segments(counts, control=0, method="nuts", sampler=hasty)
    refusal = ""
except ab.UnreliableFit as refused:
    refusal = str(refused)
assert "effective sample size" in refusal
print(refusal)

# %% [markdown]
# ## So, is it better for refunds?
#
# Twelve refund calls, six of each variant. `probability_better` answers segment by segment, as belief: 96 %. That
# sounds like an answer, but the interval of the difference goes from -3 to +58 points. The truth is +18.

# %%
refund = INTENTS.index("refund")
lift = [float(end[refund, 1]) for end in (fit.segments.lift_interval.lower, fit.segments.lift_interval.upper)]
assert counts.n[refund].sum() == 12
assert [round(100 * end) for end in lift] == [-3, 58]
assert round(fit.segments.probability_better[refund, 1], 2) == 0.96
assert round(rates[refund, 1] - rates[refund, 0], 2) == 0.18
lift

# %% [markdown]
# A forest says it at a glance. All calls together stand on top. Below, the small segments are wide. The largest one,
# `order`, lies on the other side of 0: there `b` is truly worse, and with 400 calls that shows.

# %%
order = INTENTS.index("order")
assert fit.segments.lift_interval.upper[order, 1] < 0.0
assert rates[order, 1] < rates[order, 0]
fit.plot(segments=INTENTS, arms=["a", "b"], control=0, metric=ab.Binary("resolved"))

# %% [markdown]
# It is no claim, either. Eight segments are eight chances to be lucky, and pooling tempers them without promising an
# error rate. **So** read segments as belief, pooled; a `switch` rests on the test of all calls.
