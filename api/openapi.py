"""OpenAPI: bodies and queries are read by `api.reading`, so they are described here, from the same types."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec
from litestar import Litestar, Response, get
from litestar.enums import OpenAPIMediaType as OpenAPIMediaTypes
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIType

from api.auth import OPEN
from api.problems import PROBLEM_JSON, Problem
from domain.assignments import NewAssignment
from domain.experiments import NewAbTest, NewExperiment, NewVariant, StopExperiment
from domain.outcomes import NewOutcome
from domain.prompts import NewVersion
from domain.suggestions import ApproveSuggestion, NewSuggestion, RejectSuggestion

BODIES: tuple[type, ...] = (
    NewAssignment,
    NewOutcome,
    NewVersion,
    NewExperiment,
    NewVariant,
    NewAbTest,
    StopExperiment,
    NewSuggestion,
    ApproveSuggestion,
    RejectSuggestion,
)
PATH = "/schema"
_REF = "#/components/schemas/{name}"


@dataclass
class Described(Operation):
    """An operation whose body, query and formats we describe; `query` is the record that the route reads, if any."""

    body: ClassVar[type | None] = None
    query: ClassVar[type | None] = None
    is_many: ClassVar[bool] = False
    is_optional: ClassVar[bool] = False
    also_as: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Add what Litestar does not see."""
        if self.body is not None:
            content = {"application/json": OpenAPIMediaType(schema=_body_schema(self.body, self.is_many))}
            self.request_body = RequestBody(content=content, required=not self.is_optional)
        if self.query is not None:
            self.parameters = [*(self.parameters or []), *_parameters(self.query)]
        for media_type in self.also_as:
            found = (self.responses or {})["200"]
            if isinstance(found, OpenAPIResponse) and found.content is not None:
                found.content[media_type] = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))


def takes(
    body: type | None = None,
    *,
    query: type | None = None,
    many: bool = False,
    optional: bool = False,
    also_as: tuple[str, ...] = (),
) -> type[Described]:
    """The `operation_class` of a route that reads this body (or a list of it) and this query.

    `also_as` are media types in which it answers beside its own.
    """
    fields = {"body": body, "query": query, "is_many": many, "is_optional": optional, "also_as": also_as}
    return type("Described", (Described,), fields)


def _body_schema(body: type, many: bool) -> Reference | Schema:
    one = Reference(ref=_REF.format(name=body.__name__))
    several = Schema(type=OpenAPIType.ARRAY, items=one, min_items=1, max_items=1_000)
    return Schema(one_of=[one, several]) if many else one


def _parameters(query: type) -> list[Parameter | Reference]:
    properties = msgspec.json.schema(query)["$defs"][query.__name__]["properties"]
    return [
        Parameter(name=name, param_in="query", required=False, schema=_Written(written=value))
        for name, value in properties.items()
    ]


@dataclass
class _Written(Schema):
    """A JSON schema that msgspec has written."""

    written: dict[str, Any] = field(default_factory=dict)

    def to_schema(self) -> dict[str, Any]:
        return self.written


def answers(*statuses: int) -> dict[int, ResponseSpec]:
    """The declared errors of a route: those named, and what any route may answer."""
    every = {400, 401, 403, 414, 422, 429, 431, 503, *statuses} | ({408} if 413 in statuses else set())
    return {
        status: ResponseSpec(
            data_container=Problem,
            media_type=PROBLEM_JSON,
            description=f"{HTTPStatus(status).phrase}; docs/errors.md lists the types",
            generate_examples=False,
        )
        for status in sorted(every)
    }


def document(routes: Sequence[HTTPRouteHandler], version: str) -> bytes:
    """The OpenAPI document (JSON) of these routes."""
    config = OpenAPIConfig(
        title="PromptBandit",
        version=version,
        description="Which prompt answers calls better? Assignments, outcomes, experiments, reports.",
        use_handler_docstrings=True,
        components=Components(
            security_schemes={
                "key": SecurityScheme(type="http", scheme="bearer", description="API key pb_<scope>_...")
            },
        ),
        security=[{"key": []}],
    )
    # Litestar describes what an app serves; it serves the description itself with pages that we do not want.
    found = Litestar(
        route_handlers=routes, openapi_config=config, logging_config=None
    ).openapi_schema.to_schema()
    found["paths"] = {path: item for path, item in found["paths"].items() if not path.startswith(PATH)}
    _say_when_to_try_again(found["paths"])
    _, bodies = msgspec.json.schema_components(BODIES, ref_template=_REF)
    found["components"]["schemas"] |= bodies
    for handler in routes:
        if handler.opt["scope"] == OPEN:
            for path in handler.paths:
                found["paths"][path]["get"]["security"] = []
    return msgspec.json.encode(found)


def _say_when_to_try_again(paths: dict[str, Any]) -> None:
    header = {"description": "seconds to wait", "required": True, "schema": {"type": "integer", "minimum": 1}}
    for item in paths.values():
        for operation in item.values():
            for status in operation["responses"].keys() & {"429", "503"}:
                operation["responses"][status]["headers"] = {"Retry-After": header}


def schema_route(routes: Sequence[HTTPRouteHandler], version: str) -> HTTPRouteHandler:
    """`GET /schema`: the document of the other routes, written when it is asked for first (0.1 s)."""
    written = cache(partial(document, routes, version))

    @get(PATH, opt={"scope": OPEN}, sync_to_thread=True)
    def get_schema() -> Response[bytes]:
        """The OpenAPI document."""
        return Response(written(), media_type=OpenAPIMediaTypes.OPENAPI_JSON)

    return get_schema
