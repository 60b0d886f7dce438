"""The thread that redacts: the server goes on meanwhile, and an outcome without a transcript never goes there."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from api.metrics import ServerMetrics
from api.problems import StorageAway
from api.redacting import MAX_WAITING, Redacting
from domain.outcomes import NewOutcome, Turn
from domain.redaction import RedactedTranscript, redact
from domain.redaction.known_values import KnownValues

PLENTY_S = 30.0


def told(text: str | None = None) -> NewOutcome:
    transcript = None if text is None else [Turn(role="user", content=text)]
    known = {"caller_name": "Anna"}
    return NewOutcome(
        prompt="support",
        unit_id="call-1",
        metrics={"resolved": True},
        transcript=transcript,
        known_values=known,
    )


class Held:
    """A redactor that waits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, turns: Sequence[Turn], known: KnownValues) -> RedactedTranscript:
        assert self.go.wait(PLENTY_S)
        return redact(turns, known)


@contextmanager
def held(*, within_s: float) -> Iterator[tuple[Redacting, Held]]:
    redactor = Held()
    redacting = Redacting(redactor, ServerMetrics(), within_s=within_s)
    try:
        yield redacting, redactor
    finally:
        redactor.go.set()
        redacting.close()


async def test_the_server_goes_on_while_a_transcript_is_redacted():
    with held(within_s=PLENTY_S) as (redacting, redactor):
        waiting = asyncio.create_task(redacting.clean([told("I am Anna")]))
        for _ in range(10):
            await asyncio.sleep(0)
            assert len(await redacting.clean([told()])) == 1  # who has no transcript does not queue
        assert not waiting.done()
        redactor.go.set()
        (done,) = await waiting
    assert done.outcome.transcript is None
    assert done.outcome.known_values is None
    assert done.transcript is not None
    assert done.transcript.turns[0].content == "I am <CALLER_NAME_1>"


async def test_who_waits_too_long_is_told_to_send_it_again():
    with held(within_s=0.01) as (redacting, _), pytest.raises(StorageAway, match="in time"):
        await redacting.clean([told("I am Anna")])


async def test_when_too_many_wait_one_more_is_told_at_once():
    with held(within_s=PLENTY_S) as (redacting, redactor):
        waiting = [asyncio.create_task(redacting.clean([told("hello")])) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(StorageAway, match="too many"):
            await redacting.clean([told("hello")])
        redactor.go.set()
        assert [len(item) for item in await asyncio.gather(*waiting)] == [1] * MAX_WAITING
        assert len(await redacting.clean([told("hello")])) == 1


def test_an_outcome_without_a_transcript_costs_nothing_more():
    """It waits for nothing, and the very objects that were read go on."""
    redacting = Redacting(redact, ServerMetrics(), within_s=PLENTY_S)
    outcomes = [NewOutcome(prompt="support", unit_id="call-1", metrics={"resolved": True})] * 3
    step = redacting.clean(outcomes)
    with pytest.raises(StopIteration) as done:
        step.send(None)
    assert all(item.outcome is outcome for item, outcome in zip(done.value.value, outcomes, strict=True))
    assert all(item.transcript is None for item in done.value.value)
