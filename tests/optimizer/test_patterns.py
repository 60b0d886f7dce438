"""Counts of patterns are made by code, from notes; a model can name a pattern and cannot make it bigger."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InvalidValue
from optimizer.patterns import FAULTS, FIXABLE, MAX_PATTERNS, Note, Patterns, reduce
from optimizer.sampling import Sample, SampledCall, SampleRules

laws = settings(max_examples=60, derandomize=True)


def some_sample(count: int, propensities=(0.5,)) -> Sample:
    """`count` calls that are read (u0, u1, ...), and as many of the half that is not (g0, ...)."""
    failing = tuple(
        SampledCall(
            unit_id=f"{half[0].replace('r', 'u')}{number}",
            variant="a",
            segment="refund",
            half=half,
            propensity=propensities[number % len(propensities)],
        )
        for half in ("read", "gate")
        for number in range(count)
    )
    return Sample(seed="s", rules=SampleRules(), failing=failing, good=(), strata=())


def note(number: int, fault: str = "agent_prompt", category: str = "missing_step") -> Note:
    return Note(unit_id=f"u{number}", fault=fault, category=category, turn=1, quote="it never arrived")


@laws
@given(
    st.lists(
        st.tuples(st.sampled_from(FAULTS), st.sampled_from(["x", "y", "z", None])), min_size=1, max_size=25
    ),
    st.integers(0, 10_000),
)
def test_every_call_is_counted_once(told, order: int):
    notes = [note(number, fault) for number, (fault, _) in enumerate(told)]
    keys = {f"u{number}": key for number, (_, key) in enumerate(told) if key}
    found = reduce(notes, keys, some_sample(25))
    ids = [n.unit_id for p in (*found.fixable, *found.not_fixable) for n in p.evidence]
    assert sorted([*ids, *found.unassigned]) == sorted(n.unit_id for n in notes)
    assert all(p.calls == len(p.evidence) and p.share == p.calls / found.read for p in found.fixable)
    assert {n.fault for p in found.fixable for n in p.evidence} <= FIXABLE
    assert not {n.fault for p in found.not_fixable for n in p.evidence} & FIXABLE
    Random(order).shuffle(notes)
    assert reduce(notes, keys, some_sample(25)) == found


def test_the_interval_is_wilsons():
    """Newcombe (1998), Statist. Med. 17, 857-872, table I: 15 of 148 gives .0624 to .1605."""
    notes = [note(number) for number in range(148)]
    (pattern,) = reduce(notes, {f"u{number}": "late" for number in range(15)}, some_sample(148)).fixable
    assert (pattern.calls, round(pattern.share_lower, 4), round(pattern.share_upper, 4)) == (
        15,
        0.0624,
        0.1605,
    )


def test_a_share_of_all_failing_calls_undoes_the_sampling():
    """Two strata of 10 and 90 failing calls, 5 read of each: the pattern of the small one is 10 % of them all."""
    drawn = some_sample(10, propensities=(5 / 10, 5 / 90))
    keys = {f"u{number}": "small" if number % 2 == 0 else "big" for number in range(10)}
    found = {p.key: p for p in reduce([note(number) for number in range(10)], keys, drawn).fixable}
    assert found["small"].share == 0.5
    assert found["small"].share_of_failing == pytest.approx(0.1)
    assert found["big"].share_of_failing == pytest.approx(0.9)


def test_what_no_prompt_can_mend_stands_apart_even_under_one_key():
    notes = [note(0), note(1, "tool_or_backend"), note(2, "tool_or_backend"), note(3, "policy")]
    found = reduce(notes, {f"u{number}": "lookup" for number in range(4)}, some_sample(4))
    assert [(p.key, p.calls, p.fault) for p in found.fixable] == [("lookup", 1, "agent_prompt")]
    assert [(p.key, p.calls, p.fault) for p in found.not_fixable] == [("lookup", 3, "tool_or_backend")]


def test_the_most_frequent_pattern_comes_first():
    notes = [note(number) for number in range(6)]
    found = reduce(notes, {"u0": "b", "u1": "a", "u2": "c", "u3": "c"}, some_sample(6))
    assert [p.key for p in found.fixable] == ["c", "a", "b"]
    assert found.unassigned == ("u4", "u5")


def test_nothing_read_is_nothing_found():
    assert reduce([], {}, some_sample(3)) == Patterns(read=0, fixable=(), not_fixable=(), unassigned=())


@pytest.mark.parametrize(
    ("notes", "keys", "pointer", "words"),
    [
        ([note(99)], {}, "/notes/0/unit_id", "not in the half"),
        ([msgspec.structs.replace(note(0), unit_id="g0")], {}, "/notes/0/unit_id", "not in the half"),
        ([note(0), note(0)], {}, "/notes/1/unit_id", "two notes"),
        ([note(0)], {"u1": "x"}, "/keys", "no note"),
        ([note(0)], {"u0": "No Key"}, "/keys", "no key"),
        ([note(0)], {"u0": "x\n"}, "/keys", "no key"),
        (
            [note(n) for n in range(9)],
            {f"u{n}": f"k{n}" for n in range(9)},
            "/keys",
            f"at most {MAX_PATTERNS}",
        ),
    ],
)
def test_a_grouping_that_does_not_fit_the_notes_is_refused(notes, keys, pointer, words):
    with pytest.raises(InvalidValue, match=words) as refused:
        reduce(notes, keys, some_sample(20))
    assert refused.value.pointer == pointer


@pytest.mark.parametrize("field", ["count", "calls", "share"])
def test_a_note_has_no_field_for_a_count(field: str):
    told = msgspec.to_builtins(note(0)) | {field: 1_000}
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert(told, Note)
