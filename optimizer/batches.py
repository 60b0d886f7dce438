"""The Batch API: submit now, collect at a later run. Half the price, up to 24 hours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec

from domain.fields import Record
from optimizer.answers import Answer
from optimizer.budget import Amount
from optimizer.claude import Claude, call_of, most_of, struck
from optimizer.failures import failure_of_type
from optimizer.prices import price_of
from optimizer.provider import Answered, Failed
from optimizer.reading import cut, read_answer
from optimizer.requests import LlmRequest
from optimizer.sending import Attempt, send_until_served


class Submitted(Record, frozen=True, kw_only=True):
    """A batch that was taken; no id when the ledger knew every answer already."""

    batch_id: str | None
    request_hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Collected[A: Answer]:
    """The results by request hash; None while the batch is being worked on."""

    results: dict[str, Answered[A] | Failed] | None


class _Batch(msgspec.Struct, frozen=True):
    id: str
    processing_status: str


class _Error(msgspec.Struct, frozen=True):
    type: str
    message: str = ""
    details: dict[str, Any] | None = None


class _ErrorResponse(msgspec.Struct, frozen=True):
    error: _Error


class _Result(msgspec.Struct, frozen=True):
    type: str
    message: msgspec.Raw = msgspec.Raw(b"")
    error: _ErrorResponse | None = None


class _Line(msgspec.Struct, frozen=True):
    custom_id: str
    result: _Result


async def submit_batch[A: Answer](claude: Claude, requests: Sequence[LlmRequest[A]]) -> Submitted | Failed:
    """Send what the ledger does not know as one batch; its id is stored before this returns.

    After `no_answer` the batch may exist all the same: it is not sent again in this run.
    """
    new = {item.hash: item for item in requests if await claude.ledger.find(item.hash) is None}
    unknown = list(new.values())
    if not unknown:
        return Submitted(batch_id=None, request_hashes=())
    refusal = _set_aside(claude, unknown)
    if refusal is not None:
        return refusal
    attempt = struck(await send_until_served(lambda: _create(claude, unknown), claude.patience), claude.key)
    batch = _read_batch(attempt) if attempt.status == "received" else _failed(attempt)
    if isinstance(batch, Failed):
        if batch.kind.paid == "no":
            _give_back(claude, unknown)
        return batch
    await claude.ledger.store_batch(batch.id, list(new))
    return Submitted(batch_id=batch.id, request_hashes=tuple(new))


async def collect_batch[A: Answer](
    claude: Claude, batch_id: str, requests: Sequence[LlmRequest[A]]
) -> Collected[A] | Failed:
    """The answers of a batch, each stored before it is read; collecting again pays nothing."""
    path = f"/v1/messages/batches/{quote(batch_id, safe='')}"
    attempt = await _get(claude, path)
    batch = _read_batch(attempt) if attempt.status == "received" else _failed(attempt)
    if isinstance(batch, Failed):
        return batch
    if batch.processing_status != "ended":
        return Collected(results=None)
    # Not the address that the answer names: the key goes to the configured host alone.
    attempt = await _get(claude, f"{path}/results")
    if attempt.status != "received":
        return _failed(attempt)
    try:
        lines = {line.custom_id: line.result for line in _read_lines(attempt.body)}
    except msgspec.DecodeError as error:
        return Failed(status="not_a_message", detail=cut(str(error)))
    return Collected(
        results={
            item.hash: await _collected(claude, item, lines.get(item.hash), batch_id) for item in requests
        }
    )


async def _collected[A: Answer](
    claude: Claude, request: LlmRequest[A], result: _Result | None, batch_id: str
) -> Answered[A] | Failed:
    known = await claude.ledger.find(request.hash)
    if known is not None:
        return read_answer(known, request.answer)
    price = price_of(request.model, claude.prices)
    attempt = struck(_attempt_of(result), claude.key)
    call = call_of(request, attempt, price, latency_ms=0, batch_id=batch_id)
    await claude.keep(call)
    return read_answer(call, request.answer)


def _attempt_of(result: _Result | None) -> Attempt:
    if result is None:
        return Attempt(status="no_answer", detail="the batch's results have no line for this request")
    if result.type == "succeeded":
        return Attempt(status="received", body=bytes(result.message).decode(), http_status=200)
    if result.type == "canceled":
        return Attempt(status="canceled", detail="canceled")
    if result.type == "expired":
        return Attempt(status="expired", detail="expired after 24 hours")
    error = result.error.error if result.error else _Error(type=result.type)
    code = (error.details or {}).get("error_code")
    return Attempt(
        status=failure_of_type(error.type, code=code if isinstance(code, str) else None),
        detail=cut(f"{error.type} {error.message}"),
    )


def _read_lines(text: str) -> list[_Line]:
    # Line breaks inside the JSON are escapes, and only "\n" ends a line: splitlines() would also break at U+2028.
    return [msgspec.json.decode(line, type=_Line) for line in text.split("\n") if line.strip()]


def _read_batch(attempt: Attempt) -> _Batch | Failed:
    try:
        return msgspec.json.decode(attempt.body, type=_Batch)
    except msgspec.DecodeError:
        return Failed(status="not_a_message", detail=cut(f"{attempt.http_status} {attempt.body}"))


def _failed(attempt: Attempt) -> Failed:
    assert attempt.status != "received"
    return Failed(attempt.status, attempt.detail, None, attempt.retry_after_s)


def _set_aside(claude: Claude, requests: Sequence[LlmRequest[Any]]) -> Failed | None:
    """All of them, or none and the reason."""
    for number, request in enumerate(requests):
        most = most_of(request, price_of(request.model, claude.prices), batch=True)
        refusal = claude.account.set_aside(request.hash, most)
        if refusal is not None:
            _give_back(claude, requests[:number])
            return Failed(status="over_budget", detail=refusal)
    return None


def _give_back(claude: Claude, requests: Sequence[LlmRequest[Any]]) -> None:
    for request in requests:
        claude.account.settle(request.hash, Amount())


async def _create(claude: Claude, requests: Sequence[LlmRequest[Any]]) -> httpx2.Response:
    items: list[Any] = [{"custom_id": item.hash, "params": dict(item.body)} for item in requests]
    response = await claude.client.messages.batches.with_raw_response.create(requests=items)
    await response.read()
    return response.http_response


async def _get(claude: Claude, path: str) -> Attempt:
    async def send() -> httpx2.Response:
        return await claude.client.get(path, cast_to=httpx2.Response)

    return struck(await send_until_served(send, claude.patience), claude.key)
