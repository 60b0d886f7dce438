"""Suggestions on their way to the door: a model's edits with evidence and counts that code put to them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from domain import edits as domain_edits
from domain.edits import edits_between
from domain.errors import InvalidValue
from domain.fields import Record
from optimizer.answers import MAX_SUGGESTIONS, Critique, Edit, Evidence, Report, Suggestion
from optimizer.provider import Failed
from optimizer.requests import EarlierSuggestion
from optimizer.stages import MAX_EVIDENCE, Found
from storage.optimizer_runs import PastSuggestion

MAX_TITLE = 200
MAX_PROSE = 4_000
EARLIER = 20  # suggestions that the next one is told of


class CandidateEvidence(Record, frozen=True, kw_only=True):
    """A quote, where it stands, and the pattern that it is evidence of."""

    unit_id: str
    turn: int
    quote: str
    pattern: str


class Candidate(Record, frozen=True, kw_only=True):
    """What is handed to the door, which judges it and stores it."""

    prompt: str
    parent_version_id: int
    title: str
    edits: tuple[domain_edits.Edit, ...]
    evidence: tuple[CandidateEvidence, ...]
    patterns: tuple[Mapping[str, Any], ...]
    expected_effect: str
    risk: str
    objection: str | None
    run_id: int
    cost_usd: float
    origin: Literal["optimizer"] = "optimizer"
    system_prompt: str | None = None


def suggestions_of(report: Report) -> tuple[Suggestion, ...]:
    """At most three; none where the model says that nothing is warranted."""
    return tuple(report.suggestions[:MAX_SUGGESTIONS]) if report.warrants_change else ()


def evidence_for(suggestion: Suggestion, found: Found) -> list[tuple[str, Evidence]]:
    """The quotes of the patterns that it addresses, with the pattern's key; a key that there is not brings none."""
    return [
        (item.pattern.key, quote)
        for item in found.fixable
        if item.pattern.key in suggestion.addresses
        for quote in item.pattern.failing_evidence[:MAX_EVIDENCE]
    ]


def cited(
    evidence: Sequence[tuple[str, Evidence]], units: Mapping[str, str]
) -> tuple[CandidateEvidence, ...]:
    """The evidence under the calls' own ids; `units` are those by label."""
    return tuple(
        CandidateEvidence(unit_id=units[quote.call], turn=quote.turn, quote=quote.quote, pattern=key)
        for key, quote in evidence
    )


def candidate_of(
    suggestion: Suggestion,
    found: Found,
    evidence: Sequence[CandidateEvidence],
    *,
    objection: str | None,
    prompt: str,
    parent_version_id: int,
    run_id: int,
    cost_usd: float,
) -> Candidate:
    """The suggestion as the door takes it."""
    addressed = [item for item in found.fixable if item.pattern.key in suggestion.addresses]
    return Candidate(
        prompt=prompt,
        parent_version_id=parent_version_id,
        title=" ".join(suggestion.title.split())[:MAX_TITLE],
        edits=tuple(domain_edits.Edit(op=e.op, anchor=e.anchor, text=e.text or "") for e in suggestion.edits),
        evidence=tuple(evidence),
        patterns=tuple(_pattern(found, item.pattern.key) for item in addressed),
        expected_effect=suggestion.expected_effect,
        risk=suggestion.risk,
        objection=objection,
        run_id=run_id,
        cost_usd=cost_usd,
    )


def _pattern(found: Found, key: str) -> dict[str, Any]:
    """Words of the model beside numbers of ours; quotes stand in the evidence."""
    named = next(item for item in found.fixable if item.pattern.key == key)
    numbers: dict[str, Any] = msgspec.to_builtins(found.counts[key])
    numbers.pop("evidence")
    words = {"title": named.pattern.title, "root_cause": named.pattern.root_cause}
    return numbers | words | {"segments": list(named.segments), "read": found.read}


def objection_of(answer: Critique | Failed) -> str:
    """The critic's words for the reviewer; that there are none is told as well."""
    if isinstance(answer, Failed):
        return f"(the critic gave no answer: {answer.status})"
    at_risk = f" At risk: {', '.join(answer.intents_at_risk)}." if answer.intents_at_risk else ""
    return f"{answer.verdict}: {answer.objection}{at_risk}"[:MAX_PROSE]


def earlier_of(past: Sequence[PastSuggestion]) -> list[EarlierSuggestion]:
    """What was suggested before, as edits of the prompt that it was about."""
    told = []
    for item in past[:EARLIER]:
        try:
            found = edits_between(item.before, item.after)
        except InvalidValue:
            continue
        told.append(
            EarlierSuggestion(
                title=f"suggestion {item.id}",
                edits=tuple(Edit(op=e.op, anchor=e.anchor, text=e.text or None) for e in found),
                status=item.status,
                reason=item.reason,
            )
        )
    return told
