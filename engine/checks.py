"""Bad arguments: one sentence that names the argument, its value, the bound and the next step."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# At run time (beartype) ArrayLike alone refuses plain numbers and tuples, which lack __reversed__.
type Numbers = ArrayLike | Sequence[Any] | float | int


def check_confidence_level(value: float, *, name: str = "confidence_level") -> float:
    """Return `value` if it lies strictly between 0 and 1, else raise ValueError."""
    if not 0.0 < value < 1.0:
        hint = f"write {value / 100:g} for {value:g} %" if 1.0 < value < 100.0 else "write 0.95 for 95 %"
        raise ValueError(f"{name} == {value!r}, must be in (0, 1); {hint}")
    return float(value)


def check_probability(value: float, *, name: str) -> float:
    """Return `value` if it lies in [0, 1], else raise ValueError."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} == {value!r}, must be in [0, 1]; write a share such as 0.05 for 5 %")
    return float(value)


def check_arm(arm: int, *, arms: int, name: str = "control") -> int:
    """Return `arm` if it is a position in an array of `arms` entries, else raise ValueError."""
    if not 0 <= arm < arms:
        raise ValueError(f"{name} == {arm}, must be in 0..{arms - 1}; it is the position of an arm")
    return arm


def check_positive(value: float | int, *, name: str) -> float:
    """Return `value` if it is finite and greater than 0, else raise ValueError."""
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"{name} == {value!r}, must be finite and greater than 0")
    return float(value)


def whole_numbers(values: Numbers, *, name: str) -> np.ndarray:
    """Return `values` as int64, refusing negatives, fractions, non-finite numbers and overflow.

    Narrow integer columns are widened first: an int8 column that is summed as int8 stores 300 as 44.
    """
    array = np.asarray(values)
    _refuse(array, lambda x: x < 0, name, "must not be negative; counts start at 0")
    if array.dtype.kind == "f":
        _refuse(array, lambda x: ~np.isfinite(x) | (x != np.floor(x)), name, "must be a whole number")
        _refuse(array, lambda x: x >= 2.0**63, name, "must be below 2^63")
    elif array.dtype.kind == "u":
        _refuse(array, lambda x: x > np.uint64(2**63 - 1), name, "must be below 2^63")
    elif array.dtype.kind not in "ib":
        raise ValueError(f"{name} has dtype {array.dtype}, must be whole numbers below 2^63")
    return array.astype(np.int64)


def finite_numbers(values: Numbers, *, name: str) -> np.ndarray:
    """Return `values` as float64, refusing what is not finite."""
    array = np.array(values, dtype=np.float64)  # a copy: a frozen value must not change with its source
    _refuse(array, lambda x: ~np.isfinite(x), name, "must be finite; leave missing outcomes out")
    return array


def refuse_where(
    bad: np.ndarray | np.bool_, values: np.ndarray, *, name: str, rule: str, bound: object = None
) -> None:
    """Raise ValueError for the first entry marked `bad`: its position, its value and the rule it breaks.

    `{}` in `rule` is replaced by the entry of `bound` at that position, or by a `bound` that is no array.
    """
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        limit = bound[where] if isinstance(bound, np.ndarray) else bound
        at = f"[{', '.join(map(str, where))}]" if where else ""
        raise ValueError(f"{name}{at} == {values[where]}, {rule.format(limit)}")


def _refuse(array: np.ndarray, bad: Callable[[np.ndarray], np.ndarray], name: str, rule: str) -> None:
    if array.dtype.kind in "biuf":
        refuse_where(bad(array), array, name=name, rule=rule)
