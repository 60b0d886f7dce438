"""How often does the loop of optimizer and bandit recommend a switch when no edit does anything?

In each loop an experiment runs, suggestions that change nothing are approved and enter as new variants, and after
every 200 calls the product's own code looks: the tests read on, the split moves, a recommendation is made. Every
outcome is a coin of the same rate, whatever the text, so every `switch` is false. Beside it stands what would
have been done by "p < 0.05" and by "P(best) > 95 %". Exits 1 where the share of loops with a `switch` exceeds
alpha by more than chance (99.9 %). 2 cores: 15 minutes.

    python -m benchmarks.null_loops [--loops 1000] [--seed 1] [--processes 2] [--docs | --fast]

`--fast` does two shorter worlds in one process and prints JSON: the test suite asks for it. `--docs` also puts the
table into docs/calibration.md, between its markers.
"""

import argparse
import datetime as dt
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
from scipy import stats

from domain.allocations import Allocation
from domain.evidence import Evidence
from domain.experiments import Experiment, Policy, Variant
from domain.fields import BASIS_POINTS
from domain.metrics import ASSIGNED, DEFAULT_METRICS
from engine.proportions import z_test
from engine.statistics import BinaryCounts
from engine.version import ENGINE_VERSION
from service.arm_priors import priors_of
from service.evidence import read_units
from service.known import Known
from service.moves import Move, entering_split, next_move
from service.report import build_report
from service.statistics import tally_by_allocation, tally_of_all
from storage.counts import CountRow
from storage.evidence import UnitOutcome

ALPHA = 0.05
LEAST_TOLD = 10  # outcomes of both variants before "p < 0.05" speaks, as in the rule that it stands for
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
GOAL = DEFAULT_METRICS[0]
NO_PAST = BinaryCounts([], [])
CHUNK = 25
PAGE = Path("docs/calibration.md")
RULES = ("switch", "p < 0.05", "P(best) > 95 %")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What happens in each loop: `arrivals` are the calls after which an approved edit enters, ascending.

    `better` is by how much variants differ from the control, by key: none does, but for a test of this program.
    """

    policy: Policy
    rate: float = 0.5
    calls: int = 4_000
    look_every: int = 200
    arrivals: tuple[int, ...] = (800, 1_600)
    better: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop under way; `counts` is units and successes, shape (allocation, variant, 2)."""

    experiment: Experiment
    allocations: tuple[Allocation, ...]
    evidence: Evidence
    counts: np.ndarray
    calls: int = 0

    @property
    def now(self) -> dt.datetime:
        """A call a second."""
        return START + self.calls * SECOND

    @property
    def known(self) -> Known:
        """What the product would read from its database."""
        variants = self.experiment.variants
        rows = list(_rows(self))
        tally = tally_by_allocation(variants, self.allocations, rows)
        return Known(
            experiment=self.experiment,
            allocations=self.allocations,
            tally=tally,
            told=tally_of_all(variants, rows),
            evidence={GOAL.name: self.evidence},
            priors=priors_of(self.experiment, tally, NO_PAST, PARENTS),
        )


# Every edit is one of the control's text.
PARENTS = dict.fromkeys(range(2, 40), 1)


def begin(world: World) -> Loop:
    """Two variants with the same share, no call yet."""
    variants = (_variant("a", 1, at=START), _variant("b", 2, at=START))
    experiment = Experiment(
        id=1,
        key="loop",
        prompt_id=1,
        prompt="support",
        status="running",
        policy=world.policy,
        goal=GOAL.name,
        alpha=ALPHA,
        minimum_detectable_effect=0.05,
        baseline=0.5,
        maturity_s=0.0,
        min_days=0.0,  # the first week forbids to switch; here every look counts
        salt="salt",
        metrics=(GOAL,),
        variants=variants,
        started_at=START,
    )
    evidence = Evidence(metric=GOAL.name)
    empty = Loop(experiment, (), evidence, np.zeros((0, 2, 2), dtype=np.int64))
    return _serve(empty, {"a": 5_000, "b": 5_000}, policy="start")


def run_loop(world: World, rng: np.random.Generator) -> Iterator[dict[str, bool]]:
    """What each rule says at each look."""
    for known, now, move in _looks(world, rng):
        yield {
            "switch": may_switch(known) and recommends_switch(known, now=now),
            "p < 0.05": acts_on_p(known),
            "P(best) > 95 %": acts_on_probability_best(known, move.probability_best),
        }


def walk(world: World, rng: np.random.Generator) -> Iterator[tuple[Known, dt.datetime]]:
    """What is known at each look, and when that is."""
    for known, now, _ in _looks(world, rng):
        yield known, now


