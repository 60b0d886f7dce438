"""The steps of a run between two questions: pure, from what one stage answered to what the next one is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from domain.citations import Citation, citation_problem
from domain.fields import Record
from optimizer import patterns as counted
from optimizer.answers import MAX_PATTERNS, Evidence, Note, Notes, Pattern, Patterns
from optimizer.plan import Plan
from optimizer.requests import CountedPattern, LlmRequest, NoteOfCall, map_request
from optimizer.sampling import Sample
from optimizer.window import Material, ReadCall, labelled

MIN_CALLS = 2  # a pattern of a single call is none
MAX_EVIDENCE = 10  # quotes a pattern that a reviewer sees


class Found(Record, frozen=True, kw_only=True):
    """What the calls have in common: what an edit can mend, and what a person has to know."""

    read: int
    fixable: tuple[CountedPattern, ...]
    not_fixable: tuple[CountedPattern, ...]
    counts: Mapping[str, counted.Pattern]


def map_requests(material: Material, plan: Plan, *, seed: str) -> list[tuple[ReadCall, LlmRequest[Notes]]]:
    """One question a call, about the prompt that answered it."""
    asking = plan.asking("map", seed=seed)
    asked = [
        (item, map_request(item.call, prompt=material.prompts[item.variant], asking=asking))
        for item in material.calls
    ]
    return [(item, replace(request, unit_id=item.unit_id)) for item, request in asked]


def notes_of(call: ReadCall, answer: Notes) -> list[NoteOfCall]:
    """The notes of a call. A quote that is not in its turn is no note: it was made up."""
    return [
        NoteOfCall(call=call.call.label, failed=call.call.failed, segment=call.call.segment, note=note)
        for note in answer.notes
        if is_true(call, note.turn, note.quote)
    ]


def is_true(call: ReadCall, turn: int, quote: str) -> bool:
    """Whether the gate would take this quote as one."""
    citation = Citation(unit_id=call.unit_id, turn=turn, quote=quote)
    return citation_problem(citation, {call.unit_id: call.cited}) is None


def found_in(answer: Patterns, notes: Sequence[NoteOfCall], drawn: Sample) -> Found:
    """The patterns that the model named, with what code counts. Evidence is what the notes say, nothing else."""
    calls = labelled(drawn)
    units = {item.label: item.unit_id for item in calls}
    labels = {unit_id: label for label, unit_id in units.items()}
    named = {f"p{number}": pattern for number, pattern in enumerate(answer.patterns[:MAX_PATTERNS], start=1)}
    chosen = _chosen(named, [item for item in notes if item.failed])
    counts = counted.reduce(
        [_note_to_count(units[label], note) for label, (_, note) in chosen.items()],
        {units[label]: key for label, (key, _) in chosen.items()},
        drawn,
    )
    segments = {item.label: item.segment for item in calls}
    good = {(item.call, item.note.turn, item.note.quote) for item in notes if not item.failed}

    def told(own: counted.Pattern) -> CountedPattern:
        pattern = _told(own, named[own.key], labels, good)
        seen = {segments[item.call] for item in pattern.failing_evidence} - {""}
        return CountedPattern(
            pattern=pattern, calls=own.calls, share=own.share_of_failing, segments=tuple(sorted(seen))
        )

    several = [own for own in counts.fixable if own.calls >= MIN_CALLS]
    return Found(
        read=len({item.call for item in notes if item.failed}),
        fixable=tuple(told(own) for own in several),
        not_fixable=tuple(told(own) for own in counts.not_fixable),
        counts={own.key: own for own in several},
    )


def _chosen(named: Mapping[str, Pattern], notes: Sequence[NoteOfCall]) -> dict[str, tuple[str, Note]]:
    """Of each failing call the first pattern that claims a note of it: a call counts once."""
    written = {(item.call, item.note.turn, item.note.quote): item.note for item in notes}
    chosen: dict[str, tuple[str, Note]] = {}
    for key, pattern in named.items():
        for item in pattern.failing_evidence:
            note = written.get((item.call, item.turn, item.quote))
            if note is not None:
                chosen.setdefault(item.call, (key, note))
    return chosen


def _note_to_count(unit_id: str, note: Note) -> counted.Note:
    return counted.Note(
        unit_id=unit_id, fault=note.fault, category=note.category, turn=note.turn, quote=note.quote
    )


def _told(
    own: counted.Pattern,
    named: Pattern,
    labels: Mapping[str, str],
    good: set[tuple[str, int, str]],
) -> Pattern:
    """The model's words with the evidence that code found; fault and category are those of the notes."""
    return Pattern(
        key=own.key,
        title=named.title,
        fault=own.fault,
        category=named.category,
        root_cause=named.root_cause,
        failing_evidence=[
            Evidence(call=labels[note.unit_id], turn=note.turn, quote=note.quote) for note in own.evidence
        ],
        counter_evidence=[
            item for item in named.counter_evidence if (item.call, item.turn, item.quote) in good
        ],
        prompt_section=named.prompt_section,
    )
