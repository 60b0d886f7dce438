"""Dates of birth: a full date of a year up to 2009, or any date where birth is spoken of before it."""

import re
from collections.abc import Iterator

from domain.redaction.folded import Span, fold_value, pattern

_DAY, _MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
MONTH_WORDS = frozenset(
    fold_value(
        "january february march april may june july august september october november december "
        "jan feb mar apr jun jul aug sep sept oct nov dec "
        "январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь декабрь "
        "января февраля марта апреля мая июня июля августа сентября октября ноября декабря"
    ).split()
)
_MONTHS = f"(?:{'|'.join(sorted(MONTH_WORDS, reverse=True))})"
_ORDINAL_DAY = rf"{_DAY}(?:st|nd|rd|th|-?го|-?е)?"
_YEAR = r"(?:1[89]|20)\d\d"
_FIGURES = pattern(
    r"(?<!\d)(?:"
    rf"(?P<y1>{_YEAR})([-./ ])(?:{_MONTH}\2{_DAY}|{_DAY}\2{_MONTH})"
    rf"|(?:{_DAY}([-./ ]){_MONTH}|{_MONTH}([-./ ]){_DAY})(?:\3|\4|[-./ ])(?P<y2>{_YEAR}|\d\d)"
    r")(?!\d)"
)
_MONTH_NAMED = pattern(
    rf"(?<!\d){_ORDINAL_DAY}(?: of)? {{1,2}}{_MONTHS}\.?,? {{0,2}}(?P<y1>{_YEAR})(?!\d)"
    rf"|(?<![^\W_]){_MONTHS}\.? {{1,2}}{_ORDINAL_DAY},? {{0,2}}(?P<y2>{_YEAR})(?!\d)"
)
_NUMERAL = (
    r"(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|\w{3,6}teenth"
    r"|twentieth|thirtieth|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w{3,6}teen"
    r"|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|oh|and|the|of|\d{1,4}(?:st|nd|rd|th)?"
    r"|перв\w{2,3}|втор\w{2,3}|треть\w{1,3}|четверт\w{2,3}|пят\w{2,3}|шест\w{2,3}|седьм\w{2,3}|восьм\w{2,3}"
    r"|девят\w{2,3}|десят\w{2,3}|\w{2,8}надцат\w{1,3}|двадцат\w{1,3}|тридцат\w{1,3}|сорок\w{0,3}"
    r"|пятьдесят|шестьдесят|семьдесят|восемьдесят|девяност\w{1,3}|\w{2,5}идесят\w{2,3}|\w{2,7}десят\w{2,3}"
    r"|один|два|две|три|четыре|пять|шесть|семь|восемь|девять|десять|девятьсот|тысяч\w{0,2}|двухтысячн\w{2,3})"
)
_SPOKEN = pattern(
    rf"(?<![^\W_])(?:{_NUMERAL}[ -]{{1,2}}){{0,4}}{_MONTHS}(?:,? {{1,2}}|-){_NUMERAL}"
    rf"(?:(?:,? {{1,2}}|-){_NUMERAL}){{0,6}}(?: года?)?(?![^\W_])"
)
_SPOKEN_YEAR = pattern(r"nineteen|девятьсот")
_LAST_YEAR = 2009  # a later full date is a delivery or a flight, unless birth is spoken of
_CUE = pattern(r"(?<![^\W\d_])(?:dob|birth\w{0,6}|born|d\.o\.b|д\.р|др(?![^\W_])|рожд\w{0,6}|родил\w{0,4})")
_CUE_REACH = 60


def find_dates_of_birth(text: str, *, asked: bool) -> Iterator[Span]:
    """Dates of birth in figures; `asked`: the turn before asked for one."""
    yield from _with_year(_FIGURES, text, asked=asked)


def find_named_dates_of_birth(text: str, *, asked: bool) -> Iterator[Span]:
    """Dates of birth with the month's name, in figures or in words."""
    yield from _with_year(_MONTH_NAMED, text, asked=asked)
    for found in _SPOKEN.finditer(text):
        old = _SPOKEN_YEAR.search(found.group()) is not None
        if old or asked or _is_told(text, found.start()):
            yield _span(found)


def find_named_dates(text: str) -> Iterator[Span]:
    """Any other date with the month's name, which has digits that are no number: `May 5, 2026`."""
    for found in _MONTH_NAMED.finditer(text):
        yield Span(found.start(), found.end(), "", "")


def asks_for_birth(text: str) -> bool:
    """Whether a folded turn speaks of birth, so that a date in the next one is its answer."""
    return _CUE.search(text) is not None


def _with_year(shape: re.Pattern[str], text: str, *, asked: bool) -> Iterator[Span]:
    for found in shape.finditer(text):
        year = found["y1"] or found["y2"]
        if (len(year) == 4 and int(year) <= _LAST_YEAR) or asked or _is_told(text, found.start()):
            yield _span(found)


def _is_told(text: str, start: int) -> bool:
    before = text[max(0, start - _CUE_REACH) : start]
    return _CUE.search(before) is not None


def _span(found: re.Match[str]) -> Span:
    value = re.sub(r"[\s,]+", " ", found.group())
    return Span(found.start(), found.end(), "BIRTH_DATE", value)
