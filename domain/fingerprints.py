"""One number for what a suggestion says, so that a rejected one is known when it comes again."""

import hashlib
from collections import Counter

from domain.text_forms import sentences

type Sentences = Counter[tuple[str, ...]]


def fingerprint(before: str, after: str) -> str:
    """SHA-256 (hex) of the sentences that come and go; their place, case and punctuation do not count.

    >>> fingerprint("Be brief.", "Be brief. Be kind.") == fingerprint("Hello!", "BE KIND — hello!\\n\\nBe kind")
    False
    >>> fingerprint("Be brief.", "Be brief. Be kind.") == fingerprint("Hello!", "be  KIND!\\nHello!")
    True
    """
    old, new = Counter(sentences(before)), Counter(sentences(after))
    told = "\n".join(["comes", *_lines(new - old), "goes", *_lines(old - new)])
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def _lines(counted: Sentences) -> list[str]:
    return sorted(" ".join(sentence) for sentence in counted.elements())
