"""Asking Claude, over the real SDK and a real socket, and every way in which no answer comes."""

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
import pytest

from domain.optimizer_settings import OptimizerSettings
from optimizer import local_replies
from optimizer.budget import Account, Budget
from optimizer.claude import open_claude
from optimizer.failures import FAILURES, FailureStatus
from optimizer.ledger import LlmCall, Tokens
from optimizer.local_provider import LocalProvider
from optimizer.local_replies import FAULTS, Behaviour, Reply, as_json, error, in_turn, message, redirects
from optimizer.provider import Answered, Failed
from tests.optimizer.asking import KEY, Kept, Slept, an_answer, claude_at, request

NOBODY_LISTENS = "http://127.0.0.1:1"  # a reserved port: every connection is refused


def answering(body: Mapping[str, Any]) -> Reply:
    return message(body, msgspec.json.encode(an_answer()).decode())


async def outcome_of(
    behaviour: Behaviour, *, kept: Kept | None = None, slept: Slept | None = None
) -> tuple[Answered[Any] | Failed, LocalProvider]:
    with LocalProvider(behaviour) as local:
        async with claude_at(local.url, kept, slept=slept) as claude:
            return await claude.ask(request()), local


async def test_an_answer_is_the_record_that_was_asked_for():
    answered, local = await outcome_of(answering)
    assert isinstance(answered, Answered)
    assert answered.answer == an_answer()
    assert len(local.asked) == 1


async def test_the_sdk_sends_what_the_request_says_and_nothing_more():
    _, local = await outcome_of(answering)
    (asked,) = local.asked
    assert asked.body == request().body
    assert asked.path == "/v1/messages"
    assert asked.has_key
    assert set(asked.body) == {"model", "max_tokens", "system", "messages", "output_config"}


async def test_a_call_is_stored_with_its_tokens_and_its_cost():
    """Haiku 5.5: 0.10 USD per million tokens in and 0.50 out, cache read 10 %, cache write 125 %."""
    usage = {
        "input_tokens": 1_000,
        "output_tokens": 200,
        "cache_read_input_tokens": 4_000,
        "cache_creation_input_tokens": 800,
    }
    kept = Kept()
    text = msgspec.json.encode(an_answer()).decode()
    await outcome_of(lambda body: message(body, text, usage=usage), kept=kept)
    (stored,) = kept.calls
    assert stored.tokens == Tokens(input=1_000, output=200, read=4_000, written=800)
    assert stored.cost_usd == pytest.approx((1_000 * 0.1 + 4_000 * 0.01 + 800 * 0.125 + 200 * 0.5) / 1e6)
    assert (stored.stage, stored.model, stored.status) == ("map", "claude-haiku-5-5", "received")
    assert (stored.http_status, stored.request_id, stored.stop_reason) == (200, "req_local", "end_turn")
    assert stored.request_hash == request().hash
    assert text in msgspec.json.decode(stored.response)["content"][0]["text"]


# What each fault ends as, and how often it was sent: 1 + 3 retries where that costs nothing.
ENDS: dict[str, tuple[FailureStatus, int]] = {
    "refused": ("refused", 1),
    "truncated": ("truncated", 1),
    "context_exceeded": ("context_exceeded", 1),
    "malformed": ("malformed", 1),
    "html": ("not_a_message", 1),
    "wrong_shape": ("not_a_message", 1),
    "garbled": ("no_answer", 1),
    "bad_gateway": ("no_answer", 1),
    "drops": ("no_answer", 1),
    "rate_limited": ("rate_limited", 4),
    "rate_limited_for_an_hour": ("rate_limited", 1),
    "spend_limit": ("spend_limit", 1),
    "overloaded": ("overloaded", 4),
    "server_error": ("server_error", 4),
    "gateway_timeout": ("no_answer", 1),
    "bad_request": ("bad_request", 1),
    "on_hold": ("forbidden", 1),
    "too_large": ("too_large", 1),
    "not_found": ("not_found", 1),
    "unauthenticated": ("unauthenticated", 1),
    "payment_required": ("payment_required", 1),
    "forbidden": ("forbidden", 1),
}
UNREAD = {"not_a_message", "no_answer"}  # nobody knows whether they are billed


