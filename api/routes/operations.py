"""Health, metrics and the audit."""

from litestar import Response, get

from api.auth import OPEN
from api.context import AnyRequest, now_of, parts_of
from api.openapi import answers, takes
from api.problems import StorageAway
from api.reading import read_query
from api.routes.paging import Page
from api.watched import Watched
from domain.audit import AuditEntry
from storage.audit import list_audit


@get("/health/live", opt={"scope": OPEN})
async def get_live() -> dict[str, str]:
    """200 while the process answers; restart it when it does not."""
    return {"status": "alive"}


@get("/health/ready", opt={"scope": OPEN}, responses=answers())
async def get_ready(request: AnyRequest) -> dict[str, str]:
    """200 when assignments can be recorded; 503 while they would only be answered from memory."""
    last_known = parts_of(request).last_known
    if last_known.snapshot is None or last_known.is_away:
        raise StorageAway("the database does not answer; calls still get prompts from memory")
    return {"status": "ready"}


@get("/metrics", opt={"scope": "analyst"}, media_type="text/plain", responses=answers())
async def get_metrics(request: AnyRequest) -> Response[bytes]:
    """What Prometheus scrapes (with a bearer key), of all workers of the server; asks no database."""
    parts = parts_of(request)
    backlog, last_known = parts.backlog, parts.last_known
    parts.metrics.note(waiting=len(backlog), dropped=backlog.dropped, is_away=last_known.is_away)
    watched = Watched(last_known.snapshot, parts.lookout.noted, now_of(request))
    return Response(parts.metrics.text(watched), media_type="text/plain; version=0.0.4")


@get("/audit", opt={"scope": "manager"}, operation_class=takes(query=Page), responses=answers())
async def get_audit(request: AnyRequest) -> list[AuditEntry]:
    """Who did what, the newest first."""
    page = read_query(request, Page)
    async with parts_of(request).database.reading() as connection:
        return await list_audit(connection, limit=page.limit, offset=page.offset)


ROUTES = [get_live, get_ready, get_metrics, get_audit]
