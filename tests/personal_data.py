"""Synthetic personal data, English and Russian, as callers type and say it; made by seeded chance, of nobody."""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

SEED = 20261126
EACH = 14  # strings of every shape

EN_DIGITS = "zero one two three four five six seven eight nine".split()
RU_DIGITS = "ноль один два три четыре пять шесть семь восемь девять".split()
RU_NOUNS = "нолик единица двойка тройка четвёрка пятёрка шестёрка семёрка восьмёрка девятка".split()
EN_NAMES = "anna boris carla dmitri elena farid greta hassan ingrid jonas".split()
EN_SURNAMES = "smith okafor larsen petrova nakamura oconnor silva haddad kowalski byrne".split()
RU_TENS = "двадцать тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто".split()
RU_TEENS = (
    "десять одиннадцать двенадцать тринадцать четырнадцать пятнадцать шестнадцать семнадцать восемнадцать "
    "девятнадцать"
).split()
RU_HUNDREDS = "сто двести триста четыреста пятьсот шестьсот семьсот восемьсот девятьсот".split()
EN_MONTHS = "January February March April May June July August September October November December".split()
RU_MONTHS = "января февраля марта апреля мая июня июля августа сентября октября ноября декабря".split()
RU_ORDINALS = "первого второго третьего пятого седьмого десятого двенадцатого двадцатого тридцатого".split()
EN_ORDINALS = "first second third fifth ninth eleventh twelfth fifteenth twentieth".split()


class Told(NamedTuple):
    """Something personal, its shape, and the sentence that holds it."""

    shape: str
    text: str
    sentence: str


def digits(chance: random.Random, length: int) -> str:
    return str(chance.randint(1, 9)) + "".join(str(chance.randint(0, 9)) for _ in range(length - 1))


def us_phone(chance: random.Random) -> str:
    number = f"{chance.randint(201, 989)}{chance.randint(200, 999)}{digits(chance, 4)}"
    a, b, c = number[:3], number[3:6], number[6:]
    shapes = [f"({a}) {b}-{c}", f"+1 {a} {b} {c}", f"{a}-{b}-{c}", f"{a}.{b}.{c}", number, f"{a} {b}-{c}"]
    return chance.choice(shapes)


def ru_phone(chance: random.Random) -> str:
    number = f"9{digits(chance, 9)}"
    a, b, c, d = number[:3], number[3:6], number[6:8], number[8:]
    return chance.choice([f"+7 ({a}) {b}-{c}-{d}", f"8 {a} {b} {c} {d}", f"8{number}", f"+7{number}"])


def disguised_phone(chance: random.Random) -> str:
    """The same in other characters: other digits, invisible marks, spaces that do not break."""
    number = ru_phone(chance)
    full_width = str.maketrans("0123456789", "０１２３４５６７８９")
    arabic = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
    dressed: list[Callable[[str], str]] = [
        lambda text: text.translate(full_width),
        lambda text: text.translate(arabic),
        "\u200b".join,
        lambda text: text.replace(" ", "\u00a0"),
        "\u0301".join,
        lambda text: text.replace("-", "\u2011"),
    ]
    return chance.choice(dressed)(number)


def en_spoken_phone(chance: random.Random) -> str:
    """Digit by digit, `oh` for zero, `double` for two of a kind, a figure here and there."""
    said: list[str] = []
    number = digits(chance, 10)
    at = 0
    while at < len(number):
        word = EN_DIGITS[int(number[at])] if number[at] != "0" else chance.choice(["zero", "oh"])
        if number[at : at + 2] == number[at] * 2:
            said += ["double", word]
            at += 2
            continue
        said.append(number[at] if chance.random() < 0.15 else word)
        at += 1
    return chance.choice([" ", ", "]).join(said)


def ru_spoken_phone(chance: random.Random) -> str:
    number = f"8{digits(chance, 10)}"
    words = chance.choice([RU_DIGITS, RU_NOUNS])
    return " ".join(words[int(digit)] for digit in number)


