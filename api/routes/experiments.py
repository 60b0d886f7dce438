"""Experiments: start, stop, change arms, and read what is known."""

from typing import Literal

from litestar import get, patch, post
from litestar.params import FromPath

from api import numerics
from api.context import AnyRequest, actor_of, now_of, parts_of
from api.openapi import answers, takes
from api.reading import read_body, read_optional_body, read_query, refuse_body
from api.routes.paging import Limit, Offset, Page
from domain.allocations import Allocation
from domain.experiments import Experiment, NewExperiment, NewVariant, StopExperiment
from domain.fields import Request
from domain.report import Report
from service.find import experiment_of
from storage.allocations import list_allocations
from storage.experiments import list_experiments


class ExperimentQuery(Request, frozen=True, kw_only=True):
    """`?status=&limit=&offset=`."""

    status: Literal["running", "stopped"] | None = None
    limit: Limit = 1_000
    offset: Offset = 0


@get(
    "/experiments",
    opt={"scope": "analyst"},
    operation_class=takes(query=ExperimentQuery),
    responses=answers(),
)
async def get_experiments(request: AnyRequest) -> list[Experiment]:
    """Experiments, the newest first."""
    query = read_query(request, ExperimentQuery)
    async with parts_of(request).database.reading() as connection:
        return await list_experiments(connection, status=query.status, limit=query.limit, offset=query.offset)


@post(
    "/experiments",
    opt={"scope": "manager"},
    operation_class=takes(NewExperiment),
    responses=answers(404, 409, 413, 415),
)
async def post_experiment(request: AnyRequest) -> Experiment:
    """Start one: from now on every new call of the prompt is randomised."""
    new = await read_body(request, NewExperiment)
    parts = parts_of(request)
    await numerics.loaded()
    async with parts.database.writing() as connection:
        experiment = await numerics.start_experiment(
            connection, new, actor=actor_of(request), now=now_of(request)
        )
    await parts.last_known.refresh()
    return experiment


@get("/experiments/{key:str}", opt={"scope": "analyst"}, responses=answers(404))
async def get_experiment(request: AnyRequest, key: FromPath[str]) -> Experiment:
    """One experiment."""
    async with parts_of(request).database.reading() as connection:
        return await experiment_of(connection, key)


@patch(
    "/experiments/{key:str}/stop",
    opt={"scope": "manager"},
    operation_class=takes(StopExperiment, optional=True),
    responses=answers(404, 409, 413, 415),
)
async def patch_stop(request: AnyRequest, key: FromPath[str]) -> Experiment:
    """Stop it; with a winner that variant's version becomes active."""
    stop = await read_optional_body(request, StopExperiment)
    parts = parts_of(request)
    await numerics.loaded()
    async with parts.database.writing() as connection:
        experiment = await numerics.stop_experiment(
            connection, key, winner=stop.winner, actor=actor_of(request), now=now_of(request)
        )
    await parts.last_known.refresh()
    return experiment


@post(
    "/experiments/{key:str}/variants",
    opt={"scope": "manager"},
    operation_class=takes(NewVariant),
    responses=answers(404, 409, 413, 415),
)
async def post_variant(request: AnyRequest, key: FromPath[str]) -> Experiment:
    """A new arm while the experiment runs."""
    new = await read_body(request, NewVariant)
    parts = parts_of(request)
    await numerics.loaded()
    async with parts.database.writing() as connection:
        experiment = await numerics.add_variant(
            connection, key, new, actor=actor_of(request), now=now_of(request)
        )
    await parts.last_known.refresh()
    return experiment


@patch(
    "/experiments/{key:str}/variants/{variant:str}/retire",
    opt={"scope": "manager"},
    responses=answers(404, 409, 413, 415),
)
async def patch_retire(request: AnyRequest, key: FromPath[str], variant: FromPath[str]) -> Experiment:
    """No more calls for this variant; its data stay."""
    await refuse_body(request)
    parts = parts_of(request)
    await numerics.loaded()
    async with parts.database.writing() as connection:
        experiment = await numerics.retire_variant(
            connection, key, variant, actor=actor_of(request), now=now_of(request)
        )
    await parts.last_known.refresh()
    return experiment


@get("/experiments/{key:str}/report", opt={"scope": "analyst"}, responses=answers(404))
async def get_report(request: AnyRequest, key: FromPath[str]) -> Report:
    """What is known: evidence and belief side by side, and what to do."""
    await numerics.loaded()
    async with parts_of(request).database.reading() as connection:
        return await numerics.report(connection, key, now=now_of(request))


@get(
    "/experiments/{key:str}/allocations",
    opt={"scope": "analyst"},
    operation_class=takes(query=Page),
    responses=answers(404),
)
async def get_allocations(request: AnyRequest, key: FromPath[str]) -> list[Allocation]:
    """Every split that served, the oldest first."""
    page = read_query(request, Page)
    async with parts_of(request).database.reading() as connection:
        experiment = await experiment_of(connection, key)
        return await list_allocations(connection, experiment.id, limit=page.limit, offset=page.offset)


ROUTES = [
    get_experiments,
    post_experiment,
    get_experiment,
    patch_stop,
    post_variant,
    patch_retire,
    get_report,
    get_allocations,
]
