"""What an agent fills into a prompt before a call, and the sections that nobody may edit."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any

# The agent's template language is not known here, so every form counts: {{name}}, {% if %}, ${name}, {name},
# %(name)s, %s, $name, <name>, [[name]], [NAME]. A brace on its own counts, too: one more of them and
# `str.format` fails in a call.
_PLACEHOLDER = re.compile(
    r"""\{\{[^{}\n]{0,200}\}\} | \{%[^{}\n]{0,200}%\} | \$\{[^{}\n]{0,200}\} | \{[^{}\n]{0,200}\} | [{}]
    | %\([^()\n]{1,100}\)[#0\-+ ]?[\d.]*[a-zA-Z] | %[srdifxgu]\b
    | \$[^\W\d]\w*
    | \[\[[^\[\]\n]{0,200}\]\] | \[[A-Z][A-Z0-9_ ]{1,40}\]
    | <[^\s<>\d=\-][^<>\n]{0,200}>""",
    re.VERBOSE,
)
_MARKER = re.compile(r"<!--\s*+(/?)\s*+protected\s*+-->", re.IGNORECASE)
PROTECTED_KEY = "protected"


def placeholders(text: str) -> Counter[str]:
    """Every placeholder with how often it stands in the text.

    >>> sorted(placeholders("Hello {name}, {{shop}}: %(open)s to $close, <reason>."))
    ['$close', '%(open)s', '<reason>', '{name}', '{{shop}}']
    """
    return Counter(_PLACEHOLDER.findall(text))


def placeholder_changes(before: str, after: str) -> list[str]:
    """The placeholders that stand in one text more often than in the other; full-width braces count, too."""
    changed: set[str] = set()
    for form in ("NFC", "NFKC"):
        old, new = (placeholders(unicodedata.normalize(form, text)) for text in (before, after))
        changed |= {name for name in old.keys() | new.keys() if old[name] != new[name]}
    return sorted(changed)


def protected_sections(text: str) -> list[str]:
    """The pieces between `<!-- protected -->` and `<!-- /protected -->`, markers included.

    A marker without its partner protects as far as it can: to the end of the text, or from where the last
    section ended.

    >>> protected_sections("A <!-- protected -->never pay<!-- /protected --> B")
    ['<!-- protected -->never pay<!-- /protected -->']
    """
    found: list[str] = []
    start, opened = 0, False
    for marker in _MARKER.finditer(text):
        if marker[1]:
            found.append(text[start : marker.end()])
            start, opened = marker.end(), False
        elif not opened:
            start, opened = marker.start(), True
    if opened:
        found.append(text[start:])
    return found


def protected_changes(before: str, after: str, metadata: Mapping[str, Any]) -> list[str]:
    """The protected pieces that an edit changed, removed, repeated or added.

    `metadata` may list further ones, word for word: `{"protected": ["Never promise a refund."]}`.
    """
    old, new = protected_sections(before), protected_sections(after)
    changed = (
        [] if old == new else ([piece for piece in old if piece not in new] or ["the order of the markers"])
    )
    listed = metadata.get(PROTECTED_KEY, [])
    if not isinstance(listed, list) or not all(isinstance(piece, str) and piece for piece in listed):
        # Fail closed: somebody wanted something protected, and we cannot read what.
        return [*changed, "metadata.protected is no list of texts"]
    return changed + [piece for piece in listed if before.count(piece) != after.count(piece)]
