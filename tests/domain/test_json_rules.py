"""What JSON may hold before it comes near a database."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidValue
from domain.json_rules import MAX_DEPTH, MAX_POINTER, check_json_value, escape_pointer

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
GOOD = st.none() | st.booleans() | TEXT | NUMBERS
DOCUMENTS = st.recursive(
    GOOD, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
)
BAD = st.sampled_from(["a\x00", "\ud800", 2**63, -(2**63), float("nan"), float("inf"), -float("inf")])


@given(DOCUMENTS)
def test_what_every_database_takes_is_taken(document: Any):
    check_json_value(document)
    assert json.loads(json.dumps(document)) == document


@given(st.lists(st.integers(0, 3) | TEXT, max_size=6), BAD)
def test_a_bad_value_is_found_at_any_place(way: list[int | str], bad: Any):
    """The pointer, followed step by step (RFC 6901), leads to it."""
    document: Any = bad
    for step in reversed(way):
        document = [*[None] * step, document, None] if isinstance(step, int) else {"x": 1, step: document}
    with pytest.raises(InvalidValue) as refused:
        check_json_value(document)
    assert _follow(document, refused.value.pointer) == bad or bad != bad


def _follow(document: Any, pointer: str) -> Any:
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document


@pytest.mark.parametrize("key", ["a\x00", "\udfff"])
def test_a_bad_key_is_found_in_its_object(key: str):
    with pytest.raises(InvalidValue, match="a key holds") as refused:
        check_json_value({"outer": {key: 1}})
    assert refused.value.pointer == "/outer"


@pytest.mark.parametrize("nest", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_the_bound_of_nesting_is_exact(nest: Any):
    document: Any = 1
    for _ in range(MAX_DEPTH):
        document = nest(document)
    check_json_value(document)
    with pytest.raises(InvalidValue, match="more than 32 deep"):
        check_json_value(nest(document))


def test_the_pointer_of_an_error_is_cut():
    document: Any = 2**63
    for _ in range(30):
        document = {"k" * 1_000: document}
    with pytest.raises(InvalidValue) as refused:
        check_json_value(document)
    assert len(refused.value.pointer) == MAX_POINTER


def test_a_megabyte_of_small_values_under_long_keys_needs_no_gigabyte():
    """Pointers are written for the error only: each of these would have 3 kB."""
    document: Any = [0] * 50_000
    for _ in range(30):
        document = {"k" * 100: document}
    tracemalloc.start()
    check_json_value(document)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6  # it is 8 MB; 50 000 pointers of 3 kB would be 150 MB


@given(st.text(max_size=150))
def test_a_step_of_a_pointer_can_be_read_back(part: str):
    escaped = escape_pointer(part)
    assert "/" not in escaped
    cut = part[:100].encode(errors="replace").decode()
    assert escaped.replace("~1", "/").replace("~0", "~") == cut
