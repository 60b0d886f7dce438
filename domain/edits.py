"""Anchored edits: what a suggestion changes in a prompt, in a form that a person reviews and code can check."""

import difflib
import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from msgspec import Meta

from domain.errors import InvalidValue
from domain.fields import MAX_PROMPT_CHARACTERS, TEXT_PATTERN, Request
from domain.text_forms import shown

EditOp = Literal["insert_after", "insert_before", "replace", "delete"]
# difflib takes cubic time at worst; beyond this many pairs a block counts as one change.
MAX_PAIRS = 250_000
MAX_EDITS = 100

type Span = tuple[int, int]


class Edit(Request, frozen=True, kw_only=True):
    """One change at an anchor, a piece of the prompt that occurs exactly once in it.

    `insert_after` and `insert_before` put `text` beside the anchor and keep it, `replace` puts it in the
    anchor's place, `delete` removes the anchor (its text is empty). Nothing is added around `text`: a new
    line brings its own line end.
    """

    op: EditOp
    anchor: Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT_CHARACTERS, pattern=TEXT_PATTERN)]
    text: Annotated[str, Meta(max_length=MAX_PROMPT_CHARACTERS)] = ""


def apply(prompt: str, edits: Sequence[Edit]) -> str:
    """The prompt after the edits, one by one in their order.

    Every anchor occurs exactly once in the prompt as it is given, no two anchors overlap, and each still
    occurs exactly once when its edit's turn comes. So what a reader sees is what happens: no edit acts on
    text that another one brought, and the order of edits that apply decides nothing.

    Raises
    ------
    InvalidValue : with a pointer to the edit that cannot be applied. Nothing is half applied.

    Examples
    --------
    >>> apply("Be brief. Say goodbye.", [Edit(op="insert_after", anchor="Be brief.", text=" Be kind.")])
    'Be brief. Be kind. Say goodbye.'
    """
    if len(edits) > MAX_EDITS:
        raise InvalidValue(
            pointer="/edits", problem=f"{len(edits)} edits, at most {MAX_EDITS}; write a version"
        )
    _check_disjoint([_place(prompt, edit, number) for number, edit in enumerate(edits)])
    text = prompt
    for number, edit in enumerate(edits):
        start, end = _place(text, edit, number)
        text = text[:start] + _replacement(edit) + text[end:]
    return text


def _replacement(edit: Edit) -> str:
    if edit.op == "insert_after":
        return edit.anchor + edit.text
    if edit.op == "insert_before":
        return edit.text + edit.anchor
    return edit.text


def _place(text: str, edit: Edit, number: int) -> Span:
    pointer = f"/edits/{number}"
    if not edit.anchor.strip():
        raise InvalidValue(
            pointer=f"{pointer}/anchor", problem="the anchor is blank; name a piece of the prompt"
        )
    if edit.op == "delete" and edit.text:
        raise InvalidValue(pointer=f"{pointer}/text", problem="delete brings no text; use replace")
    if edit.op != "delete" and not edit.text:
        raise InvalidValue(
            pointer=f"{pointer}/text", problem=f"{edit.op} brings no text; use delete or leave it out"
        )
    start = text.find(edit.anchor)
    if start < 0:
        problem = f"the anchor '{shown(edit.anchor)}' does not occur in the prompt; copy it exactly"
        raise InvalidValue(pointer=f"{pointer}/anchor", problem=problem)
    if not occurs_once(text, edit.anchor):
        problem = f"the anchor '{shown(edit.anchor)}' occurs more than once; take more of the text around it"
        raise InvalidValue(pointer=f"{pointer}/anchor", problem=problem)
    return start, start + len(edit.anchor)


def _check_disjoint(spans: Sequence[Span]) -> None:
    order = sorted(range(len(spans)), key=lambda number: spans[number])
    for before, after in itertools.pairwise(order):
        if spans[after][0] < spans[before][1]:
            first, second = sorted((before, after))
            problem = f"the anchor overlaps that of edit {first}; make one edit of both"
            raise InvalidValue(pointer=f"/edits/{second}/anchor", problem=problem)


