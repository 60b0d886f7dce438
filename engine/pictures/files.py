"""Pictures as files, drawn on this machine: neither a browser nor a network is asked."""

from pathlib import Path
from typing import Any

from engine.extras import load

SUFFIXES = (".svg", ".png", ".html", ".json")


def save_picture(chart: Any, path: str | Path, *, scale: float | int = 2.0) -> Path:
    """Write a chart; its suffix says as what.

    Parameters
    ----------
    chart : What `plot` returned, or any other Altair chart.
    path : Ends in .svg, .png, .html (with its JavaScript, so it opens offline) or .json (the specification).
    scale : Dots of a PNG for each of the chart's.

    Raises
    ------
    ValueError
        Another suffix.
    ExtraMissing
        Any file but .json needs vl-convert, the extra `pictures`.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"path ends in {suffix!r}, must end in one of {', '.join(SUFFIXES)}")
    if suffix == ".json":
        chart.save(str(target))
        return target
    load("vl_convert", extra="pictures", what="SVG, PNG and HTML files")
    if suffix == ".html":
        chart.save(str(target), inline=True)
    else:
        chart.save(str(target), scale_factor=scale if suffix == ".png" else 1)
    return target
