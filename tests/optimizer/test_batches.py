"""Batches: submitted now, collected later, half the price, paid once."""

import json

import pytest

from optimizer import local_replies
from optimizer.answers import Notes
from optimizer.batches import Collected, Submitted, collect_batch, submit_batch
from optimizer.local_analysts import good_analyst
from optimizer.local_provider import Asked, LocalProvider
from optimizer.local_replies import FAULTS, Reply, in_turn
from optimizer.provider import Answered, Failed
from tests.optimizer.asking import Kept, claude_at, request

REQUESTS = [request(f"c{number}") for number in range(1, 6)]


async def test_a_batch_is_submitted_now_and_collected_by_another_run():
    kept = Kept()
    with LocalProvider(good_analyst, polls=2) as local:
        async with claude_at(local.url, kept) as claude:
            submitted = await submit_batch(claude, REQUESTS)
            assert isinstance(submitted, Submitted)
            assert submitted.batch_id is not None
            # The id is kept before anybody asks how the batch is.
            assert kept.batches == {submitted.batch_id: [item.hash for item in REQUESTS]}
            assert len(local.asked) == 1
        async with claude_at(local.url, kept) as claude:
            for _ in range(2):
                assert await collect_batch(claude, submitted.batch_id, REQUESTS) == Collected(results=None)
            collected = await collect_batch(claude, submitted.batch_id, REQUESTS)
            spent = claude.account.spent
    assert isinstance(collected, Collected)
    assert collected.results is not None
    assert list(collected.results) == [item.hash for item in REQUESTS]
    for result in collected.results.values():
        assert isinstance(result, Answered)
        assert isinstance(result.answer, Notes)
    assert {item.batch_id for item in kept.calls} == {submitted.batch_id}
    assert spent.usd == pytest.approx(sum(item.cost_usd or 0 for item in kept.calls))


async def test_a_batch_costs_half():
    alone, together = Kept(), Kept()
    with LocalProvider(good_analyst, polls=0) as local:
        async with claude_at(local.url, alone) as claude:
            await claude.ask(REQUESTS[0])
        async with claude_at(local.url, together) as claude:
            submitted = await submit_batch(claude, REQUESTS[:1])
            assert isinstance(submitted, Submitted)
            await collect_batch(claude, submitted.batch_id or "", REQUESTS[:1])
    (single,), (batched,) = alone.calls, together.calls
    assert single.cost_usd is not None
    assert batched.cost_usd == pytest.approx(single.cost_usd / 2)
    assert batched.tokens == single.tokens


async def test_each_result_of_a_batch_has_its_own_status():
    kept = Kept()
    behaviour = in_turn(
        good_analyst, FAULTS["malformed"], FAULTS["overloaded"], local_replies.canceled, local_replies.expired
    )
    with LocalProvider(behaviour, polls=0) as local:
        async with claude_at(local.url, kept) as claude:
            submitted = await submit_batch(claude, REQUESTS)
            assert isinstance(submitted, Submitted)
            collected = await collect_batch(claude, submitted.batch_id or "", REQUESTS)
            assert claude.account.committed == claude.account.spent
    assert isinstance(collected, Collected)
    statuses = [getattr(item, "status", "answered") for item in (collected.results or {}).values()]
    assert statuses == ["answered", "malformed", "overloaded", "canceled", "expired"]
    paid = [item.request_hash for item in kept.calls if item.cost_usd]
    assert sorted(paid) == sorted(item.hash for item in REQUESTS[:2])


async def test_answers_that_are_collected_twice_are_stored_and_paid_once():
    kept = Kept()
    with LocalProvider(good_analyst, polls=0) as local:
        async with claude_at(local.url, kept) as claude:
            submitted = await submit_batch(claude, REQUESTS)
            assert isinstance(submitted, Submitted)
            first = await collect_batch(claude, submitted.batch_id or "", REQUESTS)
            spent = claude.account.spent
            assert await collect_batch(claude, submitted.batch_id or "", REQUESTS) == first
            assert claude.account.spent == spent
    assert len(kept.calls) == len(REQUESTS)


async def test_only_what_the_ledger_does_not_know_is_submitted():
    kept = Kept()
    with LocalProvider(good_analyst, polls=0) as local:
        async with claude_at(local.url, kept) as claude:
            await claude.ask(REQUESTS[0])
            submitted = await submit_batch(claude, [*REQUESTS, REQUESTS[1]])
            assert isinstance(submitted, Submitted)
            assert submitted.request_hashes == tuple(item.hash for item in REQUESTS[1:])
            collected = await collect_batch(claude, submitted.batch_id or "", REQUESTS)
            assert isinstance(collected, Collected)
            assert all(isinstance(item, Answered) for item in (collected.results or {}).values())
            again = await submit_batch(claude, REQUESTS)
    assert again == Submitted(batch_id=None, request_hashes=())
    assert len(kept.batches) == 1


