"""A redactor of somebody else, named by a setting: ours, one more kind, and a fault."""

from collections.abc import Sequence

import msgspec

from domain import redaction
from domain.outcomes import Turn
from domain.redaction import RedactedTranscript
from domain.redaction.known_values import KnownValues


def redact(turns: Sequence[Turn], known: KnownValues) -> RedactedTranscript:
    if any(turn.content == "please fail" for turn in turns):
        raise RuntimeError(f"cannot read {[turn.content for turn in turns]}")
    done = redaction.redact(turns, known)
    return msgspec.structs.replace(done, redactions=done.redactions | {"PLUGGED": 1})
