# %% [markdown]
# # Bringing a candidate from another optimizer
#
# **For** whoever searches prompts with GEPA, DSPy, a script or by hand.
#
# **The question:** how does my candidate get calls, and what will it have to show?

# %%
import atexit
import tempfile
from contextlib import ExitStack
from pathlib import Path

import altair as alt
import httpx
import numpy as np
import polars as pl
from scipy.stats import binom

import engine as ab
from cli.demo_server import DemoServer
from engine.guardrails import thresholds
from engine.simulated_looks import first_claim

alt.renderers.enable("svg")  # drawn here, shown without a network

# %% [markdown]
# ## Why a score on examples is not enough
#
# An optimizer has examples at hand, and keeps an edit that solves more of them. Say 42 % of the calls succeed, and it
# tries three examples before and after. An edit that changes **nothing** solves more of three than before in 34 % of
# all cases. That is arithmetic: two binomials, and a third of the time the second is larger.

# %%
solved = binom.pmf(np.arange(4), 3, 0.42)
more_by_luck = (1.0 - (solved**2).sum()) / 2.0
assert round(100 * more_by_luck) == 34

# %% [markdown]
# Of a hundred edits that do nothing, such a search hands over 34. Let it: they cost little, if calls decide.

# %% [markdown]
# ## A server with a running experiment
#
# Two keys. The manager's may do everything. The optimizer's may propose, and nothing else.

# %%
stack = ExitStack()
atexit.register(stack.close)  # also where a cell below fails
folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promptbandit-candidate-")))
patience = {"soft_deadline_ms": 30_000, "outcome_deadline_ms": 30_000}  # no caller waits on the line
server = stack.enter_context(DemoServer(folder, **patience))
key = server.command("keys", "create", "--scope", "optimizer", "--name", "gepa")
manager, optimizer = (
    stack.enter_context(httpx.Client(base_url=server.url, headers=headers, timeout=60.0))
    for headers in (server.headers, {"Authorization": f"Bearer {key}"})
)
assert manager.get("/prompts").json() == []
assert optimizer.get("/prompts").status_code == 403

# %%
PROMPT = """\
You answer the calls of a shop for outdoor clothes and tents.
Be friendly and brief.
Asked about sizes, look them up in the chart and name one.
Asked about delivery, look up the parcel and name the day."""
texts = {"a": PROMPT, "b": PROMPT.replace("friendly and brief", "friendly, brief and patient")}
versions = {
    name: manager.post("/prompts", json={"name": "support", "system_prompt": text}).json()["id"]
    for name, text in texts.items()
}
experiment = {
    "key": "patience",
    "prompt": "support",
    "control": "a",
    "variants": [{"key": name, "version_id": number} for name, number in versions.items()],
    "policy": {"name": "top_two"},
}
assert manager.post("/experiments", json=experiment).status_code == 201

# %% [markdown]
# ## The gate
#
# One door, `POST /suggestions`, for all optimizers. A gate of code looks at the form before a person is asked. This
# candidate brings a telephone number, which callers would be told. It is refused, every failed check is named, and
# nothing is stored.

# %%
LINE = "Asked about returns, say that they are free for thirty days and offer to send a label.\n"


def propose(line):
    """A whole text, as most optimizers make it; the server works out the edits."""
    text = PROMPT.replace("Asked about delivery", line + "Asked about delivery")
    body = {"prompt": "support", "origin": "gepa", "title": "Say how returns work", "system_prompt": text}
    return optimizer.post("/suggestions", json=body)


refused = propose("Asked about returns, let them call 0800 555 0199.\n")
failed = {error["detail"].partition(":")[0] for error in refused.json()["errors"]}
assert refused.status_code == 422
assert "contacts" in failed
refused.json()["errors"]

# %% [markdown]
# Without the number it passes, and waits. The whole text has become one edit, and the diff is what a manager reads.

# %%
waiting = propose(LINE)
suggestion = waiting.json()
assert (waiting.status_code, suggestion["status"], len(suggestion["edits"])) == (201, "pending", 1)
assert all(check["passed"] for check in suggestion["gate"])
print(suggestion["diff"])

