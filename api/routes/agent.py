"""What the agent asks: a version for a call, and what became of it."""

from litestar import post

from api.context import AnyRequest, parts_of
from api.encoded import Encoded
from api.openapi import answers, takes
from api.outcome_list import Unreadable, read_outcomes, result_of
from api.reading import read_body
from domain.assignments import AssignmentAnswer, NewAssignment
from domain.errors import DomainError
from domain.fields import Record
from domain.outcomes import NewOutcome, OutcomeResult

MAX_ASSIGNMENT_BYTES = 65_536  # the longest good body is 5 KiB, all of it escaped


class OutcomeAnswer(Record, frozen=True, kw_only=True):
    """The answer of `POST /outcomes`, one result an outcome, in their order."""

    results: list[OutcomeResult]


@post(
    "/assignments",
    opt={"scope": "agent"},
    status_code=200,
    operation_class=takes(NewAssignment),
    request_max_body_size=MAX_ASSIGNMENT_BYTES,
    responses=answers(404, 413, 415),
    summary="Give a call its prompt version",
)
async def post_assignment(request: AnyRequest) -> Encoded[AssignmentAnswer]:
    """The same unit always gets the same answer; it comes in time even while the database is away."""
    new = await read_body(request, NewAssignment)
    parts = parts_of(request)
    assignment = await parts.assigner.answer(new)
    parts.metrics.assignments.labels(assignment.reason).inc()
    return Encoded(assignment.answer())


@post(
    "/outcomes",
    opt={"scope": "agent"},
    status_code=200,
    operation_class=takes(NewOutcome, many=True),
    responses=answers(404, 409, 413, 415),
    summary="Tell what became of one call, or of up to 1 000",
)
async def post_outcomes(request: AnyRequest) -> Encoded[OutcomeAnswer]:
    """Answered after the commit. A single outcome that is refused is a problem; in a list each has its result.

    Transcripts are redacted before anything else happens to them, and stored with the outcome; one that is told
    later replaces the earlier one of its unit.
    """
    parts = parts_of(request)
    items, is_list = await read_outcomes(request, most_transcript_bytes=parts.settings.max_transcript_bytes)
    good = [item for item in items if not isinstance(item, Unreadable)]
    recorded = iter(await parts.recorder.take(await parts.redacting.clean(good)) if good else [])
    results: list[OutcomeResult] = []
    for item in items:
        said = None if isinstance(item, Unreadable) else next(recorded)
        if isinstance(said, DomainError) and not is_list:
            raise said
        results.append(result_of(item, said))
    for result in results:
        parts.metrics.outcomes.labels(result.status).inc()
    return Encoded(OutcomeAnswer(results=results))


ROUTES = [post_assignment, post_outcomes]
