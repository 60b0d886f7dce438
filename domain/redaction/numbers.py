"""Numbers of at least seven digits: phones, cards, accounts, orders; and what only looks like one."""

import re
from collections.abc import Iterator

from domain.redaction.folded import Span, pattern

_LEAST_IBAN_DIGITS = 10
_NUMBER = re.compile(r"\+?\(?\d(?:[ \t()._·\-/]{0,3}\d){6,}")
_NO_DIGIT = re.compile(r"\D+")
_IBAN = re.compile(r"(?<![^\W_])[a-z]{2}\d{2}(?:[ -]?[a-z0-9]){11,30}+")
# A price stands alone: beside more digits it may be the end of a number.
_ALONE = r"(?<!\d[ _·])(?<!\d[ ._·-] )(?<!\d - )"
_NO_MORE = r"(?![ ()._·/-]{1,3}\d)"
_AMOUNT = r"\d{1,3}(?:(?:[ ,]\d{3}){0,2}(?:[.,]\d{1,2})?|(?:\.\d{3}){1,2}(?:,\d{1,2})?)"
_CURRENCY = r"(?:[$€£₽]|(?:руб|usd|eur|dollars?|euros?)(?![^\W_]))"
_KEPT = pattern(
    r"(?<!\d)(?<!\d[./-])(?:"
    r"(?:19|20)\d\d([-./])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])"  # 2026-05-20
    r"|(?:0?[1-9]|[12]\d|3[01])([./-])(?:0?[1-9]|[12]\d|3[01])\2(?:20)?\d\d"  # 20.05.2026, 5/20/26
    r"|(?:19|20)\d\d ?- ?(?:19|20)\d\d"  # 2024-2026
    rf"|[$€£₽] ?{_AMOUNT}{_NO_MORE}"  # $1,250,000.00
    rf"|{_ALONE}{_AMOUNT} ?{_CURRENCY}"
    rf"|{_ALONE}\d{{1,4}}\.\d\d(?: \d{{1,4}}\.\d\d){{0,9}}{_NO_MORE}"  # 120.50 130.40
    r")(?![./-]?\d)"
)


def number_kind(digits: str) -> str:
    """What so many digits are most likely; it names the pseudonym, nothing depends on it."""
    if 13 <= len(digits) <= 19 and is_luhn(digits):
        return "CARD"
    return "PHONE" if 10 <= len(digits) <= 12 else "NUMBER"


def same_number(digits: str) -> str:
    """What two ways of telling one number share: `+7 999 ...` and `8 999 ...`."""
    return digits[-10:] if 10 <= len(digits) <= 12 else digits


def find_numbers(text: str) -> Iterator[Span]:
    """Digit runs, with separators between; dates and prices must have been blotted out."""
    for found in _NUMBER.finditer(text):
        digits = _NO_DIGIT.sub("", found.group())
        kind = "PHONE" if found.group()[0] in "+(" and len(digits) <= 15 else number_kind(digits)
        yield Span(found.start(), found.end(), kind, digits)


def find_kept(text: str) -> Iterator[Span]:
    """Dates, prices and spans of years, which must stay for the analyst."""
    for found in _KEPT.finditer(text):
        yield Span(found.start(), found.end(), "", "")


def find_ibans(text: str) -> Iterator[Span]:
    """International bank account numbers whose check digits hold."""
    at = 0
    while found := _IBAN.search(text, at):
        end = _end_of_iban(text, found.start(), found.end())
        if end is not None:
            value = re.sub(r"[ -]", "", text[found.start() : end])
            yield Span(found.start(), end, "IBAN", value)
        at = end or found.start() + 2


def _end_of_iban(text: str, start: int, end: int) -> int | None:
    """Where it ends: words may follow it without a mark between."""
    for last in range(end, start + 15, -1):
        whole = text[last - 1].isalnum() and (last == len(text) or not text[last].isalnum())
        if whole and _is_iban(re.sub(r"[ -]", "", text[start:last])):
            return last
    return None


def _is_iban(value: str) -> bool:
    # By chance one text in 97 has check digits that hold, and in a sentence there are many to try.
    if not 15 <= len(value) <= 34 or sum(map(str.isdigit, value)) < _LEAST_IBAN_DIGITS:
        return False
    moved = value[4:] + value[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def is_luhn(digits: str) -> bool:
    """ISO/IEC 7812: every second digit from the right doubled."""
    total = sum(int(digit) for digit in digits[-1::-2])
    return (total + sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])) % 10 == 0
