"""Anchored edits: laws of applying them, and of turning a whole text into them."""

import itertools

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from domain.changes import changes_of
from domain.edits import MAX_EDITS, Edit, apply, edits_between, occurs_once
from domain.errors import InvalidValue

laws = settings(max_examples=60, derandomize=True)
# Few different lines, so that anchors repeat, blocks touch and ends are equal.
lines = st.lists(st.sampled_from(["", " ", "a", "b", "aa", "ab\r", "c d"]), min_size=1, max_size=12)
texts = lines.map("\n".join)
PROMPT = "Be brief.\nAsk for the number.\nSay goodbye.\n"


@st.composite
def prompts_and_edits(draw):
    """A prompt of different words, and edits at some of them."""
    count = draw(st.integers(2, 8))
    prompt = " ".join(f"word{i}" for i in range(count))
    places = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=4, unique=True))
    edits = [
        Edit(
            op=op,
            anchor=f"word{place}",
            text="" if op == "delete" else draw(st.sampled_from(["x", " y ", "word"])),
        )
        for place in places
        for op in [draw(st.sampled_from(["insert_after", "insert_before", "replace", "delete"]))]
    ]
    return prompt, edits


@laws
@given(prompts_and_edits())
def test_edits_act_on_the_prompt_as_it_was_given(case):
    """The textbook: find every anchor in the prompt, then splice from the back."""
    prompt, edits = case
    text = prompt
    for edit in sorted(edits, key=lambda edit: -prompt.index(edit.anchor)):
        start = prompt.index(edit.anchor)
        middle = {
            "insert_after": edit.anchor + edit.text,
            "insert_before": edit.text + edit.anchor,
            "replace": edit.text,
            "delete": "",
        }[edit.op]
        text = text[:start] + middle + text[start + len(edit.anchor) :]
    assert apply(prompt, edits) == text


@laws
@given(prompts_and_edits())
def test_the_order_of_edits_does_not_matter(case):
    prompt, edits = case
    assert len({apply(prompt, order) for order in itertools.permutations(edits)}) == 1


@laws
@given(texts, texts)
@example("a\n", "a")
@example("a", "a\n")
@example("a\r\nb", "a\nb")
@example("a\u2028b", "a\nb")
@example("x\n\n\n\nx", "x\n\nx")
def test_a_whole_text_is_the_prompt_with_its_edits(prompt: str, text: str):
    assume(prompt.strip())
    edits = edits_between(prompt, text)
    assert apply(prompt, edits) == text
    assert (edits == ()) == (prompt == text)


@laws
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_the_prompt_with_its_edits(prompt: str, text: str):
    assume(prompt.strip())
    assert apply(prompt, edits_between(prompt, text)) == text


def test_a_diff_reads_as_a_person_would_write_it():
    text = PROMPT.replace("Ask for the number.\n", "Ask for the number.\nAsk for the name.\n").replace(
        "brief", "kind"
    )
    assert edits_between(PROMPT, text) == (
        Edit(op="replace", anchor="Be brief.\n", text="Be kind.\n"),
        Edit(op="insert_after", anchor="Ask for the number.\n", text="Ask for the name.\n"),
    )
    assert edits_between(PROMPT, "Be brief.\nSay goodbye.\n") == (
        Edit(op="delete", anchor="Ask for the number.\n"),
    )


@pytest.mark.parametrize(
    ("edits", "pointer", "words"),
    [
        ([Edit(op="replace", anchor="Be rude.", text="x")], "/edits/0/anchor", "does not occur"),
        ([Edit(op="replace", anchor="e", text="x")], "/edits/0/anchor", "more than once"),
        ([Edit(op="replace", anchor=" ", text="x")], "/edits/0/anchor", "blank"),
        ([Edit(op="delete", anchor="brief", text="x")], "/edits/0/text", "use replace"),
        ([Edit(op="replace", anchor="brief", text="")], "/edits/0/text", "use delete"),
        ([Edit(op="insert_after", anchor="brief")], "/edits/0/text", "leave it out"),
        (
            [Edit(op="delete", anchor="Be brief."), Edit(op="replace", anchor="brief.\nAsk", text="x")],
            "/edits/1/anchor",
            "overlaps that of edit 0",
        ),
        (
            [Edit(op="delete", anchor="Ask"), Edit(op="insert_after", anchor="Ask", text="x")],
            "/edits/1/anchor",
            "overlaps",
        ),
        (
            [
                Edit(op="insert_after", anchor="brief.", text=" Say goodbye."),
                Edit(op="delete", anchor="Say goodbye."),
            ],
            "/edits/1/anchor",
            "more than once",
        ),
        ([Edit(op="delete", anchor="Ask")] * (MAX_EDITS + 1), "/edits", "at most"),
    ],
)
def test_an_edit_that_could_mean_two_things_is_refused(edits: list[Edit], pointer: str, words: str):
    with pytest.raises(InvalidValue, match=words) as refused:
        apply(PROMPT, edits)
    assert refused.value.pointer == pointer


def test_places_that_overlap_are_two_places():
    """`str.count` says 1: the second `aa` of `aaa` begins inside the first."""
    assert "aaa".count("aa") == 1
    assert not occurs_once("aaa", "aa")


@pytest.mark.parametrize("field", ["tools_config", "metadata", "prompt", "system_prompt"])
def test_an_edit_has_no_field_for_anything_but_text(field: str):
    told = {"op": "delete", "anchor": "x", "text": "", field: []}
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert(told, Edit)


def test_a_changed_word_is_a_small_change():
    long = " ".join(f"word{i}" for i in range(200))
    (edit,) = edits_between(long, long.replace("word100", "other"))
    changes = changes_of([edit])
    assert changes.removed == len(" word100")
    assert changes.added == (" other",)


def test_words_kept_by_chance_are_changed_words():
    """Four words in a row between changes do not count as kept, five do."""
    old = "one two three four five six seven eight nine ten"
    four = Edit(op="replace", anchor=old, text="X two three four five Y seven eight nine ten")
    five = Edit(op="replace", anchor=old, text="X two three four five six Y eight nine ten")
    assert changes_of([four]).removed == len("one two three four five six")
    assert changes_of([five]).removed == len("one") + len(" seven")
