"""What a suggestion rests on: quotes of calls, each found word for word in the turn that it names."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta

from domain.fields import Record, Request, UnitId
from domain.outcomes import Turn
from domain.text_forms import is_invisible, quoted_form, words

# "yes" stands in every call; a quote says something.
MIN_QUOTE_WORDS = 2
MIN_QUOTE_CHARACTERS = 8
# Two people say the same six words by chance now and then, eight hardly ever: then it is one voice.
SAME_VOICE_WORDS = 8
AGENT_ROLES = frozenset({"assistant", "agent", "tool", "system", "function", "developer"})


class Citation(Request, frozen=True, kw_only=True):
    """A quote as evidence: the call, the turn (counted from 0) and the words."""

    unit_id: UnitId
    turn: Annotated[int, Meta(ge=0, le=2_000)]
    quote: Annotated[str, Meta(min_length=1, max_length=2_000)]


class CitedCall(Record, frozen=True, kw_only=True):
    """A call that may be cited; `caller` is who called (a stable pseudonym), None where nobody knows."""

    unit_id: str
    turns: tuple[Turn, ...]
    caller: str | None = None


def is_verbatim(quote: str, turn: str) -> bool:
    """Whether the quote stands in the turn, whole words at both ends.

    Line breaks, runs of blanks and the shape of quotation marks and dashes may differ, nothing else. A quote
    with an invisible character is never verbatim: nobody could see that it is in the call.

    >>> is_verbatim("I want  a refund", "Hello, I want a refund.")
    True
    >>> is_verbatim("I want a fun", "Hello, I want a funny refund.")
    False
    """
    if any(is_invisible(c) for c in quote):
        return False
    wanted, told = quoted_form(quote), quoted_form(turn)
    start = told.find(wanted) if wanted else -1
    while start >= 0:
        if not _inside_a_word(told, start) and not _inside_a_word(told, start + len(wanted)):
            return True
        start = told.find(wanted, start + 1)
    return False


def _inside_a_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum()


def citation_problem(citation: Citation, calls: Mapping[str, CitedCall]) -> str | None:
    """Why the citation proves nothing, or None."""
    call = calls.get(citation.unit_id)
    if call is None:
        return "names a call that was not read"
    if not 0 <= citation.turn < len(call.turns):
        return f"names turn {citation.turn} of {len(call.turns)} (counted from 0)"
    if (
        len(words(citation.quote)) < MIN_QUOTE_WORDS
        or len(quoted_form(citation.quote)) < MIN_QUOTE_CHARACTERS
    ):
        return "is too short to prove anything"
    if not is_verbatim(citation.quote, call.turns[citation.turn].content or ""):
        return "is not found word for word in its turn"
    return None


def voices(citations: Sequence[Citation], calls: Mapping[str, CitedCall]) -> int:
    """How many different callers the citations come from; none of them may have a `citation_problem`.

    A call whose caller nobody knows counts as one of its own. Calls in which the callers say the same
    throughout, and quotes of callers that share 8 words or more and are equal, are one voice: so somebody
    who calls 200 times from 200 numbers stays one.
    """
    groups: list[set[str]] = []
    for citation in citations:
        marks = _marks(citation, calls[citation.unit_id])
        joined = [group for group in groups if group & marks]
        groups = [group for group in groups if not group & marks]
        groups.append(marks.union(*joined))
    return len(groups)


def _marks(citation: Citation, call: CitedCall) -> set[str]:
    marks = {f"call {call.unit_id}" if call.caller is None else f"caller {call.caller}"}
    said = words(" ".join(turn.content or "" for turn in call.turns if is_callers(turn)))
    if said:
        marks.add(f"says {' '.join(said)}")
    quoted = words(citation.quote)
    if len(quoted) >= SAME_VOICE_WORDS and is_callers(call.turns[citation.turn]):
        marks.add(f"quotes {' '.join(quoted)}")
    return marks


def is_callers(turn: Turn) -> bool:
    """Whether the caller spoke: any role that is not the agent's or a tool's."""
    return turn.role.casefold() not in AGENT_ROLES