@pytest.mark.parametrize("name", ENDS)
async def test_a_failure_ends_in_its_status(name: str):
    kept = Kept()
    failed, local = await outcome_of(FAULTS[name], kept=kept)
    status, attempts = ENDS[name]
    assert isinstance(failed, Failed)
    assert (failed.status, len(local.asked)) == (status, attempts)
    assert failed.detail
    (stored,) = kept.calls
    assert failed.call is not None
    assert stored.attempts == attempts
    paid = FAILURES[status].paid
    assert (stored.status == "received") == (paid == "yes")
    assert (stored.cost_usd is None) == (paid == "maybe")
    assert (stored.cost_usd or 0) > 0 or paid != "yes"


def test_every_fault_of_the_local_provider_is_tried():
    assert set(ENDS) | {"hangs", "drips"} == set(FAULTS)


def test_every_status_is_reached_by_a_test():
    elsewhere = {"unreachable", "over_budget", "unexpected_stop", "canceled", "expired"}
    assert {status for status, _ in ENDS.values()} | elsewhere == set(get_args(FailureStatus))


@pytest.mark.parametrize("name", ["hangs", "drips"])
async def test_a_timeout_is_not_sent_again_because_it_may_be_billed(name: str):
    """Dripping, too: the deadline is for the whole answer."""
    kept = Kept()
    with LocalProvider(FAULTS[name]) as local:
        async with claude_at(local.url, kept, timeout_s=1.0) as claude:
            failed = await claude.ask(request())
            assert claude.account.committed.usd > 0  # set aside until the run ends
            assert claude.account.spent.usd == 0
    assert isinstance(failed, Failed)
    assert failed.status == "no_answer"
    assert len(local.asked) <= 1  # a loaded machine may give up before the request is there
    assert [item.cost_usd for item in kept.calls] == [None]


async def test_a_later_run_may_ask_again_after_a_timeout():
    kept = Kept()
    with LocalProvider(local_replies.drops) as local:
        async with claude_at(local.url, kept) as claude:
            assert isinstance(await claude.ask(request()), Failed)
            local.behaviour = answering
            assert isinstance(await claude.ask(request()), Answered)
    assert [item.status for item in kept.calls] == ["no_answer", "received"]


async def test_nobody_listening_is_tried_again_and_costs_nothing():
    kept, slept = Kept(), Slept()
    async with claude_at(NOBODY_LISTENS, kept, slept=slept) as claude:
        failed = await claude.ask(request())
        assert claude.account.committed.usd == 0
    assert isinstance(failed, Failed)
    assert failed.status == "unreachable"
    assert len(slept.seconds) == 3


async def test_waits_double_and_stay_below_their_bound():
    slept = Slept()
    await outcome_of(FAULTS["overloaded"], slept=slept)
    assert [
        0.75 * base <= wait <= base for base, wait in zip((0.5, 1.0, 2.0), slept.seconds, strict=True)
    ] == [
        True,
        True,
        True,
    ]


async def test_a_short_retry_after_is_obeyed():
    slept = Slept()
    answered, local = await outcome_of(in_turn(local_replies.rate_limited("7"), answering), slept=slept)
    assert isinstance(answered, Answered)
    assert slept.seconds == [7.0]
    assert len(local.asked) == 2
    assert answered.call.attempts == 2


async def test_a_retry_after_of_an_hour_ends_at_once_and_is_told():
    slept = Slept()
    failed, _ = await outcome_of(FAULTS["rate_limited_for_an_hour"], slept=slept)
    assert isinstance(failed, Failed)
    assert slept.seconds == []
    assert failed.retry_after_s == 3_600
    assert failed.kind.ends_run


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2026 07:28:00 GMT", "-5", "soon", "nan"])
async def test_a_retry_after_that_is_no_number_is_replaced_by_our_own_wait(header: str):
    slept = Slept()
    answered, _ = await outcome_of(in_turn(local_replies.rate_limited(header), answering), slept=slept)
    assert isinstance(answered, Answered)
    assert len(slept.seconds) == 1
    assert 0.375 <= slept.seconds[0] <= 0.5


