"""Texts as they look and sound: forms in which two spellings of one thing are equal.

A text that is judged is hostile: it may hold letters that only look Latin, characters that nobody sees, and
line ends by the hundred. Each form removes one such freedom; none of them is ever stored or served.
"""

import functools
import re
import unicodedata

# Lower case letters that look like a Latin one, after Unicode's own compatibility mapping (NFKC).
_LOOKALIKES = str.maketrans(
    "аеорсухіѕјԁһԛԝӏкмтнвαονρτικυχεηıɡłđø",
    "aeopcyxisjdhqwlkmthbaovptikuxenigldo",
)
# Letters, marks and symbols that draw nothing, though Unicode does not call them format characters.
_BLANK_GLYPHS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_UNSEEN_CATEGORIES = frozenset({"Cf", "Cc", "Co", "Cn", "Cs", "Zl", "Zp"})
# No-break and ideographic spaces are ordinary typography; the thin, hair and quad spaces hide things.
_PLAIN_SPACES = frozenset(" \u00a0\u202f\u3000")
_PLAIN_CONTROLS = frozenset("\n\t")
_WORD = re.compile(r"[^\W_]+")
_LETTERS_APART = re.compile(r"(?<=\b[^\W\d_]) (?=[^\W\d_]\b)")
_SENTENCE_END = re.compile(r"[.!?;:…\n]+")
_TYPOGRAPHY = str.maketrans("‘’‚‛“”„«»–—‑−", '\'\'\'\'"""""----')


@functools.lru_cache(maxsize=4_096)
def is_invisible(character: str) -> bool:
    """Whether nobody sees the character: controls, format and unassigned ones, variation selectors, fillers.

    >>> [is_invisible(c) for c in ("a", "\\n", "\\u200b", "\\ufe0f", "\\U000e0041")]
    [False, False, True, True, True]
    """
    if character in _PLAIN_CONTROLS:
        return False
    category = unicodedata.category(character)
    if category == "Zs":
        return character not in _PLAIN_SPACES
    return category in _UNSEEN_CATEGORIES or character in _BLANK_GLYPHS or _selects_a_variant(character)


def _selects_a_variant(character: str) -> bool:
    return (
        "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
        or ("\u180b" <= character <= "\u180f")
    )


def plain(text: str) -> str:
    """The text without invisible characters, compatibility forms, case and digits of other scripts.

    >>> plain("ＷＷＷ\\u200b.Shop ①")
    'www.shop 1'
    """
    seen = "".join(c for c in text if not is_invisible(c))
    mapped = unicodedata.normalize("NFKC", seen).casefold()
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in mapped if not is_invisible(c))


def skeleton(text: str) -> str:
    """`plain`, and letters that look alike are one letter; accents are gone. For comparing only.

    >>> skeleton("рауpal") == skeleton("paypal")
    True
    """
    marked = unicodedata.normalize("NFD", plain(text).replace("ё", "е"))
    return "".join(c for c in marked if not unicodedata.combining(c)).translate(_LOOKALIKES)


def closed_up(text: str) -> str:
    """The text with single letters that stand apart pushed together.

    >>> closed_up("at p a y dot c o m")
    'at pay dot com'
    """
    return _LETTERS_APART.sub("", text)


def words(text: str) -> tuple[str, ...]:
    """The words of the skeleton; punctuation and underscores part them."""
    return tuple(_WORD.findall(skeleton(text)))


def sentences(text: str) -> list[tuple[str, ...]]:
    """The words of each sentence or line, those without a word left out."""
    return [found for part in _SENTENCE_END.split(text) if (found := words(part))]


def quoted_form(text: str) -> str:
    """What a verbatim quote is compared in: composed letters, straight quotes and dashes, single blanks.

    Case, wording and punctuation stay: a quote that differs in them is not verbatim.
    """
    return " ".join(unicodedata.normalize("NFC", text).translate(_TYPOGRAPHY).split())


def shown(text: str, *, limit: int = 60) -> str:
    """A piece of hostile text inside a sentence of ours: cut, on one line, nothing unseen."""
    visible = "".join(f"<U+{ord(c):04X}>" if is_invisible(c) else c for c in text[:limit])
    return " ".join(visible.split()) + ("…" if len(text) > limit else "")
