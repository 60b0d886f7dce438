"""E-mail addresses, typed and spoken: `anna.smith@example.com`, `anna dot smith at gmail dot com`."""

import re
from collections.abc import Iterator

from domain.redaction.folded import Span, fold_value, pattern
from domain.redaction.number_words import NUMBER_WORDS

_TYPED = re.compile(r"[\w.%+'-]{1,64}+ ?@ ?[\w-]{1,63}+(?:\.[\w-]{1,63}+){1,5}")
_TOP = (
    r"(?:com|net|org|info|biz|edu|gov|io|co|me|ai|app|dev|online|shop|store|site|email|example|test|invalid"
    r"|ru|su|by|ua|kz|de|fr|uk|us|ca|es|it|nl|pl|eu|ch|at|in|jp|br|au|ком|ру|рф|орг|нет|инфо)"
)
AT_WORDS = frozenset(fold_value("at эт собака собаку собачка собачку").split())
_AT = "|".join(sorted(AT_WORDS, reverse=True))
_SPOKEN_DOT = r"(?:dot|точка|точку)"
_DOT = rf"(?: ?\. ?| {{0,2}}[(\[]{_SPOKEN_DOT}[)\]] {{0,2}}| {{1,2}}{_SPOKEN_DOT} {{1,2}})"
_JOINT = rf"(?:{_DOT}| ?- ?| {{1,2}}(?:dash|hyphen|тире|дефис|минус) {{1,2}}| {{1,2}})"
_SPOKEN = pattern(
    r"(?P<at>(?<=\w) {0,2}@ {0,2}"
    rf"| {{0,2}}[(\[](?:{_AT})[)\]] {{0,2}}| {{1,2}}(?:{_AT}) {{1,2}})"
    rf"(?P<domain>[^\W_]{{1,40}}+(?:{_JOINT}[^\W_]{{1,40}}+){{0,3}}?(?P<dot>{_DOT}){_TOP}(?:{_DOT}{_TOP})?)(?![^\W_])"
)
_PROVIDER = pattern(
    r"g ?mail|yahoo|hotmail|outlook|icloud|aol|proton|gmx|mail|yandex|rambler|inbox|list ?dot|bk|fastmail"
    r"|яндекс|рамблер|джимейл|гмейл|мейл|майл|инбокс"
)
_CUE = pattern(r"e-?mail|mail|почт|имейл|мыло|электронн")
_CUE_REACH = 60
_LOCAL_REACH = 120
_WORD = re.compile(r"[^\W_]+|\s+|.", re.DOTALL)
_CONNECTORS = frozenset(
    fold_value(
        ". _ - + dot underscore dash hyphen plus minus точка точку подчеркивание тире дефис минус плюс нижнее"
    ).split()
)
# Words before an address that are no part of it.
_STOP = frozenset(
    fold_value(
        "is its it s my email mail address to at on me the a an and so that yes yeah sure okay ok send from use write "
        "under by contact reach of for with это мой моя мою моего на почта почту почте имейл емейл мейл мыло адрес "
        "адресу да ага так ну вот запишите записывайте пишите пиши электронная электронной электронную у меня с по "
        "bought buy booked book order ordered look looked found saw shop was were be am are"
    ).split()
)
_MOST_BARE_WORDS = 2


def find_emails(text: str) -> Iterator[Span]:
    """Typed addresses."""
    for found in _TYPED.finditer(text):
        start = found.start() + len(found.group()) - len(found.group().lstrip(".'-+%"))
        yield Span(start, found.end(), "EMAIL", found.group().strip(".'-+% ").replace(" ", ""))


def find_spoken_emails(text: str) -> Iterator[Span]:
    """Spoken addresses, which must hold a place name after `at` and end in a known top-level domain."""
    end = 0
    for found in _SPOKEN.finditer(text):
        start = _start_of_local(text, max(end, found.start() - _LOCAL_REACH), found.start())
        if start is None or not _is_address(text, start, found):
            continue
        end = found.end()
        yield Span(start, end, "EMAIL", _typed(text[start:end]))


def _is_address(text: str, start: int, found: re.Match[str]) -> bool:
    """`bought it at booking.com` is none; `anna at booking dot com` is, nobody says `dot` of a shop's name."""
    if found["at"].strip("()[] ") != "at" or found["dot"].strip() != ".":
        return True
    local = text[start : found.start()]
    technical = any(character.isdigit() or character in "._" for character in local)
    before = text[max(0, start - _CUE_REACH) : start]
    return bool(technical or _PROVIDER.search(found["domain"]) or _CUE.search(before))


def _start_of_local(text: str, begin: int, end: int) -> int | None:
    """Where the part before the `at` begins, read backwards word by word."""
    start = None
    bare = 0
    connected = True
    for word in reversed(list(_WORD.finditer(text, begin, end))):
        said = word.group()
        if said.isspace() and "\n" not in said:
            continue
        if said in _CONNECTORS and start is not None:
            connected = True
        elif not said.isalnum():
            break
        elif connected and start is None:
            if said in _STOP:
                break
            start, connected = word.start(), False
        elif connected or len(said) == 1 or said.isdigit() or said in NUMBER_WORDS:
            if said in ("a", "i", "и", "с", "у"):
                break
            start, connected = word.start(), False
        elif said not in _STOP and bare < _MOST_BARE_WORDS:
            start, bare = word.start(), bare + 1
        else:
            break
    return start


def _typed(said: str) -> str:
    """`anna dot smith at gmail dot com` as it is typed, so that both get the same pseudonym."""
    said = _AT_WORD.sub("@", _DOT_WORD.sub(".", said))
    return re.sub(r"[\s()\[\]]+", "", said)


_DOT_WORD = pattern(rf"(?<![^\W_]){_SPOKEN_DOT}(?![^\W_])")
_AT_WORD = pattern(rf"(?<![^\W_])(?:{_AT})(?![^\W_])")
