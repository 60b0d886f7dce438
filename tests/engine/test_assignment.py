"""Assignment: a pure function that anyone can compute again."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from engine.allocation import largest_remainder
from engine.assignment import BUCKETS, arm_of, bucket

text = st.text(st.characters(codec="utf-8"), max_size=40)
splits = (
    st.lists(st.integers(0, 1_000), min_size=1, max_size=100)
    .filter(any)
    .map(lambda shares: largest_remainder(shares).tolist())
)


@pytest.mark.parametrize(
    ("salt", "unit_id", "expected"),
    [
        # printf '%s' "$salt/$unit" | sha256sum; first 16 hex digits modulo 10 000 (coreutils and bc, 2026-11-22)
        ("support-2026", "call-1", 6346),
        ("", "", None),
        ("grüße", "звонок-7", None),
    ],
)
def test_the_bucket_is_sha256_modulo_ten_thousand(salt, unit_id, expected):
    hexadecimal = hashlib.sha256((salt + "/" + unit_id).encode("utf-8")).hexdigest()[:16]
    assert bucket(salt, unit_id) == int(hexadecimal, 16) % 10_000
    assert expected in (None, bucket(salt, unit_id))


@given(text, text, splits)
def test_every_unit_has_an_arm_and_always_the_same(salt, unit_id, split):
    arm = arm_of(bucket(salt, unit_id), split)
    assert split[arm] > 0
    assert arm == arm_of(bucket(salt, unit_id), split)


@given(splits)
@settings(max_examples=5)
def test_served_shares_are_exactly_the_number_of_buckets(split):
    served = [0] * len(split)
    for position in range(BUCKETS):
        served[arm_of(position, split)] += 1
    assert served == split


def test_units_spread_evenly_over_the_buckets():
    """Chi-square of 100 000 units over 100 cells of buckets, two-sided at 1e-4; deterministic input."""
    counts = np.bincount([bucket("salt", f"call-{i}") // 100 for i in range(100_000)], minlength=100)
    statistic = ((counts - 1_000) ** 2 / 1_000).sum()
    assert chi2.ppf(5e-5, 99) < statistic < chi2.ppf(1 - 5e-5, 99)


def test_two_salts_assign_independently():
    """The same units under two salts: the 10 x 10 table of deciles is uniform (chi-square, 1e-4)."""
    table = np.zeros((10, 10))
    for i in range(40_000):
        table[bucket("first", str(i)) // 1_000, bucket("second", str(i)) // 1_000] += 1
    assert ((table - 400) ** 2 / 400).sum() < chi2.ppf(1 - 1e-4, 99)


def test_the_ranges_of_the_arms_stand_in_their_order():
    assert [arm_of(b, [0, 5_000, 0, 4_999, 1]) for b in (0, 4_999, 5_000, 9_998, 9_999)] == [1, 1, 3, 3, 4]


@pytest.mark.parametrize(
    ("position", "split", "message"),
    [
        (10_000, [10_000], r"bucket == 10000, must be in 0..9999"),
        (-1, [10_000], r"bucket == -1, must be in 0..9999"),
        (0, [5_000, 4_999], r"split_bp sums to 9999, must sum to 10000"),
        (0, [], r"split_bp sums to 0, must sum to 10000"),
        (0, [10_001, -1], r"split_bp\[1\] == -1, must not be negative"),
    ],
)
def test_a_bucket_or_split_out_of_bounds_is_refused(position, split, message):
    with pytest.raises(ValueError, match=message):
        arm_of(position, split)
