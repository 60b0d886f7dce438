"""Number words of English and Russian, as a caller dictates digits."""

from typing import Literal, NamedTuple

from domain.redaction.folded import fold_value


class Word(NamedTuple):
    """A number word: its value, and the room that it leaves for smaller ones (`twenty` for a unit)."""

    sort: Literal["number", "hundred", "times", "filler"]
    value: int = 0
    room: int = 1


_DIGITS = {
    0: "zero oh o nought naught ноль нуль нолик нулик ноля нуля",
    1: "one один одна одно единица единичка единицу",
    2: "two два две двойка двоечка двойку",
    3: "three tree три тройка троечка тройку",
    4: "four четыре четверка четверочка четверку",
    5: "five fife пять пятерка пятерочка пятерку",
    6: "six шесть шестерка шестерочка шестерку",
    7: "seven семь семерка семерочка семерку",
    8: "eight восемь восьмерка восьмерочка восьмерку",
    9: "nine niner девять девятка девяточка девятку",
}
_TEENS = [
    "ten десять десятка",
    "eleven одиннадцать",
    "twelve двенадцать",
    "thirteen тринадцать",
    "fourteen четырнадцать",
    "fifteen пятнадцать",
    "sixteen шестнадцать",
    "seventeen семнадцать",
    "eighteen восемнадцать",
    "nineteen девятнадцать",
]
_TENS = {
    20: "twenty двадцать",
    30: "thirty тридцать",
    40: "forty fourty сорок",
    50: "fifty пятьдесят",
    60: "sixty шестьдесят",
    70: "seventy семьдесят",
    80: "eighty восемьдесят",
    90: "ninety девяносто",
}
_HUNDREDS = "сто двести триста четыреста пятьсот шестьсот семьсот восемьсот девятьсот"
_TIMES = {2: "double дубль дважды", 3: "triple treble трижды", 4: "quadruple"}
_FILLERS = (
    "and um uh er dash hyphen space plus then и э эм ээ тире дефис пробел плюс минус потом дальше затем"
)

DIGIT_WORDS: dict[str, tuple[str, ...]] = {
    str(digit): tuple(fold_value(words).split()) for digit, words in _DIGITS.items()
}
NUMBER_WORDS: dict[str, Word] = {
    **{word: Word("number", digit) for digit, words in _DIGITS.items() for word in fold_value(words).split()},
    **{word: Word("number", 10 + i) for i, words in enumerate(_TEENS) for word in fold_value(words).split()},
    **{word: Word("number", tens, 10) for tens, words in _TENS.items() for word in fold_value(words).split()},
    **{word: Word("number", 100 * i, 100) for i, word in enumerate(fold_value(_HUNDREDS).split(), start=1)},
    **{word: Word("times", times) for times, words in _TIMES.items() for word in fold_value(words).split()},
    **{word: Word("filler") for word in fold_value(_FILLERS).split()},
    "hundred": Word("hundred"),
}
