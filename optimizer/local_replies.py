"""What the local provider can say: an answer, or one of the failures that the real API and the net between have."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from domain.fields import Record
from optimizer.prices import most_tokens

NOTHING: Mapping[str, str] = {}


class Reply(Record, frozen=True, kw_only=True):
    """An HTTP answer; or `hangs`, `drips` or `drops`, for a net that fails; or what becomes of a batch's request."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = NOTHING
    kind: Literal["answers", "hangs", "drips", "drops", "canceled", "expired"] = "answers"


type Behaviour = Callable[[Mapping[str, Any]], Reply]


def message(body: Mapping[str, Any], text: str, *, stop_reason: str = "end_turn", **more: Any) -> Reply:
    """A message of the Messages API with this text; tokens are counted as a quarter of the bytes."""
    content = [{"type": "text", "text": text}] if text else []
    return as_json(
        200,
        {
            "id": "msg_local",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": {
                "input_tokens": most_tokens(body).written,
                "output_tokens": len(text.encode()) // 4 + 1,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
            },
        }
        | more,
    )


def as_json(status: int, value: Any, **headers: str) -> Reply:
    """Any JSON."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    content = {"content-type": "application/json", "request-id": "req_local"}
    return Reply(status=status, body=json.dumps(value, ensure_ascii=False).encode(), headers=content | named)


def error(
    status: int, kind: str, said: str = "scripted", *, code: str | None = None, **headers: str
) -> Behaviour:
    """An error document of the API."""
    details = {"details": {"error_code": code}} if code else {}
    document = {
        "type": "error",
        "error": {"type": kind, "message": said} | details,
        "request_id": "req_local",
    }
    return lambda _: as_json(status, document, **headers)


def rate_limited(retry_after: str) -> Behaviour:
    """429 that asks for a wait, in seconds or as a date."""
    return error(429, "rate_limit_error", retry_after=retry_after)


def refused(body: Mapping[str, Any]) -> Reply:
    """The model refuses; there is no text."""
    details = {"type": "refusal", "category": "reasoning_extraction", "explanation": "It asks for reasoning."}
    return message(body, "", stop_reason="refusal", stop_details=details)


def truncated(body: Mapping[str, Any]) -> Reply:
    """The answer ends in the middle."""
    return message(body, '{"optimal": fal', stop_reason="max_tokens")


def context_exceeded(body: Mapping[str, Any]) -> Reply:
    """Request and answer are longer than the model's window."""
    return message(body, '{"opt', stop_reason="model_context_window_exceeded")


def malformed(body: Mapping[str, Any]) -> Reply:
    """The text is JSON of another shape."""
    return message(body, '{"note": "I would rather write prose."}')


def html(_: Mapping[str, Any]) -> Reply:
    """A proxy's page, with status 200."""
    page = b"<html><body>Please log in to the guest network</body></html>"
    return Reply(body=page, headers={"content-type": "text/html"})


def garbled(_: Mapping[str, Any]) -> Reply:
    """A body that is not compressed as its header says."""
    return Reply(body=b"plain", headers={"content-encoding": "gzip", "content-type": "application/json"})


def wrong_shape(_: Mapping[str, Any]) -> Reply:
    """JSON with status 200 that is no message."""
    return as_json(200, {"choices": [{"text": "Hello"}]})


def hangs(_: Mapping[str, Any]) -> Reply:
    """Nothing comes back until the caller leaves."""
    return Reply(kind="hangs")


def drips(_: Mapping[str, Any]) -> Reply:
    """A byte now and then, without end: no single read ever takes long."""
    return Reply(kind="drips")


def drops(_: Mapping[str, Any]) -> Reply:
    """The connection is closed without an answer."""
    return Reply(kind="drops")


def redirects(address: str) -> Behaviour:
    """A proxy that sends the caller elsewhere."""
    return lambda _: Reply(status=307, headers={"location": address})


def canceled(_: Mapping[str, Any]) -> Reply:
    """The batch was canceled before this request."""
    return Reply(kind="canceled")


def expired(_: Mapping[str, Any]) -> Reply:
    """The batch expired before this request."""
    return Reply(kind="expired")


FAULTS: dict[str, Behaviour] = {
    "refused": refused,
    "truncated": truncated,
    "context_exceeded": context_exceeded,
    "malformed": malformed,
    "html": html,
    "wrong_shape": wrong_shape,
    "garbled": garbled,
    "bad_gateway": lambda _: Reply(status=502, body=b"<html>Bad gateway</html>"),
    "hangs": hangs,
    "drips": drips,
    "drops": drops,
    "rate_limited": rate_limited("0.01"),
    "rate_limited_for_an_hour": rate_limited("3600"),
    "spend_limit": error(429, "rate_limit_error", code="enforced_spend_limit_reached", retry_after="0.01"),
    "overloaded": error(529, "overloaded_error"),
    "server_error": error(500, "api_error"),
    "gateway_timeout": error(504, "timeout_error"),
    "bad_request": error(400, "invalid_request_error"),
    "on_hold": error(400, "invalid_request_error", code="organization_on_hold"),
    "too_large": error(413, "request_too_large"),
    "not_found": error(404, "not_found_error"),
    "unauthenticated": error(401, "authentication_error"),
    "payment_required": error(402, "billing_error"),
    "forbidden": error(403, "permission_error"),
}


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One behaviour after the other; the last one stays."""
    left = list(behaviours)

    def behave(body: Mapping[str, Any]) -> Reply:
        return (left.pop(0) if len(left) > 1 else left[0])(body)

    return behave
