"""Which arm a unit gets: a pure function of the experiment's salt, the unit and the split.

Anyone who knows the split can derive it again: the server, a client without a network, an auditor. This runs
inside the HTTP request of every call, so it is plain Python on integers.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

BUCKETS = 10_000  # basis points of the traffic


def bucket(salt: str, unit_id: str) -> int:
    """The basis point of the traffic that a unit falls into, the same one for ever.

    First 8 bytes, big endian, of SHA-256 of `salt/unit_id` in UTF-8, modulo 10 000. The modulo favours the
    low buckets by 5e-16, which no experiment can see.

    Parameters
    ----------
    salt : Of the experiment: another salt shuffles the units anew.
    unit_id : What is randomised, such as the id of a call.

    Returns
    -------
    An integer in 0..9999.

    Raises
    ------
    UnicodeEncodeError
        A lone surrogate has no UTF-8 form.

    Examples
    --------
    >>> bucket("support-2026", "call-1")
    6346
    """
    digest = hashlib.sha256(f"{salt}/{unit_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def arm_of(bucket: int, split_bp: Sequence[int]) -> int:
    """The arm whose range of basis points holds the bucket; an arm with 0 never gets a unit.

    Parameters
    ----------
    bucket : From `bucket(salt, unit_id)`, in 0..9999.
    split_bp : Basis points per arm, each at least 0, summing to 10 000.

    Returns
    -------
    The position of the arm.

    Raises
    ------
    ValueError
        A bucket outside its range, a negative share, a sum that is not 10 000.

    Examples
    --------
    >>> arm_of(6_999, [7_000, 0, 3_000]), arm_of(7_000, [7_000, 0, 3_000])
    (0, 2)
    """
    ends = _ends(tuple(split_bp))
    if not 0 <= bucket < BUCKETS:
        raise ValueError(
            f"bucket == {bucket}, must be in 0..{BUCKETS - 1}; take it from bucket(salt, unit_id)"
        )
    return bisect_right(ends, bucket)


@lru_cache(maxsize=1024)
def _ends(split_bp: tuple[int, ...]) -> tuple[int, ...]:
    """Where the range of each arm ends; checked and added up once per split, not once per unit."""
    total = sum(split_bp)
    if total != BUCKETS:
        raise ValueError(
            f"split_bp sums to {total}, must sum to {BUCKETS}; take it from largest_remainder(shares)"
        )
    if min(split_bp) < 0:
        arm = next(i for i, share in enumerate(split_bp) if share < 0)
        raise ValueError(f"split_bp[{arm}] == {split_bp[arm]}, must not be negative; 0 stops an arm")
    return tuple(accumulate(split_bp))
