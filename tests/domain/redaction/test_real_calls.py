"""152 real transcripts of a tool-using agent: what is taken out of them is nearly all personal."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from domain.outcomes import Turn
from domain.redaction import redact

FILE = Path(__file__).resolve().parents[4] / "shared" / "data" / "tau_bench" / "airline_calls.jsonl.gz"
pytestmark = pytest.mark.skipif(
    not FILE.exists(), reason="the calls of tau-bench do not lie beside the project"
)
# Numbers of payment methods: `credit_card_4421486`, `Gift Card 7504069`.
PAYMENT = re.compile(
    r"(?:credit_card_|gift_card_|certificate_|certificate |card |ending in )$", re.IGNORECASE
)
FOUND = re.compile(r"(.{0,25})<([A-Z_]+)_\d+>")


def transcripts() -> Iterator[list[Turn]]:
    with gzip.open(FILE, "rt") as lines:
        for line in lines:
            yield msgspec.convert(json.loads(line)["transcript"], list[Turn])


def test_false_positives_are_rare_and_nothing_else_is_left():
    """Taken by hand from the file: what is no payment number is arithmetic, `(1859 - 140)`, 15 times in 1.6 MB."""
    by_kind: dict[str, int] = {}
    wrong = 0
    for turns in transcripts():
        stored = msgspec.json.encode(redact(turns, {}).turns).decode()
        for before, kind in FOUND.findall(stored):
            by_kind[kind] = by_kind.get(kind, 0) + 1
            wrong += kind in ("PHONE", "NUMBER") and not PAYMENT.search(before)
        assert not re.search(r"@example\.com|\b(?:19[3-9]\d|200\d)-\d\d-\d\d", stored)
        assert not re.search(r"\d+ (?:Willow Lane|Cedar Avenue|Sunset Drive|Elm Street|River Road)", stored)
    assert set(by_kind) == {"ADDRESS", "BIRTH_DATE", "EMAIL", "NUMBER", "PHONE"}
    assert by_kind["BIRTH_DATE"] > 1_000
    assert by_kind["NUMBER"] > 1_500
    assert wrong <= 0.01 * sum(by_kind.values())


def test_flights_dates_prices_and_times_stay():
    """Every date of 2024, time of day and price of the file's tool results stands in what is stored."""
    kept = re.compile(r"2024-\d\d-\d\d|\d\d:\d\d:\d\d|HAT\d{3}|\"price\\*\": \d+")
    for turns in transcripts():
        told, stored = (msgspec.json.encode(item).decode() for item in (turns, redact(turns, {}).turns))
        assert kept.findall(stored) == kept.findall(told)
