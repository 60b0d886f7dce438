"""`OPTIONS`: which methods a path takes.

Litestar answers it by itself, but forgets the methods of handlers that share their path with an earlier one.
"""

from collections import defaultdict
from collections.abc import Sequence

from litestar import Response, route
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler

from api.auth import OPEN


def options_routes(routes: Sequence[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """An answer to OPTIONS for each of their paths; to be registered before them."""
    methods: defaultdict[str, set[str]] = defaultdict(set)
    for handler in routes:
        for path in handler.paths:
            methods[path] |= {str(method) for method in handler.http_methods}
    return [_answer(path, ", ".join(sorted({*taken, "OPTIONS"}))) for path, taken in methods.items()]


def _answer(path: str, allow: str) -> HTTPRouteHandler:
    @route(path, http_method=[HttpMethod.OPTIONS], opt={"scope": OPEN}, status_code=204, sync_to_thread=False)
    def get_options() -> Response[None]:
        """No secret, so no key is asked for."""
        return Response(None, headers={"Allow": allow})

    return get_options
