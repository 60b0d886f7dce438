# %% [markdown]
# # Bandit or A/B test: what earning costs
#
# **For** whoever chooses the `policy` of an experiment.
#
# **The question:** a bandit sends calls to the better prompt while it learns. What do you pay for that?
#
# Two prompts, 70 % and 75 % of the calls resolved. 5 000 calls, a new split after every 50 of them.

# %%
import altair as alt
import numpy as np
import polars as pl

import engine as ab
from engine.guardrails import thresholds
from engine.simulated_looks import batch_statistics, first_claim, pseudo_regret, running_counts

alt.renderers.enable("svg")
RUNS, UNITS = 250, 5_000
POLICIES = ("fixed", "thompson")

# %% [markdown]
# The world is simulated, so the truth is known; floors, cap and burn-in are the product's. Each policy plays 250 times
# in a world where `b` is better, and 250 times in one where nothing differs.


# %%
def play(policy, means, *, seed=1):
    """The same experiment, 250 times, under one policy."""
    return ab.simulate(
        ab.Scenario(means), ab.Policy(name=policy), units=UNITS, runs=RUNS, rng=np.random.default_rng(seed)
    )


better = {policy: play(policy, [0.70, 0.75]) for policy in POLICIES}
same = {policy: play(policy, [0.70, 0.70], seed=2) for policy in POLICIES}

# %% [markdown]
# ## Where the calls go
#
# The A/B test stays at one half. The bandit moves towards `b`, and stops at 90 %: the control keeps a floor of 10 %,
# or nothing could be learned of it any more.

# %%
shares = {policy: history.probability[:, :, 1].mean(axis=0) for policy, history in better.items()}
assert (shares["fixed"] == 0.5).all()
assert 0.85 < shares["thompson"][-1] <= 0.90
chart = pl.concat(
    pl.DataFrame({"calls": 50 * np.arange(len(share)), "share of b": share}).with_columns(
        policy=pl.lit(policy)
    )
    for policy, share in shares.items()
)
alt.Chart(chart).mark_line().encode(x="calls", y="share of b", color="policy")

# %% [markdown]
# ## Regret: what the experiment itself costs
#
# Regret is the number of resolved calls lost against always serving the best prompt. The A/B test gives half of its
# calls to a prompt that is 5 points worse: 125 calls lost. The bandit loses about a third of that.

# %%
regret = {policy: pseudo_regret(history).mean() for policy, history in better.items()}
assert round(regret["fixed"]) == 125
assert 0.25 < regret["thompson"] / regret["fixed"] < 0.45
regret

# %% [markdown]
# ## Power: what is known at the end
#
# Both are watched with the same test, which is valid under any split that moves. The A/B test proves the 5 points in
# nearly nine of ten experiments. The bandit does so in about half of them. It has hardly any calls left to compare
# with: a comparison is only as good as its smaller arm.


# %%
def claimed(history, direction="better"):
    """Calls until the claim, by run; infinite where it is never made."""
    test = ab.EProcess.start(direction=direction, effects=[0.025, 0.05, 0.10], batch=(RUNS,))
    level = np.exp(thresholds(alpha=0.05, contrasts=1).direction)
    return first_claim(history, test, arm=1, threshold=float(level))


power = {policy: np.isfinite(claimed(history)).mean() for policy, history in better.items()}
smaller_arm = {
    policy: running_counts(history).n[:, -1].min(axis=1).mean() for policy, history in better.items()
}
assert 0.82 < power["fixed"] < 0.96
assert 0.37 < power["thompson"] < 0.58
assert smaller_arm["thompson"] < smaller_arm["fixed"] / 2
power, smaller_arm

# %% [markdown]
# ## Error: how often it is wrong
#
# Where nothing differs, neither claims a difference in more than 5 % of the experiments. So a bandit costs power, not
# honesty.

# %%
wrong = {
    policy: (np.isfinite(claimed(history)) | np.isfinite(claimed(history, "worse"))).mean()
    for policy, history in same.items()
}
assert max(wrong.values()) <= 0.05
wrong

# %% [markdown]
# ## Estimates: the plain difference flatters the winner
#
# A prompt that was unlucky early gets few calls, and keeps its bad luck. So under a bandit the plain difference of
# rates is too large on average. Weighing each call by its logged probability (AIPW) repairs that. The price is a
# wider interval: about one and a half times as wide as the A/B test's.

# %%
estimates, errors, plain = {}, {}, {}
for policy, history in better.items():
    found = ab.aipw_estimate(batch_statistics(history), history.probability, control=0)
    rates = running_counts(history).rate[:, -1]
    estimates[policy], plain[policy] = found.estimate[:, 1].mean(), (rates[:, 1] - rates[:, 0]).mean()
    errors[policy] = found.standard_error[:, 1].mean()
assert abs(estimates["fixed"] - 0.05) < 0.004
assert abs(estimates["thompson"] - 0.05) < 0.006
assert plain["thompson"] > estimates["thompson"]
assert 1.3 < errors["thompson"] / errors["fixed"] < 1.8
estimates, plain, errors

# %% [markdown]
# ## Three prompts, and a policy between the two
#
# With three or more prompts there is `top_two`: it gives half of the calls to the leader and the rest to whoever could
# still beat it. It wastes few calls on the hopeless one, and keeps enough for the comparison that is left.

# %%
MEANS = [0.70, 0.60, 0.75]
three = {policy: play(policy, MEANS, seed=3) for policy in ("fixed", "top_two", "thompson")}
lost = {policy: pseudo_regret(history).mean() for policy, history in three.items()}
of_worst = {policy: (history.arm == 1).mean() for policy, history in three.items()}
assert lost["thompson"] < lost["top_two"] < lost["fixed"]
assert of_worst["top_two"] < of_worst["fixed"] / 2
pl.DataFrame(
    {
        "policy": list(lost),
        "resolved calls lost": list(lost.values()),
        "share of the worst": list(of_worst.values()),
    }
)

# %% [markdown]
# **Choose** `fixed` (two prompts) or `top_two` (more) when the answer is what you want: the prompt will serve for
# months, and the experiment is short beside that. Choose `thompson` when the calls of the experiment are what counts:
# a campaign of a week, or a prompt that is replaced every few days. The recommendation is equally honest under all.
