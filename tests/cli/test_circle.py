"""The optimizer's circle to its end: failing calls, a suggestion, an approved arm, and what calls say of it.

The shop is that of the demo, whose agent can do what its prompt tells it about: so what a text truly changes
is known. Seeds, salt and time are given, so every number here is the same in every run.
"""

import datetime as dt
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.demo_shop import CHALLENGER, CONTROL, call_of, topic_of, true_rate
from cli.main import promptbandit
from cli.optimize import door_of
from domain.experiments import Experiment, NewExperiment, NewPolicy, NewVariant
from domain.outcomes import NewOutcome, Turn
from domain.redaction import redact
from domain.report import Report
from domain.snapshot import derive
from domain.suggestions import Approval
from migrations import migrate
from optimizer.local_analysts import CARELESS_ADVICE, careless_analyst, good_analyst
from optimizer.local_provider import LocalProvider
from optimizer.local_replies import Behaviour
from optimizer.plan import Scope
from optimizer.run import optimize
from service.approve import approve
from service.record import record
from service.recording import keep_assignments
from service.start_experiment import start_experiment
from storage.allocations import current_allocation
from storage.audit import list_audit
from storage.database import Database
from storage.prompts import active_version_id, find_version
from storage.suggestions import list_suggestions
from tests.optimizer.shop_calls import means_for
from tests.service.world import (
    ACTOR,
    NOW,
    PROMPT,
    check,
    create,
    move,
    read_report,
    retire,
    state_of,
    stop,
)

KEY = "demo"
SEED = 3
BEFORE, STEP, MOST = 400, 150, 20  # calls, calls a look, looks
SECOND = dt.timedelta(seconds=1)


@dataclass
class Shop:
    """A shop whose calls come a second apart."""

    database: Database
    experiment: Experiment
    now: dt.datetime = NOW
    rung: int = 0

    async def ring(self, calls: int) -> dict[str, int]:
        """The next calls; then the tests read them and the split moves. How many each variant got."""
        state = await state_of(self.database, prompt=PROMPT, now=self.now)
        numbers = range(self.rung, self.rung + calls)
        given = [
            derive(state, unit_id=f"call-{n}", segment=topic_of(SEED, n), now=self.now + SECOND * i)
            for i, n in enumerate(numbers)
        ]
        assert all(given)
        told = [
            call_of(a.version.system_prompt, seed=SEED, number=n) for a, n in zip(given, numbers, strict=True)
        ]
        outcomes = [
            NewOutcome(prompt=PROMPT, unit_id=a.unit_id, metrics=call.metrics)
            for a, call in zip(given, told, strict=True)
        ]
        words = {i: redact([Turn(**turn) for turn in call.transcript], {}) for i, call in enumerate(told)}
        self.now += SECOND * (calls + 60)
        async with self.database.writing() as connection:
            await keep_assignments(connection, given)
            await record(connection, outcomes, now=self.now, transcripts=words)
        self.rung += calls
        await move(self.database, self.experiment, now=self.now)
        keys = [a.variant for a in given]
        return {key: keys.count(key) for key in keys}

    async def split(self) -> dict[str, int]:
        async with self.database.reading() as connection:
            allocation = await current_allocation(connection, self.experiment.id)
        assert allocation is not None
        return allocation.split

    async def report(self) -> Report:
        return await read_report(self.database, KEY, now=self.now)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """Two versions that say nothing about returns, and the calls that fail for it."""
    database = Database(f"sqlite:///{tmp_path / 'circle.db'}")
    await migrate(database)
    versions = [await create(database, text) for text in (CONTROL, CHALLENGER)]
    new = NewExperiment(
        key=KEY,
        prompt=PROMPT,
        variants=[NewVariant(key=f"v{i}", version_id=v.id) for i, v in enumerate(versions, start=1)],
        control="v1",
        policy=NewPolicy(name="thompson", burn_in=100, every_s=0.0),
        minimum_detectable_effect=0.1,
        min_days=0.0,
    )
    async with database.writing() as connection:
        experiment = await start_experiment(connection, new, actor=ACTOR, now=NOW, salt="salt")
    opened = Shop(database, experiment)
    await opened.ring(BEFORE)
    yield opened
    await database.close()


async def improve(shop: Shop, analyst: Behaviour) -> Approval:
    """A run of the optimizer through the service's own door, and a manager who approves the text that was read."""
    with LocalProvider(analyst) as local:
        means = means_for(shop.database, local.url, now=shop.now)
        ended = await optimize(replace(means, door=door_of(shop.database, lambda: shop.now)), PROMPT, Scope())
    assert (ended.status, ended.reason) == ("done", "1 of 1 suggestions stored, 0 refused"), ended
    async with shop.database.writing() as connection:
        (waits,) = await list_suggestions(connection, status="pending", prompt=PROMPT)
        assert "returns" in str(waits.patterns[0]["title"])
        return await approve(connection, waits.id, text_hash=waits.text_hash, actor=ACTOR, now=shop.now)


