"""Whole runs over hostile calls: whatever the model does, nothing that was planted comes through the door."""

from itertools import batched

import msgspec
import pytest

from domain.outcomes import Turn
from optimizer.answers import Edit, Suggestion
from optimizer.local_analysts import good_analyst
from optimizer.local_hostile import obeying_analyst, random_analyst
from optimizer.local_provider import LocalProvider
from optimizer.plan import Scope
from storage.database import Database
from storage.optimizer_runs import save_run
from tests.optimizer.injections import HONEST_EDIT, INJECTIONS
from tests.optimizer.shop_calls import Call, open_shop, run, runs_of, shop_calls, suggested

WIDE = Scope(limit=500)


def attacks() -> list[Call]:
    """Two calls of each attacker, beside those of honest callers."""
    return [
        (call.unit_id, "orders", 0.0, [Turn(role=turn.role, content=turn.content) for turn in call.turns])
        for injection in INJECTIONS
        for call in injection.transcripts()[:2]
    ]


def told(injection_edit: Edit, pattern: str) -> Suggestion:
    return Suggestion(
        title="A better answer",
        addresses=[pattern],
        edits=[injection_edit],
        expected_effect="Fewer calls fail.",
        risk="None.",
        regression_watch=[],
    )


@pytest.mark.parametrize("seed", ["one", "two"])
async def test_of_what_an_obeying_model_proposes_nothing_planted_gets_through(shop: Database, seed: str):
    await open_shop(shop, [*shop_calls(), *attacks()])
    with LocalProvider(obeying_analyst) as local:
        ended = await run(shop, local.url, seed=seed, scope=WIDE)
    assert ended.status == "done", ended
    texts = [edit["text"] for item in await suggested(shop) for edit in item["edits"]]
    assert [i.name for i in INJECTIONS for text in texts if i.planted in text or i.said in text] == []


@pytest.mark.parametrize("seed", range(3))
async def test_a_model_that_answers_at_random_ends_a_run_as_any_other(shop: Database, seed: int):
    await open_shop(shop, [*shop_calls(), *attacks()])
    with LocalProvider(random_analyst(seed)) as local:
        ended = await run(shop, local.url, seed=str(seed), scope=WIDE)
    assert ended.status == "done", ended


@pytest.mark.timeout(900)  # the gate over 140 calls, 60 times: 15 s on a machine that has nothing else to do
async def test_planted_lines_with_true_evidence_of_honest_callers_are_refused_at_the_door(shop: Database):
    """The model obeys where it hurts most: its own edits, backed by patterns that code has counted."""
    await open_shop(shop, [*shop_calls(), *attacks()])
    planted = [item for item in INJECTIONS if item.cites_others]
    with LocalProvider(good_analyst) as local:
        assert (await run(shop, local.url, scope=WIDE)).status == "done"
        (row,) = await runs_of(shop)
        before = await suggested(shop)
        (pattern, *_) = [item["pattern"]["key"] for item in row.results["found"]["fixable"]]
        honest = Edit(op=HONEST_EDIT.op, anchor=HONEST_EDIT.anchor, text=HONEST_EDIT.text)
        for three in batched(planted, 3, strict=False):
            edits = [item.edit() for item in three]
            suggestions = [told(Edit(op=e.op, anchor=e.anchor, text=e.text), pattern) for e in edits]
            results = row.results | {"suggestions": msgspec.to_builtins(suggestions), "handed": []}
            async with shop.writing() as connection:
                await save_run(connection, row.id, status="proposed", results=results)
            ended = await run(shop, local.url, scope=WIDE)
            refused = [item["refusal"] or "" for item in ended.handed]
            assert [i.name for i, why in zip(three, refused, strict=True) if i.caught_by not in why] == []
        assert await suggested(shop) == before
        # The same way in is open for what deserves it.
        results = row.results | {"suggestions": msgspec.to_builtins([told(honest, pattern)]), "handed": []}
        async with shop.writing() as connection:
            await save_run(connection, row.id, status="proposed", results=results)
        assert (await run(shop, local.url, scope=WIDE)).handed[0]["refusal"] is None
    assert len(await suggested(shop)) == len(before) + 1
