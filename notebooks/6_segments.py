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

import engine as ab

alt.renderers.enable("svg")
SIZES = np.array([6, 10, 15, 25, 40, 60, 120, 200])  # calls of each variant in a segment
INTENTS = ["refund", "warranty", "invoice", "size", "stock", "change", "delivery", "order"]

# %% [markdown]
# ## A world that we know
#
# Eight reasons to call. Their true rates scatter around 60 % (`a`) and 65 % (`b`), as alike as 20 calls of knowledge:
# a Beta distribution with concentration 20.


# %%
def a_world(rng):
    """True rates of the segments, and what was counted; both of shape (segment, arm)."""
    mean, concentration = np.array([0.60, 0.65]), 20.0
    rates = rng.beta(mean * concentration, (1 - mean) * concentration, size=(len(SIZES), 2))
    n = np.repeat(SIZES[:, None], 2, axis=1)
    return rates, ab.BinaryCounts(n=n, successes=rng.binomial(n, rates))


rates, counts = a_world(np.random.default_rng(4))
assert counts.n.sum() == 2 * SIZES.sum() == 952

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

# %%
chart = table.unpivot(["true", "counted", "pooled"], index="intent")
assert chart.height == 3 * len(INTENTS)
alt.Chart(chart).mark_point(filled=True, size=80).encode(
    x="value", y=alt.Y("intent", sort=INTENTS), color="variable"
).properties(title="Rate of b, the smallest segment on top")

# %% [markdown]
# ## Is it nearer to the truth?
#
# One world proves nothing. In 40 worlds the counted rates are off by 11 points on average (root mean square), the
# pooled ones by 7. And the 95 % intervals contain the true rate in about 95 % of the cases.

# %%
off_counted, off_pooled, inside = [], [], []
rng = np.random.default_rng(5)
for _ in range(40):
    true, seen = a_world(rng)
    one = ab.fit_segments(seen, control=0).segments
    off_counted.append((seen.rate - true) ** 2)
    off_pooled.append((one.mean - true) ** 2)
    inside.append((one.interval.lower <= true) & (true <= one.interval.upper))
counted, pooled = (float(np.sqrt(np.mean(squares))) for squares in (off_counted, off_pooled))
assert round(100 * counted) in (10, 11, 12)
assert round(100 * pooled) in (6, 7, 8)
assert 0.92 < np.mean(inside) < 0.98
counted, pooled, float(np.mean(inside))

# %% [markdown]
# ## What the model takes for possible
#
# A prior is an assumption, so look at it. `prior_predictive` draws worlds before any outcome is seen. Rates as
# different as ours occur, and so do worlds in which all segments are alike. That is what a prior of this kind should
# say: nothing much.

# %%
worlds = ab.prior_predictive(counts.n, draws=2_000, rng=np.random.default_rng(6))
scatter = worlds.rates[:, :, 0].std(axis=1)
ours = float(rates[:, 0].std())
assert 0.05 < (scatter < ours).mean() < 0.75
assert (scatter < 0.02).mean() > 0.005
ours, np.quantile(scatter, [0.1, 0.5, 0.9])

# %% [markdown]
# ## The same posterior by PyMC
#
# The quadrature is our own code. So here is the same model written in PyMC and sampled by NUTS, a check, and a start
# for models that we do not have. Importing and compiling take most of the time.

# %%
sampled = ab.fit_segments(counts, control=0, method="nuts", sampler=ab.Sampler(seed=7))
assert sampled.diagnostics.problems == ()
assert sampled.diagnostics.divergences == 0
sampled.diagnostics

# %% [markdown]
# Means and intervals agree within what 4 000 draws can tell.

# %%
gap = np.abs(sampled.segments.mean - fit.segments.mean).max()
ends = np.abs(sampled.segments.interval.lower - fit.segments.interval.lower).max()
assert gap < 0.015
assert ends < 0.03
gap, ends

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
# Twelve refund calls, six of each variant. `probability_better` answers segment by segment, as belief, and the
# interval of the difference says how little that is: it is more than 30 points wide. It is no claim, either. Eight
# segments are eight chances to be lucky, and pooling tempers them without promising an error rate. A `switch` rests
# on the test of all calls.

# %%
refund = INTENTS.index("refund")
lift = [float(end[refund, 1]) for end in (fit.segments.lift_interval.lower, fit.segments.lift_interval.upper)]
assert counts.n[refund].sum() == 12
assert lift[1] - lift[0] > 0.30
float(fit.segments.probability_better[refund, 1]), lift