async def test_a_request_that_the_results_forget_has_no_answer():
    kept = Kept()
    with LocalProvider(good_analyst, polls=0) as local:
        async with claude_at(local.url, kept) as claude:
            submitted = await submit_batch(claude, REQUESTS[:1])
            assert isinstance(submitted, Submitted)
            collected = await collect_batch(claude, submitted.batch_id or "", REQUESTS[:2])
    assert isinstance(collected, Collected)
    missing = (collected.results or {})[REQUESTS[1].hash]
    assert isinstance(missing, Failed)
    assert missing.status == "no_answer"


async def test_a_batch_beyond_the_budget_is_not_sent_and_nothing_stays_set_aside():
    with LocalProvider(good_analyst) as local:
        async with claude_at(local.url, max_usd=0.001) as claude:
            failed = await submit_batch(claude, REQUESTS)
            assert claude.account.committed.usd == 0
    assert isinstance(failed, Failed)
    assert failed.status == "over_budget"
    assert local.asked == []


@pytest.mark.parametrize(
    ("name", "status", "attempts"),
    [("drops", "no_answer", 1), ("overloaded", "overloaded", 4), ("html", "not_a_message", 1)],
)
async def test_a_submission_that_fails_keeps_aside_only_what_may_be_billed(
    name: str, status: str, attempts: int
):
    """After a dropped connection the batch may exist: it is not sent again."""
    kept = Kept()
    with LocalProvider(good_analyst) as local:
        local.on_the_way = lambda asked: FAULTS[name](asked.body)
        async with claude_at(local.url, kept) as claude:
            failed = await submit_batch(claude, REQUESTS)
            is_aside = claude.account.committed.usd > 0
    assert isinstance(failed, Failed)
    assert (failed.status, len(local.asked)) == (status, attempts)
    assert is_aside == (failed.kind.paid == "maybe")
    assert kept.batches == {}


@pytest.mark.parametrize("where", ["GET batch", "GET results"])
@pytest.mark.parametrize("name", ["html", "wrong_shape", "drops"])
async def test_a_batch_that_cannot_be_read_now_is_read_later(where: str, name: str):
    """Nothing is stored and nothing is lost."""
    kept = Kept()

    def broken(asked: Asked) -> Reply | None:
        place = "GET results" if asked.path.endswith("/results") else f"{asked.method} batch"
        return FAULTS[name](asked.body) if place == where else None

    with LocalProvider(good_analyst, polls=0) as local:
        async with claude_at(local.url, kept) as claude:
            submitted = await submit_batch(claude, REQUESTS)
            assert isinstance(submitted, Submitted)
            local.on_the_way = broken
            failed = await collect_batch(claude, submitted.batch_id or "", REQUESTS)
            assert kept.calls == []
            local.on_the_way = lambda _: None
            collected = await collect_batch(claude, submitted.batch_id or "", REQUESTS)
    assert isinstance(failed, Failed)
    assert failed.status == ("no_answer" if name == "drops" else "not_a_message")
    assert isinstance(collected, Collected)
    assert all(isinstance(item, Answered) for item in (collected.results or {}).values())


async def test_a_batch_that_nobody_knows_is_told():
    with LocalProvider(good_analyst) as local:
        async with claude_at(local.url) as claude:
            failed = await collect_batch(claude, "msgbatch/../../x", REQUESTS)
    assert isinstance(failed, Failed)
    assert failed.status == "not_found"
    assert local.asked[0].path == "/v1/messages/batches/msgbatch%2F..%2F..%2Fx"


async def test_the_results_are_fetched_from_the_configured_host():
    """The answer's own `results_url` could send the key elsewhere."""
    with (
        LocalProvider(good_analyst) as elsewhere,
        LocalProvider(good_analyst, polls=0, results_at=elsewhere.url) as local,
    ):
        async with claude_at(local.url) as claude:
            submitted = await submit_batch(claude, REQUESTS)
            assert isinstance(submitted, Submitted)
            collected = await collect_batch(claude, submitted.batch_id or "", REQUESTS)
    assert isinstance(collected, Collected)
    assert collected.results is not None
    assert elsewhere.asked == []


async def test_a_text_with_every_line_break_of_unicode_stays_one_result():
    said = "a\u2028b\u2029c\x85d\x0b"
    note = {"fault": "policy", "category": "other", "root_cause": said, "turn": 0, "quote": said}
    text = json.dumps({"optimal": False, "notes": [note | {"prompt_section": None}]}, ensure_ascii=False)
    with LocalProvider(lambda body: local_replies.message(body, text), polls=0) as local:
        async with claude_at(local.url) as claude:
            submitted = await submit_batch(claude, REQUESTS)
            assert isinstance(submitted, Submitted)
            collected = await collect_batch(claude, submitted.batch_id or "", REQUESTS)
    assert isinstance(collected, Collected)
    (first, *_) = (collected.results or {}).values()
    assert isinstance(first, Answered)
    assert first.answer.notes[0].quote == said
