"""Addresses in a text, however they are spelled, and texts that hold none."""

import pytest

from domain.contacts import added_contacts, contacts


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/a?b=c",
        "HTTPS : // example",
        "see www dot",
        "..pay.example.com",
        "pay.example.com.",
        "payshop-dot-com",
        "payshop, dot, com",
        "payshop (dot) com",
        "payshop { . } com",
        "ехаmрlе.соm",
        "пример.рф",
        "пример точка рф",
        "e\u00adxample.c\u200bom",
        "a@b",
        "pay (at) shop (dot) org",
        "pay at gmail",
        "192.0.2.17",
        "2025550143",
        "(202) 555-0143",
        "202·555·0143",
        "202 ----- 555 / 0143",
        "2 0 2 5 5 5 0",
        "2,0,2,5,5,5,0",
        "２０２５５５０１４３",
        "²⁰²⁵⁵⁵⁰",
        "five five five oh one",
        "double two, three, four, five",
        "восемь восемьсот пятьсот пятьдесят пять",
        "GB82WEST12345698765432",
        "DE89 3704 0044 0532 0130 00",
        "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
        "4111 1111 1111 1111",
        "tel:x",
    ],
)
def test_an_address_is_found_however_it_is_spelled(text: str):
    assert contacts(f"Please use {text} for that.")


@pytest.mark.parametrize(
    "text",
    [
        "Goods can be sent back within 30 days, e.g. unworn shoes.",
        "Open from 9:00 to 18:00, on Saturdays 10:00-16:00.",
        "From 2026-12-01 to 2026-12-31 the prices are 100, 200, 300 and 1 000 euros.",
        "Orders have 8 characters. Come back at 5. Then ask once more, one or two times.",
        "Say one, two or three sentences; not four. In 24 hours the agent calls back twice.",
        "Т.е. заказ придёт через 3-5 дней, и т.д. Смотри пункт 4.",
        "Dot the i. Look at the order, then at the mail. Point out the way to the shop.",
        "1. Greet.\n2. Ask.\n3. Look up.\n4. Answer.\n5. Thank.\n6. Close.",
        "Version 2.5 of find_order_by_postcode_and_name, step 10.4.",
    ],
)
def test_an_ordinary_sentence_holds_no_address(text: str):
    assert contacts(text) == {}


def test_an_address_that_was_there_may_stay_and_not_come_twice():
    prompt = "The shop's number is 202 555 0143."
    assert added_contacts(prompt, f"Be kind. {prompt} Say it slowly.") == []
    assert added_contacts(prompt, f"{prompt} Again: 202-555-0143.") == ["2025550143"]
    assert added_contacts(prompt, prompt.replace("43", "44")) == ["2025550144"]


def test_an_iban_has_a_check_digit():
    """ISO 13616: modulo 97; the first is the registry's example, in the second two digits are swapped."""
    assert "gb82west12345698765432" in contacts("Pay to GB82 WEST 1234 5698 7654 32 now")
    assert "gb82west12345698765423" not in contacts("Pay to GB82 WEST 1234 5698 7654 23 now")
