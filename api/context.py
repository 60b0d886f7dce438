"""The parts of a running server, and how a handler reaches them."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from litestar import Request

from api.assigner import Assigner
from api.auth import Keyring, caller_of
from api.backlog import Backlog
from api.clock import Clock
from api.last_known import LastKnown
from api.lookout import Lookout
from api.metrics import ServerMetrics
from api.rate_limits import RateLimits
from api.recorder import Recorder
from api.redacting import Redacting
from api.settings import Settings
from storage.database import Database

AnyRequest = Request[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """What `create_app` puts together."""

    settings: Settings
    database: Database
    calls: Database
    watch: Database
    clock: Clock
    last_known: LastKnown
    backlog: Backlog
    assigner: Assigner
    redacting: Redacting
    recorder: Recorder
    keyring: Keyring
    metrics: ServerMetrics
    rate_limits: RateLimits
    lookout: Lookout


def parts_of(request: AnyRequest) -> Parts:
    """The parts of the server that answers this request."""
    parts: Parts = request.app.state.parts
    return parts


def actor_of(request: AnyRequest) -> str:
    """Whom the audit names."""
    return caller_of(request).label


def now_of(request: AnyRequest) -> dt.datetime:
    """The server's time."""
    return parts_of(request).clock()
