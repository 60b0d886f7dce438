"""Street addresses with a house number, English and Russian, as far as a pattern can see them."""

import re
from collections.abc import Iterator

from domain.redaction.folded import Folded, Span, pattern

_STRONG = r"street|avenue|ave|road|rd|lane|boulevard|blvd|terrace|parkway|pkwy|highway|hwy"
_WEAK = r"st|drive|dr|court|ct|way|place|pl|square|sq|circle|cir|ln|close|row|crescent|loop|trail"
STREET_WORDS = frozenset(f"{_STRONG}|{_WEAK}".split("|"))
_STOP = (
    r"the|on|in|of|to|a|an|and|or|for|is|at|are|was|were|per|down|by|from|with|my|your|our|their|his|her|it|that"
    r"|this|there|way|no|not|more|minutes?|hours?|days?|weeks?|months?|years?|miles?|km|people|persons?|passengers?|am|pm"
)
_SPOKEN = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w{3,6}teen|twenty|thirty|forty|fifty|sixty"
    r"|seventy|eighty|ninety|hundred|oh)"
)
_ENGLISH = pattern(
    rf"(?<![\w$.,-])(?:\d{{1,6}}[a-z]?|{_SPOKEN}(?:[ -]{_SPOKEN}){{0,3}}) {{1,2}}"
    rf"(?:(?!(?:{_STOP})(?![^\W_]))[^\W_][\w'.-]{{0,30}}+ {{1,2}}){{1,4}}?"
    rf"(?:(?P<strong>{_STRONG})|(?P<weak>{_WEAK}))(?![^\W_])\.?"
    r"(?:,? {0,2}(?:apt|apartment|suite|unit|flat|#)\.? {0,2}\w{1,9}(?![^\W_]))?"
)
_COUNT = (
    r"(?:\d{1,4}(?: ?[а-г](?![^\W_]))?(?: ?[/к] ?\d{1,3})?"
    r"|(?:(?:один|одна|два|две|три|четыре|пять|шесть|семь|восемь|девять|десять"
    r"|\w{2,8}надцать|двадцать|тридцать|сорок|\w{2,7}десят|девяносто|сто|двести)(?![^\W_]) ?){1,3})"
)
_WAY = (
    r"(?:ул(?:\.|(?= )|иц[аыуе](?![^\W_]))|просп(?:\.|ект[ауе]?(?![^\W_]))|пр-т(?![^\W_])|переул\w{2,4}|пер\."
    r"|шоссе(?![^\W_])|бульвар[ауе]?(?![^\W_])|б-р(?![^\W_])|набережн\w{2}|наб\.|проезд[ауе]?(?![^\W_])|площад[ьи](?![^\W_])"
    r"|пл\.|алле[яи](?![^\W_])|тупик[ае]?(?![^\W_]))"
)
_NAME = r"(?!дом(?![^\W_]))[^\W\d_][\w.-]{0,30}+"
_HOUSE = rf"(?:,? {{0,2}}(?:дом[ае]?(?![^\W_])|д(?:\.|(?= )))? {{0,2}})(?<![^\W_]){_COUNT}"
_ROOM = r"(?:квартир[аыу]|кв\.?|корпус|корп\.?|строение|стр\.|подъезд|этаж|офис|оф\.)(?![^\W\d_])"
_FLAT = rf"(?:,? {{0,2}}{_ROOM} {{0,2}}{_COUNT}){{0,4}}"
_RUSSIAN = pattern(
    rf"(?<![^\W_])(?:{_WAY} {{0,2}}(?:\d{{1,2}}-?\w{{0,3}} )?{_NAME}(?: {{1,2}}{_NAME}){{0,2}}?"
    rf"|{_NAME} {{1,2}}{_WAY}){_HOUSE}{_FLAT}"
)
_DOOR = pattern(
    rf"(?<![^\W_])(?:дом[ае]?|д\.) {{0,2}}{_COUNT},? {{0,2}}(?:квартир[аыу]|кв\.?) {{0,2}}{_COUNT}"
)


def find_addresses(text: str, folded: Folded, original: str) -> Iterator[Span]:
    """English: house number and street; the town beside it stays."""
    for found in _ENGLISH.finditer(text):
        # `3 people find a way` is none, `3 Sunset Way` is: where the word is common, its capital decides.
        if found["strong"] or original[folded.origin[found.start("weak")]].isupper():
            yield _span(found)


def find_russian_addresses(text: str) -> Iterator[Span]:
    """Russian: street and house, or house and flat."""
    for shape in (_RUSSIAN, _DOOR):
        for found in shape.finditer(text):
            yield _span(found)


def _span(found: re.Match[str]) -> Span:
    said = found.group()
    return Span(
        found.start(), found.start() + len(said.rstrip(" ,")), "ADDRESS", re.sub(r"[\s,.]+", " ", said)
    )
