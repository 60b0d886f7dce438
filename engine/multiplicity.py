"""Several comparisons at once: adjusted p-values, to be compared with alpha itself."""

import numpy as np
from jaxtyping import Float64

from engine.checks import Numbers, refuse_where


def holm(p_values: Numbers) -> Float64[np.ndarray, " comparison"]:
    """Holm's step-down adjustment: the chance of even one false alarm stays below alpha.

    Valid under any dependence between the comparisons. The i-th smallest of m p-values becomes
    max over j <= i of (m - j + 1) p_(j), at most 1.

    Parameters
    ----------
    p_values : Shape (comparison,), each in [0, 1]; nan means "no test" and does not count.

    Returns
    -------
    Adjusted p-values in the order of the input; nan stays nan.

    Raises
    ------
    ValueError
        An entry outside [0, 1].

    References
    ----------
    Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 65-70.

    Examples
    --------
    >>> holm([0.01, 0.04, np.nan, 0.03]).round(3)
    array([0.03, 0.06,  nan, 0.06])
    """
    p, known, order = _sorted(p_values)
    factors = np.arange(order.size, 0, -1)
    adjusted = np.maximum.accumulate(factors * p[known][order])
    return _in_input_order(adjusted, p, known, order)


def benjamini_hochberg(p_values: Numbers) -> Float64[np.ndarray, " comparison"]:
    """Benjamini and Hochberg's step-up adjustment: of the alarms, at most a share alpha is false on average.

    Valid for independent or positively dependent comparisons. The i-th smallest of m p-values becomes
    min over j >= i of m p_(j) / j, at most 1.

    Parameters
    ----------
    p_values : Shape (comparison,), each in [0, 1]; nan means "no test" and does not count.

    Returns
    -------
    Adjusted p-values in the order of the input; nan stays nan.

    Raises
    ------
    ValueError
        An entry outside [0, 1].

    References
    ----------
    Benjamini and Hochberg (1995), Controlling the false discovery rate, J. R. Statist. Soc. B 57, 289-300.

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.04, np.nan, 0.03]).round(3)
    array([0.03, 0.04,  nan, 0.04])
    """
    p, known, order = _sorted(p_values)
    # Divided before it is multiplied: m * p / m may fall below p by one rounding.
    factors = order.size / np.arange(1, order.size + 1)
    adjusted = np.minimum.accumulate((factors * p[known][order])[::-1])[::-1]
    return _in_input_order(adjusted, p, known, order)


def e_benjamini_hochberg(e_values: Numbers) -> Float64[np.ndarray, " comparison"]:
    """The same for e-values: reject what comes out at most alpha; valid under any dependence.

    Parameters
    ----------
    e_values : Shape (comparison,), each at least 0, as they stand now (not the largest so far); nan means
        "no test" and does not count.

    Returns
    -------
    Adjusted p-values in the order of the input, at most 1; nan stays nan.

    Raises
    ------
    ValueError
        A negative entry.

    References
    ----------
    Wang and Ramdas (2022), False discovery rate control with e-values, J. R. Statist. Soc. B 84, 822-852.

    Examples
    --------
    >>> e_benjamini_hochberg([100.0, 25.0, np.nan, 1.0]).round(3)
    array([0.03, 0.06,  nan, 1.  ])
    """
    e = np.array(e_values, dtype=np.float64)
    refuse_where(e < 0, e, name="e_values", rule="must be at least 0 or nan; write nan for no test")
    with np.errstate(divide="ignore", over="ignore"):
        return benjamini_hochberg(np.minimum(1.0 / e, 1.0))


def _sorted(p_values: Numbers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    p = np.array(p_values, dtype=np.float64)
    refuse_where(
        (p < 0) | (p > 1), p, name="p_values", rule="must be in [0, 1] or nan; write nan for no test"
    )
    known = ~np.isnan(p)
    return p, known, np.argsort(p[known], kind="stable")


def _in_input_order(adjusted: np.ndarray, p: np.ndarray, known: np.ndarray, order: np.ndarray) -> np.ndarray:
    unsorted = np.empty(order.size)
    unsorted[order] = np.minimum(adjusted, 1.0)
    result = np.full(p.shape, np.nan)
    result[known] = unsorted
    return result
