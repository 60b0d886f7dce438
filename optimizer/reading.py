"""From a response's body to an answer or a typed failure. Pure: a stored body reads the same every time."""

from typing import Literal

import msgspec

from domain.errors import InvalidValue
from domain.json_rules import check_json_value
from optimizer.answers import Answer
from optimizer.failures import FailureStatus
from optimizer.ledger import LlmCall, Tokens
from optimizer.provider import Answered, Failed

MAX_DETAIL = 300
_STOPS: dict[str, FailureStatus] = {
    "refusal": "refused",
    "max_tokens": "truncated",
    "model_context_window_exceeded": "context_exceeded",
}


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Block(msgspec.Struct, frozen=True):
    type: str
    text: str | None = None


class _StopDetails(msgspec.Struct, frozen=True):
    category: str | None = None
    explanation: str | None = None


class Message(msgspec.Struct, frozen=True):
    """What we need of the API's message; it may gain fields, so unknown ones are left alone."""

    id: str
    type: Literal["message"]
    content: list[_Block]
    usage: _Usage
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None

    @property
    def tokens(self) -> Tokens:
        """What the API counted."""
        return Tokens(
            input=self.usage.input_tokens,
            output=self.usage.output_tokens,
            read=self.usage.cache_read_input_tokens or 0,
            written=self.usage.cache_creation_input_tokens or 0,
        )

    @property
    def text(self) -> str:
        """What the model wrote; its thinking is another kind of block."""
        return "".join(block.text or "" for block in self.content if block.type == "text")


def read_message(body: str) -> Message | None:
    """The message, or None for everything else: a proxy's page, another API's JSON."""
    try:
        return msgspec.json.decode(body, type=Message)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def read_answer[A: Answer](call: LlmCall, answer: type[A]) -> Answered[A] | Failed:
    """What a recorded call says; the reason why the model stopped is looked at before its text."""
    if call.status != "received":
        return Failed(status=call.status, detail=call.detail, call=call)
    message = read_message(call.response)
    if message is None:
        return Failed(status="not_a_message", detail=cut(call.response), call=call)
    if message.stop_reason != "end_turn":
        return _stopped(message, call)
    try:
        read = msgspec.json.decode(message.text, type=answer)
        check_json_value(msgspec.to_builtins(read))
    except (msgspec.DecodeError, InvalidValue, UnicodeEncodeError, RecursionError) as error:
        return Failed(status="malformed", detail=cut(str(error)), call=call)
    return Answered(answer=read, call=call)


def _stopped(message: Message, call: LlmCall) -> Failed:
    reason = str(message.stop_reason)
    details = message.stop_details or _StopDetails()
    said = ": ".join(part for part in (reason, details.category, details.explanation) if part)
    return Failed(status=_STOPS.get(reason, "unexpected_stop"), detail=cut(said), call=call)


def cut(text: str) -> str:
    """The beginning of a text, on one line, for a person to read."""
    return " ".join(text.split())[:MAX_DETAIL]
