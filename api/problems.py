"""How errors look in HTTP: RFC 9457 problem documents with a stable type, each listed in docs/errors.md."""

from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from sqlalchemy.exc import DataError, IntegrityError

from api.log import log
from domain import errors
from domain.errors import DomainError
from storage.away import is_storage_away

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 1


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """Where in the request and what is wrong."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str = ""
    errors: list[FieldError] = []


class Kind(msgspec.Struct, frozen=True):
    """A type of problem: its slug, title and status."""

    slug: str
    title: str
    status: int

    def document(
        self, detail: str, *, errors: list[FieldError] | None = None, request_id: str = ""
    ) -> Problem:
        """This problem in one case."""
        return Problem(
            type=f"/problems/{self.slug}",
            title=self.title,
            status=self.status,
            detail=detail[:500],
            request_id=request_id,
            errors=errors or [],
        )


MALFORMED_REQUEST = Kind("malformed-request", "Not a valid HTTP request", 400)
MALFORMED_JSON = Kind("malformed-json", "Body is not JSON", 400)
INCOMPLETE_BODY = Kind("incomplete-body", "Body ended early", 400)
UNAUTHENTICATED = Kind("unauthenticated", "Key missing or not valid", 401)
INSUFFICIENT_SCOPE = Kind("insufficient-scope", "Key may not do this", 403)
NOT_FOUND = Kind("not-found", "No such path", 404)
METHOD_NOT_ALLOWED = Kind("method-not-allowed", "Method not allowed", 405)
NOT_ACCEPTABLE = Kind("not-acceptable", "No such format", 406)
BODY_TOO_SLOW = Kind("body-too-slow", "Body did not arrive in time", 408)
BODY_TOO_LARGE = Kind("body-too-large", "Body too large", 413)
URI_TOO_LONG = Kind("uri-too-long", "Path and query too long", 414)
HEADERS_TOO_LARGE = Kind("headers-too-large", "Headers too large", 431)
UNSUPPORTED_MEDIA_TYPE = Kind("unsupported-media-type", "Media type not supported", 415)
UNSUPPORTED_CONTENT_ENCODING = Kind("unsupported-content-encoding", "Content encoding not supported", 415)
VALIDATION = Kind("validation", "Request breaks a rule", 422)
UNKNOWN_FIELD = Kind("unknown-field", "Field is not known", 422)
DUPLICATE_KEY = Kind("duplicate-key", "Key stands twice in an object", 422)
CONFLICT = Kind("conflict", "Conflicts with what is stored", 409)
TOO_MANY_REQUESTS = Kind("too-many-requests", "Too many requests", 429)
INTERNAL_ERROR = Kind("internal-error", "Error on our side", 500)
FORMAT_NOT_INSTALLED = Kind("format-not-installed", "Format needs an extra", 501)
STORAGE_AWAY = Kind("storage-away", "Storage is not available", 503)

DOMAIN_KINDS: dict[type[DomainError], Kind] = {
    errors.InvalidValue: VALIDATION,
    errors.TimestampOutOfRange: Kind("timestamp-out-of-range", "Time is not possible", 422),
    errors.PromptNotFound: Kind("prompt-not-found", "No such prompt", 404),
    errors.VersionNotFound: Kind("version-not-found", "No such prompt version", 404),
    errors.ExperimentNotFound: Kind("experiment-not-found", "No such experiment", 404),
    errors.VariantNotFound: Kind("variant-not-found", "No such variant", 404),
    errors.AllocationNotFound: Kind("allocation-not-found", "No such allocation", 404),
    errors.KeyNotFound: Kind("key-not-found", "No such API key", 404),
    errors.NothingToServe: Kind("nothing-to-serve", "Prompt has no active version", 404),
    errors.SameContent: Kind("same-content", "Version with this content exists", 409),
    errors.NameTaken: Kind("name-taken", "Name is taken", 409),
    errors.ExperimentRunning: Kind("experiment-running", "Another experiment runs", 409),
    errors.ExperimentStopped: Kind("experiment-stopped", "Experiment is stopped", 409),
    errors.VariantExists: Kind("variant-exists", "Variant exists", 409),
    errors.VariantRetired: Kind("variant-retired", "Variant is retired", 409),
    errors.LastVariants: Kind("last-variants", "Variant cannot be retired", 409),
    errors.NoVersion: Kind("no-version", "Variant has no stored version", 409),
    errors.VersionOfOtherPrompt: Kind("version-of-other-prompt", "Versions of two prompts", 409),
    errors.ContentMismatch: Kind("content-mismatch", "Content is not the recorded one", 409),
    errors.AllocationMismatch: Kind("allocation-mismatch", "Allocation is not the recorded one", 409),
    errors.SuggestionNotFound: Kind("suggestion-not-found", "No such suggestion", 404),
    errors.SuggestionWaits: Kind("suggestion-waits", "The same suggestion waits", 409),
    errors.SuggestionDecided: Kind("suggestion-decided", "Suggestion is decided", 409),
    errors.SuggestionStale: Kind("suggestion-stale", "Suggestion's parent is not active", 409),
    errors.TextMismatch: Kind("text-mismatch", "Text is not the one that was read", 409),
    errors.GateRefused: Kind("gate-refused", "Refused by the gate", 422),
    errors.NotAnAbTest: Kind("not-an-ab-test", "Experiment is not an A/B test", 409),
}

ALL_KINDS: tuple[Kind, ...] = (
    *(value for value in list(globals().values()) if isinstance(value, Kind)),
    *(kind for kind in DOMAIN_KINDS.values() if kind is not VALIDATION),
)


class RequestProblem(Exception):
    """A request that is refused before any verb sees it."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: list[FieldError] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}


