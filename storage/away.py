"""Which errors mean that the database is away, busy or full, and not that the request is wrong."""

from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_NO_TABLE = "42P01"  # a new database, which gets its tables in a moment
# Class 08: connection exceptions; 57P01 to 57P03: shutting down, crashed, starting up.
_UNREACHABLE = ("08", "57P", _NO_TABLE)
_ANSWERS = ("database is locked", "database or disk is full")  # SQLite


def is_storage_away(error: BaseException) -> bool:
    """Whether trying again later can help: connections, locks, timeouts, a full disk."""
    if _state(error) == _NO_TABLE:
        return True
    return isinstance(error, OperationalError | InterfaceError | InternalError | PoolTimeout | OSError)


def is_unreachable(error: BaseException) -> bool:
    """Whether nobody answers; a database that is busy or full does, and so does a pool with nothing free."""
    state = _state(error)
    if state is not None:
        return state.startswith(_UNREACHABLE)
    if isinstance(error, PoolTimeout):
        return False
    return is_storage_away(error) and str(getattr(error, "orig", None)) not in _ANSWERS


def _state(error: BaseException) -> str | None:
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return None if state is None else str(state)
