"""How pictures look: units on their axes, colours that show in both themes, and files."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

import engine as ab
from engine.pictures import KINDS, THEMES
from tests.engine.pictured import encodings, rows_of, study, titles


@pytest.fixture(scope="module")
def found() -> ab.Findings:
    return study()


@pytest.fixture(scope="module")
def specs(found: ab.Findings) -> dict[tuple[str, str], dict[str, Any]]:
    """Every picture of the goal in both themes."""
    return {
        (kind, theme): found.plot(kind, theme=theme).to_dict()
        for kind in KINDS
        for theme in ("light", "dark")
    }


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255.0 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_axes_tell_their_units(specs: dict[tuple[str, str], dict[str, Any]], found: ab.Findings):
    assert titles(specs["lift", "light"]) == {"resolved minus that of v1, percentage points"}
    assert "resolved, % of units" in titles(specs["posteriors", "light"])
    assert titles(specs["rates", "light"]) == {"units so far", "resolved, % of units"}
    assert titles(specs["e_value", "light"]) == {"units so far", "e-value, log scale"}
    assert titles(specs["split", "light"]) == {"units so far", "share of units, %", "P(best), %"}
    assert titles(found["duration_s"].plot().to_dict()) == {"duration_s minus that of v1, seconds"}
    assert titles(found["duration_s"].plot(unit="s on the line").to_dict()) == {
        "duration_s minus that of v1, s on the line"
    }
    assert titles(found["quality"].plot("rates").to_dict()) == {"units so far", "quality, score from 0 to 1"}
    outcomes = [
        {"variant": arm, "metric": "success", "allocation": day, "n": 9, "total": 4, "total_sq": 4}
        for day in range(2)
        for arm in "ab"
    ]
    study = ab.Study(arm="arm", control="a", metrics=[ab.Binary("success")])
    uncounted = study.analyze(ab.Counts.from_rows(outcomes)).plot("rates").to_dict()
    assert "outcomes of the goal so far" in titles(uncounted)


def test_specifications_are_small_and_the_same_in_both_themes_but_for_colours(
    specs: dict[tuple[str, str], dict[str, Any]],
):
    for kind in KINDS:
        light, dark = specs[kind, "light"], specs[kind, "dark"]
        assert 0 < len(rows_of(light)) <= 500
        assert rows_of(light) == rows_of(dark)
        assert light["title"] == dark["title"]
        assert titles(light) == titles(dark)
        for theme, spec in (("light", light), ("dark", dark)):
            assert spec["config"]["background"] == THEMES[theme].background
            assert spec["config"]["axis"]["labelColor"] == THEMES[theme].text


@pytest.mark.parametrize("name", THEMES)
def test_text_and_lines_stand_out_from_their_ground(name: str):
    """WCAG 2.2: 7 for text (1.4.6), 3 for what a picture is made of (1.4.11)."""
    theme = THEMES[name]
    assert contrast(theme.text, theme.background) >= 7.0
    assert contrast(theme.quiet, theme.background) >= 3.0
    assert all(contrast(colour, theme.background) >= 3.0 for colour in theme.colours[:4])
    # The last two of a light ground are bright; dashes and shapes tell their arms as well.
    assert all(contrast(colour, theme.background) >= 2.0 for colour in theme.colours)


def test_an_arm_looks_the_same_in_every_picture_of_a_study(specs: dict[tuple[str, str], dict[str, Any]]):
    looks: dict[str, set[str]] = {}
    for kind in ("posteriors", "rates", "split", "e_value", "segments"):
        for name, channel in encodings(specs[kind, "dark"]):
            if name == "color" and channel["field"] == "arm":
                scale = channel["scale"]
                for arm, colour in zip(scale["domain"], scale["range"], strict=True):
                    looks.setdefault(arm, set()).add(colour)
    assert looks == {"v1": {"#F0F0F0"}, "v2": {"#56B4E9"}, "v3": {"#E69F00"}}


def test_pictures_become_files_without_a_network(found: ab.Findings, tmp_path: Path):
    for kind, theme in (("lift", "light"), ("split", "dark"), ("e_value", "dark"), ("segments", "light")):
        file = ab.save_picture(found.plot(kind, theme=theme), tmp_path / f"{kind}.svg")
        root = ET.parse(file).getroot()
        text = " ".join(node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text"))
        assert root.tag.endswith("svg")
        assert "v3" in text
        assert THEMES[theme].background.lower() in file.read_text().lower()
    png = ab.save_picture(found.plot(), tmp_path / "lift.png")
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert ab.save_picture(found.plot(), tmp_path / "lift.json").stat().st_size < 20_000
    with pytest.raises(ValueError, match=r"ends in '.gif', must end in one of .svg"):
        ab.save_picture(found.plot(), tmp_path / "lift.gif")


def test_what_cannot_be_drawn_is_said(found: ab.Findings):
    with pytest.raises(ValueError, match="kind == 'pie', must be one of lift, posteriors"):
        found.plot("pie")
    with pytest.raises(ValueError, match="theme == 'pink', must be light or dark"):
        found.plot(theme="pink")


def test_without_the_extras_the_message_says_what_to_install(tmp_path: Path):
    """The libraries are hidden by modules that cannot be imported."""
    for name in ("altair", "vl_convert"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('hidden', name={name!r})")
    code = f"""
import sys
import engine as ab
found = ab.compare({{"a": (8, 10), "b": (9, 10)}}, control="a")
assert "altair" not in sys.modules
sys.path.insert(0, {str(tmp_path)!r})
for ask in (found.plot, lambda: ab.save_picture(None, "lift.svg")):
    try:
        ask()
    except ValueError as error:
        print(error)
"""
    root = Path(ab.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert "Pictures need altair" in done.stdout
    assert "promptbandit-service[science]" in done.stdout
    assert "files need vl_convert" in done.stdout
    assert "promptbandit-service[pictures]" in done.stdout
