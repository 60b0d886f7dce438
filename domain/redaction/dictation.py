"""Numbers dictated in pieces: `nine seven seven` - `mm-hm` - `six two five` - `yes?` - `two six six one`.

No turn holds enough digits to be a number; the turns of one speaker together do.
"""

from collections.abc import Iterator, Sequence

from domain.outcomes import Turn
from domain.redaction.folded import fold
from domain.redaction.spoken_numbers import LEAST_MIXED, digits_of_piece

LONGEST_PIECE = 80  # characters of a turn that is nothing but digits
LONGEST_BETWEEN = 40  # characters of a listener's turn: more than a nod begins something else
_MACHINES = frozenset({"tool", "function", "system"})  # their bare numbers are results, nobody dictates them


def dictated(turns: Sequence[Turn]) -> Iterator[tuple[str, list[int]]]:
    """The digits of each number told in pieces, and the turns that hold them."""
    pieces: dict[str, list[tuple[int, str]]] = {}
    for index, turn in enumerate(turns):
        digits = _piece(turn)
        if digits:
            pieces.setdefault(turn.role, []).append((index, digits))
            continue
        ended = list(pieces) if len(turn.content or "") > LONGEST_BETWEEN else [turn.role]
        for role in ended:
            yield from _whole(pieces.pop(role, []))
    for told in pieces.values():
        yield from _whole(told)


def _piece(turn: Turn) -> str:
    if turn.content is None or turn.role in _MACHINES or len(turn.content) > LONGEST_PIECE:
        return ""
    digits = digits_of_piece(fold(turn.content).text)
    return digits if len(digits) < LEAST_MIXED else ""  # more is a date or a price, else it were taken out


def _whole(told: Sequence[tuple[int, str]]) -> Iterator[tuple[str, list[int]]]:
    digits = "".join(part for _, part in told)
    if len(digits) >= LEAST_MIXED:
        yield digits, [index for index, _ in told]
