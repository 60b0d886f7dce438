"""Colours that colour-blind people tell apart, on a light and on a dark ground.

Okabe and Ito (2008), Color Universal Design, ordered by contrast with the ground; what is told by colour is told
by dashes or shapes, too. Text has at least 7 : 1 (WCAG 2.2, 1.4.6), what stands for the first arms 3 : 1 (1.4.11).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from engine.extras import load

WIDTH, HEIGHT = 480, 260
LINE = 84  # characters of a subtitle that fit the width
DASHES = ((1, 0), (7, 3), (2, 2), (9, 3, 2, 3), (4, 2))
SHAPES = ("circle", "diamond", "triangle-up", "square", "cross")


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of one ground.

    Attributes
    ----------
    text : Titles and labels; also the control, which is neither good nor bad.
    quiet : Reference lines and axes.
    colours : For what is compared, the clearest first.
    """

    name: str
    background: str
    text: str
    quiet: str
    grid: str
    colours: tuple[str, ...]


THEMES: Mapping[str, Theme] = {
    "light": Theme(
        name="light",
        background="#FFFFFF",
        text="#1A1A1A",
        quiet="#5F5F5F",
        grid="#E4E4E4",
        colours=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    ),
    "dark": Theme(
        name="dark",
        background="#14171A",
        text="#F0F0F0",
        quiet="#A6A6A6",
        grid="#33383D",
        colours=("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00"),
    ),
}


def theme_of(name: str) -> Theme:
    """The theme of that name.

    Examples
    --------
    >>> theme_of("dark").background
    '#14171A'
    >>> theme_of("pink")
    Traceback (most recent call last):
    ValueError: theme == 'pink', must be light or dark
    """
    if name not in THEMES:
        raise ValueError(f"theme == {name!r}, must be {' or '.join(THEMES)}")
    return THEMES[name]


def altair() -> Any:
    """The module, when the first picture is drawn."""
    return load("altair", extra="science", what="Pictures")


def data(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows that travel within the specification."""
    return altair().Data(values=list(rows))


def finished(chart: Any, theme: Theme, *, title: str, subtitle: Sequence[str] = ()) -> Any:
    """The chart with its title, on the theme's ground."""
    lines = [line for long in subtitle for line in wrap(long, LINE)]
    head = altair().TitleParams(text=title, subtitle=lines, anchor="start")
    return chart.properties(title=head).configure(**_config(theme))


def arm_channels(
    arms: Sequence[str], control: str, theme: Theme, *, only: Sequence[str] | None = None
) -> dict[str, Any]:
    """Colour and dash of every arm; the same arm looks the same in all pictures of a study.

    Parameters
    ----------
    arms : All of the study in their order.
    only : Those that the picture shows, if not all.
    """
    alt = altair()
    shown = list(arms if only is None else only)
    place = {arm: index for index, arm in enumerate(arm for arm in arms if arm != control)}
    colours = [
        theme.text if arm == control else theme.colours[place[arm] % len(theme.colours)] for arm in shown
    ]
    dashes = [[1, 0] if arm == control else list(DASHES[(place[arm] + 1) % len(DASHES)]) for arm in shown]
    # Lines in the legend, as strong as those of the picture, whatever areas they bound.
    legend = alt.Legend(title="arm", symbolType="stroke", symbolOpacity=1, symbolSize=300)
    return {
        "color": alt.Color("arm:N", scale=alt.Scale(domain=shown, range=colours), legend=legend),
        "strokeDash": alt.StrokeDash("arm:N", scale=alt.Scale(domain=shown, range=dashes), legend=legend),
    }


def _config(theme: Theme) -> dict[str, Any]:
    letters = {"labelColor": theme.text, "titleColor": theme.text, "titleFontWeight": "normal"}
    sizes = {"labelFontSize": 12, "titleFontSize": 12, "labelLimit": 260}
    apart = {"labelFlush": False, "labelOverlap": "greedy", "labelSeparation": 6}
    return {
        "background": theme.background,
        "padding": 14,
        "font": "sans-serif",
        "view": {"stroke": "transparent"},
        "axis": letters
        | sizes
        | apart
        | {"gridColor": theme.grid, "domainColor": theme.quiet, "tickColor": theme.quiet, "titlePadding": 8},
        "legend": letters | sizes | {"orient": "bottom", "symbolStrokeWidth": 2, "symbolSize": 90},
        "title": {
            "color": theme.text,
            "subtitleColor": theme.text,
            "fontSize": 15,
            "subtitleFontSize": 12,
            "subtitlePadding": 5,
            "offset": 14,
        },
    }
