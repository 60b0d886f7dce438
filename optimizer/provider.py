"""The one question that stages ask of a model, whoever answers it."""

from dataclasses import dataclass
from typing import Protocol

from optimizer.answers import Answer
from optimizer.failures import FAILURES, FailureKind, FailureStatus
from optimizer.ledger import LlmCall
from optimizer.requests import LlmRequest


@dataclass(frozen=True, slots=True)
class Answered[A: Answer]:
    """The answer, of the right shape and not yet believed, and the call that it was read from."""

    answer: A
    call: LlmCall


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer. `call` is None when nothing was sent; `retry_after_s` is what the API asked for."""

    status: FailureStatus
    detail: str
    call: LlmCall | None = None
    retry_after_s: float | None = None

    @property
    def kind(self) -> FailureKind:
        """What that means for the purse and the run."""
        return FAILURES[self.status]


class Provider(Protocol):
    """Asks a model once; what was answered before is not paid again. Never raises for what a model does."""

    async def ask[A: Answer](self, request: LlmRequest[A], /) -> Answered[A] | Failed:
        """The answer to `request`, from the ledger or from the model."""
        ...