async def test_the_server_can_forbid_a_retry():
    failed, local = await outcome_of(error(529, "overloaded_error", x_should_retry="false"))
    assert isinstance(failed, Failed)
    assert len(local.asked) == 1


async def test_a_refusal_says_its_category():
    failed, _ = await outcome_of(FAULTS["refused"])
    assert isinstance(failed, Failed)
    assert "reasoning_extraction" in failed.detail


async def test_a_malformed_answer_keeps_its_text_and_its_cost():
    kept = Kept()
    await outcome_of(FAULTS["malformed"], kept=kept)
    assert "I would rather write prose" in kept.calls[0].response
    assert kept.calls[0].tokens.output > 0


@pytest.mark.parametrize("reason", ["tool_use", "pause_turn", "stop_sequence", "something_new"])
async def test_a_stop_that_nobody_asked_for_is_no_answer(reason: str):
    text = msgspec.json.encode(an_answer()).decode()
    failed, _ = await outcome_of(lambda body: message(body, text, stop_reason=reason))
    assert isinstance(failed, Failed)
    assert failed.status == "unexpected_stop"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '{"optimal": true}',
        '{"optimal": "yes", "notes": []}',
        '{"optimal": true, "notes": [], "thoughts": "because"}',
        '{"optimal": true, "notes": []} and more',
        '{"optimal": true, "notes": ' + "[" * 100_000,
        an_answer_with := msgspec.json.encode(an_answer()).decode().replace("takes nothing", "\\u0000"),
        an_answer_with.replace("\\u0000", "\\ud800"),
        an_answer_with.replace("policy", "the moon"),
        an_answer_with.replace("\\u0000", "x" * 5_000),
    ],
)
async def test_what_is_not_the_record_is_malformed_and_paid(text: str):
    kept = Kept()
    failed, _ = await outcome_of(lambda body: message(body, text), kept=kept)
    assert isinstance(failed, Failed)
    assert failed.status == "malformed"
    assert (kept.calls[0].cost_usd or 0) > 0


async def test_thinking_is_no_part_of_the_answer():
    text = msgspec.json.encode(an_answer()).decode()
    content = [
        {"type": "thinking", "thinking": "Hm.", "text": "Hm.", "signature": "s"},
        {"type": "text", "text": text},
    ]
    answered, _ = await outcome_of(lambda body: message(body, "", content=content))
    assert isinstance(answered, Answered)
    assert answered.answer == an_answer()


async def test_fields_that_the_api_may_gain_are_left_alone():
    text = msgspec.json.encode(an_answer()).decode()
    answered, _ = await outcome_of(lambda body: message(body, text, diagnostics={"new": 1}, future=[1]))
    assert isinstance(answered, Answered)


async def test_a_redirect_is_not_followed():
    """Transcripts go to the configured host alone."""
    with LocalProvider(answering) as elsewhere:
        failed, _ = await outcome_of(redirects(f"{elsewhere.url}/v1/messages"))
    assert isinstance(failed, Failed)
    assert failed.status == "not_a_message"
    assert elsewhere.asked == []


@pytest.mark.parametrize("status", [200, 401])
async def test_a_page_that_repeats_the_key_is_stored_without_it(status: int):
    kept = Kept()
    failed, _ = await outcome_of(
        lambda _: as_json(status, {"error": {"message": f"bad key {KEY}"}}), kept=kept
    )
    assert isinstance(failed, Failed)
    assert KEY not in failed.detail
    assert KEY.encode() not in msgspec.json.encode(kept.calls)
    assert "[key]" in kept.calls[0].response


async def test_a_body_with_nul_can_be_stored():
    """PostgreSQL takes no NUL in a text."""
    kept = Kept()
    await outcome_of(lambda _: Reply(body=b"\x00\xff<html>"), kept=kept)
    assert "\x00" not in kept.calls[0].response


async def test_the_key_is_in_no_repr():
    with LocalProvider(answering) as local:
        async with claude_at(local.url) as claude:
            assert KEY not in repr(claude)