def occurs_once(text: str, piece: str) -> bool:
    """Whether `piece` stands at exactly one place; overlapping places count, as in `aa` in `aaa`."""
    start = text.find(piece)
    return start >= 0 and text.find(piece, start + 1) < 0


def edits_between(prompt: str, text: str) -> tuple[Edit, ...]:
    """Edits that turn `prompt` into `text`, from a diff by lines: `apply(prompt, edits) == text`, always.

    So one gate judges both kinds of suggestions, edits and whole texts. Each changed block of lines is an
    edit; where lines around it repeat, its anchor grows until it is unique, and where blocks would then
    overlap, one edit holds them all.
    """
    if prompt == text:
        return ()
    if not prompt.strip():
        raise InvalidValue(pointer="/system_prompt", problem="the parent is blank: there is no anchor in it")
    old, new = _lines(prompt), _lines(text)
    fine = tuple(_edit(old, new, block) for block in _blocks(old, new))
    try:
        if apply(prompt, fine) == text:
            return fine
    except InvalidValue:
        pass
    return (_edit(old, new, _one_block(old, new)),)


def _lines(text: str) -> list[str]:
    # Not splitlines(): it also parts at characters such as U+2028 and would lose which one it was.
    parts = text.split("\n")
    return [*(part + "\n" for part in parts[:-1]), *parts[-1:]]


type _Block = tuple[int, int, int, int]


def _blocks(old: Sequence[str], new: Sequence[str]) -> list[_Block]:
    return [(i, j, k, m) for kind, i, j, k, m in opcodes(old, new) if kind != "equal"]


def _one_block(old: Sequence[str], new: Sequence[str]) -> _Block:
    start, end = common_ends(old, new)
    return start, len(old) - end, start, len(new) - end


def _edit(old: list[str], new: list[str], block: _Block) -> Edit:
    i, j, k, m = block
    removed, text = "".join(old[i:j]), "".join(new[k:m])
    prompt = "".join(old)
    if removed.strip() and occurs_once(prompt, removed):
        return Edit(op="replace" if text else "delete", anchor=removed, text=text)
    if not removed and i and _is_anchor(prompt, old[i - 1]):
        return Edit(op="insert_after", anchor=old[i - 1], text=text)
    if not removed and i < len(old) and _is_anchor(prompt, old[i]):
        return Edit(op="insert_before", anchor=old[i], text=text)
    low, high = _widened(old, prompt, i, j)
    anchor, text = "".join(old[low:high]), "".join([*old[low:i], text, *old[j:high]])
    return Edit(op="replace" if text else "delete", anchor=anchor, text=text)


def _is_anchor(prompt: str, piece: str) -> bool:
    return bool(piece.strip()) and occurs_once(prompt, piece)


def _widened(old: list[str], prompt: str, low: int, high: int) -> tuple[int, int]:
    step = 1  # doubled: a prompt of 100 000 equal lines takes 17 looks, not 100 000
    while not _is_anchor(prompt, "".join(old[low:high])):
        low, high, step = max(low - step, 0), min(high + step, len(old)), step * 2
    return low, high


def common_ends[T](old: Sequence[T], new: Sequence[T]) -> tuple[int, int]:
    """How many items are the same at the start, and how many of the others at the end."""
    shorter = min(len(old), len(new))
    start = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    rest = shorter - start
    return start, next((i for i in range(rest) if old[-1 - i] != new[-1 - i]), rest)


def opcodes[T](old: Sequence[T], new: Sequence[T]) -> Iterator[tuple[str, int, int, int, int]]:
    """`difflib`'s opcodes in bounded time: a middle of more than `MAX_PAIRS` pairs is one replacement."""
    start, end = common_ends(old, new)
    stop, new_stop = len(old) - end, len(new) - end
    if start:
        yield "equal", 0, start, 0, start
    if (stop - start) * (new_stop - start) > MAX_PAIRS:
        yield "replace", start, stop, start, new_stop
    else:
        matcher = difflib.SequenceMatcher(None, old[start:stop], new[start:new_stop], autojunk=False)
        for kind, i, j, k, m in matcher.get_opcodes():
            yield kind, i + start, j + start, k + start, m + start
    if end:
        yield "equal", stop, len(old), new_stop, len(new)
