"""Suggestions: edits of a prompt that somebody or something proposes, and what a manager says to them."""

import datetime as dt
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from domain.citations import Citation
from domain.edits import MAX_EDITS, Edit
from domain.errors import InvalidValue
from domain.fields import (
    NAME_PATTERN,
    NO_CONTROL_CHARACTERS,
    TEXT_PATTERN,
    ContentHash,
    Id,
    JsonObject,
    Name,
    PromptText,
    Record,
    Request,
    UnitId,
)
from domain.unseen import added_invisible

SuggestionStatus = Literal["pending", "approved", "rejected", "stale"]
OPTIMIZER = "optimizer"
MAX_EVIDENCE = 100
MAX_READ = 100  # the gate takes 5 ms a call
_Prose = Annotated[str, Meta(max_length=4_000)]


class SuggestionEvidence(Citation, frozen=True, kw_only=True):
    """A quote that a suggestion rests on, and the key of the pattern that it belongs to."""

    pattern: Annotated[str, Meta(max_length=100)] | None = None


class NewSuggestion(Request, frozen=True, kw_only=True):
    """`POST /suggestions`: `edits` or the whole `system_prompt`; the gate decides whether anybody is asked.

    Attributes
    ----------
    parent_version_id : What it changes; the active version where it is left out.
    origin : Who or what wrote it: `optimizer`, `person`, `gepa`, ...
    read : Calls that its author read beside those it cites: no words of theirs may come with it.
    patterns : As code counted them, for the person who decides.
    """

    prompt: Name
    parent_version_id: Id | None = None
    origin: Annotated[str, Meta(min_length=1, max_length=50, pattern=NAME_PATTERN)]
    title: Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_CONTROL_CHARACTERS)]
    edits: Annotated[list[Edit], Meta(min_length=1, max_length=MAX_EDITS)] | None = None
    system_prompt: PromptText | None = None
    evidence: Annotated[list[SuggestionEvidence], Meta(max_length=MAX_EVIDENCE)] = msgspec.field(
        default_factory=list
    )
    read: Annotated[list[UnitId], Meta(max_length=MAX_READ)] = msgspec.field(default_factory=list)
    patterns: Annotated[list[JsonObject], Meta(max_length=20)] = msgspec.field(default_factory=list)
    expected_effect: _Prose = ""
    risk: _Prose = ""
    objection: _Prose | None = None
    run_id: Id | None = None
    cost_usd: Annotated[float, Meta(ge=0.0, le=1e6)] | None = None

    @property
    def needs_evidence(self) -> bool:
        """Whether it comes of reading calls: then it has to quote them."""
        return self.origin == OPTIMIZER or self.run_id is not None or bool(self.patterns)

    @property
    def prose(self) -> tuple[str, ...]:
        """What a reviewer reads beside the diff and the quotes."""
        return (self.title, self.expected_effect, self.risk, *_names_in(self.patterns))


def _names_in(patterns: list[JsonObject]) -> Iterator[str]:
    # Quotes stand in the evidence and are judged there; what a model called a pattern is prose.
    for pattern in patterns:
        yield from (value for value in pattern.values() if isinstance(value, str))


class GateFinding(Record, frozen=True, kw_only=True):
    """One check of the gate as it was when the suggestion came."""

    name: str
    passed: bool
    detail: str


class Suggestion(Record, frozen=True, kw_only=True):
    """A suggestion that passed the gate.

    Attributes
    ----------
    text_hash : The `content_hash` that a version made of it has. Whoever approves repeats it.
    diff : Unified, from the parent's text.
    growth, changed_share : Characters gained; the share of the parent's that is removed or replaced.
    reason : Why it was rejected, or became stale.
    version_id : The version made of it.
    """

    id: int
    prompt: str
    parent_version_id: int
    run_id: int | None
    status: SuggestionStatus
    origin: str
    title: str
    system_prompt: str
    text_hash: str
    edits: list[Edit]
    diff: str
    evidence: list[SuggestionEvidence]
    patterns: list[JsonObject]
    expected_effect: str
    risk: str
    objection: str | None
    gate: list[GateFinding]
    growth: int
    changed_share: float
    fingerprint: str
    cost_usd: float | None
    proposed_by: str
    created_at: dt.datetime
    decided_at: dt.datetime | None = None
    decided_by: str | None = None
    reason: str | None = None
    version_id: int | None = None


class LedgerEntry(Record, frozen=True, kw_only=True):
    """What became of an earlier suggestion, for whoever writes the next one."""

    suggestion_id: int
    fingerprint: str
    title: str
    status: SuggestionStatus
    reason: str | None


class ApproveSuggestion(Request, frozen=True, kw_only=True):
    """`POST /suggestions/{id}/approve`: `text_hash` is that of the text which was read."""

    text_hash: ContentHash


class RejectSuggestion(Request, frozen=True, kw_only=True):
    """`POST /suggestions/{id}/reject`: the next run reads the reason."""

    reason: Annotated[str, Meta(min_length=1, max_length=1_000, pattern=TEXT_PATTERN)]


class Approval(Record, frozen=True, kw_only=True):
    """What an approval made: an inactive version and, where an experiment runs, a variant.

    Attributes
    ----------
    share_bp : What the variant gets of the calls, in basis points.
    note : Why there is no variant.
    """

    suggestion: Suggestion
    version_id: int | None = None
    experiment: str | None = None
    variant: str | None = None
    share_bp: int | None = None
    note: str | None = None


def check_new_suggestion(new: NewSuggestion) -> None:
    """Raise InvalidValue unless every field is within its bounds and there is one text to judge."""
    try:  # a record that was made in code is as good as its author; one bad row would spoil every list
        msgspec.convert(msgspec.to_builtins(new), NewSuggestion)
    except msgspec.ValidationError as error:
        raise InvalidValue(pointer="", problem=str(error)[:300]) from error
    if (new.edits is None) == (new.system_prompt is None):
        problem = "give edits or system_prompt, one of both"
        raise InvalidValue(pointer="/edits", problem=problem)
    # The gate does not judge what a critic says against the suggestion, but nobody is shown what cannot be seen.
    if new.objection and added_invisible("", new.objection):
        raise InvalidValue(
            pointer="/objection", problem="holds characters that nobody can see; leave them out"
        )
