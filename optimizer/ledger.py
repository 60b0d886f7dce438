"""What was asked, answered and paid: the memory that keeps a restarted run from paying twice."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from domain.fields import Record
from optimizer.answers import Stage
from optimizer.failures import FailureStatus

CallStatus = Literal["received"] | FailureStatus


class Tokens(Record, frozen=True, kw_only=True):
    """What the API counted; `read` and `written` are the prompt cache's."""

    input: int = 0
    output: int = 0
    read: int = 0
    written: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.input + self.output + self.read + self.written


class LlmCall(Record, frozen=True, kw_only=True):
    """One request and what came back, recorded before anybody reads the answer.

    `received`: a message came, so it is paid; `response` is its body, from which the same result can be read
    any number of times. Any other status is a failure that gave no message. `cost_usd` is null where nobody
    knows whether it is billed; then `held_usd` and `held_tokens` are the most that it can be. `unit_id` is the
    call that was asked about, null where the question was about several.
    """

    stage: Stage
    request_hash: str
    model: str
    status: CallStatus
    http_status: int | None
    request_id: str | None
    stop_reason: str | None
    response: str
    detail: str
    tokens: Tokens
    cost_usd: float | None
    latency_ms: int
    attempts: int
    unit_id: str | None = None
    batch_id: str | None = None
    held_usd: float = 0.0
    held_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """Three functions of the run's storage, each a transaction of its own: none is held while a model thinks.

    `find` gives a `received` call of this request hash, else one that may be billed, or None. `store` keeps a
    call; of one hash there may be several failures (collecting a batch again tells them again), and one
    `received`. `store_batch` keeps a batch's id and its request hashes, before the first poll.
    """

    find: Callable[[str], Awaitable[LlmCall | None]]
    store: Callable[[LlmCall], Awaitable[None]]
    store_batch: Callable[[str, Sequence[str]], Awaitable[None]]
