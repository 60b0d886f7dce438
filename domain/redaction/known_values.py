"""The call's own values: what the agent knows of the caller is found exactly, however it is written or spelled.

No pattern sees a name. The agent knows it, and the number, and the order: it sends them beside the transcript, they
are sought in it and not kept.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from domain.redaction.folded import KEPT, TAKEN, Span, fold_value, pattern
from domain.redaction.number_words import DIGIT_WORDS

type KnownValues = Mapping[str, str | int | None]

LEAST_CHARACTERS = 2  # one letter or digit is no secret, and would take half the text along
_LONGEST_SPELLED = 40
_PART = re.compile(r"[^\W_]+")
_BETWEEN = rf"(?:[^\w{TAKEN}{KEPT}]|_)"
_NAME_KEY = re.compile(r".*name.*|fio|caller|customer|client")
_PARTICLES = frozenset(
    fold_value("mr mrs ms dr van von der den de del la le da di du of the und and y al el bin").split()
)
_NOT_AFTER_LETTER, _NOT_BEFORE_LETTER = r"(?<![^\W\d_])", r"(?![^\W\d_])"
# Russian names are told in six cases: a stem and one of these.
_ENDINGS = fold_value(
    "ого его ому ему ыми ими ами ями ых их ым им ой ою ей ею ом ем ям ам ах ях ов ев ую юю ая яя ые ие ый ий "
    "ья ью ьем ьи ье а я о е ы и у ю ь"
).split()
_VOWELS = frozenset("аяоеиыуюь")
# Scripts that write no spaces between words, or add endings without one: Thai, Korean, Japanese, Chinese.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1100-\u11ff\u2e80-\U0003ffff]")
_CYRILLIC = re.compile(r"[а-я]{3,}")


class Known(NamedTuple):
    """One value to seek: the kind of its pseudonym, and every form of it as one pattern."""

    kind: str
    value: str
    pattern: re.Pattern[str]


def known_values(told: KnownValues) -> tuple[Known, ...]:
    """The values to seek, the longest first so that a name is found whole before its parts are."""
    values = [
        (key, value) for key, raw in told.items() if raw is not None and (value := fold_value(str(raw)))
    ]
    found = []
    for key, value in sorted(values, key=lambda item: -len(item[1])):
        parts = _PART.findall(value)
        if sum(map(len, parts)) < LEAST_CHARACTERS:
            continue
        forms = _forms(value, parts, is_name=_NAME_KEY.fullmatch(key) is not None)
        found.append(Known(_kind(key, told), value.strip(), re.compile("|".join(forms))))
    return tuple(found)


def find_known(text: str, known: Known) -> Iterator[Span]:
    """Where the value stands, whatever the case, the separators or the digits in words."""
    for found in known.pattern.finditer(text):
        yield Span(found.start(), found.end(), known.kind, known.value)


def _kind(key: str, told: KnownValues) -> str:
    """The key in capitals; a key that holds a value itself (`anna_smith`) must not name the pseudonym."""
    words = key.lower().split("_")
    values = {part for value in told.values() for part in _PART.findall(fold_value(str(value)))}
    return "KNOWN" if values & {*words, key.lower()} else key.upper()


def _forms(value: str, parts: list[str], *, is_name: bool) -> list[str]:
    widest = max((len(gap) for gap in _PART.split(value)), default=0)
    between = f"{_BETWEEN}{{0,{max(3, widest)}}}"
    forms = [_bounded(between.join(map(re.escape, parts)), parts)]
    characters = "".join(parts)
    if len(characters) <= _LONGEST_SPELLED:
        if any(character.isdigit() for character in characters):
            forms.append(_spelled(characters, "{0,3}"))
        else:
            forms.append(_spelled(characters, "{1,3}"))
    if is_name:
        names = [part for part in parts if len(part) >= LEAST_CHARACTERS and part not in _PARTICLES]
        forms += [_bounded(_declined(part), [part]) for part in names if not part.isdigit()]
        forms += [_spelled(part, "{1,3}") for part in names if 3 <= len(part) <= _LONGEST_SPELLED]
    return forms


def _bounded(form: str, parts: list[str]) -> str:
    """A value that begins with a letter does not begin within a word, one that begins with a digit in a number."""
    first, last = parts[0][0], parts[-1][-1]
    begin = r"(?<!\d)\+?" if first.isdigit() else "" if _UNSPACED.match(first) else _NOT_AFTER_LETTER
    end = r"(?!\d)" if last.isdigit() else "" if _UNSPACED.match(last) else _NOT_BEFORE_LETTER
    return f"{begin}(?:{form}){end}"


def _spelled(characters: str, gap: str) -> str:
    """Character by character, digits also in words: `A B one two`."""
    return _bounded((_BETWEEN + gap).join(map(_spoken, characters)), [characters])


def _spoken(character: str) -> str:
    words = DIGIT_WORDS.get(character)
    if words is None:
        return re.escape(character)
    return f"(?:{character}|{_NOT_AFTER_LETTER}(?:{'|'.join(words)}){_NOT_BEFORE_LETTER})"


def _declined(part: str) -> str:
    if not _CYRILLIC.fullmatch(part):
        return re.escape(part)
    stem = part
    for _ in range(2):
        if len(stem) > 3 and stem[-1] in _VOWELS:
            stem = stem[:-1]
    return pattern(f"{re.escape(part)}|{re.escape(stem)}(?:{'|'.join(_ENDINGS)})?").pattern