def _looks(world: World, rng: np.random.Generator) -> Iterator[tuple[Known, dt.datetime, Move]]:
    loop = begin(world)
    while loop.calls < world.calls:
        loop = take_calls(loop, world, rng)
        known = loop.known
        move = next_move(known, now=loop.now, force=True)
        yield known, loop.now, move
        if move.outcome in ("moved", "paused"):
            loop = _serve(loop, move.split, policy=move.outcome, counts=dict(move.counts))
        if loop.calls in world.arrivals:
            loop = enter(loop)


def take_calls(loop: Loop, world: World, rng: np.random.Generator) -> Loop:
    """Calls by the split that serves; each outcome is a coin, whatever was said. Then the tests read them."""
    current, variants, calls = loop.allocations[-1], loop.experiment.variants, world.look_every
    ends = np.cumsum([current.split.get(variant.key, 0) for variant in variants])
    arm = np.searchsorted(ends, rng.integers(BASIS_POINTS, size=calls), side="right")
    rates = np.array([world.rate + world.better.get(variant.key, 0.0) for variant in variants])
    value = (rng.random(calls) < rates[arm]).astype(float)
    units = [
        UnitOutcome(
            assigned_at=loop.now + (number + 1) * SECOND,
            unit_id=f"{number}",
            variant_id=variants[index].id,
            allocation_id=current.id,
            reason="SPLIT",
            value=outcome,
        )
        for number, (index, outcome) in enumerate(zip(arm, value.tolist(), strict=True))
    ]
    evidence = read_units(loop.experiment, GOAL, loop.evidence, units, {current.id: current.split})
    counts = loop.counts.copy()
    np.add.at(counts, (-1, arm, 0), 1)
    np.add.at(counts, (-1, arm, 1), value.astype(np.int64))
    return replace(loop, evidence=evidence, counts=counts, calls=loop.calls + calls)


def enter(loop: Loop) -> Loop:
    """An approved suggestion becomes a variant at the floor share, as `service.approve` does it."""
    position = len(loop.experiment.variants)
    new = _variant(f"s{position - 1}", position + 1, at=loop.now)
    grown = msgspec.structs.replace(loop.experiment, variants=(*loop.experiment.variants, new))
    counts = np.concatenate([loop.counts, np.zeros_like(loop.counts[:, :1])], axis=1)
    loop = replace(loop, experiment=grown, counts=counts)
    current = loop.allocations[-1].split
    served = [item for item in grown.variants if current.get(item.key, 0) > 0 or item is new]
    split = entering_split(grown, served, current, key=new.key, share=grown.policy.floor)
    return _serve(loop, split, policy="variant added")


def may_switch(known: Known) -> bool:
    """False where no variant is shown to be better: then no recommendation is a switch, and none need be made."""
    least = math.log(1.0 / known.experiment.alpha)
    evidence = known.evidence[GOAL.name]
    return any(item.claim == "better" and item.log_e_max >= least for item in evidence.processes)


def recommends_switch(known: Known, *, now: dt.datetime) -> bool:
    """What the report says."""
    return build_report(known, now=now).recommendation.action == "switch"


def acts_on_p(known: Known) -> bool:
    """A rule that we do not use: some variant is better than the control with p < 0.05, at this look."""
    counts = known.tally.whole(GOAL.measure)
    assert isinstance(counts, BinaryCounts)
    test = z_test(counts, control=0)
    enough = np.minimum(counts.n, counts.n[0]) >= LEAST_TOLD
    better = enough & (np.nan_to_num(test.p_value, nan=1.0) < ALPHA) & (test.estimate > 0.0)
    return bool(better[1:].any())


def acts_on_probability_best(known: Known, best: dict[str, float] | None) -> bool:
    """Another one: some variant is the best with more than 95 %, when the split moves."""
    control = known.experiment.control.key
    return any(share > 1.0 - ALPHA for key, share in (best or {}).items() if key != control)


def ever(world: World, *, loops: int, seed: int) -> dict[str, int]:
    """Loops in which each rule ever acted."""
    acted = dict.fromkeys(RULES, 0)
    for number in range(loops):
        looks = list(run_loop(world, np.random.default_rng([seed, number])))
        for rule in RULES:
            acted[rule] += any(look[rule] for look in looks)
    return acted


def most_by_chance(loops: int, *, alpha: float = ALPHA) -> int:
    """Loops that a rule of level alpha may be wrong in: the 99.9 % quantile of the binomial distribution."""
    return int(stats.binom.ppf(0.999, loops, alpha))


