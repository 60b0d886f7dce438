"""A body of one outcome or many: in a list, a bad one does not spoil the others."""

from typing import Any, NamedTuple

import msgspec
from litestar import Request

from api.problems import VALIDATION, FieldError, Problem, RequestProblem, problem_of
from api.reading import convert, read_json
from domain.errors import DomainError
from domain.outcomes import MAX_OUTCOMES, NewOutcome, OutcomeResult
from service.transcripts import check_length

MAX_ECHO = 200


class Unreadable(NamedTuple):
    """An item of a list that is no outcome, and what is wrong with it."""

    raw: Any
    problem: Problem


async def read_outcomes(
    request: Request[Any, Any, Any], *, most_transcript_bytes: int
) -> tuple[list[NewOutcome | Unreadable], bool]:
    """The outcomes of the body and whether it was a list; what is wrong with a single one is raised."""
    body = await read_json(request)
    if not isinstance(body, list):
        return [_convert(body, most_transcript_bytes)], False
    if not 1 <= len(body) <= MAX_OUTCOMES:
        detail = f"holds {len(body)} outcomes, must be 1 to {MAX_OUTCOMES}"
        raise RequestProblem(VALIDATION, detail, errors=[FieldError(pointer="", detail=detail)])
    return [_outcome(item, index, most_transcript_bytes) for index, item in enumerate(body)], True


def _convert(item: Any, most_transcript_bytes: int, pointer: str = "") -> NewOutcome:
    outcome = convert(item, NewOutcome, pointer=pointer)
    check_length(outcome, most_bytes=most_transcript_bytes, pointer=pointer)
    return outcome


def _outcome(item: Any, index: int, most_transcript_bytes: int) -> NewOutcome | Unreadable:
    try:
        return _convert(item, most_transcript_bytes, pointer=f"/{index}")
    except (RequestProblem, DomainError) as error:
        return Unreadable(item, problem_of(error))


def result_of(item: NewOutcome | Unreadable, recorded: Any = None) -> OutcomeResult:
    """What happened to one item; `recorded` is what the verb said of an outcome that could be read."""
    if isinstance(item, Unreadable):
        found = item.raw if isinstance(item.raw, dict) else {}
        return _rejected(_text(found.get("prompt")), _text(found.get("unit_id")), item.problem)
    if isinstance(recorded, DomainError):
        return _rejected(item.prompt, item.unit_id, problem_of(recorded))
    return OutcomeResult(prompt=item.prompt, unit_id=item.unit_id, status=recorded)


def _rejected(prompt: str, unit_id: str, problem: Problem) -> OutcomeResult:
    document = msgspec.to_builtins(problem)
    return OutcomeResult(prompt=prompt, unit_id=unit_id, status="rejected", problem=document)


def _text(value: Any) -> str:
    """What the client may recognise its item by; it was not checked, so it may hold half a surrogate pair."""
    return value[:MAX_ECHO].encode(errors="replace").decode() if isinstance(value, str) else ""
