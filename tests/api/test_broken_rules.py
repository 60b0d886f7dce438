"""How a broken rule is told: a JSON pointer and words, whatever hostile names stand in the request."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.problems import RequestProblem
from api.reading import convert
from domain.experiments import NewExperiment
from domain.outcomes import NewOutcome
from domain.prompts import NewVersion

GOOD = {"prompt": "support", "unit_id": "u", "metrics": {"quality": 0.5}}
VARIANT = {"key": "a", "version_id": 1}
EXPERIMENT = {"key": "e", "prompt": "p", "control": "a", "variants": [VARIANT, VARIANT]}


def problem(value: Any, type_: type) -> RequestProblem:
    with pytest.raises(RequestProblem) as refused:
        convert(value, type_)
    return refused.value


@pytest.mark.parametrize(
    ("value", "type_", "pointer"),
    [
        (GOOD | {"metrics": {"quality": "0.7"}}, NewOutcome, "/metrics/quality"),
        (GOOD | {"metrics": {"ok": 1, "a": {"x": [1]}}}, NewOutcome, "/metrics/a"),
        (GOOD | {"metrics": {"Bad": 1}}, NewOutcome, "/metrics"),
        (GOOD | {"transcript": [{"role": "user"}, {"role": 5}]}, NewOutcome, "/transcript/1/role"),
        (GOOD | {"transcript": [{"role": "user", "text": ""}]}, NewOutcome, "/transcript/0/text"),
        (EXPERIMENT | {"variants": [VARIANT, VARIANT | {"share": 2}]}, NewExperiment, "/variants/1/share"),
        (EXPERIMENT | {"policy": {"name": "greedy"}}, NewExperiment, "/policy/name"),
        (EXPERIMENT | {"a/b~c": 1}, NewExperiment, "/a~1b~0c"),
        ({"name": "n"}, NewVersion, ""),
        ([], NewVersion, ""),
        (None, NewVersion, ""),
    ],
)
def test_the_pointer_leads_to_the_place(value: Any, type_: type, pointer: str):
    errors = problem(value, type_).errors
    assert errors is not None
    assert [error.pointer for error in errors] == [pointer]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"unit_id": "a\tb"}, "must be text without control characters"),
        ({"prompt": "a b"}, "must be letters, digits"),
        ({"metrics": {"Bad": 1}}, "a key: must be a to z"),
        ({"unit_id": "a" * 201}, "length <= 200"),
        ({"occurred_at": "2026-11-22T10:00:00"}, "timezone"),
    ],
)
def test_a_rule_is_told_in_words(value: dict[str, Any], words: str):
    assert words in problem(GOOD | value, NewOutcome).detail


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_an_unknown_field_is_named_whatever_its_name(name: str):
    if name in NewOutcome.__struct_fields__:
        return
    refused = problem(GOOD | {name: 1}, NewOutcome)
    assert refused.kind.slug == "unknown-field"
    assert refused.errors is not None
    assert len(refused.errors[0].pointer) <= 401


@pytest.mark.parametrize("name", ["x` - at `$.y", "` - at `$[0].a", "x`", "a` - at `key` in `$.metrics"])
def test_a_field_that_looks_like_a_place_is_a_name(name: str):
    refused = problem(GOOD | {name: 1}, NewOutcome)
    assert refused.kind.slug == "unknown-field"


def test_a_long_value_is_not_repeated():
    refused = problem(EXPERIMENT | {"policy": {"name": "g" * 10_000}}, NewExperiment)
    assert len(refused.detail) < 150
    assert "listed in /schema" in refused.detail
