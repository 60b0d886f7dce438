"""Every way a request can end without an answer, and what that means; `docs/optimizer-requests.md` lists them."""

from typing import Literal, get_args

from domain.fields import Record

FailureStatus = Literal[
    "refused",
    "truncated",
    "context_exceeded",
    "unexpected_stop",
    "malformed",
    "not_a_message",
    "no_answer",
    "unreachable",
    "rate_limited",
    "overloaded",
    "server_error",
    "bad_request",
    "too_large",
    "not_found",
    "unauthenticated",
    "forbidden",
    "payment_required",
    "spend_limit",
    "over_budget",
    "canceled",
    "expired",
]
Paid = Literal["yes", "no", "maybe"]


class FailureKind(Record, frozen=True, kw_only=True):
    """What a status means for the purse, for this request, and for the rest of the run."""

    paid: Paid
    retried: bool
    ends_run: bool
    meaning: str


def _kind(paid: Paid, meaning: str, *, retried: bool = False, ends_run: bool = False) -> FailureKind:
    return FailureKind(paid=paid, retried=retried, ends_run=ends_run, meaning=meaning)


FAILURES: dict[FailureStatus, FailureKind] = {
    "refused": _kind("yes", "the model refused; `detail` has the category"),
    "truncated": _kind("yes", "the answer needed more than `max_tokens`; ask with more, or about fewer calls"),
    "context_exceeded": _kind("yes", "request and answer exceed the model's window; ask about fewer calls"),
    "unexpected_stop": _kind("yes", "the answer ended for a reason that we did not ask for"),
    "malformed": _kind("yes", "the text is no JSON of the schema; it is kept with its cost"),
    "not_a_message": _kind("maybe", "status 200 and no message: a proxy's page, or another API", ends_run=True),
    "no_answer": _kind("maybe", "sent, and no answer came (timeout, dropped, 408, or a gateway's 502, 504, 520, 524)"),
    "unreachable": _kind("no", "no connection was made", retried=True, ends_run=True),
    "rate_limited": _kind(
        "no", "429, also after the retries, or with too long a wait", retried=True, ends_run=True
    ),
    "overloaded": _kind("no", "529 or 503, also after the retries", retried=True, ends_run=True),
    "server_error": _kind("no", "another 5xx or 409, also after the retries", retried=True),
    "bad_request": _kind("no", "400 or another 4xx: the API does not take the request"),
    "too_large": _kind("no", "413: ask about fewer calls"),
    "not_found": _kind("no", "404: no such model or batch for this key, or a wrong base URL", ends_run=True),
    "unauthenticated": _kind("no", "401: the key is wrong or revoked", ends_run=True),
    "forbidden": _kind("no", "403 or an organization on hold", ends_run=True),
    "payment_required": _kind("no", "402: billing", ends_run=True),
    "spend_limit": _kind("no", "the account's spend limit is reached; waiting does not help", ends_run=True),
    "over_budget": _kind("no", "could exceed the run's budget, so it was not sent", ends_run=True),
    "canceled": _kind("no", "the batch was canceled before this request"),
    "expired": _kind("no", "the batch expired before this request"),
}  # fmt: skip
assert set(FAILURES) == set(get_args(FailureStatus))

_BY_STATUS: dict[int, FailureStatus] = {
    401: "unauthenticated",
    402: "payment_required",
    403: "forbidden",
    404: "not_found",
    408: "no_answer",
    409: "server_error",
    413: "too_large",
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
    # A gateway that lost or gave up on what it had passed on, which may be billed.
    502: "no_answer",
    504: "no_answer",
    520: "no_answer",
    524: "no_answer",
}
_BY_CODE: dict[str, FailureStatus] = {
    "enforced_spend_limit_reached": "spend_limit",
    "contract_spend_limit_reached": "spend_limit",
    "linked_organization_spend_limit_reached": "spend_limit",
    "organization_on_hold": "forbidden",
}
_BY_TYPE: dict[str, FailureStatus] = {  # a batch's errors have a type and no status
    "authentication_error": "unauthenticated",
    "billing_error": "payment_required",
    "permission_error": "forbidden",
    "not_found_error": "not_found",
    "request_too_large": "too_large",
    "rate_limit_error": "rate_limited",
    "timeout_error": "no_answer",
    "overloaded_error": "overloaded",
    "api_error": "server_error",
}


def failure_of(http_status: int, *, code: str | None = None) -> FailureStatus:
    """The status of an HTTP error; the error code, where there is one, knows better than the number."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    if http_status in _BY_STATUS:
        return _BY_STATUS[http_status]
    if http_status < 400:  # a redirect: not followed, transcripts go to the configured host alone
        return "not_a_message"
    return "server_error" if http_status >= 500 else "bad_request"


def failure_of_type(kind: str, *, code: str | None = None) -> FailureStatus:
    """The status of an error in a batch's results."""
    return _BY_CODE.get(code or "") or _BY_TYPE.get(kind, "bad_request")
