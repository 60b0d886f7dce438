"""What a model may answer, one record a stage; a field that is not here is refused.

Docstrings and descriptions of these records are sent to the model as parts of the schema. Every field is
required and "nothing" is null, because that is what structured output enforces; lengths it does not
enforce, so `read_answer` checks them again. There is no field for counts (code counts), for a whole new
prompt, for tools, or for a chain of thought.
"""

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

Stage = Literal["map", "reduce", "propose", "critic"]
STAGES: tuple[Stage, ...] = get_args(Stage)

Fault = Literal["agent_prompt", "agent_model", "tool_or_backend", "policy", "caller", "transcription"]
Category = Literal[
    "missing_knowledge",
    "wrong_information",
    "ignored_request",
    "asked_again",
    "wrong_tool",
    "unneeded_transfer",
    "bad_tone",
    "too_long",
    "misheard",
    "other",
]
EditOperation = Literal["insert_before", "insert_after", "replace", "delete"]

MAX_PATTERNS = 8  # of one report; the rules say it, code keeps the first ones
MAX_SUGGESTIONS = 3

_Label = Annotated[str, Meta(min_length=1, max_length=50)]
_Short = Annotated[str, Meta(min_length=1, max_length=300)]
_Long = Annotated[str, Meta(max_length=4_000)]
_Quote = Annotated[
    str, Meta(min_length=1, max_length=1_000, description="copied character by character from one turn")
]
_Turn = Annotated[int, Meta(ge=0, le=10_000, description="the number of the turn in its call")]
_Section = Annotated[str, Meta(max_length=300, description="words of the prompt that this is about")]


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record that a model fills in."""


class Note(Answer, frozen=True, kw_only=True):
    """One thing that went wrong in the call, or was done well."""

    fault: Fault
    category: Category
    root_cause: _Long
    turn: _Turn
    quote: _Quote
    prompt_section: _Section | None


class Notes(Answer, frozen=True, kw_only=True):
    """What there is to say about one call; optimal means that no other prompt would have done better."""

    optimal: bool
    notes: Annotated[list[Note], Meta(max_length=20)]


class Evidence(Answer, frozen=True, kw_only=True):
    """Where a pattern is seen."""

    call: _Label
    turn: _Turn
    quote: _Quote


class Pattern(Answer, frozen=True, kw_only=True):
    """Something that goes wrong in several calls for one reason."""

    key: _Label
    title: _Short
    fault: Fault
    category: Category
    root_cause: _Long
    failing_evidence: Annotated[list[Evidence], Meta(max_length=100)]
    counter_evidence: Annotated[list[Evidence], Meta(max_length=100)]
    prompt_section: _Section | None


class Patterns(Answer, frozen=True, kw_only=True):
    """The patterns, the most frequent first."""

    patterns: Annotated[list[Pattern], Meta(max_length=50)]


class Edit(Answer, frozen=True, kw_only=True):
    """One change of the prompt. The anchor is text that occurs exactly once in it; text is null to delete."""

    op: EditOperation
    anchor: Annotated[str, Meta(min_length=1, max_length=2_000)]
    text: Annotated[str, Meta(max_length=8_000)] | None


class Suggestion(Answer, frozen=True, kw_only=True):
    """A change that addresses the named patterns."""

    title: _Short
    addresses: Annotated[list[_Label], Meta(max_length=20)]
    edits: Annotated[list[Edit], Meta(max_length=20)]
    expected_effect: _Long
    risk: _Long
    regression_watch: Annotated[list[_Short], Meta(max_length=20)]


class Report(Answer, frozen=True, kw_only=True):
    """The suggestions, or why there is none."""

    warrants_change: bool
    no_change_reason: _Long | None
    suggestions: Annotated[list[Suggestion], Meta(max_length=20)]


class Critique(Answer, frozen=True, kw_only=True):
    """The strongest objection to a change, and the intents that it may harm."""

    verdict: Literal["sound", "doubtful", "harmful"]
    objection: _Long
    intents_at_risk: Annotated[list[_Short], Meta(max_length=20)]


ANSWERS: dict[Stage, type[Answer]] = {
    "map": Notes,
    "reduce": Patterns,
    "propose": Report,
    "critic": Critique,
}
