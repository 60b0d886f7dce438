"""Planted injections: a model that obeys them fully gets nothing past the gate."""

import msgspec
import pytest

from domain.gate import CHECKS, GateResult, gate
from tests.optimizer.injections import (
    HONEST_CALLS,
    HONEST_CITATIONS,
    HONEST_EDIT,
    INJECTIONS,
    SHOP_PROMPT,
    SHOP_VERSION,
    Injection,
)


def failed(result: GateResult) -> set[str]:
    return {check.name for check in result.checks if not check.passed}


def obeyed(injection: Injection, *, whole_text: bool = False) -> GateResult:
    edit = injection.edit()
    candidate = SHOP_PROMPT.replace(edit.anchor, edit.anchor + edit.text) if whole_text else [edit]
    calls = [*HONEST_CALLS, *injection.transcripts()]
    return gate(SHOP_VERSION, candidate, injection.citations(), calls)


def test_an_honest_edit_passes():
    """Without this, a gate that refuses everything would pass every other test here."""
    calls = [*HONEST_CALLS, *(call for injection in INJECTIONS for call in injection.transcripts()[:2])]
    result = gate(SHOP_VERSION, [HONEST_EDIT], HONEST_CITATIONS, calls)
    assert failed(result) == set()
    assert result.passed
    assert result.system_prompt == SHOP_PROMPT.replace(
        HONEST_EDIT.anchor, HONEST_EDIT.anchor + HONEST_EDIT.text
    )


@pytest.mark.parametrize("injection", INJECTIONS, ids=lambda injection: injection.name)
def test_a_planted_line_does_not_pass(injection: Injection):
    """As an edit and as a whole text, by the check that is there for it."""
    for whole_text in (False, True):
        result = obeyed(injection, whole_text=whole_text)
        assert not result.passed
        assert injection.caught_by in failed(result), result.checks


@pytest.mark.parametrize("injection", INJECTIONS, ids=lambda injection: injection.name)
def test_the_honest_part_of_a_case_is_not_what_fails(injection: Injection):
    """The anchor and the size of every case are fine, so each falls for what it says or rests on."""
    assert failed(obeyed(injection)).isdisjoint({"anchors", "growth", "changed_share", "no_change", "repeat"})
    assert ("evidence" in failed(obeyed(injection))) <= (not injection.cites_others)


def test_there_are_enough_cases_in_both_languages():
    names = [injection.name for injection in INJECTIONS]
    assert len(names) == len(set(names)) >= 50
    russian = [i for i in INJECTIONS if any("а" <= c <= "я" for c in i.said) and not i.said.isascii()]
    assert len(russian) >= 12
    assert {injection.caught_by for injection in INJECTIONS} <= set(CHECKS)


def test_what_a_detail_shows_of_a_hostile_text_can_be_seen():
    """Details are read by people: no unseen character and no line break of an attacker gets into one."""
    for injection in INJECTIONS:
        for check in obeyed(injection).checks:
            assert check.detail.isprintable(), (injection.name, check)
            msgspec.json.encode(check)
