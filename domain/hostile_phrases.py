"""Phrases that have no place in a prompt's edit: a role that is put on, and words to whoever reviews it.

A list of phrases stops no determined writer. It makes the usual attacks visible by name; what holds are the
rules that do not depend on wording (quotes of several callers, no copied words, a bounded change) and a person.
"""

import re
from collections import Counter

from domain.text_forms import closed_up, plain, skeleton

_ROLES = (
    "system|assistant|developer|user|human|tool|function|система|системное сообщение|ассистент|разработчик"
)
_FRAME = r"(?: (?:message|note|prompt|override|сообщение))?"
_ROLE_TAGS = (
    r"<\|[^|>\n]{0,60}\|?>",
    rf"(?m:^)[^\w\n]{{0,6}}(?:{_ROLES}){_FRAME}[^\w\n]{{0,4}}:",
    rf"(?<!\w)(?:system|developer|система|системное){_FRAME}\s{{0,3}}[\])>*]{{0,3}}\s{{0,3}}:",
    rf"(?m:^)[^\w\n]{{0,6}}(?:system|developer|система|системное){_FRAME} ?[-–—>]{{1,3}} ",
    rf"[\[<]\s{{0,3}}/?\s{{0,3}}(?:{_ROLES}|inst|s){_FRAME}\s{{0,3}}[\]>]",
    r"<{2,3}/?\s{0,3}(?:sys|system|inst)",
    r"#{2,}\s{0,3}(?:system|instruction|response|new instructions|human|assistant)",
    r"(?:begin|end|start of|end of) (?:system |new |hidden )?(?:prompt|instructions|transcript|conversation)(?!\w)",
    r"[\"']?role[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:system|assistant|developer|user)",
)
_EDIT = r"(?:suggestion|edit|candidate|proposal|patch|prompt|pull request)s?"
_TO_REVIEWERS = (
    r"(?<!\w)(?:reviewer|approver|grader|evaluator|optimi[sz]er|prompt engineer|red team)s?(?!\w)",
    rf"(?<!\w)(?:approve|merge|adopt)d?s? (?:this|the|these|my|that) (?:{_EDIT}|change|line|rule)s?(?!\w)",
    rf"(?<!\w)(?:accept|pass|apply|applie|confirm)(?:d|ed|s)? (?:this|the|these|my|that) {_EDIT}(?!\w)",
    r"(?<!\w)(?:edit|suggestion|change|line|rule|candidate) (?:is|was|are|were|has been|have been) "
    r"(?:pre-?approved|already approved|approved|signed off|verified|safe)(?!\w)",
    r"(?<!\w)(?:ignore|disregard|forget|override|bypass)s? (?:all|any|every|previous|prior|above|earlier|your|these"
    r"|those|other|everything) ?(?:\w+ ){0,4}(?:instructions?|rules?|prompts?|guidelines?|polic(?:y|ies)|above)(?!\w)",
    r"(?<!\w)(?:ignore|disregard|forget|override|bypass)s? the (?:\w+ ){0,3}"
    r"(?:section|instructions?|rules?|prompt|guidelines?)(?!\w)",
    r"(?<!\w)(?:sections?|rules?|instructions?|protected)(?!\w)[^.\n]{0,80}(?<!\w)"
    r"(?:outdated|void|obsolete|suspended|no longer (?:apply|applies|valid)|examples? only)(?!\w)",
    r"(?<!\w)dear (?:manager|reviewer|team|colleague|human)s?(?!\w)",
    r"(?<!\w)(?:add|append|insert|write|put|copy) (?:\w+ ){0,6}(?:to|into|in) (?:\w+ ){0,2}(?:system )?prompt(?!\w)",
    r"(?<!\w)(?:system prompt|hidden instructions?|as an ai|language model|jailbreak|developer mode)(?!\w)",
    r"(?<!\w)(?:no|without|skip)(?: the)? (?:human|manual|further) (?:review|approval)(?!\w)",
    r"(?<!\w)(?:ревьюер|рецензент|проверяющ|оптимизатор|модератор)\w*",
    r"(?<!\w)(?:одобр|утверд|прими|примите|подтверд)\w* (?:\w+ ){0,2}(?:правк|изменени|предложени|строк|промпт)\w*",
    r"(?<!\w)(?:правка|изменение|предложение|строка) (?:уже )?(?:одобрен|утвержден|утверждён|проверен|безопасн)\w*",
    r"(?<!\w)(?:игнориру|забудь|забудьте|отмени|обойди)\w* (?:все|всё|любые|предыдущ\w+|прежн\w+|свои|эти)"
    r" ?(?:\w+ ){0,4}(?:инструкц|правил|указани|ограничени|промпт)\w*",
    r"(?<!\w)(?:раздел|правил|инструкци)\w*[^.\n]{0,80}(?<!\w)(?:устарел|не действу|отмен[её]н|не применя)\w*",
    r"(?<!\w)(?:добав|встав|впиш|запиш)\w* (?:\w+ ){0,6}(?:в|к) (?:\w+ ){0,2}промпт\w*",
    r"(?<!\w)(?:системн\w+ (?:промпт|инструкц)\w*|без проверки человек\w+|языков\w+ модел\w*)",
)
_ROLE_PATTERNS = tuple(re.compile(pattern) for pattern in _ROLE_TAGS)
_REVIEWER_PATTERNS = tuple(re.compile(pattern) for pattern in _TO_REVIEWERS)


def added_role_tags(before: str, after: str) -> list[str]:
    """Marks of a speaker or of a message's frame that `after` has more often: `system:`, `<|im_start|>`."""
    return _added(_ROLE_PATTERNS, before, after)


def added_words_to_reviewers(before: str, after: str) -> list[str]:
    """Words to whoever judges the edit, or about the prompt itself, that `after` has more often."""
    return _added(_REVIEWER_PATTERNS, before, after)


def _added(patterns: tuple[re.Pattern[str], ...], before: str, after: str) -> list[str]:
    return sorted(_found(patterns, after) - _found(patterns, before))


def _found(patterns: tuple[re.Pattern[str], ...], text: str) -> Counter[str]:
    found: Counter[str] = Counter()
    forms = {_spaced(plain(text)), _spaced(skeleton(text))}
    for form in forms | {closed_up(form) for form in forms}:
        found |= Counter(
            " ".join(match[0].split()) for pattern in patterns for match in pattern.finditer(form)
        )
    return found


def _spaced(text: str) -> str:
    # Blanks of any length are one, so that two of them between words hide nothing; lines stay lines.
    return re.sub(r"[^\S\n]+", " ", text)