# %% [markdown]
# ## A person decides
#
# Who proposes cannot approve: that is 403. The manager approves **this text**, by its hash, so nobody approves what he
# has not read.

# %%
approve = f"/suggestions/{suggestion['id']}/approve"
body = {"text_hash": suggestion["text_hash"]}
assert optimizer.post(approve, json=body).status_code == 403
approval = manager.post(approve, json=body).json()
approval["variant"], approval["share_bp"], approval["note"]

# %% [markdown]
# The candidate is an inactive version now, and an arm of the running experiment with the floor share: 5 % of the calls.
# The two others share the rest as before.

# %%
split = manager.get("/experiments/patience/allocations").json()[-1]["split"]
assert split == {"a": 4_750, "b": 4_750, approval["variant"]: 500}
assert not manager.get(f"/prompts/{approval['version_id']}").json()["is_active"]
stack.close()
split

# %% [markdown]
# ## What it will have to show
#
# From here on calls decide. Let us play the rest many times, as if all three variants had come at the same time: 42 %
# of the calls are resolved under `a` and `b`, and the candidate resolves 10 points less, as many, or 10 points more.


# %%
def agrees(runs, stated):
    """Whether the mean of these runs is the stated one, within three of its standard errors."""
    return abs(np.mean(runs) - stated) <= 3.0 * np.std(runs, ddof=1) / np.sqrt(len(runs))


# %%
def played(gain, *, runs=300, units=5_000):
    """Whether the candidate is ever claimed to be better, and its share of each 50 calls; by run."""
    world, rng = ab.Scenario([0.42, 0.42, 0.42 + gain]), np.random.default_rng(1)
    history = ab.simulate(world, ab.Policy(name="top_two"), units=units, runs=runs, rng=rng)
    test = ab.EProcess.start(direction="better", effects=[0.025, 0.05, 0.10], batch=(runs,))
    level = np.exp(thresholds(alpha=0.05, contrasts=2).direction)
    at = first_claim(history, test, arm=2, threshold=float(level))
    return np.isfinite(at), history.probability[:, :, 2]


runs = {gain: played(gain) for gain in (-0.10, 0.0, 0.10)}

# %% [markdown]
# Of the candidates that change nothing, one in a hundred is ever claimed to be better; more than one in eighty would
# break the promise, because alpha is shared by two comparisons, and by "better" and "worse". The three examples would
# have taken one in three. A candidate that resolves 10 points more is claimed to be better nearly always.

# %%
claimed = {gain: claims.mean() for gain, (claims, _) in runs.items()}
assert claimed[-0.10] == 0.0
assert agrees(runs[0.0][0], 0.01)
assert 0.05 / (2 * 2) == 1 / 80
assert claimed[0.10] > 0.95
pl.DataFrame({"gain": list(claimed), "claimed to be better": list(claimed.values())})

# %% [markdown]
# The split does not wait for a claim. It follows belief, so the good candidate soon has the half of a leader, the one
# that changes nothing its third, and the bad one falls to the floor.

# %%
CALLS = 50 * np.arange(100)
split = pl.concat(
    pl.DataFrame({"calls": CALLS, "share": share.mean(axis=0), "candidate": f"{100 * gain:+.0f} points"})
    for gain, (_, share) in runs.items()
)
bad, same, good = (share[:, -1] for _, share in runs.values())
assert bad.mean() < 0.06
assert agrees(same, 1 / 3)
assert 0.45 < good.mean() < 0.50
alt.Chart(split).mark_line().encode(
    x="calls", y=alt.Y("share", title="share of the candidate", axis=alt.Axis(format="%")), color="candidate"
)

# %% [markdown]
# **So** let any optimizer propose as much as it likes. The gate costs nothing, the person reads a diff of a line, and a
# wrong guess loses its calls as fast as it is seen through. `docs/optimizer.md` says what the gate can see and what it
# cannot.
