"""OpenAPI: bodies and queries are read by `api.reading`, so they are described here, from the same types."""

from typing import Any, ClassVar

import msgspec
from litestar import Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIType

from api.auth import OPEN
from api.problems import ALL_KINDS, PROBLEM_JSON, Problem
from domain.assignments import NewAssignment
from domain.experiments import NewAbTest, NewExperiment, NewVariant, StopExperiment
from domain.outcomes import NewOutcome
from domain.prompts import NewVersion

BODIES: tuple[type, ...] = (
    NewAssignment,
    NewOutcome,
    NewVersion,
    NewExperiment,
    NewVariant,
    NewAbTest,
    StopExperiment,
)
_REF = "#/components/schemas/{name}"


class Described(Operation):
    """An operation whose body and query we describe; `query` is the record that the route reads, if any."""

    body: ClassVar[type | None] = None
    query: ClassVar[type | None] = None
    is_many: ClassVar[bool] = False
    is_optional: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Add what Litestar does not see."""
        if self.body is not None:
            content = {"application/json": OpenAPIMediaType(schema=_body_schema(self.body, self.is_many))}
            self.request_body = RequestBody(content=content, required=not self.is_optional)
        if self.query is not None:
            self.parameters = [*(self.parameters or []), *_parameters(self.query)]


def takes(
    body: type | None = None, *, query: type | None = None, many: bool = False, optional: bool = False
) -> type[Described]:
    """The `operation_class` of a route that reads this body (or a list of it) and this query."""
    fields = {"body": body, "query": query, "is_many": many, "is_optional": optional}
    return type("Described", (Described,), fields)


def _body_schema(body: type, many: bool) -> Reference | Schema:
    one = Reference(ref=_REF.format(name=body.__name__))
    several = Schema(type=OpenAPIType.ARRAY, items=one, min_items=1, max_items=1_000)
    return Schema(one_of=[one, several]) if many else one


def _parameters(query: type) -> list[Parameter]:
    schema = msgspec.json.schema(query)
    properties = schema["$defs"][query.__name__]["properties"]
    return [
        Parameter(name=name, param_in="query", required=False, schema=RawSchema(raw=value))  # type: ignore[arg-type]
        for name, value in properties.items()
    ]


class RawSchema(msgspec.Struct):
    """A JSON schema that is written out as it is."""

    raw: dict[str, Any]

    def to_schema(self) -> dict[str, Any]:
        """The schema."""
        return self.raw


def answers(*statuses: int) -> dict[int, ResponseSpec]:
    """The declared errors of a route: those named, and what any route may answer."""
    every = {400, 401, 403, 414, 422, 431, 503, *statuses} | ({408} if 413 in statuses else set())
    titles = {status: [kind.title for kind in ALL_KINDS if kind.status == status] for status in every}
    return {
        status: ResponseSpec(
            data_container=Problem,
            media_type=PROBLEM_JSON,
            description="; ".join(titles[status]),
            generate_examples=False,
        )
        for status in sorted(every)
    }


def config(version: str) -> OpenAPIConfig:
    """OpenAPI at /schema, as JSON; no page that loads scripts from elsewhere."""
    _, schemas = msgspec.json.schema_components(BODIES, ref_template=_REF)
    return OpenAPIConfig(
        title="PromptBandit",
        version=version,
        description="Which prompt answers calls better? Assignments, outcomes, experiments, reports.",
        openapi_router=Router(path="/schema", route_handlers=[], opt={"scope": OPEN}),
        render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        components=Components(
            schemas={name: RawSchema(raw=schema) for name, schema in schemas.items()},  # type: ignore[misc]
            security_schemes={
                "key": SecurityScheme(type="http", scheme="bearer", description="API key pb_<scope>_...")
            },
        ),
        security=[{"key": []}],
    )
