"""The gate: what must hold before a person is asked about a suggestion. No model is asked, ever.

A suggestion comes from a model that read what anonymous callers said, or from another tool; either way it
is hostile until every check has passed. `docs/optimizer.md` lists the checks (a test compares).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

from msgspec import Meta

from domain.changes import Changes, changes_of
from domain.citations import Citation, CitedCall, citation_problem, voices
from domain.contacts import added_contacts
from domain.copied_words import copied
from domain.edits import Edit, apply, edits_between
from domain.errors import InvalidValue
from domain.fields import MAX_PROMPT_CHARACTERS, Record, ToolsConfig
from domain.fingerprints import fingerprint
from domain.hostile_phrases import added_role_tags, added_words_to_reviewers
from domain.placeholders import placeholder_changes, protected_changes
from domain.prompts import PromptVersion, ServedVersion
from domain.text_forms import plain, shown
from domain.unseen import added_invisible, added_mixed_words

SHOWN = 5  # findings that a detail names; the rest is counted


class GateRules(Record, frozen=True, kw_only=True):
    """The bounds of the gate."""

    min_callers: Annotated[int, Meta(ge=1)] = 2
    # False for what a person wrote: without quotes there is nothing to check, with quotes all of them are.
    needs_evidence: bool = True
    max_growth: Annotated[int, Meta(ge=0)] = 1_500
    # A suggestion is an edit: whoever wants to rewrite a fifth of a prompt writes a version.
    max_changed_share: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.15


class Check(Record, frozen=True, kw_only=True):
    """One check: `detail` says what was found, also where it passed."""

    name: str
    passed: bool
    detail: str


class GateResult(Record, frozen=True, kw_only=True):
    """What the gate found, and what a version made of it would hold.

    `system_prompt` is null where the edits cannot be applied. `tools_config` is the parent's: a suggestion
    has no field for tools.
    """

    passed: bool
    checks: tuple[Check, ...]
    edits: tuple[Edit, ...]
    system_prompt: str | None
    tools_config: ToolsConfig
    growth: int
    changed_share: float
    fingerprint: str


class Case(NamedTuple):
    """What the checks look at; `problem` says why the edits cannot be applied.

    Where they cannot, `after` is the prompt followed by the edits' texts, so that the other checks still name
    what is wrong with them.
    """

    parent: PromptVersion | ServedVersion
    after: str
    problem: str | None
    changes: Changes
    citations: Sequence[Citation]
    calls: Mapping[str, CitedCall]
    prose: Sequence[str]
    ledger: Collection[str]
    rules: GateRules
    fingerprint: str

    @property
    def before(self) -> str:
        """The parent's text."""
        return self.parent.system_prompt

    @property
    def growth(self) -> int:
        """Characters that the prompt gains."""
        return len(self.after) - len(self.before)

    @property
    def changed_share(self) -> float:
        """The share of the parent's characters that is removed or replaced."""
        return self.changes.removed / max(len(self.before), 1)

    @property
    def pieces(self) -> tuple[tuple[str, str], ...]:
        """Each text that may bring something hostile, beside what was there before: prompt, prose, quotes."""
        told = (*self.prose, *(citation.quote for citation in self.citations))
        return ((self.before, self.after), *(("", text) for text in told))


def gate(
    parent: PromptVersion | ServedVersion,
    candidate: Sequence[Edit] | str,
    evidence: Sequence[Citation],
    transcripts: Iterable[CitedCall],
    ledger: Collection[str] = (),
    rules: GateRules | None = None,
    *,
    prose: Sequence[str] = (),
) -> GateResult:
    """Judge a suggestion; every check runs and is reported, also after one has failed.

    Parameters
    ----------
    parent : the version that the suggestion changes.
    candidate : its edits, or the whole new text, which becomes edits by a line diff.
    evidence : the quotes that it rests on.
    transcripts : every call whose words its author has read, not only those it cites.
    ledger : the fingerprints of suggestions that were rejected for this prompt.
    rules : bounds; the defaults where None.
    prose : what a reviewer reads beside the diff: title, expected effect, risk.

    Returns
    -------
    Equal inputs give equal results. Where `passed` is true, `system_prompt` is `apply(parent's, edits)`.
    """
    edits, after, problem = _applied(parent.system_prompt, candidate)
    case = Case(
        parent=parent,
        after=after,
        problem=problem,
        changes=changes_of(edits),
        citations=evidence,
        calls={call.unit_id: call for call in transcripts},
        prose=prose,
        ledger=ledger,
        rules=rules or GateRules(),
        fingerprint=fingerprint(parent.system_prompt, after),
    )
    return _result(case, edits, tuple(_run(name, case) for name in CHECKS))


def _result(case: Case, edits: tuple[Edit, ...], checks: tuple[Check, ...]) -> GateResult:
    return GateResult(
        passed=all(check.passed for check in checks),
        checks=checks,
        edits=edits,
        system_prompt=None if case.problem else case.after,
        tools_config=case.parent.tools_config,
        growth=case.growth,
        changed_share=case.changed_share,
        fingerprint=case.fingerprint,
    )


