"""Which errors mean that the database is away, busy or full, and not that the request is wrong."""

from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout


def is_storage_away(error: BaseException) -> bool:
    """Whether trying again later can help: connections, locks, timeouts, a full disk."""
    return isinstance(error, OperationalError | InterfaceError | InternalError | PoolTimeout | OSError)
