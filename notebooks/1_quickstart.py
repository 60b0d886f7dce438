# %% [markdown]
# # Quickstart: from phone calls to a decision
#
# **For** a data scientist who has a PromptBandit database, or who wants to see one.
#
# **The question:** what is known about an experiment, and does everybody who asks get the same numbers?
#
# All of it is real: a server on this machine, a SQLite file in a temporary folder, 500 calls over HTTP.
# Only the callers are simulated.

# %%
import atexit
import io
import math
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import altair as alt
import httpx
import numpy as np
import polars as pl

import engine as ab
from cli.demo_server import DemoServer
from service.study import read_study

alt.renderers.enable("svg")  # drawn here, shown without a network
CALLS = 500

# %% [markdown]
# ## A server
#
# `promptbandit serve` on a free port, with a manager's key. Where you have a server already, leave this cell out.

# %%
stack = ExitStack()
atexit.register(stack.close)  # also where a cell below fails
folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promptbandit-quickstart-")))
patience = {"soft_deadline_ms": 30_000, "outcome_deadline_ms": 30_000}  # no caller waits on the line
server = stack.enter_context(DemoServer(folder, **patience))
http = stack.enter_context(httpx.Client(base_url=server.url, headers=server.headers, timeout=60.0))


def ask(method, path, **more):
    """The answer; a refusal is an error."""
    return http.request(method, path, **more).raise_for_status()


# %% [markdown]
# ## An experiment
#
# Two versions of one prompt. `a`, the control, is active; `b` adds a sentence. Without a wish for the split each gets
# half of the calls. `min_days` is 0 because nobody wants to wait a week for a notebook.

# %%
TEXT = "You answer the calls of a shop. Be kind and brief."
texts = {"a": TEXT, "b": TEXT + " Look things up before you answer."}
versions = {
    key: ask("POST", "/prompts", json={"name": "support", "system_prompt": text}).json()["id"]
    for key, text in texts.items()
}
assert len(set(versions.values())) == 2

# %%
experiment = {
    "key": "look-things-up",
    "prompt": "support",
    "control": "a",
    "variants": [{"key": key, "version_id": number} for key, number in versions.items()],
    "metrics": [
        {"name": "resolved", "kind": "binary", "role": "goal"},
        {"name": "duration_s", "kind": "amount", "direction": "decrease", "unit": "s"},
    ],
    "min_days": 0,
}
started = ask("POST", "/experiments", json=experiment).json()
while experiment["key"] not in ask("GET", "/metrics").text:  # a server looks for new experiments every second
    time.sleep(0.1)
assert started["status"] == "running"

# %% [markdown]
# ## Calls
#
# An agent asks which prompt a call gets, speaks, and tells what became of it. Here `b` truly resolves 75 % of the
# calls and `a` 40 %. That is a larger difference than you will meet, so that a few calls can show it.

# %%
TRUE_RATE = {"a": 0.40, "b": 0.75}
INTENTS = ("refund", "order", "delivery")


def call(number):
    """One call; the caller's luck depends on nothing but its number."""
    unit = {"prompt": "support", "unit_id": f"call-{number}"}
    given = ask("POST", "/assignments", json=unit | {"segment": INTENTS[number % 3]}).json()
    luck = np.random.default_rng([1, number])
    resolved = bool(luck.random() < TRUE_RATE[given["variant"]])
    return unit | {"metrics": {"resolved": resolved, "duration_s": round(luck.gamma(4.0, 45.0), 1)}}


# %%
with ThreadPoolExecutor(6) as callers:
    outcomes = list(callers.map(call, range(CALLS)))
told = ask("POST", "/outcomes", json=outcomes).json()["results"]
assert len(told) == CALLS
assert {one["status"] for one in told} <= {
    "accepted",
    "parked",
}  # parked: its assignment is still being stored

# %% [markdown]
# ## What the server says
#
# The report is there at once. Its test reads calls in the order of their assignment and stays a moment behind, so
# that no call that is being stored is passed over. We wait until it has read all of them.

# %%
deadline = time.monotonic() + 120.0
report = ask("GET", "/experiments/look-things-up/report").json()
while report["evidence"]["units"] < CALLS and time.monotonic() < deadline:
    time.sleep(0.5)
    report = ask("GET", "/experiments/look-things-up/report").json()
