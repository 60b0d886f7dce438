"""What is taken out of a transcript, and what stays, kind by kind."""

import re
from pathlib import Path

import pytest

from domain.outcomes import Turn
from domain.redaction import redact
from tests.personal_data import SHAPES, corpus

PSEUDONYM = re.compile(r"<[A-Z][A-Z0-9_]*_\d+>")


def said(text: str, **known: str | int | None) -> str:
    """The text as it is stored."""
    content = redact([Turn(role="user", content=text)], known).turns[0].content
    assert content is not None
    return content


@pytest.mark.parametrize("shape", SHAPES)
def test_of_a_sentence_with_personal_data_only_the_rest_stays(shape):
    """420 sentences of 16 shapes, among them digits of other scripts and invisible marks within numbers."""
    for seed in (1, 2):
        for told in corpus(seed):
            if told.shape == shape:
                assert PSEUDONYM.sub("", said(told.sentence)) == told.sentence.replace(told.text, "")


def examples() -> list[tuple[str, str]]:
    """The table of docs/privacy.md."""
    lines = (Path(__file__).resolve().parents[3] / "docs" / "privacy.md").read_text().splitlines()
    found = [re.fullmatch(r"\|.*\| `(.+)` \| `(.+)` \|", line) for line in lines]
    return [(row[1], row[2]) for row in found if row is not None]


@pytest.mark.parametrize(("text", "stored"), examples())
def test_the_examples_of_the_document_are_true(text, stored):
    assert said(text) == stored


def test_the_first_example_of_the_document_is_true():
    arguments = '{"order_id": "W23"}'
    turns = [
        Turn(role="user", content="It's Ann, nine seven seven, 625 26 61"),
        Turn(role="assistant", tool_calls=[{"name": "find_order", "arguments": arguments}]),
    ]
    done = redact(turns, {"caller_name": "Ann Lee", "order_id": "W23"})
    assert done.turns[0].content == "It's <CALLER_NAME_1>, <PHONE_1>"
    assert done.turns[1].tool_calls == [{"name": "find_order", "arguments": '{"order_id": "<ORDER_ID_1>"}'}]


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("call 8 (977) 625-26-61", "call <PHONE_1>"),
        ("nine double seven six two five", "<NUMBER_1>"),
        ("двойка тройка семёрка ноль один", "<NUMBER_1>"),
        ("anna dot smith at gmail dot com", "<EMAIL_1>"),
        ("анна точка смирнова собака яндекс точка ру", "<EMAIL_1>"),
        ("anna [at] example [dot] com", "<EMAIL_1>"),
        ("born on the fifth of april nineteen ninety", "born on <BIRTH_DATE_1>"),
        ("ул. Ленина, д. 5, кв. 12", "<ADDRESS_1>"),
        ("улица ленина дом пять квартира двенадцать", "<ADDRESS_1>"),
        ("at one twenty three willow lane apartment four, please", "at <ADDRESS_1>, please"),
        ("https://shop.example/?user=anna%40example.com&n=3", "https://shop.example/?user=<EMAIL_1>&n=3"),
        ("916_123·45.67", "<PHONE_1>"),
        # The test card of payment services, one that misses Luhn's sum, and examples of the IBAN registry.
        ("card 4111 1111 1111 1112", "card <NUMBER_1>"),
        ("card 4111 1111 1111 1111", "card <CARD_1>"),
        ("to GB29 NWBK 6016 1331 9268 19 please", "to <IBAN_1> please"),
        ("to DE89370400440532013000 now", "to <IBAN_1> now"),
        ("$45 345 931 9 6 2 or 286 3 157 руб", "$<PHONE_1> or <NUMBER_1> руб"),
        ("order W2378156", "order W<NUMBER_1>"),
        ("паспорт 45 10 123456", "паспорт <PHONE_1>"),
    ],
)
def test_what_is_personal_becomes_a_name(text, stored):
    assert said(text) == stored


@pytest.mark.parametrize(
    "text",
    [
        "order #12345 of 12.05.2026 for $1,250,000.00",
        "сто двадцать пять тысяч рублей, 1 250 000 руб",
        "flight HAT123 at 06:00:00 on 2024-05-20, seats 12, 14 and 15",
        "between 2019-2024 it was 120.50 130.40 140.00",
        "room 1205 two beds, two hundred thirty five dollars",
        "встреча 25.12.2026 в 15.30, две тысячи двадцать шестой год",
        "I bought it at booking.com, three people find a way",
        "the date is May 5, 2024; twenty twenty four",
        "it is a one way street, two blocks down the road, 100% sure",
        "one of the two, five or six minutes, oh I see",
        "DF89BM is a round trip flight in basic economy",
        "1. Basic 2. Economy 3. Business 4. First 5. None",
    ],
)
def test_what_is_not_personal_stays(text):
    assert said(text) == text


def test_the_same_value_has_the_same_name_however_it_is_told():
    text = "8 977 625 26 61 or nine seven seven six two five two six six one or +7 (977) 625-26-61"
    assert said(text) == "<PHONE_1> or <PHONE_1> or <PHONE_1>"
    assert said("anna.smith@gmail.com, anna dot smith at gmail dot com") == "<EMAIL_1>, <EMAIL_1>"
    assert said("+1 202 555 0143 and +1 202 555 0199") == "<PHONE_1> and <PHONE_2>"


