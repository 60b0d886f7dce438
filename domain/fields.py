"""The field types that records share, each with its bound in the annotation."""

import datetime as dt
from typing import Annotated, Any

import msgspec
from msgspec import Meta

MAX_PROMPT_CHARACTERS = 200_000
MAX_SEGMENTS = 200
OTHER_SEGMENT = "other"
BASIS_POINTS = 10_000
# `$` alone also matches before a newline at the end; JSON schema knows no `\Z`, this both read alike.
_END = r"$(?!\n)"
NO_CONTROL_CHARACTERS = rf"^[^\x00-\x1f\x7f]+{_END}"
NAME_PATTERN = rf"^\w(?:[\w.-]*\w)?{_END}"
KEY_PATTERN = rf"^\w(?:[\w .:#-]*\w)?{_END}"
METRIC_PATTERN = rf"^[a-z][a-z0-9_]*{_END}"
TEXT_PATTERN = r"\S"
HASH_PATTERN = rf"^[0-9a-f]+{_END}"
# What an error says instead of a regular expression.
PATTERNS_IN_WORDS = {
    NO_CONTROL_CHARACTERS: "text without control characters",
    NAME_PATTERN: "letters, digits, '_', '.' or '-', neither '.' nor '-' at an end",
    KEY_PATTERN: "letters, digits, spaces or any of _ . : # -, a letter, digit or '_' at both ends",
    METRIC_PATTERN: "a to z, 0 to 9 or '_', the first one a letter",
    TEXT_PATTERN: "text that is not blank",
    HASH_PATTERN: "a SHA-256 as 64 hexadecimal digits",
}


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A row or an answer: immutable, compared by value."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends: immutable, and a field we do not know is refused, not ignored."""


# Names become file names in exports: word characters, dots and dashes, no path, no leading dot.
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=NAME_PATTERN,
        description="1 to 100 letters, digits, '_', '.' or '-'; unique whatever the case",
    ),
]
ExperimentKey = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=KEY_PATTERN,
        description="1 to 100 letters, digits, spaces or any of _ . : # -; unique whatever the case",
    ),
]
VariantKey = Annotated[str, Meta(min_length=1, max_length=50, pattern=NAME_PATTERN)]
MetricName = Annotated[str, Meta(min_length=1, max_length=50, pattern=METRIC_PATTERN)]
UnitId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=NO_CONTROL_CHARACTERS,
        description="the call's id, compared byte for byte; no control characters",
    ),
]
Segment = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=NO_CONTROL_CHARACTERS,
        description="something known about the call that its variant cannot change, such as the intent",
    ),
]
PromptText = Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT_CHARACTERS, pattern=TEXT_PATTERN)]
Author = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_CONTROL_CHARACTERS)]
ContentHash = Annotated[
    str,
    Meta(
        min_length=64,
        max_length=64,
        pattern=HASH_PATTERN,
        description="`version.content_hash` of the answer that the call got",
    ),
]
MAX_ID = 2**63 - 1  # the largest integer of a database column
Id = Annotated[int, Meta(ge=1, le=MAX_ID)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
OpenProbability = Annotated[float, Meta(gt=0.0, lt=1.0)]
Time = Annotated[dt.datetime, Meta(tz=True, description="ISO 8601 with a time zone")]
JsonObject = dict[str, Any]
ToolsConfig = list[Any] | dict[str, Any]

_RESERVED_FILE_NAMES = frozenset(
    {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))}
)


def folded(name: str) -> str:
    """The form in which names are compared: `Greeting` and `greeting` are one name."""
    return name.casefold()


def is_reserved_file_name(name: str) -> bool:
    """Whether a file of this name could not be written on every system (`CON`, `nul.txt`)."""
    return folded(name).split(".", 1)[0] in _RESERVED_FILE_NAMES