assert report["evidence"]["units"] == CALLS
report["recommendation"]

# %% [markdown]
# It says `switch`, and it may: the e-value is far above 20, which is the evidence that no amount of looking produces
# in more than 5 % of the experiments where nothing differs.

# %%
assert (report["recommendation"]["action"], report["recommendation"]["variant"]) == ("switch", "b")
by_metric = {one["metric"]: one for one in report["comparisons"]}
assert by_metric["resolved"]["always_valid"]["e_value"] > 20
by_metric["resolved"]["always_valid"]

# %% [markdown]
# ## The same from the database
#
# `read_study` reads the database and serves nothing. It works inside a notebook and changes nothing.
# The result is a value: it shows itself as a table, explains itself in sentences, and becomes a polars frame.

# %%
found = read_study(server.database_url, "look-things-up")
found

# %%
print(found.explain())
assert found.to_dict()["comparisons"] == report["comparisons"]
assert found.to_dict()["recommendation"] == report["recommendation"]

# %% [markdown]
# And it draws itself. Belief and evidence stand side by side: the posterior, the interval that may be looked at any
# time, and the one for a single look. The second is the widest, because it has to survive all the other looks.

# %%
lower, upper = found["resolved"]["b"].always_valid.interval
once = found["resolved"]["b"].z_test.interval
assert 0.0 < lower < once[0] < once[1] < upper
found.plot("lift")

# %% [markdown]
# ## The same from a frame
#
# Exported calls are a row each: what the call was given, with which probability, and what became of it. `Study` names
# the columns. It reads any frame that narwhals knows, lazy ones too, in one group-by. With `in_order=True` it reads
# it a second time, in the order of assignment.

# %%
parquet = ask("GET", "/experiments/look-things-up/calls", params={"format": "parquet"}).content
calls = pl.read_parquet(io.BytesIO(parquet))
assert calls.height == CALLS
calls.select("unit_id", "variant", "allocation", "probability", "segment", "resolved", "duration_s").head(3)

# %%
study = ab.Study(
    arm="variant",
    control="a",
    metrics=[ab.Binary("resolved", goal=True), ab.Amount("duration_s", better="decrease")],
    segment="segment",
    allocation="allocation",
    probability="probability",
    unit="unit_id",
    time="assigned_at",
)
mine = study.analyze(calls)
for name in ("probability_best", "expected_loss", "rate"):
    assert math.isclose(
        getattr(mine["resolved"]["b"], name), getattr(found["resolved"]["b"], name), rel_tol=1e-9
    )

# %% [markdown]
# The e-values need an order. A call that got its variant while the database was too busy to answer (its `reason` is
# `STALE`) was stored later and stands in none, so it counts everywhere, but nothing is bet on it.

# %%
in_order = study.analyze(calls.filter(reason="SPLIT"), in_order=True)
e_values = [one["resolved"]["b"].always_valid.e_value for one in (in_order, found)]
assert math.isclose(*e_values, rel_tol=1e-9)
e_values

# %% [markdown]
# So a frame can also show how the evidence came: call by call, until it passed the line of a claim. From there on the
# answer was known; the rest of the calls confirmed it.

# %%
assert in_order.readings[-1].units == calls["reason"].to_list().count("SPLIT")
in_order.plot("e_value")

# %% [markdown]
# ## A look at the segments
#
# `b` looks better for each reason to call. For exploring only: nothing is adjusted for the number of segments. The
# sixth notebook shows what to do about that.

# %%
parts = found.segments()
assert sorted(parts) == sorted(INTENTS)
assert all(part["resolved"]["b"].lift.absolute > 0 for part in parts.values())
found.plot("segments")

# %% [markdown]
# ## The decision
#
# A manager ends the experiment with `b` as the winner, and from the next call on everybody gets it.

# %%
ask("PATCH", "/experiments/look-things-up/stop", json={"winner": "b"})
active = [one["id"] for one in ask("GET", "/prompts").json() if one["is_active"]]
assert active == [versions["b"]]
stack.close()

# %% [markdown]
# **In your own notebook** two lines are enough:
#
#     from service.study import read_study
#     read_study("sqlite:///promptbandit.db", "the-key-of-your-experiment")
