"""Whatever order calls, outcomes, retries, reallocations and restarts come in: counts equal outcomes."""

import asyncio
import datetime as dt
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from domain.experiments import NewPolicy, NewVariant
from domain.metrics import NewMetric
from domain.outcomes import NewOutcome
from domain.snapshot import PromptState
from service.change_variants import add_variant, retire_variant
from storage.database import Database
from storage.schema import assignments, counts, outcome_revisions, outcomes, variants
from tests.service.conftest import EmptyDatabases, emptied
from tests.service.ingestion_model import Model
from tests.service.world import (
    ACTOR,
    MINUTE,
    NOW,
    call,
    check,
    create,
    move,
    start,
    state_of,
    tell,
)

METRICS = [
    NewMetric(name="resolved", kind="binary", role="goal"),
    NewMetric(name="quality", kind="score"),
    NewMetric(name="duration_s", kind="amount", direction="decrease", unit="s"),
    NewMetric(name="csat", kind="binary"),
]
THOMPSON = NewPolicy(name="thompson", burn_in=1, every_s=0.0)

units = st.integers(0, 4).map("call-{}".format)
segments = st.none() | st.sampled_from(["refund", "booking", "other"])
resolved = st.booleans() | st.none()
quality = st.sampled_from([0.0, 0.7, 0.9, 1.5])
# Milliseconds sent as seconds and corrected afterwards are what costs a running sum its digits.
duration = st.sampled_from([0.1, 61.3, 2_592_000.0])
csat = st.sampled_from([True, False, 1, 7])
metrics = st.fixed_dictionaries(
    {}, optional={"resolved": resolved, "quality": quality, "duration_s": duration, "csat": csat}
).filter(bool)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """What an agent tells; its time is in minutes before now, its allocation counts from the first one."""
    return {
        "unit_id": draw(units),
        "metrics": draw(metrics),
        "minutes_ago": draw(st.none() | st.integers(-6, 20)),
        "allocation": draw(st.none() | st.none() | st.integers(0, 6)),
        "segment": draw(segments),
    }