def ru_number(value: int) -> str:
    """0 to 999 in words."""
    parts = [RU_HUNDREDS[value // 100 - 1]] if value >= 100 else []
    rest = value % 100
    if 10 <= rest < 20:
        parts.append(RU_TEENS[rest - 10])
    else:
        parts += [RU_TENS[rest // 10 - 2]] if rest >= 20 else []
        parts += [RU_DIGITS[rest % 10]] if rest % 10 or not value else []
    return " ".join(parts)


def ru_grouped_phone(chance: random.Random) -> str:
    """`восемь девятьсот шестнадцать сто двадцать три сорок пять шестьдесят семь`."""
    groups = [8, chance.randint(900, 999), chance.randint(100, 999), *(chance.randint(20, 99) for _ in "ab")]
    return " ".join(map(ru_number, groups))


def card(chance: random.Random) -> str:
    number = chance.choice("45") + digits(chance, 14)
    number += next(str(d) for d in range(10) if luhn_holds(number + str(d)))
    parts = [number[i : i + 4] for i in range(0, 16, 4)]
    return chance.choice(["", " ", "-"]).join(parts)


def luhn_holds(number: str) -> bool:
    """The textbook's sum: double every second digit from the right, take nine from what is over nine."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban(chance: random.Random) -> str:
    country, length = chance.choice([("DE", 18), ("ES", 20), ("PL", 24), ("FR", 23)])
    account = digits(chance, length)
    moved = "".join(str(int(character, 36)) for character in account + country + "00")
    check = 98 - int(moved) % 97
    whole = f"{country}{check:02d}{account}"
    grouped = " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))
    return chance.choice([whole, grouped, whole.lower()])


def email(chance: random.Random) -> str:
    name, surname = chance.choice(EN_NAMES), chance.choice(EN_SURNAMES)
    joint = chance.choice([".", "_", "-", ""])
    tail = chance.choice(["", str(chance.randint(1, 99))])
    place = chance.choice(["example.com", "example.co.uk", "gmail.com", "mail.ru", "shop-example.org"])
    return f"{name}{joint}{surname}{tail}@{place}"


def en_spoken_email(chance: random.Random) -> str:
    name, surname = chance.choice(EN_NAMES), chance.choice(EN_SURNAMES)
    joint = chance.choice([" dot ", " underscore ", " dash ", " "])
    tail = chance.choice(["", " seven", " double two", " 19"])
    return f"{name}{joint}{surname}{tail} at {chance.choice(['gmail', 'yahoo', 'example'])} dot com"


def ru_spoken_email(chance: random.Random) -> str:
    name, surname = chance.choice(EN_NAMES), chance.choice(["смирнов", "петрова", "иванов", "орлова"])
    joint = chance.choice([" точка ", " нижнее подчёркивание ", " дефис "])
    place = chance.choice(["яндекс точка ру", "mail точка ru", "gmail точка com"])
    return f"{name}{joint}{surname} собака {place}"


def birth_date(chance: random.Random) -> str:
    day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(1935, 2005)
    shapes = [
        f"{year}-{month:02d}-{day:02d}",
        f"{day:02d}.{month:02d}.{year}",
        f"{month}/{day}/{year}",
        f"{EN_MONTHS[month - 1]} {day}, {year}",
        f"{day}th of {EN_MONTHS[month - 1]} {year}",
        f"{day} {RU_MONTHS[month - 1]} {year}",
    ]
    return chance.choice(shapes)


def en_spoken_birth(chance: random.Random) -> str:
    year = chance.choice(
        ["nineteen ninety one", "nineteen sixty", "nineteen eighty five", "two thousand four"]
    )
    return f"{chance.choice(EN_MONTHS).lower()} {chance.choice(EN_ORDINALS)} {year}"


def ru_spoken_birth(chance: random.Random) -> str:
    year = chance.choice(["восемьдесят пятого", "девяностого", "семьдесят второго", "шестьдесят первого"])
    month = chance.choice(RU_MONTHS)
    return f"{chance.choice(RU_ORDINALS)} {month} тысяча девятьсот {year}"


def en_address(chance: random.Random) -> str:
    street = chance.choice(["Willow Lane", "Cedar Avenue", "Old Mill Road", "Sunset Drive", "Elm Street"])
    return f"{chance.randint(2, 999)} {street}{chance.choice(['', ', Apt 4', ', Suite 217'])}"


def ru_address(chance: random.Random) -> str:
    house, flat = chance.randint(2, 150), chance.randint(1, 300)
    shapes = [
        f"улица Ленина, дом {house}, квартира {flat}",
        f"ул. Большая Садовая, д. {house}, кв. {flat}",
        f"Невский проспект, {house}",
        f"Тверская улица дом {ru_number(house)} квартира {ru_number(flat)}",
        f"проспект Мира {house}",
    ]
    return chance.choice(shapes)


EN = ["my number is {}", "sure, it's {}, thanks", "{}", "please write it down: {}."]
RU = ["запишите: {}", "да, это {}, спасибо", "{}", "мой номер {}."]
EN_MAIL = ["my email is {}", "write to {}", "sure, {}"]
RU_MAIL = ["моя почта {}", "пишите на {}"]
EN_BORN = ["I was born on {}", "date of birth: {}", "my birthday is {}"]
RU_BORN = ["я родилась {}", "дата рождения {}"]
EN_HOME = ["I live at {}", "send it to {}", "{}"]
RU_HOME = ["я живу по адресу {}", "доставьте на {}", "{}"]
SHAPES: dict[str, tuple[Callable[[random.Random], str], list[str]]] = {
    "us_phone": (us_phone, EN),
    "ru_phone": (ru_phone, RU),
    "disguised_phone": (disguised_phone, RU),
    "en_spoken_phone": (en_spoken_phone, EN),
    "ru_spoken_phone": (ru_spoken_phone, RU),
    "ru_grouped_phone": (ru_grouped_phone, RU),
    "card": (card, EN),
    "iban": (iban, EN),
    "email": (email, EN_MAIL + RU_MAIL),
    "en_spoken_email": (en_spoken_email, EN_MAIL),
    "ru_spoken_email": (ru_spoken_email, RU_MAIL),
    "birth_date": (birth_date, EN_BORN + RU_BORN),
    "en_spoken_birth": (en_spoken_birth, EN_BORN),
    "ru_spoken_birth": (ru_spoken_birth, RU_BORN),
    "en_address": (en_address, EN_HOME),
    "ru_address": (ru_address, RU_HOME),
}


def corpus(seed: int = SEED, each: int = EACH) -> Iterator[Told]:
    """`each` strings of every shape, in their sentences; 224 by default."""
    for shape, (make, sentences) in SHAPES.items():
        chance = random.Random(f"{seed}/{shape}")
        for _ in range(each):
            text = make(chance)
            yield Told(shape, text, chance.choice(sentences).format(text))