def _rows(loop: Loop) -> Iterator[CountRow]:
    for place, arms in zip(loop.allocations, loop.counts.tolist(), strict=True):
        for variant, (n, successes) in zip(loop.experiment.variants, arms, strict=True):
            if n:
                where = {"allocation_id": place.id, "variant_id": variant.id, "n": n}
                yield CountRow(**where, metric=ASSIGNED, total=0.0, total_sq=0.0)
                yield CountRow(**where, metric=GOAL.name, total=float(successes), total_sq=float(successes))


def _serve(
    loop: Loop, split: dict[str, int], *, policy: str, counts: dict[str, object] | None = None
) -> Loop:
    number = len(loop.allocations) + 1
    new = Allocation(
        id=number,
        experiment_id=1,
        number=number,
        split=split,
        probability_best=None,
        policy=policy,
        counts=counts or {},
        seed=None,
        engine_version=ENGINE_VERSION,
        created_at=loop.now,
    )
    place = np.zeros((1, len(loop.experiment.variants), 2), dtype=np.int64)
    grown = np.concatenate([loop.counts, place])
    return replace(loop, allocations=(*loop.allocations, new), counts=grown)


def _variant(key: str, number: int, *, at: dt.datetime) -> Variant:
    return Variant(
        id=number,
        key=key,
        position=number - 1,
        version_id=number,
        is_control=number == 1,
        live=True,
        created_at=at,
    )


def worlds() -> list[World]:
    """Few and many suggestions, under a split that stands and two that move."""
    policies = [Policy(name="fixed"), Policy(name="thompson"), Policy(name="top_two")]
    many = tuple(range(400, 3_600, 400))
    return [
        *(World(policy=policy) for policy in policies),
        *(World(policy=policy, arrivals=many) for policy in policies),
        World(policy=Policy(name="thompson"), rate=0.9),
    ]


def fast_worlds() -> dict[str, World]:
    """For the test suite: each unit counts for the tests, so fewer looks see as much."""
    return {
        name: World(policy=Policy(name=name), calls=3_000, look_every=300, arrivals=(600, 1_200))
        for name in ("fixed", "thompson")
    }


def run_all(wanted: Sequence[World], *, loops: int, seed: int, processes: int) -> list[dict[str, int]]:
    """Chunks of loops over the processes; a chunk's seed is its own."""
    sizes = [min(CHUNK, loops - start) for start in range(0, loops, CHUNK)]
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [
            [
                pool.submit(ever, world, loops=size, seed=seed + 1_000 * part)
                for part, size in enumerate(sizes)
            ]
            for world in wanted
        ]
        found = [[job.result() for job in of_world] for of_world in jobs]
    return [{rule: sum(part[rule] for part in parts) for rule in RULES} for parts in found]


def table(wanted: Sequence[World], found: Sequence[dict[str, int]], *, loops: int) -> str:
    """Markdown; shares in percent."""
    lines = [
        "| policy | rate | edits | “switch” | p < 0.05 | P(best) > 95 % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for world, acted in zip(wanted, found, strict=True):
        shares = [f"{100 * acted[rule] / loops:.1f} %" for rule in RULES]
        if world.policy.name == "fixed":
            shares[-1] = "-"
        facts = [world.policy.name, f"{world.rate:g}", str(len(world.arrivals))]
        lines.append(f"| {' | '.join([*facts, *shares])} |")
    return "\n".join(lines)


def write_page(text: str, *, loops: int, seed: int) -> None:
    """Put the table between its markers."""
    begins, ends = "<!-- loops -->", "<!-- end of loops -->"
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(begins)
    told = (
        f"{loops} loops a row, seed {seed}; by chance a rule of 5 % acts in {most_by_chance(loops)} at most."
    )
    PAGE.write_text(f"{before}{begins}\n\n{told}\n\n{text}\n\n{ends}{rest.split(ends)[1]}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loops", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--docs", action="store_true", help=f"write the table into {PAGE}")
    parser.add_argument("--fast", action="store_true", help="less, as JSON")
    options = parser.parse_args()
    if options.fast:
        quick = {
            name: ever(world, loops=options.loops, seed=options.seed) for name, world in fast_worlds().items()
        }
        print(json.dumps(quick))
        return 0
    began = time.perf_counter()
    wanted = worlds()
    found = run_all(wanted, loops=options.loops, seed=options.seed, processes=options.processes)
    text = table(wanted, found, loops=options.loops)
    print(f"{text}\n\n{options.loops} loops each, seed {options.seed}, {time.perf_counter() - began:.0f} s")
    if options.docs:
        write_page(text, loops=options.loops, seed=options.seed)
    return 1 if any(acted["switch"] > most_by_chance(options.loops) for acted in found) else 0


if __name__ == "__main__":
    sys.exit(main())
