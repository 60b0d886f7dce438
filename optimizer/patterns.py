"""What failing calls have in common, counted by code: a model names the patterns, it never counts them."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, get_args

from msgspec import Meta

from domain.errors import InvalidValue
from domain.fields import Record, Request, UnitId
from domain.text_forms import shown
from engine.proportions import wilson_interval
from engine.statistics import BinaryCounts
from optimizer.sampling import Sample, SampledCall

Fault = Literal["agent_prompt", "agent_model", "tool_or_backend", "policy", "caller", "transcription"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
# A model that ignores what its prompt says already is not helped by saying it again.
FIXABLE: frozenset[Fault] = frozenset({"agent_prompt"})
MAX_PATTERNS = 8
_KEY = re.compile(r"[a-z][a-z0-9_]{0,49}", re.ASCII)


class Note(Request, frozen=True, kw_only=True):
    """What the reading of one failing call found: who is at fault first, then what, and where it shows."""

    unit_id: UnitId
    fault: Fault
    category: Annotated[str, Meta(min_length=1, max_length=100)]
    turn: Annotated[int, Meta(ge=0, le=2_000)]
    quote: Annotated[str, Meta(min_length=1, max_length=2_000)]


class Pattern(Record, frozen=True, kw_only=True):
    """Calls that failed in one way.

    Attributes
    ----------
    fault, category : The most frequent ones of its notes.
    calls : How many of the calls that were read show it; `share` of them, with Wilson's 95 % interval.
    share_of_failing : The share of all failing calls, each call that was read weighted by 1 / propensity:
        the sample favours small strata, the population does not.
    evidence : The notes, by unit_id.
    """

    key: str
    fault: Fault
    category: str
    calls: int
    share: float
    share_lower: float
    share_upper: float
    share_of_failing: float
    evidence: tuple[Note, ...]


class Patterns(Record, frozen=True, kw_only=True):
    """What was found in the calls that were read, the most frequent first.

    `not_fixable` is what no prompt can mend (tools, policy, callers, ...): for a person, never for an edit.
    `unassigned` are calls with a note that belongs to no pattern.
    """

    read: int
    fixable: tuple[Pattern, ...]
    not_fixable: tuple[Pattern, ...]
    unassigned: tuple[str, ...]


def reduce(notes: Sequence[Note], keys: Mapping[str, str], drawn: Sample) -> Patterns:
    """Group notes into patterns and count.

    Parameters
    ----------
    notes : at most one a call, of failing calls in the half that is read.
    keys : the pattern of each call, by unit_id; a call may be left out.
    drawn : the sample that the notes are about.

    Returns
    -------
    A pattern never mixes what a prompt can mend with what it cannot: notes with one key but faults of both
    kinds become two patterns, one in each list.

    Raises
    ------
    InvalidValue : a note or key of a call that was not read, two notes of a call, a key that is no name,
        more than 8 keys.
    """
    propensity = {call.unit_id: call.propensity for call in read_half(drawn)}
    _check_notes(notes, propensity)
    _check_keys(keys, {note.unit_id for note in notes})
    weights = {note.unit_id: 1 / propensity[note.unit_id] for note in notes}
    groups: dict[tuple[bool, str], list[Note]] = {}
    for note in sorted(notes, key=lambda note: note.unit_id):
        if note.unit_id in keys:
            groups.setdefault((note.fault in FIXABLE, keys[note.unit_id]), []).append(note)
    fixable, not_fixable = (
        _ranked([_pattern(key, own, weights) for (mends, key), own in groups.items() if mends is wanted])
        for wanted in (True, False)
    )
    return Patterns(
        read=len(notes),
        fixable=fixable,
        not_fixable=not_fixable,
        unassigned=tuple(sorted(note.unit_id for note in notes if note.unit_id not in keys)),
    )


def read_half(drawn: Sample) -> tuple[SampledCall, ...]:
    """The failing calls that a model may see."""
    return tuple(call for call in drawn.failing if call.half == "read")


def _check_notes(notes: Sequence[Note], read: Mapping[str, float]) -> None:
    seen: set[str] = set()
    for number, note in enumerate(notes):
        pointer = f"/notes/{number}/unit_id"
        if note.unit_id not in read:
            problem = f"call '{shown(note.unit_id)}' is not in the half of the sample that is read"
            raise InvalidValue(pointer=pointer, problem=problem)
        if note.unit_id in seen:
            problem = f"call '{shown(note.unit_id)}' has two notes; keep the one that explains the failure"
            raise InvalidValue(pointer=pointer, problem=problem)
        seen.add(note.unit_id)


def _check_keys(keys: Mapping[str, str], noted: set[str]) -> None:
    for unit_id, key in keys.items():
        if unit_id not in noted:
            raise InvalidValue(pointer="/keys", problem=f"call '{shown(unit_id)}' has no note; leave it out")
        if not _KEY.fullmatch(key):
            problem = f"'{shown(key)}' is no key; use up to 50 of a to z, 0 to 9 and '_', a letter first"
            raise InvalidValue(pointer="/keys", problem=problem)
    if len(set(keys.values())) > MAX_PATTERNS:
        problem = f"{len(set(keys.values()))} patterns, at most {MAX_PATTERNS}; merge those with one cause"
        raise InvalidValue(pointer="/keys", problem=problem)


def _pattern(key: str, own: Sequence[Note], weights: Mapping[str, float]) -> Pattern:
    interval = wilson_interval(BinaryCounts(n=[len(weights)], successes=[len(own)]))
    faults, categories = [note.fault for note in own], [note.category for note in own]
    return Pattern(
        key=key,
        fault=max(FAULTS, key=faults.count),
        category=max(sorted(set(categories)), key=categories.count),
        calls=len(own),
        share=len(own) / len(weights),
        share_lower=float(interval.lower[0]),
        share_upper=float(interval.upper[0]),
        share_of_failing=sum(weights[note.unit_id] for note in own) / sum(weights.values()),
        evidence=tuple(own),
    )


def _ranked(patterns: Sequence[Pattern]) -> tuple[Pattern, ...]:
    return tuple(sorted(patterns, key=lambda pattern: (-pattern.calls, pattern.key)))
