"""Structured logs: one JSON line an event, on standard error. Never a prompt, a transcript or a key."""

import datetime as dt
import logging
import sys
import traceback
from typing import Any

import msgspec

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
    line: dict[str, Any] = {"at": dt.datetime.now(dt.UTC), "level": level, "event": event, **fields}
    if isinstance(error, BaseException):
        line["error"] = type(error).__name__
        line["trace"] = [
            f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)
        ]
    elif error is not None:
        line["error"] = error
    _LOGGER.log(number, _encode(line).decode())
