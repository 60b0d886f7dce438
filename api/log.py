"""Structured logs: one JSON line an event, on standard error. Never a prompt, a transcript or a key.

An event that happens for a request carries its id, also in the tasks that the request began.
"""

import datetime as dt
import logging
import sys
import traceback
from contextvars import ContextVar
from types import TracebackType
from typing import Any

import msgspec

REQUEST_ID: ContextVar[str | None] = ContextVar("promptbandit_request_id", default=None)
_LOGGER = logging.getLogger("promptbandit")
_NUMBERS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_encode = msgspec.json.Encoder(enc_hook=str).encode


def configure_logging(level: str) -> None:
    """Write events of `level` and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(level.upper())
    _LOGGER.propagate = False


def log(event: str, *, level: str = "info", error: BaseException | str | None = None, **fields: Any) -> None:
    """One event; an exception is logged with its place in the code, not with its values."""
    number = _NUMBERS[level]
    if not _LOGGER.isEnabledFor(number):
        return
    line = _line(level, event) | fields
    if isinstance(error, BaseException):
        line |= _where(type(error), error.__traceback__)
    elif error is not None:
        line["error"] = error
    _LOGGER.log(number, _encode(line).decode())


class JsonLines(logging.Formatter):
    """What libraries log, in the same form: their words, and of an exception only its kind and place.

    The text of an exception may hold what somebody sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line = _line(record.levelname.lower(), "library")
        line |= {"logger": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[0]:
            line |= _where(record.exc_info[0], record.exc_info[2])
        return _encode(line).decode()


# For the logging of `serve` itself: the HTTP server's words and those of every library, from warnings upwards.
LIBRARIES: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonLines}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}


def _line(level: str, event: str) -> dict[str, Any]:
    line: dict[str, Any] = {"at": dt.datetime.now(dt.UTC), "level": level, "event": event}
    request_id = REQUEST_ID.get()
    return line if request_id is None else line | {"request_id": request_id}


def _where(kind: type[BaseException], trace: TracebackType | None) -> dict[str, Any]:
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
    return {"error": kind.__name__, "trace": places}