async def follow(shop: Shop, arm: str) -> tuple[Report, list[int], int]:
    """Calls until something is recommended about the arm: the last report, its share at each look, its calls."""
    shares, calls = [(await shop.split())[arm]], 0
    for _ in range(MOST):
        calls += (await shop.ring(STEP)).get(arm, 0)
        shares.append((await shop.split())[arm])
        report = await shop.report()
        if report.recommendation.variant == arm:
            break
    return report, shares, calls


async def test_advice_that_helps_becomes_an_arm_that_gains_calls_until_it_is_recommended(shop: Shop):
    """In truth it resolves 30 points more: 75 instead of 15 % of the returns, which are half of all calls."""
    before = await shop.split()
    approval = await improve(shop, good_analyst)
    arm, text = approval.variant, approval.suggestion.system_prompt
    assert arm is not None
    assert text.startswith(CONTROL)
    assert true_rate(text) - true_rate(CONTROL) == pytest.approx(0.30)
    entered = await shop.split()
    assert entered[arm] == approval.share_bp == 500  # the policy's floor
    # The others keep their ratio, as far as the control's floor lets them.
    assert entered["v1"] == pytest.approx(max(0.95 * before["v1"], 1_000), abs=1)

    report, shares, _ = await follow(shop, arm)
    assert report.recommendation.action == "switch", report.recommendation
    assert shares[-1] > 6_000
    (told,) = (item for item in report.comparisons if (item.variant, item.metric) == (arm, "resolved"))
    assert told.always_valid.p_value_adjusted <= 0.05  # at any look, for both variants beside the control
    assert told.adaptive.estimate == pytest.approx(0.30, abs=4.0 * told.adaptive.standard_error)

    await stop(shop.database, key=KEY, winner=arm, now=shop.now)
    async with shop.database.reading() as connection:
        active = await find_version(connection, await active_version_id(connection, 1) or 0)
    assert active is not None
    assert (active.id, active.system_prompt) == (approval.version_id, text)
    assert (await check(shop.database)).differences == ()


async def test_advice_that_hurts_passes_gate_and_manager_and_is_stopped_by_calls(shop: Shop):
    """In truth 30 points fewer: no call about sizes or delivery is looked up any more."""
    approval = await improve(shop, careless_analyst)
    arm = approval.variant
    assert arm is not None
    assert approval.suggestion.system_prompt == f"{CONTROL}\n{CARELESS_ADVICE}"
    assert true_rate(approval.suggestion.system_prompt) - true_rate(CONTROL) == pytest.approx(-0.30)

    report, shares, calls = await follow(shop, arm)
    assert report.recommendation.action == "pause_variant", report.recommendation
    assert "worse than v1" in report.recommendation.because[0]
    assert shares[0] == 500
    assert shares[-1] == 0  # without anybody's doing
    assert calls < (shop.rung - BEFORE) / 3  # harm is bounded: fewer than its part of three
    async with shop.database.reading() as connection:
        acts = [(entry.actor, entry.action) for entry in await list_audit(connection, limit=10, offset=0)]
        assert ("reallocate", "pause_variant") in acts
        assert await active_version_id(connection, 1) == approval.suggestion.parent_version_id

    after = await retire(shop.database, arm, key=KEY, now=shop.now)
    assert [v.key for v in after.variants if v.live] == ["v1", "v2"]
    assert arm not in await shop.ring(STEP)
    assert (await check(shop.database)).differences == ()


def test_the_shop_resolves_what_a_text_says_it_does():
    """The truth that the other tests compare with: 500 calls within four standard errors of it."""
    helped = f"{CONTROL}\nWhen a caller asks about returns: look them up."
    for text in (CONTROL, CHALLENGER, helped, f"{helped}\n{CARELESS_ADVICE}"):
        resolved = [call_of(text, seed=SEED, number=n).metrics["resolved"] for n in range(500)]
        error = (true_rate(text) * (1.0 - true_rate(text)) / 500) ** 0.5
        assert sum(resolved) / 500 == pytest.approx(true_rate(text), abs=4.0 * error), text


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PROMPTBANDIT_")}
    return subprocess.run(
        [sys.executable, "-m", "cli", "demo", *arguments],
        env=clean | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.mark.timeout(600)
def test_the_demo_tells_the_circle_from_the_first_call_to_the_decision():
    """Few calls: that the story is told whole, whatever is recommended in the end."""
    done = demo("--optimizer", "--calls", "240", "--seconds", "60")
    assert done.returncode == 0, done.stderr
    told = done.stdout
    parts = [told.index(f"\n{number}. ") for number in range(1, 6)]
    assert parts == sorted(parts)
    for piece in (
        "120 calls in",
        "support: done: 1 of 1 suggestions stored, 0 refused",
        "no prompt can mend (caller)",
        "\"Sorry, I don't know what we do about returns",
        "+When a caller asks about returns: say what is known so far",
        "it is the new arm s1 with 5.0 % of calls",
        "Recommendation",
        "in truth v1 45 %, v2 45 %, s1 75 %",
        "counts equal outcomes",
    ):
        assert piece in told, f"{piece!r} is not in\n{told}"


def test_the_demo_is_careless_only_with_the_optimizer():
    refused = CliRunner().invoke(promptbandit, ["demo", "--careless"])
    assert refused.exit_code == 2
    assert "--careless goes with --optimizer" in refused.output
