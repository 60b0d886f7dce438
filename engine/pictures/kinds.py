"""Which pictures of a study there are, by the word that `plot` takes."""

from collections.abc import Callable, Mapping
from typing import Any

from engine.findings import MetricFindings
from engine.pictures import course, lifts, posteriors

KINDS: Mapping[str, Callable[..., Any]] = {
    "lift": lifts.lift,
    "posteriors": posteriors.posteriors,
    "segments": lifts.segments,
    "rates": course.rates,
    "split": course.split,
    "sample_ratio": course.sample_ratio,
    "e_value": course.e_value,
}


def picture(found: MetricFindings, kind: str, *, theme: str, unit: str | None) -> Any:
    """One picture of one metric, an Altair chart.

    Parameters
    ----------
    kind : One of `KINDS`.
    theme : "light" or "dark".
    unit : Of the metric, where neither its kind nor its name tells it.

    Raises
    ------
    ValueError
        An unknown kind or theme, or a result that does not hold what the picture shows.
    ExtraMissing
        Altair is not installed.
    """
    if kind not in KINDS:
        raise ValueError(f"kind == {kind!r}, must be one of {', '.join(KINDS)}")
    return KINDS[kind](found, theme=theme, unit=unit)
