"""Names, keys and ids: what they may hold, and that JSON schema reads the bounds as we do."""

from typing import Any

import msgspec
import pytest

from domain.fields import (
    PATTERNS_IN_WORDS,
    Author,
    ContentHash,
    ExperimentKey,
    MetricName,
    Name,
    PromptText,
    Segment,
    Time,
    UnitId,
    VariantKey,
    folded,
    is_reserved_file_name,
)

TYPES = {
    "Name": Name,
    "ExperimentKey": ExperimentKey,
    "VariantKey": VariantKey,
    "MetricName": MetricName,
    "UnitId": UnitId,
    "Segment": Segment,
    "PromptText": PromptText,
    "Author": Author,
}


def takes(type_: Any, text: str) -> bool:
    try:
        msgspec.convert(text, type_)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", TYPES)
def test_nothing_is_empty(name: str):
    assert not takes(TYPES[name], "")


@pytest.mark.parametrize("name", set(TYPES) - {"PromptText"})
def test_no_name_ends_with_a_line_break(name: str):
    """`$` alone matches before a newline at the end, so `abc` and `abc` + newline were two ids of one look."""
    assert takes(TYPES[name], "abc")
    assert not takes(TYPES[name], "abc\n")
    assert not takes(TYPES[name], "ab\nc")
    assert not takes(TYPES[name], "abc\x00")


@pytest.mark.parametrize("text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n"])
def test_a_content_hash_is_64_hexadecimal_digits(text: str):
    assert takes(ContentHash, "0123456789abcdef" * 4)
    assert not takes(ContentHash, text)


@pytest.mark.parametrize("text", ["a", "support", "Größe", "v1.2", "a-b", "_x", "日本語"])
def test_a_name_can_be_a_file_name(text: str):
    assert takes(Name, text)
    assert not is_reserved_file_name(text)


@pytest.mark.parametrize(
    "text", ["..", "../x", "a/b", "a\\b", ".x", "-x", "x.", "a b", "a:b", "a*", "a" * 101]
)
def test_a_path_is_no_name(text: str):
    assert not takes(Name, text)


@pytest.mark.parametrize("text", ["con", "NUL", "aux.txt", "Com1", "lpt9.json"])
def test_a_device_is_a_reserved_name(text: str):
    assert is_reserved_file_name(text)


@pytest.mark.parametrize("text", ["AB 1", "Asked #1", "2026:spring", "a.b_c-d"])
def test_an_experiment_key_reads_like_a_title(text: str):
    assert takes(ExperimentKey, text)


@pytest.mark.parametrize("text", [" call", "call ", "😀", "a\u202eb", "x" * 200])
def test_a_unit_id_is_any_text_of_one_line(text: str):
    assert takes(UnitId, text)


@pytest.mark.parametrize("text", ["Quality", "2nd", "csat-1", "a" * 51])
def test_a_metric_name_is_lower_case(text: str):
    assert not takes(MetricName, text)


@pytest.mark.parametrize(("left", "right"), [("Greeting", "GREETING"), ("straße", "STRASSE")])
def test_names_are_compared_without_case(left: str, right: str):
    assert folded(left) == folded(right)


def test_a_time_has_a_zone():
    assert takes(Time, "2026-11-22T10:00:00+01:00")
    assert not takes(Time, "2026-11-22T10:00:00")


def test_every_pattern_is_also_said_in_words():
    """An error shows the words; somebody on call does not read regular expressions."""
    patterns = {msgspec.json.schema(type_)["pattern"] for type_ in [*TYPES.values(), ContentHash]}
    assert patterns == set(PATTERNS_IN_WORDS)
