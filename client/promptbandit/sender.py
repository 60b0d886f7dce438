"""Deliver outcomes: one after the other in batches, until each is acknowledged or refused.

The server counts an outcome once however often it is told (it answers `unchanged`), so whatever is not
known to have arrived is sent again.
"""

import asyncio
import contextlib
import logging
import random

from promptbandit.answers import describe, read_json, read_problem
from promptbandit.backoff import delay_s, slow_delay_s
from promptbandit.outbox import Outbox, Waiting
from promptbandit.records import OutcomeResult, OutcomeResults
from promptbandit.transport import TRANSIENT, Answer, Transport, Unreachable
from promptbandit.warn import WarnOnce

BATCH = 100  # one transaction on the server
BATCH_BYTES = 500_000  # half of what a server takes by default
TIMEOUT_S = 5.0

_KEY_REFUSED = frozenset({401, 403})
_BECAUSE_OF_ONE_ITEM = frozenset({400, 413, 422})

log = logging.getLogger("promptbandit")


class Sender:
    """Empties an outbox into `POST /outcomes`, as one task on the loop that owns `transport`."""

    def __init__(self, outbox: Outbox, transport: Transport) -> None:
        self._outbox = outbox
        self._transport = transport
        self._rng = random.Random()  # made when the thread starts: processes forked earlier differ
        self._failures = 0
        self._warn = WarnOnce()
        self._news = asyncio.Event()
        self._news.set()  # a sender that starts anew finds what its predecessor left

    def wake(self) -> None:
        """Say that the outbox holds something; from the loop's own thread."""
        self._news.set()

    async def run(self) -> None:
        """Deliver whatever comes, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            while batch := self._outbox.take(BATCH, most_bytes=BATCH_BYTES):
                try:
                    await self._deliver(batch)
                except Exception:  # a defect, ours or of a log handler, must not end all delivering
                    with contextlib.suppress(Exception):
                        log.exception("delivering outcomes failed unexpectedly; it goes on")
                    self._failures += 1
                    await asyncio.sleep(delay_s(self._failures, self._rng))

    async def _deliver(self, batch: list[Waiting]) -> None:
        body = b"[" + b",".join(item.body for item in batch) + b"]"
        while True:
            self._outbox.count_attempt()
            try:
                answer = await self._transport.post("/outcomes", body, timeout_s=TIMEOUT_S)
            except Unreachable as error:
                await self._pause(str(error))
                continue
            results = _results(answer, len(batch))
            if results is not None:
                self._settle(batch, results)
                return
            if _is_final(answer.status):
                await self._give_up(batch, answer)
                return
            await self._pause(_reason(answer), answer)

    def _settle(self, batch: list[Waiting], results: list[OutcomeResult]) -> None:
        if self._failures:
            log.info("outcomes are delivered again after %d failed attempts", self._failures)
        self._failures = 0
        self._warn.forget_all()
        self._outbox.settle([result.status for result in results])
        for item, result in zip(batch, results, strict=True):
            if result.status == "rejected":
                why = describe(result.problem or {})
                log.warning("outcome of %s %r was rejected: %s", item.prompt, item.unit_id, why)

    async def _give_up(self, batch: list[Waiting], answer: Answer) -> None:
        if answer.status in _BECAUSE_OF_ONE_ITEM and len(batch) > 1:
            # One outcome that the server cannot read must not take 99 good ones with it.
            middle = len(batch) // 2
            await self._deliver(batch[:middle])
            await self._deliver(batch[middle:])
            return
        self._failures = 0
        self._outbox.drop(len(batch))
        first = batch[0]
        log.warning(
            "%d outcomes dropped, the first of %s %r: %s",
            len(batch),
            first.prompt,
            first.unit_id,
            _reason(answer),
        )

    async def _pause(self, why: str, answer: Answer | None = None) -> None:
        self._failures += 1
        slow = answer is not None and _needs_a_person(answer.status)
        waiting = self._outbox.stats.waiting
        message = "outcomes cannot be delivered now (%s); %d wait and are sent again"
        self._warn("refused" if slow else "away", message, why, waiting)
        if slow:
            await asyncio.sleep(slow_delay_s(self._rng))
            return
        asked_s = answer.retry_after_s if answer is not None else 0.0
        await asyncio.sleep(delay_s(self._failures, self._rng, retry_after_s=asked_s))


def _results(answer: Answer, number: int) -> list[OutcomeResult] | None:
    """The acknowledgement; None where the answer is none, for example a proxy's page with status 200."""
    if answer.status != 200:
        return None
    told = read_json(answer.body, OutcomeResults)
    return told.results if told is not None and len(told.results) == number else None


def _is_final(status: int) -> bool:
    return 400 <= status < 500 and status not in TRANSIENT and not _needs_a_person(status)


def _needs_a_person(status: int) -> bool:
    return status in _KEY_REFUSED or 300 <= status < 400  # 3xx: base_url has moved


def _reason(answer: Answer) -> str:
    return f"the server answered {answer.status}: {describe(read_problem(answer.body))}"
