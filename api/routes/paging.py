"""How lists are cut into pages."""

from typing import Annotated

from msgspec import Meta

from domain.fields import Request

Limit = Annotated[int, Meta(ge=1, le=1_000, description="how many at most")]
Offset = Annotated[int, Meta(ge=0, le=10**9, description="how many to leave out")]


class Page(Request, frozen=True, kw_only=True):
    """`?limit=&offset=`."""

    limit: Limit = 1_000
    offset: Offset = 0