def _applied(prompt: str, candidate: Sequence[Edit] | str) -> tuple[tuple[Edit, ...], str, str | None]:
    edits: tuple[Edit, ...] = ()
    try:
        edits = edits_between(prompt, candidate) if isinstance(candidate, str) else tuple(candidate)
        return edits, apply(prompt, edits), None
    except InvalidValue as refused:
        texts = [candidate] if isinstance(candidate, str) else [edit.text for edit in edits]
        return edits, "\n".join([prompt, *texts]), f"{refused.pointer}: {refused}"


def _run(name: str, case: Case) -> Check:
    finding, fine = CHECKS[name]
    problem = finding(case)
    if name == "evidence" and not case.citations:
        fine = "no quotes, and none are needed"
    return Check(name=name, passed=problem is None, detail=fine if problem is None else problem)


def _anchors(case: Case) -> str | None:
    return case.problem


def _evidence(case: Case) -> str | None:
    if not case.citations and not case.rules.needs_evidence:
        return None
    problems = [
        f"evidence {number} of call '{shown(citation.unit_id)}' {problem}"
        for number, citation in enumerate(case.citations)
        if (problem := citation_problem(citation, case.calls))
    ]
    if problems:
        return _listed("quotes that prove nothing", problems)
    calls = len({citation.unit_id for citation in case.citations})
    callers = voices(case.citations, case.calls)
    if min(calls, callers) < case.rules.min_callers:
        return f"quotes of {calls} calls of {callers} callers; {case.rules.min_callers} of each are needed"
    return None


def _placeholders(case: Case) -> str | None:
    return _listed("placeholders added or lost", placeholder_changes(case.before, case.after))


def _protected(case: Case) -> str | None:
    found = protected_changes(case.before, case.after, case.parent.metadata)
    return _listed("protected text changed", found)


def _growth(case: Case) -> str | None:
    if len(case.after) > MAX_PROMPT_CHARACTERS:
        return f"{len(case.after)} characters, a prompt has at most {MAX_PROMPT_CHARACTERS}"
    if case.growth > case.rules.max_growth:
        return f"{case.growth} characters longer, at most {case.rules.max_growth}; say it shorter"
    return None


def _changed_share(case: Case) -> str | None:
    if not case.after.strip():
        return "nothing is left of the prompt"
    if case.changed_share > case.rules.max_changed_share:
        bound = case.rules.max_changed_share
        return f"{case.changed_share:.1%} of the prompt removed or replaced, at most {bound:.0%}; write a version"
    return None


def _contacts(case: Case) -> str | None:
    # A quote may tell a number, as long as the prompt does not; what is stored of calls is redacted anyway.
    pieces = [(case.before, case.after), *(("", text) for text in case.prose)]
    return _listed("addresses added", _each(added_contacts, pieces))


def _invisible_characters(case: Case) -> str | None:
    return _listed("unseen characters added", _each(added_invisible, case.pieces))


def _mixed_scripts(case: Case) -> str | None:
    pieces = [(case.before, case.after), *(("", text) for text in case.prose)]
    return _listed("words of mixed alphabets added", _each(added_mixed_words, pieces))


def _copied_words(case: Case) -> str | None:
    found = copied(case.before, case.after, case.changes.added, case.calls.values())
    return _listed("words copied from a call", found)


def _role_tags(case: Case) -> str | None:
    return _listed("roles put on", _each(added_role_tags, case.pieces))


def _reviewer_instructions(case: Case) -> str | None:
    return _listed("words to the reviewer", _each(added_words_to_reviewers, case.pieces))


def _no_change(case: Case) -> str | None:
    if plain(case.before).split() == plain(case.after).split():
        return "nothing but blanks, case or spelling of characters changes"
    return None


def _repeat(case: Case) -> str | None:
    return "the same was rejected before; see its reason" if case.fingerprint in case.ledger else None


def _each(find: Callable[[str, str], list[str]], pieces: Iterable[tuple[str, str]]) -> list[str]:
    return [item for before, after in pieces for item in find(before, after)]


def _listed(what: str, found: Sequence[str]) -> str | None:
    if not found:
        return None
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{what}: " + "; ".join(shown(item, limit=120) for item in found[:SHOWN]) + more


# In the order of a report: the check and what it says when all is well.
CHECKS: dict[str, tuple[Callable[[Case], str | None], str]] = {
    "anchors": (_anchors, "every anchor occurs exactly once"),
    "evidence": (_evidence, "every quote is found in its turn, from enough callers"),
    "placeholders": (_placeholders, "the same placeholders as before"),
    "protected": (_protected, "protected text is byte for byte the same"),
    "growth": (_growth, "the prompt grows within its bound"),
    "changed_share": (_changed_share, "little of the prompt is removed or replaced"),
    "contacts": (_contacts, "no address added"),
    "invisible_characters": (_invisible_characters, "nothing unseen added"),
    "mixed_scripts": (_mixed_scripts, "no word of mixed alphabets added"),
    "copied_words": (_copied_words, "no words of a call copied"),
    "role_tags": (_role_tags, "no role put on"),
    "reviewer_instructions": (_reviewer_instructions, "no words to the reviewer"),
    "no_change": (_no_change, "something changes"),
    "repeat": (_repeat, "not rejected before"),
}
