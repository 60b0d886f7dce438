"""One attempt over the SDK, and retries that are bounded in number and in time.

The SDK's own retries are off: it obeys a `retry-after` of an hour, sends a request again after a timeout (which
may be billed twice: no idempotency key is sent), and retries a reached spend limit. Bodies are taken raw: the
SDK's parsing gives a `str` for a proxy's page and loses the usage of an answer that it cannot read.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import anthropic
import httpx2
import msgspec

from domain.fields import Record
from optimizer.failures import FAILURES, FailureStatus, failure_of
from optimizer.ledger import CallStatus
from optimizer.reading import cut

FIRST_WAIT_S = 0.5
LONGEST_BACKOFF_S = 8.0
MAX_ERROR_BODY = 10_000

type Send = Callable[[], Awaitable[httpx2.Response]]


class Attempt(Record, frozen=True, kw_only=True):
    """What came back: `received` is any 2xx with its body, everything else a failure."""

    status: CallStatus
    body: str = ""
    detail: str = ""
    http_status: int | None = None
    request_id: str | None = None
    retry_after_s: float | None = None
    is_final: bool = False  # the server said that sending again is pointless
    number: int = 1


class Patience(Record, frozen=True, kw_only=True):
    """How long to wait for an answer, and for a service that does not serve now."""

    timeout_s: float
    max_retries: int
    max_wait_s: float
    rng: random.Random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


async def send_until_served(send: Send, patience: Patience) -> Attempt:
    """Send, and send again what was certainly not served, until it is or patience ends."""
    number = 1
    while True:
        attempt = msgspec.structs.replace(await send_once(send, timeout_s=patience.timeout_s), number=number)
        wait_s = _wait_before_next(attempt, patience)
        if wait_s is None:
            return attempt
        await patience.sleep(wait_s)
        number += 1


def _wait_before_next(attempt: Attempt, patience: Patience) -> float | None:
    if attempt.status == "received" or not FAILURES[attempt.status].retried or attempt.is_final:
        return None
    backoff_s = min(FIRST_WAIT_S * 2 ** (attempt.number - 1), LONGEST_BACKOFF_S)
    wait_s = attempt.retry_after_s or backoff_s * patience.rng.uniform(0.75, 1.0)
    # Told to wait an hour, it is better to end the run than to wait 30 s and be told again.
    is_over = attempt.number > patience.max_retries or wait_s > patience.max_wait_s
    return None if is_over else wait_s


async def send_once(send: Send, *, timeout_s: float) -> Attempt:
    """One attempt; the deadline is for the whole answer, the SDK's own is for each read."""
    try:
        async with asyncio.timeout(timeout_s):
            response = await send()
            return Attempt(
                status="received",
                body=response.text.replace("\x00", "\ufffd"),  # no text column takes NUL
                http_status=response.status_code,
                request_id=response.headers.get("request-id"),
            )
    except anthropic.APIStatusError as error:
        return _refused(error)
    except anthropic.APIConnectionError as error:
        return Attempt(status=_connection_failure(error), detail=cut(_cause(error)))
    except TimeoutError:
        return Attempt(status="no_answer", detail=f"no whole answer within {timeout_s:g} s")


def _refused(error: anthropic.APIStatusError) -> Attempt:
    headers = error.response.headers
    return Attempt(
        status=failure_of(error.status_code, code=error.error_code),
        body=error.response.text.replace("\x00", "\ufffd")[:MAX_ERROR_BODY],
        detail=cut(f"{error.status_code} {error.error_code or error.type or ''} {error.api_message or ''}"),
        http_status=error.status_code,
        request_id=error.request_id,
        retry_after_s=_seconds(headers.get("retry-after")),
        is_final=headers.get("x-should-retry") == "false",
    )


def _connection_failure(error: anthropic.APIConnectionError) -> FailureStatus:
    # Only without a connection is it certain that nothing was read, let alone billed.
    is_unsent = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    return "unreachable" if is_unsent else "no_answer"


def _cause(error: anthropic.APIConnectionError) -> str:
    cause = error.__cause__
    return f"{type(cause).__name__}: {cause}" if cause else str(error)


def _seconds(header: str | None) -> float | None:
    try:
        seconds = float(header or "")
    except ValueError:
        return None  # a date: then our own backoff decides
    return seconds if seconds > 0 else None