def test_names_go_through_the_whole_call():
    turns = [Turn(role=role, content="my number is 202 555 0143") for role in ("user", "assistant", "user")]
    done = redact(turns, {})
    assert {turn.content for turn in done.turns} == {"my number is <PHONE_1>"}
    assert done.redactions == {"PHONE": 3}


def test_a_known_value_is_found_however_it_is_written_or_spelled():
    known = {
        "caller_name": "Anna Smith-Jones",
        "order_id": "AB-1234",
        "pin": 4711,
        "phone": "+1 202 555 0143",
    }
    assert (
        said("ANNA here, miss smith-jones", **known)
        == "<CALLER_NAME_1> here, miss <CALLER_NAME_1>-<CALLER_NAME_1>"
    )
    assert said("it's A n n a, S-M-I-T-H", **known) == "it's <CALLER_NAME_1>, <CALLER_NAME_1>"
    assert said("order ab 1234, a b one two three four", **known) == "order <ORDER_ID_1>, <ORDER_ID_1>"
    assert said("pin four seven one one or 47 11", **known) == "pin <PIN_1> or <PIN_1>"
    assert said("(202) 555-0143 is mine, Hannah", **known) == "<PHONE_1> is mine, Hannah"


def test_a_russian_name_is_found_in_its_cases():
    text = "Анна Смирнова, для Анны Смирновой, с Анной, АННЕ; анналы остаются"
    named = "<CALLER_NAME_1>"
    assert said(text, caller_name="Анна Смирнова") == (
        f"{named}, для {named} {named}, с {named}, {named}; анналы остаются"
    )


def test_a_name_is_found_where_a_script_puts_no_spaces_around_it():
    assert said("我是李明你好", caller_name="李明") == "我是<CALLER_NAME_1>你好"
    assert said("저는 김철수입니다", caller_name="김철수") == "저는 <CALLER_NAME_1>입니다"


def test_a_role_stays_even_where_somebody_is_called_so():
    done = redact([Turn(role="user", content="I am User"), Turn(role="Anna")], {"caller_name": "Anna User"})
    assert [turn.role for turn in done.turns] == ["user", "<CALLER_NAME_1>"]
    assert done.turns[0].content == "I am <CALLER_NAME_1>"


def test_the_document_has_its_examples():
    assert len(examples()) >= 12


def test_a_value_in_the_name_of_its_field_does_not_name_the_pseudonym():
    assert said("I am Anna", anna="Anna") == "I am <KNOWN_1>"


def test_what_is_not_told_or_is_one_character_is_not_sought():
    assert said("floor 3, none", floor=3, caller_name=None, empty="", marks="--") == "floor 3, none"


def test_tool_calls_are_redacted_and_keep_their_keys():
    arguments = r'{"phone": "+79776252661", "name": "\u0410\u043d\u043d\u0430", "n": 3}'
    call = {
        "name": "find",
        "arguments": arguments,
        "more": [79776252661, 1.5, True, None, {"dob": "2015-04-05"}],
    }
    done = redact([Turn(role="assistant", name="anna", tool_calls=[call])], {"caller_name": "Анна"})
    assert done.turns[0].tool_calls == [
        {
            "name": "find",
            "arguments": '{"phone": "<PHONE_1>", "name": "<CALLER_NAME_1>", "n": 3}',
            "more": ["<PHONE_1>", 1.5, True, None, {"dob": "<BIRTH_DATE_1>"}],
        }
    ]
    assert done.redactions == {"BIRTH_DATE": 1, "CALLER_NAME": 1, "PHONE": 2}


def test_a_key_that_is_personal_itself_is_redacted():
    done = redact([Turn(role="tool", tool_calls=[{"anna@example.com": {"card_4421486": 1}}])], {})
    assert done.turns[0].tool_calls == [{"<EMAIL_1>": {"card_<NUMBER_1>": 1}}]


def test_an_answer_to_the_question_for_a_birth_date_is_one():
    asked = [Turn(role="assistant", content="Your date of birth?"), Turn(role="user", content="12.05.2015")]
    assert redact(asked, {}).turns[1].content == "<BIRTH_DATE_1>"
    other = [Turn(role="assistant", content="When do you fly?"), Turn(role="user", content="12.05.2026")]
    assert redact(other, {}).turns[1].content == "12.05.2026"


def test_a_number_dictated_over_several_turns_is_found():
    told = [
        "nine seven seven",
        "mm-hm",
        "six two five",
        "yes?",
        "and two six six one",
        "Thank you! What can I do for you today, please?",
        "2",
    ]
    roles = ["user", "assistant"] * 4
    done = redact([Turn(role=r, content=c) for r, c in zip(roles, told, strict=False)], {})
    contents = [turn.content for turn in done.turns]
    assert contents == ["<PHONE_1>", "mm-hm", "<PHONE_1>", "yes?", "<PHONE_1>", *told[5:]]


def test_a_pseudonym_in_the_text_keeps_its_number():
    assert said("<PHONE_1> or +1 202 555 0143") == "<PHONE_1> or <PHONE_2>"
    assert said("<phone_1> <NOTES_2025551234>") == "<phone_1> <NOTES_<PHONE_1>>"