async def test_without_a_key_nothing_starts(monkeypatch: pytest.MonkeyPatch):
    """The SDK would look for another key in the environment; ours is told or there is none."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "somebody-elses")
    account = Account(Budget(max_usd=1, max_tokens=1_000))
    with pytest.raises(ValueError, match="PROMPTBANDIT_ANTHROPIC_API_KEY is not set"):
        async with open_claude(OptimizerSettings(), ledger=Kept().ledger, account=account):
            pass


async def test_a_model_without_a_price_is_refused_before_anything_is_sent():
    settings = OptimizerSettings(anthropic_api_key=KEY, optimizer_critic_model="claude-next")
    account = Account(Budget(max_usd=1, max_tokens=1_000))
    with pytest.raises(ValueError, match=r"claude-next.*PROMPTBANDIT_OPTIMIZER_PRICES"):
        async with open_claude(settings, ledger=Kept().ledger, account=account):
            pass


async def test_what_was_answered_is_not_paid_again():
    """A restarted run asks the same question: the same hash, the same answer, nothing sent."""
    kept = Kept()
    with LocalProvider(answering) as local:
        for _ in range(3):
            async with claude_at(local.url, kept) as claude:
                answered = await claude.ask(request())
                assert isinstance(answered, Answered)
                assert answered.answer == an_answer()
    assert len(local.asked) == len(kept.calls) == 1


@pytest.mark.parametrize("name", ["refused", "truncated", "malformed"])
async def test_a_paid_failure_is_not_paid_again_either(name: str):
    kept = Kept()
    first, _ = await outcome_of(FAULTS[name], kept=kept)
    second, local = await outcome_of(answering, kept=kept)
    assert isinstance(first, Failed)
    assert isinstance(second, Failed)
    assert (second.status, second.detail) == (first.status, first.detail)
    assert local.asked == []


async def test_the_same_question_twice_at_once_is_paid_once():
    kept = Kept()
    with LocalProvider(answering) as local:
        async with claude_at(local.url, kept) as claude:
            answers = await asyncio.gather(*(claude.ask(request()) for _ in range(5)))
    assert all(isinstance(item, Answered) for item in answers)
    assert len(local.asked) == 1


async def test_a_call_is_stored_before_it_is_read():
    """When storing fails, the answer is not used: a run that acts on it could not be explained."""
    seen: list[LlmCall] = []

    async def store(call: LlmCall) -> None:
        seen.append(call)
        raise OSError("disk full")

    with LocalProvider(FAULTS["malformed"]) as local:
        async with claude_at(local.url) as claude:
            failing = dataclasses.replace(claude, ledger=dataclasses.replace(claude.ledger, store=store))
            with pytest.raises(OSError, match="disk full"):
                await failing.ask(request())
    assert [item.status for item in seen] == ["received"]


async def test_a_request_beyond_the_budget_is_not_sent():
    """The longest answer counts: 1 000 tokens at 0.50 USD a million are 0.0005 USD."""
    kept = Kept()
    with LocalProvider(answering) as local:
        async with claude_at(local.url, kept, max_usd=0.0005) as claude:
            failed = await claude.ask(request())
        async with claude_at(local.url, kept, max_tokens=1_000) as claude:
            also = await claude.ask(request())
    assert isinstance(failed, Failed)
    assert isinstance(also, Failed)
    assert failed.status == also.status == "over_budget"
    assert "PROMPTBANDIT_OPTIMIZER_MAX_COST_USD" in failed.detail
    assert "PROMPTBANDIT_OPTIMIZER_MAX_TOKENS" in also.detail
    assert local.asked == []
    assert kept.calls == []


async def test_many_questions_at_once_stay_within_the_budget():
    """What is under way counts as spent in full."""
    with LocalProvider(answering) as local:
        async with claude_at(local.url, max_usd=0.005) as claude:
            results = await asyncio.gather(*(claude.ask(request(f"c{n}")) for n in range(20)))
            assert claude.account.committed.usd <= 0.005
    answered = [item for item in results if isinstance(item, Answered)]
    assert 0 < len(answered) < 20
    assert len(local.asked) == len(answered)
