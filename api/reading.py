"""Read requests strictly: what is not JSON is 400, what breaks a rule 422, and nothing is guessed.

Litestar's own decoding takes "0.7" for a number, ignores unknown fields and answers 500 to invalid
UTF-8, NUL and 2^63; so bodies and queries are read here.
"""

import json
from typing import Any

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from api.auth import OPEN
from api.broken_rules import broken_rule
from api.openapi import Described
from api.problems import (
    DUPLICATE_KEY,
    MALFORMED_JSON,
    NOT_FOUND,
    UNSUPPORTED_CONTENT_ENCODING,
    UNSUPPORTED_MEDIA_TYPE,
    VALIDATION,
    FieldError,
    Kind,
    RequestProblem,
)
from domain.fields import MAX_ID
from domain.json_rules import MAX_DEPTH, check_json_value, pointer_to


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request that takes none; `{}` is as good as no body."""


async def read_body[T](request: Request[Any, Any, Any], type_: type[T]) -> T:
    """The body as a request record."""
    return convert(await read_json(request), type_)


async def read_optional_body[T](request: Request[Any, Any, Any], type_: type[T]) -> T:
    """The body as a request record; no body is an empty object."""
    return convert({}, type_) if not await request.body() else await read_body(request, type_)


async def refuse_body(request: Request[Any, Any, Any]) -> None:
    """For what takes no body: one that holds something is refused, not ignored."""
    await read_optional_body(request, Nothing)


async def read_json(request: Request[Any, Any, Any]) -> Any:
    """The body as JSON values; `convert` checks what they hold."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise RequestProblem(UNSUPPORTED_CONTENT_ENCODING, "send the body without Content-Encoding")
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media_type.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise RequestProblem(UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json (UTF-8)")
    return parse_json(await request.body())


def read_query[T: msgspec.Struct](request: Request[Any, Any, Any], type_: type[T]) -> T:
    """The query parameters as a request record; unknown and repeated ones are refused."""
    found: dict[str, str] = {}
    for key, value in request.query_params.multi_items():
        if key in found:
            raise _at(VALIDATION, key, "stands twice in the query; send it once")
        if key not in type_.__struct_fields__:
            known = ", ".join(type_.__struct_fields__)
            raise _at(VALIDATION, key, f"is no parameter of this path; it takes {known}")
        found[key] = value
    return convert(found, type_, strict=False)


async def check_address(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of every route: a query where none is read, and ids that no database column can hold.

    It waits for nothing, but a guard that is no coroutine costs every request a hop to a thread and back.
    """
    if any(isinstance(value, int) and value > MAX_ID for value in connection.path_params.values()):
        raise RequestProblem(NOT_FOUND, "there is nothing at this path; an id is at most 2^63 - 1")
    if not connection.scope["query_string"]:
        return
    operation = handler.operation_class if isinstance(handler, HTTPRouteHandler) else None
    reads_query = isinstance(operation, type) and issubclass(operation, Described) and operation.query
    # A health check may add what it likes: a probe's query must not take a server out of service.
    if connection.query_params and not reads_query and handler.opt["scope"] != OPEN:
        key = next(iter(connection.query_params))
        raise _at(VALIDATION, key, "is no parameter of this path; it takes none")


class _NotJson(ValueError):
    """NaN and Infinity, which Python's parser takes."""


def parse_json(body: bytes) -> Any:
    """JSON values by the grammar of RFC 8259, no key twice in an object."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise _at(VALIDATION, "", f"is nested more than {MAX_DEPTH} deep; flatten it") from error
    except (UnicodeDecodeError, json.JSONDecodeError, _NotJson) as error:
        raise RequestProblem(MALFORMED_JSON, "the body is not JSON in UTF-8 (RFC 8259)") from error
    except ValueError as error:  # Python converts no more than 4 300 digits
        raise _at(VALIDATION, "", "holds an integer beyond ±(2^63 - 1); send it as a string") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _at(DUPLICATE_KEY, twice, "stands twice in one object; send it once")
    return found


def _no_constant(name: str) -> Any:
    raise _NotJson(f"{name} is no JSON number")


def _at(kind: Kind, field: str, problem: str) -> RequestProblem:
    pointer = pointer_to([field] if field else [])
    error = FieldError(pointer=pointer, detail=problem)
    return RequestProblem(kind, f"{pointer or 'body'} {problem}", errors=[error])


def convert[T](value: Any, type_: type[T], *, strict: bool = True, pointer: str = "") -> T:
    """`value` as a record of `type_`; the first rule that it breaks is a problem with a JSON pointer.

    Raises
    ------
    InvalidValue : it holds what no database takes, see `domain.json_rules`.
    RequestProblem : it is not a `type_`.
    """
    check_json_value(value, pointer=pointer)
    try:
        return msgspec.convert(value, type_, strict=strict)
    except msgspec.ValidationError as error:
        raise broken_rule(str(error), value, pointer) from error
