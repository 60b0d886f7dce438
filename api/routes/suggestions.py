"""Suggestions: proposed by who may propose, read and decided by a manager."""

from typing import Annotated

from litestar import get, post
from litestar.params import FromPath
from msgspec import Meta

from api import numerics
from api.context import AnyRequest, actor_of, now_of, parts_of
from api.openapi import answers, takes
from api.reading import read_body, read_query
from api.routes.paging import Offset
from domain.errors import SuggestionStale
from domain.fields import Name, Request
from domain.suggestions import (
    Approval,
    ApproveSuggestion,
    NewSuggestion,
    RejectSuggestion,
    Suggestion,
    SuggestionStatus,
)
from service.find import suggestion_of
from service.reject import reject
from storage.suggestions import list_suggestions


class SuggestionQuery(Request, frozen=True, kw_only=True):
    """`?status=&prompt=&limit=&offset=`: each carries whole texts, so a page is smaller than elsewhere."""

    status: SuggestionStatus | None = None
    prompt: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    offset: Offset = 0


@get(
    "/suggestions",
    opt={"scope": "manager"},
    operation_class=takes(query=SuggestionQuery),
    responses=answers(),
)
async def get_suggestions(request: AnyRequest) -> list[Suggestion]:
    """Suggestions with diff, patterns, quotes, objection and gate, the newest first."""
    query = read_query(request, SuggestionQuery)
    async with parts_of(request).database.reading() as connection:
        return await list_suggestions(
            connection, status=query.status, prompt=query.prompt, limit=query.limit, offset=query.offset
        )


@get("/suggestions/{suggestion_id:int}", opt={"scope": "manager"}, responses=answers(404))
async def get_suggestion(request: AnyRequest, suggestion_id: FromPath[int]) -> Suggestion:
    """One suggestion."""
    async with parts_of(request).database.reading() as connection:
        return await suggestion_of(connection, suggestion_id)


@post(
    "/suggestions",
    opt={"scope": "optimizer"},
    operation_class=takes(NewSuggestion),
    responses=answers(404, 409, 413, 415),
)
async def post_suggestion(request: AnyRequest) -> Suggestion:
    """Propose a change of a prompt: through the gate, then it waits for a manager."""
    new = await read_body(request, NewSuggestion)
    database = parts_of(request).database
    await numerics.loaded()
    # First without SQLite's write lock: calls are recorded while the gate compares transcripts.
    async with database.reading() as connection:
        judged = await numerics.judge(connection, new)
    async with database.writing() as connection:
        return await numerics.propose(
            connection, new, actor=actor_of(request), now=now_of(request), judged=judged
        )


@post(
    "/suggestions/{suggestion_id:int}/approve",
    status_code=200,
    opt={"scope": "manager"},
    operation_class=takes(ApproveSuggestion),
    responses=answers(404, 409, 413, 415),
)
async def post_approve(request: AnyRequest, suggestion_id: FromPath[int]) -> Approval:
    """An inactive version of exactly this text and, where an experiment runs, a variant at the floor share."""
    told = await read_body(request, ApproveSuggestion)
    parts = parts_of(request)
    await numerics.loaded()
    async with parts.database.writing() as connection:
        approval = await numerics.approve(
            connection, suggestion_id, text_hash=told.text_hash, actor=actor_of(request), now=now_of(request)
        )
    if approval.suggestion.status == "stale":  # refused after the commit: that it is stale stays known
        raise SuggestionStale(suggestion_id=suggestion_id, parent=approval.suggestion.parent_version_id)
    await parts.last_known.refresh()
    return approval


@post(
    "/suggestions/{suggestion_id:int}/reject",
    status_code=200,
    opt={"scope": "manager"},
    operation_class=takes(RejectSuggestion),
    responses=answers(404, 409, 413, 415),
)
async def post_reject(request: AnyRequest, suggestion_id: FromPath[int]) -> Suggestion:
    """Never again, for this reason."""
    told = await read_body(request, RejectSuggestion)
    async with parts_of(request).database.writing() as connection:
        return await reject(
            connection, suggestion_id, reason=told.reason, actor=actor_of(request), now=now_of(request)
        )


ROUTES = [get_suggestions, get_suggestion, post_suggestion, post_approve, post_reject]
