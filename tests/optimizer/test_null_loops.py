"""Edits that do nothing, approved without looking: the bandit recommends a switch in at most alpha of the loops."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.null_loops import (
    World,
    may_switch,
    most_by_chance,
    recommends_switch,
    run_loop,
    walk,
)
from cli.optimize import door_of
from domain.experiments import NewPolicy, Policy
from optimizer.local_provider import LocalProvider
from optimizer.plan import Scope
from optimizer.run import optimize
from service.approve import approve
from storage.allocations import current_allocation
from storage.database import Database
from storage.prompts import find_version
from storage.suggestions import list_suggestions
from tests.optimizer.random_edits import random_analyst
from tests.optimizer.shop_calls import LATER, PROMPT, means_for, open_shop, shop_calls, take_calls
from tests.service.world import ACTOR, NOW, read_experiment, start

ROOT = Path(__file__).resolve().parents[2]
LOOPS = 120


async def test_edits_by_dice_on_calls_by_coins_pass_the_gate_and_enter_at_the_floor(shop: Database):
    """What the simulated loops begin with, once for real: the provider, the gate, the approval, the new arm."""
    chance = random.Random(1)
    await open_shop(shop, [])
    experiment = await start(shop, policy=NewPolicy(name="thompson"))
    async with shop.writing() as connection:
        allocation = await current_allocation(connection, experiment.id)
        assert allocation is not None
        for variant in experiment.variants:
            version = await find_version(connection, variant.version_id or 0)
            assert version is not None
            calls = [
                (f"{variant.key}-{unit}", segment, float(chance.random() < 0.5), turns)
                for unit, segment, _, turns in shop_calls(failing=60, good=0)
            ]
            given = {"experiment": experiment.key, "experiment_id": experiment.id, "variant": variant.key}
            given |= {"variant_id": variant.id, "allocation": allocation.id, "probability": 0.5}
            await take_calls(connection, version, calls, at=NOW, **given, reason="SPLIT")
    with LocalProvider(random_analyst(seed=1)) as local:
        door = door_of(shop, lambda: LATER)
        ended = await optimize(means_for(shop, local.url, door=door), PROMPT, Scope())
    assert ended.status == "done", ended
    async with shop.writing() as connection:
        pending = await list_suggestions(connection, status="pending")
        assert pending, ended.handed
        approvals = [
            await approve(connection, item.id, text_hash=item.text_hash, actor=ACTOR, now=LATER)
            for item in pending
        ]
    grown = await read_experiment(shop)
    assert [item.share_bp for item in approvals] == [500] * len(pending)
    assert [variant.key for variant in grown.variants[2:]] == [item.variant for item in approvals]


@pytest.mark.timeout(900)
def test_the_bandit_recommends_a_switch_in_at_most_alpha_of_the_loops():
    """The bound is the 99.9 % quantile of a binomial; a rule that looks for p < 0.05 passes it by far.

    In a process of its own: under pytest the shape of every array is checked, four times as slow.
    """
    command = [sys.executable, "-m", "benchmarks.null_loops", "--loops", str(LOOPS), "--seed", "1", "--fast"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"fixed", "thompson"}
    for acted in found.values():
        assert acted["switch"] <= most_by_chance(LOOPS)
        assert acted["p < 0.05"] > most_by_chance(LOOPS)


def test_where_no_report_was_made_none_would_have_said_switch():
    """Loops make a report only where the test of some variant says better; here one is made at every look."""
    world = World(policy=Policy(name="thompson"), calls=1_200, arrivals=(400,))
    looks = list(walk(world, np.random.default_rng(3)))
    assert len(looks) == 6
    assert not any(may_switch(known) or recommends_switch(known, now=now) for known, now in looks)


def test_a_variant_that_is_better_is_recommended():
    """The other side: the same loop finds an edit that does something."""
    world = World(policy=Policy(name="fixed"), calls=4_000, arrivals=(), better={"b": 0.15})
    assert any(look["switch"] for look in run_loop(world, np.random.default_rng(4)))