class Ingestion(RuleBasedStateMachine):
    """The service on a real database, beside the model."""

    def __init__(self, new_url: Callable[[], str]) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.url = new_url()
        self.database = Database(self.url)
        self.now = NOW
        self.experiment = self.run(start(self.database, policy=THOMPSON, metrics=METRICS, arms="abc"))
        self.model = Model(salt=self.experiment.salt)
        self.states: list[PromptState] = []
        self.sent: list[NewOutcome] = []
        self.arms = "abc"
        self.note_split()

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.database.close())
        self.runner.close()

    def note_split(self) -> None:
        """Read the split that serves now; a process that read it keeps it as long as it likes."""
        state = self.run(state_of(self.database))
        assert state.experiment is not None
        split = [(variant.key, variant.share_bp) for variant in state.experiment.variants]
        assert sum(share for _, share in split) == 10_000
        self.model.splits.setdefault(state.experiment.allocation_id, split)
        self.states.append(state)

    @rule(unit=units, segment=segments, age=st.integers(0, 3))
    def a_call_starts(self, unit: str, segment: str | None, age: int) -> None:
        """On a process whose knowledge may be some allocations old."""
        state = self.states[max(len(self.states) - 1 - age, 0)]
        assert state.experiment is not None
        standing = self.run(call(self.database, unit, state=state, segment=segment, now=self.now))
        want = self.model.assign(unit, state.experiment.allocation_id, segment, at=self.now)
        assert (standing.variant, standing.allocation) == (want.variant, want.allocation)

    @rule(told=st.lists(messages(), min_size=1, max_size=3))
    def outcomes_are_told(self, told: list[dict[str, Any]]) -> None:
        ids = list(self.model.splits)
        batch = [
            NewOutcome(
                prompt="support",
                unit_id=item["unit_id"],
                metrics=item["metrics"],
                occurred_at=None if item["minutes_ago"] is None else self.now - item["minutes_ago"] * MINUTE,
                allocation=None
                if item["allocation"] is None
                else [*ids, 10**6][min(item["allocation"], len(ids))],
                segment=item["segment"],
            )
            for item in told
        ]
        self.sent += batch
        self.send(batch)

    @precondition(lambda self: bool(self.sent))
    @rule(data=st.data())
    def messages_are_delivered_again(self, data: st.DataObject) -> None:
        self.send(data.draw(st.lists(st.sampled_from(self.sent), min_size=1, max_size=3)))

    def send(self, batch: list[NewOutcome]) -> None:
        answers = self.run(tell(self.database, *batch, now=self.now))
        statuses = [answer if isinstance(answer, str) else "rejected" for answer in answers]
        assert statuses == self.model.tell(batch, self.now)

    @rule(data=st.data())
    def something_else_happens(self, data: st.DataObject) -> None:
        """One rule for all that is rarer than calls and outcomes."""
        acts = [self.time_passes, self.the_split_moves, self.the_server_restarts]
        if len(self.arms) < 5:
            acts.append(self.a_variant_is_added)
        if len(self.live_beside_control()) >= 2:
            acts.append(self.a_variant_is_retired)
        data.draw(st.sampled_from(acts))()

    def time_passes(self) -> None:
        self.now += 10 * MINUTE

    def the_split_moves(self) -> None:
        self.run(move(self.database, self.experiment, now=self.now))
        self.note_split()

    def the_server_restarts(self) -> None:
        self.run(self.database.close())
        self.database = Database(self.url)

    def a_variant_is_added(self) -> None:
        arm = "abcde"[len(self.arms)]
        self.arms += arm

        async def add() -> None:
            version = await create(self.database, f"text of {arm}")
            async with self.database.writing() as connection:
                new = NewVariant(key=arm, version_id=version.id)
                await add_variant(connection, "greeting", new, actor=ACTOR, now=self.now)

        self.run(add())
        self.note_split()

    def a_variant_is_retired(self) -> None:
        arm = self.live_beside_control()[0]

        async def retire() -> None:
            async with self.database.writing() as connection:
                await retire_variant(connection, "greeting", arm, actor=ACTOR, now=self.now)

        self.run(retire())
        self.note_split()

    def live_beside_control(self) -> list[str]:
        split = list(self.model.splits.values())[-1]
        return [key for key, share in split if share > 0 and key != "a"]

    @invariant()
    def counts_equal_outcomes(self) -> None:
        assert self.run(check(self.database)).differences == ()
        found, want = self.run(stored_counts(self.database)), self.model.counts()
        assert {key: sums[0] for key, sums in found.items() if sums[0]} == {k: s[0] for k, s in want.items()}
        for key, sums in want.items():
            assert found[key] == pytest.approx(sums, rel=1e-9, abs=1e-9), key

    @invariant()
    def assignments_and_values_are_those_of_the_model(self) -> None:
        given, values = self.run(stored_facts(self.database))
        assert given == {
            unit: (g.variant, g.allocation, g.probability, g.segment) for unit, g in self.model.given.items()
        }
        assert values == {key: (v.value, v.when, v.replaced) for key, v in self.model.values.items()}


async def stored_counts(database: Database) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    columns = (counts.c.allocation_id, variants.c.key, counts.c.segment, counts.c.metric)
    query = sa.select(*columns, counts.c.n, counts.c.total, counts.c.total_sq).join(
        variants, counts.c.variant_id == variants.c.id
    )
    async with database.reading() as connection:
        return {tuple(row[:4]): tuple(row[4:]) for row in await connection.execute(query)}


async def stored_facts(database: Database) -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
    """Assignments by unit; values with their times and what they replaced, by unit and metric."""
    async with database.reading() as connection:
        query = sa.select(assignments, variants.c.key).join(
            variants, assignments.c.variant_id == variants.c.id
        )
        given = {
            row.unit_id: (row.key, row.allocation_id, row.probability, row.segment or "")
            for row in await connection.execute(query)
        }
        replaced: dict[tuple[str, str], set[tuple[float, dt.datetime]]] = {}
        for row in await connection.execute(sa.select(outcome_revisions)):
            replaced.setdefault((row.unit_id, row.metric), set()).add((row.value, row.occurred_at))
        values = {
            (row.unit_id, row.metric): (
                row.value,
                row.occurred_at,
                replaced.get((row.unit_id, row.metric), set()),
            )
            for row in await connection.execute(sa.select(outcomes))
        }
    return given, values


def run_machine(new_url: Callable[[], str], *, examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Ingestion(new_url),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(600)  # where it fails, Hypothesis shortens the story for up to five minutes
def test_counts_equal_outcomes_whatever_happens_on_sqlite(sqlite_databases: EmptyDatabases):
    run_machine(sqlite_databases.sqlite, examples=15, steps=30)


@pytest.mark.timeout(600)
def test_counts_equal_outcomes_whatever_happens_on_postgresql(migrated_postgres: tuple[str, str]):
    run_machine(lambda: emptied(migrated_postgres), examples=4, steps=20)
