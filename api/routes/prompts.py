"""Prompt versions: list, create, show, compare, activate."""

from litestar import get, patch, post
from litestar.params import FromPath

from api.context import AnyRequest, actor_of, now_of, parts_of
from api.openapi import answers, takes
from api.reading import read_body, read_query, refuse_body
from api.routes.paging import Limit, Offset
from domain.fields import Name, Request
from domain.prompts import NewVersion, PromptVersion, VersionDiff
from service.activate_version import activate_version
from service.create_version import create_version
from service.diff_versions import diff_versions
from service.find import version_of
from storage.prompts import list_versions


class VersionQuery(Request, frozen=True, kw_only=True):
    """`?prompt=&limit=&offset=`."""

    prompt: Name | None = None
    limit: Limit = 1_000
    offset: Offset = 0


@get("/prompts", opt={"scope": "analyst"}, operation_class=takes(query=VersionQuery), responses=answers())
async def get_prompts(request: AnyRequest) -> list[PromptVersion]:
    """All versions of all prompts, by name and number."""
    query = read_query(request, VersionQuery)
    async with parts_of(request).database.reading() as connection:
        return await list_versions(connection, prompt=query.prompt, limit=query.limit, offset=query.offset)


@post(
    "/prompts",
    opt={"scope": "manager"},
    operation_class=takes(NewVersion),
    responses=answers(409, 413, 415),
)
async def post_prompt(request: AnyRequest) -> PromptVersion:
    """A new immutable version; the first of a name creates the prompt and becomes active."""
    new = await read_body(request, NewVersion)
    parts = parts_of(request)
    async with parts.database.writing() as connection:
        version = await create_version(connection, new, actor=actor_of(request), now=now_of(request))
    await parts.last_known.refresh()
    return version


@get("/prompts/{version_id:int}", opt={"scope": "analyst"}, responses=answers(404))
async def get_prompt(request: AnyRequest, version_id: FromPath[int]) -> PromptVersion:
    """One version."""
    async with parts_of(request).database.reading() as connection:
        return await version_of(connection, version_id)


@get("/prompts/{version_id:int}/diff/{other_id:int}", opt={"scope": "analyst"}, responses=answers(404, 409))
async def get_diff(request: AnyRequest, version_id: FromPath[int], other_id: FromPath[int]) -> VersionDiff:
    """What changed from the first version to the other, as unified diffs."""
    async with parts_of(request).database.reading() as connection:
        return await diff_versions(connection, version_id, other_id)


@patch(
    "/prompts/{version_id:int}/activate",
    opt={"scope": "manager"},
    responses=answers(404, 409, 413, 415),
)
async def patch_activate(request: AnyRequest, version_id: FromPath[int]) -> PromptVersion:
    """Serve this version where no experiment runs."""
    await refuse_body(request)
    parts = parts_of(request)
    async with parts.database.writing() as connection:
        version = await activate_version(connection, version_id, actor=actor_of(request), now=now_of(request))
    await parts.last_known.refresh()
    return version


ROUTES = [get_prompts, post_prompt, get_prompt, get_diff, patch_activate]
