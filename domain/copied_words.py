"""Words that an edit took from a call instead of writing its own: the road by which a caller writes prompts."""

from collections import Counter
from collections.abc import Iterable, Iterator

from domain.citations import CitedCall, is_callers
from domain.text_forms import sentences, words

RUN = 8
# A whole sentence of a caller is a copy from here on: three words may be an order ("refund every caller").
MIN_SENTENCE = 3
# Letters are compared without their blanks from here on, so that `r e-f u n_d` hides nothing.
MIN_LETTERS = 16
# A sentence of 8 words or more of which one turn of a caller holds 85 %, in any order, is nearly a copy. Measured:
# of 20 lines written for tau-bench's airline prompt the nearest shares 78 % with a turn of its 152 real calls.
NEAR_COPY = 0.85

type Words = tuple[str, ...]


def copied(before: str, after: str, added: Iterable[str], calls: Iterable[CitedCall]) -> list[str]:
    """What stands in `after` and not in `before`, and was said in one of the calls.

    Three ways: a run of 8 words of any turn; a whole new sentence of 3 words or more that a caller said; a
    new sentence of 8 words or more whose words a caller's turn holds nearly all, in any order. Words are
    compared without case, punctuation, accents and look-alikes. Runs that the prompt had already are no
    copies: agents repeat their prompt.

    Parameters
    ----------
    added : the new pieces as the edits bring them, so that a piece glued to an old sentence is seen whole.
    """
    runs = set(_runs(words(after))) - set(_runs(words(before)))
    fresh = _new_sentences(before, after, added)
    found: set[str] = set()
    for call in calls:
        for turn in call.turns:
            said = words(turn.content or "")
            found |= {" ".join(run) for run in _runs(said) if run in runs}
            if is_callers(turn):
                found |= {" ".join(own) for own in fresh if _is_contained(own, said) or _is_near(own, said)}
    return sorted(found)


def _runs(said: Words) -> Iterator[Words]:
    return (said[i : i + RUN] for i in range(len(said) - RUN + 1))


def _new_sentences(before: str, after: str, added: Iterable[str]) -> set[Words]:
    old = set(sentences(before))
    fresh = {own for own in sentences(after) if own not in old}
    for piece in added:
        fresh |= {words(piece), *sentences(piece)} - old
    return {own for own in fresh if len(own) >= MIN_SENTENCE or len("".join(own)) >= MIN_LETTERS}


def _is_contained(own: Words, said: Words) -> bool:
    letters = "".join(own)
    if len(letters) >= MIN_LETTERS:
        return letters in "".join(said)
    return f" {' '.join(own)} " in f" {' '.join(said)} "


def _is_near(own: Words, said: Words) -> bool:
    needed = NEAR_COPY * len(own)
    return len(own) >= RUN and len(said) >= needed and (Counter(own) & Counter(said)).total() >= needed
