"""Claude over the Messages API: the ledger first, then the budget, then the request, then the ledger again."""

import random
import time
from asyncio import Lock
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx2
from msgspec.structs import replace

from domain.optimizer_settings import OptimizerSettings
from optimizer.answers import STAGES, Answer
from optimizer.budget import Account, Amount
from optimizer.failures import FAILURES
from optimizer.ledger import CallStatus, Ledger, LlmCall, Tokens
from optimizer.prices import Price, cost_usd, most_tokens, price_of, prices_from
from optimizer.provider import Answered, Failed
from optimizer.reading import read_answer, read_message
from optimizer.requests import LlmRequest
from optimizer.sending import Attempt, Patience, send_until_served


@dataclass(frozen=True, slots=True)
class Claude:
    """A `Provider`. `key` is held to be struck out of whatever is stored, should an answer repeat it."""

    client: anthropic.AsyncAnthropic
    key: str = field(repr=False)
    ledger: Ledger
    account: Account
    prices: Mapping[str, Price]
    patience: Patience
    _locks: defaultdict[str, Lock] = field(default_factory=lambda: defaultdict(Lock), repr=False)

    async def ask[A: Answer](self, request: LlmRequest[A], /) -> Answered[A] | Failed:
        """The answer to `request`: from the ledger, or paid and stored before it is read."""
        async with self._locks[request.hash]:  # the same question twice at once is paid once
            known = await self.ledger.find(request.hash)
            if known is not None:
                return read_answer(known, request.answer)
            price = price_of(request.model, self.prices)
            refusal = self.account.set_aside(request.hash, most_of(request, price))
            if refusal is not None:
                return Failed(status="over_budget", detail=refusal)
            return await self._send(request, price)

    async def _send[A: Answer](self, request: LlmRequest[A], price: Price) -> Answered[A] | Failed:
        started = time.monotonic()
        attempt = await send_until_served(lambda: self._post(request.body), self.patience)
        latency_ms = round((time.monotonic() - started) * 1000)
        call = call_of(request, struck(attempt, self.key), price, latency_ms=latency_ms)
        await self.keep(call)
        answered = read_answer(call, request.answer)
        if isinstance(answered, Answered):
            return answered
        return Failed(answered.status, answered.detail, call, attempt.retry_after_s)

    async def keep(self, call: LlmCall) -> None:
        """Store a call and settle its bill; an unknown bill stays set aside."""
        await self.ledger.store(call)
        if call.cost_usd is not None:
            self.account.settle(call.request_hash, Amount(usd=call.cost_usd, tokens=call.tokens.total))

    async def _post(self, body: Mapping[str, Any]) -> httpx2.Response:
        # An explicit timeout: without one the SDK refuses a large max_tokens before sending.
        response = await self.client.messages.with_raw_response.create(
            **body, timeout=self.patience.timeout_s
        )
        await response.read()
        raw: httpx2.Response = response.http_response
        return raw


def most_of(request: LlmRequest[Any], price: Price, *, batch: bool = False) -> Amount:
    """The most that a request may cost."""
    tokens = most_tokens(request.body)
    return Amount(usd=cost_usd(tokens, price, batch=batch), tokens=tokens.total)


def call_of(
    request: LlmRequest[Any],
    attempt: Attempt,
    price: Price,
    *,
    latency_ms: int,
    batch_id: str | None = None,
) -> LlmCall:
    """The record of a request and what came back, with its cost, before the answer is read."""
    message = read_message(attempt.body) if attempt.status == "received" else None
    tokens = message.tokens if message else Tokens()
    status: CallStatus = attempt.status
    detail = attempt.detail
    if status == "received" and message is None:
        status, detail = "not_a_message", f"{attempt.http_status} {attempt.body[:200]}"
    is_free = status != "received" and FAILURES[status].paid == "no"
    in_batch = batch_id is not None
    cost = cost_usd(tokens, price, batch=in_batch) if message or is_free else None
    held = most_of(request, price, batch=in_batch) if cost is None else Amount()
    return LlmCall(
        stage=request.stage,
        request_hash=request.hash,
        model=request.model,
        status=status,
        http_status=attempt.http_status,
        request_id=attempt.request_id,
        stop_reason=message.stop_reason if message else None,
        response=attempt.body,
        detail=detail,
        tokens=tokens,
        cost_usd=cost,
        latency_ms=latency_ms,
        attempts=attempt.number,
        unit_id=request.unit_id,
        batch_id=batch_id,
        held_usd=held.usd,
        held_tokens=held.tokens,
    )


def struck(attempt: Attempt, key: str) -> Attempt:
    """The attempt without the key, should a proxy's error page repeat it."""
    if not key or key not in attempt.body + attempt.detail:
        return attempt
    return replace(
        attempt, body=attempt.body.replace(key, "[key]"), detail=attempt.detail.replace(key, "[key]")
    )


@asynccontextmanager
async def open_claude(
    settings: OptimizerSettings, *, ledger: Ledger, account: Account, patience: Patience | None = None
) -> AsyncIterator[Claude]:
    """Claude with the optimizer's own key; closed at the end.

    Key and address are passed on explicitly, so the SDK looks for neither in the environment or on disk.
    Redirects are not followed: transcripts go to the configured host alone.
    """
    if not settings.anthropic_api_key:
        raise ValueError("PROMPTBANDIT_ANTHROPIC_API_KEY is not set; the optimizer needs a key of its own")
    prices = prices_from(settings.optimizer_prices)
    for stage in STAGES:
        price_of(settings.model_of(stage), prices)
    async with anthropic.AsyncAnthropic(
        api_key=settings.anthropic_api_key,
        base_url=settings.anthropic_base_url,
        max_retries=0,
        timeout=settings.optimizer_timeout_s,
        open_telemetry=False,
        http_client=anthropic.DefaultAsyncHttpxClient(
            follow_redirects=False,
            # A house's proxy is used, but it cannot lead to this machine.
            trust_env=settings.anthropic_base_url.startswith("https://"),
        ),
    ) as client:
        yield Claude(
            client=client,
            key=settings.anthropic_api_key,
            ledger=ledger,
            account=account,
            prices=prices,
            patience=patience or patience_of(settings),
        )


def patience_of(settings: OptimizerSettings) -> Patience:
    """What the settings say about waiting."""
    return Patience(
        timeout_s=settings.optimizer_timeout_s,
        max_retries=settings.optimizer_max_retries,
        max_wait_s=settings.optimizer_max_retry_wait_s,
        rng=random.Random(),
    )
