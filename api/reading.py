"""Read requests strictly: what is not JSON is 400, what breaks a rule 422, and nothing is guessed.

Litestar's own decoding takes "0.7" for a number, ignores unknown fields and answers 500 to invalid
UTF-8, NUL and 2^63; so bodies and queries are read here.
"""

import json
import re
from typing import Any

import msgspec
from litestar import Request

from api.problems import (
    DUPLICATE_KEY,
    MALFORMED_JSON,
    UNKNOWN_FIELD,
    UNSUPPORTED_CONTENT_ENCODING,
    UNSUPPORTED_MEDIA_TYPE,
    VALIDATION,
    FieldError,
    RequestProblem,
)
from domain.json_rules import MAX_DEPTH, check_json_value, escape_pointer

_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>[^`]*)`")
_PLACE = re.compile(r"^(?P<detail>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)


async def read_json(request: Request[Any, Any, Any]) -> Any:
    """The body as checked JSON values."""
    _check_headers(request)
    return parse_json(await request.body())


async def read_body[T](request: Request[Any, Any, Any], type_: type[T]) -> T:
    """The body as a request record."""
    return convert(await read_json(request), type_)


async def read_optional_body[T](request: Request[Any, Any, Any], type_: type[T]) -> T:
    """The body as a request record; no body is an empty object."""
    return convert({}, type_) if not await request.body() else await read_body(request, type_)


def read_query[T](request: Request[Any, Any, Any], type_: type[T]) -> T:
    """The query parameters as a request record; unknown and repeated ones are refused."""
    found: dict[str, str] = {}
    for key, value in request.query_params.multi_items():
        if key in found:
            raise RequestProblem(
                VALIDATION, "a query parameter stands twice", errors=[_at(key, "stands twice")]
            )
        found[key] = value
    check_json_value(found)
    return convert(found, type_, strict=False)


def _check_headers(request: Request[Any, Any, Any]) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise RequestProblem(UNSUPPORTED_CONTENT_ENCODING, "send the body without Content-Encoding")
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media_type.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise RequestProblem(UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json (UTF-8)")


def parse_json(body: bytes) -> Any:
    """JSON values, with the rules of RFC 8259 and our bounds; see `domain.json_rules`."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        detail = f"nested more than {MAX_DEPTH} deep; flatten it"
        raise RequestProblem(VALIDATION, detail, errors=[_at("", detail)]) from error
    except ValueError as error:  # bad UTF-8, bad JSON, a number of more than 4 300 digits
        raise RequestProblem(MALFORMED_JSON, "the body is not JSON in UTF-8 (RFC 8259)") from error
    check_json_value(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        detail = f"key {twice[:100]!r} stands twice in one object; send it once"
        raise RequestProblem(DUPLICATE_KEY, detail, errors=[_at(twice, "stands twice")])
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _at(field: str, detail: str) -> FieldError:
    return FieldError(pointer=f"/{escape_pointer(field)}" if field else "", detail=detail)


def convert[T](value: Any, type_: type[T], *, strict: bool = True, pointer: str = "") -> T:
    """`value` as a record of `type_`; the first rule that it breaks is a problem with a JSON pointer."""
    try:
        return msgspec.convert(value, type_, strict=strict)
    except msgspec.ValidationError as error:
        raise _broken_rule(str(error), value, pointer) from error


def _broken_rule(message: str, value: Any, prefix: str) -> RequestProblem:
    place = _PLACE.match(message)
    detail, path = (place["detail"], place["path"] or "") if place else (message, "")
    parts = [part for part in re.split(r"[.\[\]]+", path) if part]
    pointer = prefix + "".join(f"/{part}" for part in _named(parts, value))
    unknown = _UNKNOWN.match(detail)
    if unknown:
        field = escape_pointer(unknown["field"])
        detail = f"unknown field {field!r}; the fields are listed in /schema"
        error = FieldError(pointer=f"{pointer}/{field}", detail="is not known")
        return RequestProblem(UNKNOWN_FIELD, detail, errors=[error])
    detail = detail[:300]
    return RequestProblem(
        VALIDATION, f"{pointer or 'body'}: {detail}", errors=[FieldError(pointer=pointer, detail=detail)]
    )


def _named(parts: list[str], value: Any) -> list[str]:
    """The steps of a pointer; msgspec writes `...` for a key of an object, here it gets its name."""
    steps: list[str] = []
    for part in parts:
        step = part
        if part == "..." and isinstance(value, dict):
            step = next(
                (key for key, item in value.items() if not isinstance(item, bool | int | float | None)), ""
            )
        steps.append(escape_pointer(step))
        value = value.get(step) if isinstance(value, dict) else _item(value, step)
    return [step for step in steps if step]


def _item(value: Any, step: str) -> Any:
    return value[int(step)] if isinstance(value, list) and step.isdigit() and int(step) < len(value) else None
