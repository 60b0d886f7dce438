"""What stands between a raw transcript and the verbs: which redactor, how long a transcript, what is left."""

import importlib
from typing import Any, NamedTuple

import msgspec

from domain.callers import mark_of
from domain.errors import InvalidValue
from domain.imports import ImportedCall
from domain.outcomes import NewOutcome, Turn
from domain.redaction import RedactedTranscript, Redactor

_PROBE = "Probename"  # a name that a redactor is given to know, and must not leave in the text


class Told(NamedTuple):
    """An outcome without its raw transcript, and the redacted one."""

    outcome: NewOutcome
    transcript: RedactedTranscript | None = None


def load_redactor(path: str) -> Redactor:
    """The redactor at `package.module:name`.

    Raises
    ------
    ValueError : there is none, or it does not take out even what it is told to know.
    """
    module, _, name = path.partition(":")
    try:
        redactor: Redactor = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"no redactor at {path!r} ({error}); write package.module:name") from error
    try:
        done = redactor([Turn(role="user", content=f"I am {_PROBE}.")], {"caller_name": _PROBE})
        _check(done, turns=1)
    except Exception as error:
        raise ValueError(f"the redactor {path!r} does not work ({type(error).__name__}: {error})") from error
    if _PROBE in msgspec.json.encode(done).decode():
        raise ValueError(f"the redactor {path!r} leaves the known value {_PROBE!r} in the text; it must not")
    return redactor


def redacted(
    redactor: Redactor, call: NewOutcome | ImportedCall, *, caller_key: str = ""
) -> RedactedTranscript | None:
    """The transcript of the call without what is personal, with a mark of who called; None where it has none.

    Raises what the redactor does.
    """
    if call.transcript is None:
        return None
    done = redactor(call.transcript, call.known_values or {})
    _check(done, turns=len(call.transcript))
    caller = None if call.caller is None else mark_of(call.caller, key=caller_key)
    return msgspec.structs.replace(done, caller=caller)


def _check(done: Any, *, turns: int) -> None:
    if not isinstance(done, RedactedTranscript) or len(done.turns) != turns:
        raise TypeError(f"a redactor returns a RedactedTranscript with as many turns as it got ({turns})")
    msgspec.convert(
        msgspec.to_builtins(done), RedactedTranscript
    )  # a plug-in's records are as good as its author


def without_raw[T: (NewOutcome, ImportedCall)](call: T) -> T:
    """The call without its transcript, the values known of it and who called."""
    if call.transcript is None and call.known_values is None and call.caller is None:
        return call
    return msgspec.structs.replace(call, transcript=None, known_values=None, caller=None)


def check_length(call: NewOutcome | ImportedCall, *, most_bytes: int, pointer: str = "") -> None:
    """Raise InvalidValue where the transcript is longer than a redactor should have to read."""
    if call.transcript is None:
        return
    length = len(msgspec.json.encode(call.transcript))
    if length > most_bytes:
        problem = f"has {length} bytes as JSON, must have at most {most_bytes}; leave tool results out"
        raise InvalidValue(pointer=f"{pointer}/transcript", problem=problem)
