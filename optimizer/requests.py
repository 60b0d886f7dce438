"""What is sent, stage by stage: pure functions from records to a request, and a request's hash.

The rules stand in `system`, the prompt under study comes next (both are cached by the API), transcripts last.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from domain.fields import Record
from domain.optimizer_settings import OptimizerSettings
from domain.outcomes import Turn
from optimizer.answers import Answer, Critique, Edit, Evidence, Note, Notes, Pattern, Patterns, Report, Stage
from optimizer.fences import as_data, delimiter_for, fenced
from optimizer.rules import rules_for
from optimizer.schemas import schema_of

Effort = Literal["low", "medium", "high"]


class PromptUnderStudy(Record, frozen=True, kw_only=True):
    """The prompt that answered the calls; of its tools, the names."""

    system_prompt: str
    tools: tuple[str, ...] = ()


class CallToRead(Record, frozen=True, kw_only=True):
    """A redacted call. `label` is its name within the run (`c1`): a unit_id may be somebody's phone number."""

    label: str
    failed: bool
    segment: str | None
    outcomes: Mapping[str, float]
    turns: tuple[Turn, ...]


class NoteOfCall(Record, frozen=True, kw_only=True):
    """A note and the call that it is about."""

    call: str
    failed: bool
    segment: str | None
    note: Note


class CountedPattern(Record, frozen=True, kw_only=True):
    """A pattern with what code counted: calls that show it, and their share of all failing calls."""

    pattern: Pattern
    calls: int
    share: float
    segments: tuple[str, ...] = ()


class EarlierSuggestion(Record, frozen=True, kw_only=True):
    """What was suggested before, and what became of it."""

    title: str
    edits: tuple[Edit, ...]
    status: str
    reason: str | None


class Asking(Record, frozen=True, kw_only=True):
    """How a run asks: the same for all requests of a stage. `seed` is the run's secret for delimiters."""

    model: str
    max_tokens: int
    seed: str
    effort: Effort | None = None


def asking_for(settings: OptimizerSettings, stage: Stage, *, seed: str) -> Asking:
    """What the settings say about a stage; reading a call is easy, the rest is worth an effort."""
    return Asking(
        model=settings.model_of(stage),
        max_tokens=settings.optimizer_max_output_tokens,
        seed=seed,
        effort=None if stage == "map" else "medium",
    )


@dataclass(frozen=True, slots=True)
class LlmRequest[A: Answer]:
    """One question: the body that is sent, and the record that the answer must be."""

    stage: Stage
    model: str
    max_tokens: int
    body: Mapping[str, Any]
    answer: type[A]
    hash: str
    unit_id: str | None = None  # which call it is about; not sent


def map_request(call: CallToRead, *, prompt: PromptUnderStudy, asking: Asking) -> LlmRequest[Notes]:
    """What happened in this one call?"""
    return _request("map", [("prompt", prompt), ("call", _numbered(call))], Notes, asking)


def reduce_request(
    notes: Sequence[NoteOfCall], *, prompt: PromptUnderStudy, asking: Asking
) -> LlmRequest[Patterns]:
    """Which patterns do the notes show?"""
    return _request("reduce", [("prompt", prompt), ("notes", notes)], Patterns, asking)


def propose_request(
    patterns: Sequence[CountedPattern],
    *,
    earlier: Sequence[EarlierSuggestion],
    prompt: PromptUnderStudy,
    asking: Asking,
) -> LlmRequest[Report]:
    """Which edits of the prompt would help?"""
    blocks = [("prompt", prompt), ("earlier", earlier), ("patterns", patterns)]
    return _request("propose", blocks, Report, asking)


def critic_request(
    edits: Sequence[Edit], evidence: Sequence[Evidence], *, prompt: PromptUnderStudy, asking: Asking
) -> LlmRequest[Critique]:
    """What speaks against these edits? The proposer's own words are left out: they would persuade."""
    blocks = [("prompt", prompt), ("change", {"edits": list(edits), "evidence": list(evidence)})]
    return _request("critic", blocks, Critique, asking)


def _numbered(call: CallToRead) -> dict[str, Any]:
    fields = msgspec.structs.asdict(call)
    turns = [{"turn": number} | _without_nulls(turn) for number, turn in enumerate(call.turns)]
    return fields | {"outcomes": dict(call.outcomes), "turns": turns}


def _without_nulls(turn: Turn) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(turn).items() if value is not None}


def _request[A: Answer](
    stage: Stage, blocks: Sequence[tuple[str, Any]], answer: type[A], asking: Asking
) -> LlmRequest[A]:
    written = [(name, as_data(value)) for name, value in blocks]
    delimiter = delimiter_for((data for _, data in written), seed=asking.seed)
    content = [{"type": "text", "text": fenced(name, data, delimiter=delimiter)} for name, data in written]
    body = {
        "model": asking.model,
        "max_tokens": asking.max_tokens,
        "system": [_cached({"type": "text", "text": rules_for(stage, delimiter=delimiter)})],
        "messages": [{"role": "user", "content": [_cached(content[0]), *content[1:]]}],
        "output_config": _output(answer, asking),
    }
    return LlmRequest(
        stage=stage,
        model=asking.model,
        max_tokens=asking.max_tokens,
        body=body,
        answer=answer,
        hash=hash_of(body),
    )


def _cached(block: dict[str, Any]) -> dict[str, Any]:
    return block | {"cache_control": {"type": "ephemeral"}}


def _output(answer: type[Answer], asking: Asking) -> dict[str, Any]:
    effort = {} if asking.effort is None else {"effort": asking.effort}
    return {"format": {"type": "json_schema", "schema": schema_of(answer)}} | effort


def hash_of(body: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical body: the same question, byte for byte, is paid once."""
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()
