"""Addresses in a text: where a caller could be sent, called or made to pay, however it is spelled.

Precision is traded for recall: a prompt can do without a new `word.word`, a customer cannot do without the
certainty that no anonymous caller put a number into it.
"""

import re
from collections import Counter
from collections.abc import Iterator

from domain.text_forms import closed_up, plain, skeleton

MIN_PHONE_DIGITS = 7
MAX_PAUSE = 8  # characters between two parts of one number
MIN_SPOKEN_DIGITS = 5  # digits as words: nobody writes five in a row but to spell a number out
_ZONES = (
    "com|net|org|info|biz|io|co|me|shop|store|online|site|app|dev|xyz|top|club|link|click|page|live|pro|uk|de|eu"
    "|ru|su|by|kz|ua|рф|ком|ру|орг|рус|онлайн"
)
_DOT, _AT = "dot|point|period|punkt|punto|tochka|точка", "at|собака|эт|собачка"
_BRACKETED = re.compile(
    rf"\s{{0,3}}[\[({{<]\s{{0,3}}(?:(?P<dot>\.|{_DOT})|(?P<at>@|{_AT}))\s{{0,3}}[\])}}>]\s{{0,3}}"
)
# Linear in the text, which is hostile: no attempt begins inside a word, every other repeat is bounded.
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<![\w+.-])[a-z][a-z0-9+.-]{1,20}:/{1,2}\S+",
        r"(?<!\w)(?:www|https?|hxxps?|ftp)(?!\w)",
        r"\[[^\]\n]{0,200}\]\([^)\n]{0,200}\)",
        r"(?<!\w)(?:mailto|tel|sms|skype|callto):",
        r"(?<![\w-])[\w-]+\.[^\W\d_]{2,24}(?!\w)(?:\.[\w-]+)*",
        rf"(?<!\w)\w++\s{{1,5}}\.\s{{0,5}}(?:{_ZONES})(?!\w)",
        r"(?<!\w)\w++\s{0,5}\.\s{1,5}(?:com|org|рф)(?!\w)",
        rf"(?<!\w)\w++[\s,-]{{1,5}}(?:{_DOT})[\s,-]{{1,5}}(?:{_ZONES})(?!\w)",
        rf"(?<!\w)(?:{_AT})\s+(?:gmail|yahoo|hotmail|outlook|mail|yandex|icloud|proton|гмейл|мейл|яндекс)(?!\w)",
        r"[^\s@]{0,64}@[^\s@]{0,64}",
        r"(?<!\w)\d{1,3}(?:\.\d{1,3}){3}(?!\w)",
        r"(?<!\w)(?:1[ -])?8(?:00|33|44|55|66|77|88)[ -][a-z]{4,10}(?!\w)",
        r"(?<![a-z0-9])(?=[a-z]*\d)(?=\d*[a-z])[a-z0-9]{16,}(?![a-z0-9])",
    )
)
_IBAN = re.compile(r"(?<![a-z0-9])[a-z]{2}[ -]?\d{2}(?:[ -]?[a-z0-9]){11,30}")
_DOTS = str.maketrans(dict.fromkeys("·•∙⋅。｡‧ꓸ", "."))
_DATE = re.compile(r"(?<!\d)(?:19|20)\d\d-(?:0\d|1[0-2])-[0-3]\d(?!\d)")
_DIGIT_WORDS = frozenset(
    re.findall(
        r"\w+",
        """zero oh o nought one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
        sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred double
        triple ноль нуль один одна два две три четыре пять шесть семь восемь девять десять одиннадцать двенадцать
        тринадцать четырнадцать пятнадцать шестнадцать семнадцать восемнадцать девятнадцать двадцать тридцать
        сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто сто двести триста четыреста пятьсот шестьсот
        семьсот восемьсот девятьсот null eins zwei drei vier fünf sechs sieben acht neun""",
    )
)
_SPOKEN_PAUSES = frozenset({"dash", "hyphen", "plus", "then", "тире", "дефис", "плюс", "потом", "затем"})
_TOKEN = re.compile(r"\d+|[^\W\d_]+|\s+|.", re.DOTALL)
_BETWEEN_DIGITS = frozenset("-()./\\*_–—‑·•+#|~'\"")


def contacts(text: str) -> Counter[str]:
    """Every address with how often it stands in the text: URL, e-mail, phone, IBAN, long account codes.

    >>> sorted(contacts("Write to shop dot com or call 8 (800) 555-35-35"))
    ['88005553535', 'shop dot com']
    """
    found: Counter[str] = Counter()
    for form in _forms(text):
        found |= Counter(_in(form))
    return found


def added_contacts(before: str, after: str) -> list[str]:
    """The addresses that stand in `after` more often than in `before`."""
    return sorted(contacts(after) - contacts(before))


def _forms(text: str) -> set[str]:
    found = {_unbracketed(form) for form in (plain(text), skeleton(text))}
    return found | {closed_up(form) for form in found}


def _unbracketed(text: str) -> str:
    return _BRACKETED.sub(lambda match: "." if match["dot"] else "@", text.translate(_DOTS))


def _in(text: str) -> Iterator[str]:
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            yield " ".join(match[0].split()).rstrip(".,;:!?")
    yield from (code for match in _IBAN.finditer(text) if (code := _iban_of(match[0])))
    yield from _numbers(_DATE.sub("date", text))


def _iban_of(text: str) -> str | None:
    """The IBAN at the start of `text`, None where no length passes ISO 13616's check (modulo 97)."""
    code = re.sub("[ -]", "", text)
    for length in range(min(len(code), 34), 14, -1):
        turned = code[4:length] + code[:4]
        if int("".join(str(int(c, 36)) for c in turned)) % 97 == 1:
            return code[:length]
    return None


def _numbers(text: str) -> Iterator[str]:
    run: list[str] = []
    pause = ""
    for token in [*_TOKEN.findall(text), "end"]:
        if token.isdecimal() or token in _DIGIT_WORDS:
            if run and not _continues(pause, run[-1], token):
                yield from _phone(run)
                run = []
            run.append(token)
            pause = ""
        elif token in _SPOKEN_PAUSES:
            pause = "-"
        elif (
            run and len(pause) <= MAX_PAUSE and (token.isspace() or token in _BETWEEN_DIGITS or token in ",:")
        ):
            pause += token
        elif run:
            yield from _phone(run)
            run, pause = [], ""


def _continues(pause: str, before: str, after: str) -> bool:
    # Commas and colons part opening hours and prices; between single digits and words they spell a number.
    return not set(",:") & set(pause) or all(len(t) == 1 or not t.isdecimal() for t in (before, after))


def _phone(run: list[str]) -> Iterator[str]:
    spoken = sum(not token.isdecimal() for token in run)
    digits = sum(len(token) if token.isdecimal() else 1 for token in run)
    if digits >= MIN_PHONE_DIGITS or spoken >= MIN_SPOKEN_DIGITS:
        yield (" " if spoken else "").join(run)
