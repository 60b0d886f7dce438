"""An experiment's calls as a file: CSV, Parquet or an Arrow stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

from litestar import get
from litestar.params import FromPath
from litestar.response import Stream
from litestar.response.base import ASGIResponse

from api.context import AnyRequest, parts_of
from api.openapi import answers, takes
from api.problems import FORMAT_NOT_INSTALLED, NOT_ACCEPTABLE, RequestProblem
from api.reading import read_query
from domain.fields import Request
from engine.extras import ExtraMissing
from service.arrow_calls import calls_encoded, load_pyarrow
from service.export_calls import calls_csv
from service.find import experiment_of

type Format = Literal["csv", "parquet", "arrow"]
MEDIA_TYPES: dict[str, Format] = {
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.stream": "arrow",
}


class CallsQuery(Request, frozen=True, kw_only=True):
    """`?format=`; without it the `Accept` header decides."""

    format: Literal["csv", "parquet", "arrow"] | None = None


@get(
    "/experiments/{key:str}/calls",
    opt={"scope": "analyst"},
    operation_class=takes(query=CallsQuery, also_as=tuple(MEDIA_TYPES)[1:]),
    responses=answers(404, 406, 501),
    media_type="text/csv",
)
async def get_calls(request: AnyRequest, key: FromPath[str]) -> Stream:
    """Every call of the experiment: unit, segment, variant, probability, outcomes."""
    wanted = read_query(request, CallsQuery).format or accepted(request.headers.get("accept", ""))
    if wanted != "csv":
        await _installed()
    database = parts_of(request).database
    async with database.reading() as connection:
        experiment = await experiment_of(connection, key)

    async def pieces() -> AsyncIterator[str | bytes]:
        async with database.reading() as connection:
            if wanted == "csv":
                async for text in calls_csv(connection, experiment):
                    yield text
            else:
                async for piece in calls_encoded(connection, experiment, wanted):
                    yield piece

    media_type = next(name for name, file_format in MEDIA_TYPES.items() if file_format == wanted)
    return _Typed(pieces(), media_type=media_type)


class _Typed(Stream):
    """A stream that keeps its own media type; Litestar would take that of the route."""

    def to_asgi_response(self, *arguments: Any, **named: Any) -> ASGIResponse:
        """As of any stream."""
        return super().to_asgi_response(*arguments, **(named | {"media_type": self.media_type}))


async def _installed() -> None:
    try:
        await asyncio.to_thread(load_pyarrow)  # half a second at the first time
    except ExtraMissing as error:
        raise RequestProblem(FORMAT_NOT_INSTALLED, str(error)) from error


def accepted(header: str) -> Format:
    """The format that an `Accept` header likes most, by its weights (RFC 9110, section 12.5.1); CSV if it says nothing.

    Raises
    ------
    RequestProblem : it takes none of ours.
    """
    best: tuple[float, int, Format] | None = None
    for part in header.split(",") if header.strip() else ["*/*"]:
        pattern, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = _weight(parameters)
        for rank, (media_type, file_format) in enumerate(MEDIA_TYPES.items()):
            if weight > 0.0 and pattern in (media_type, f"{media_type.split('/')[0]}/*", "*/*"):
                best = max(best or (0.0, 0, file_format), (weight, -rank, file_format))
    if best is None:
        known = ", ".join(MEDIA_TYPES)
        raise RequestProblem(NOT_ACCEPTABLE, f"Accept takes none of {known}; send one of these, or ?format=")
    return best[2]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


ROUTES = [get_calls]