class StorageAway(RequestProblem):
    """The database does not answer and there is no answer without it."""

    def __init__(
        self, detail: str = "the database does not answer; nothing was stored, send it again"
    ) -> None:
        super().__init__(STORAGE_AWAY, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def problem_of(error: DomainError | RequestProblem) -> Problem:
    """The problem document of an error that is the caller's to mend."""
    if isinstance(error, RequestProblem):
        return error.kind.document(error.detail, errors=error.errors)
    kind = next(DOMAIN_KINDS[cls] for cls in type(error).__mro__ if cls in DOMAIN_KINDS)
    if isinstance(error, errors.GateRefused):
        return kind.document(str(error), errors=[_failed_check(check) for check in error.failed])
    fields = (
        [FieldError(pointer=error.pointer, detail=str(error)[:300])]
        if isinstance(error, errors.InvalidValue)
        else []
    )
    detail = f"{fields[0].pointer or 'body'} {fields[0].detail}" if fields else str(error)
    return kind.document(detail, errors=fields)


def _failed_check(check: Any) -> FieldError:
    """A check that did not pass; but for the evidence it is about the text as a whole."""
    pointer = "/evidence" if check.name == "evidence" else ""
    return FieldError(pointer=pointer, detail=f"{check.name}: {check.detail}"[:500])


def answer_domain_error(request: Request[Any, Any, Any], error: DomainError) -> Response[Problem]:
    """Exception handler."""
    return _response(request, problem_of(error))


def answer_request_problem(request: Request[Any, Any, Any], error: RequestProblem) -> Response[Problem]:
    """Exception handler."""
    return _response(request, problem_of(error), error.headers)


_HTTP_KINDS = {
    400: MALFORMED_REQUEST,
    401: UNAUTHENTICATED,
    403: INSUFFICIENT_SCOPE,
    404: NOT_FOUND,
    405: METHOD_NOT_ALLOWED,
    413: BODY_TOO_LARGE,
    415: UNSUPPORTED_MEDIA_TYPE,
}


def answer_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """Exception handler for what Litestar itself refuses; its texts echo input, ours do not."""
    kind = _HTTP_KINDS.get(
        error.status_code, MALFORMED_REQUEST if error.status_code < 500 else INTERNAL_ERROR
    )
    details = {
        NOT_FOUND: "there is nothing at this path; /schema lists what there is",
        METHOD_NOT_ALLOWED: "this path does not take this method; see the Allow header",
        BODY_TOO_LARGE: "the body is larger than the limit; send outcomes in smaller batches",
    }
    headers = {key: value for key, value in (error.headers or {}).items() if key.lower() == "allow"}
    return _response(request, kind.document(details.get(kind, kind.title)), headers)


def answer_unforeseen(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Exception handler for everything else: storage away, a lost race, or a fault of ours."""
    if is_storage_away(error):
        log("storage_away", level="warning", error=type(error).__name__)
        return answer_request_problem(request, StorageAway())
    if isinstance(error, IntegrityError) and _is_lost_race(error):
        detail = "somebody else changed the same record at this moment; read it and try again"
        return _response(request, CONFLICT.document(detail))
    if isinstance(error, DataError):
        return _response(request, VALIDATION.document("a value cannot be stored; check ids and numbers"))
    log("internal_error", level="error", error=error)
    return _response(
        request, INTERNAL_ERROR.document("it was logged under this request_id; nothing was stored")
    )


def _is_lost_race(error: IntegrityError) -> bool:
    """Whether a unique constraint refused what somebody else stored a moment before."""
    state = getattr(error.orig, "sqlstate", None)
    return state == "23505" if state else "UNIQUE constraint failed" in str(error.orig)


def request_id_of(request: Request[Any, Any, Any]) -> str:
    """The id under which this request is logged."""
    return str(request.scope.get("promptbandit_request_id", ""))


def _response(
    request: Request[Any, Any, Any], problem: Problem, headers: dict[str, str] | None = None
) -> Response[Problem]:
    document = msgspec.structs.replace(problem, request_id=request_id_of(request))
    extra = dict(headers or {})
    if problem.status == 401:
        extra["WWW-Authenticate"] = "Bearer"
    return Response(document, status_code=problem.status, media_type=PROBLEM_JSON, headers=extra)


EXCEPTION_HANDLERS: dict[Any, Any] = {
    DomainError: answer_domain_error,
    RequestProblem: answer_request_problem,
    HTTPException: answer_http_error,
    Exception: answer_unforeseen,
}
