"""Pictures say what the results say: their rows are the result's numbers, their axes have units, their colours show."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import engine as ab
from engine.pictures import KINDS, THEMES

METRICS = (
    ab.Binary("resolved", goal=True),
    ab.Score("quality"),
    ab.Amount("duration_s", better="decrease"),
)
DAYS, PER_DAY = 8, 150
SPLITS = [[0.5, 0.3, 0.2], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6], [0.2, 0.1, 0.7]]


def calls() -> pl.DataFrame:
    """Eight days, a split that moves every other day, and a v3 that is better."""
    rng = np.random.default_rng(11)
    rows = []
    for day in range(DAYS):
        split = SPLITS[day // 2]
        for arm in rng.choice(3, size=PER_DAY, p=split):
            segment = str(rng.choice(["order", "refund"]))
            resolved = rng.random() < (0.45, 0.5, 0.8)[arm] - 0.1 * (segment == "refund")
            rows.append(
                {
                    "unit": len(rows),
                    "arm": f"v{arm + 1}",
                    "day": day,
                    "share": split[arm],
                    "intent": segment,
                    "resolved": bool(resolved),
                    "quality": float(np.clip(rng.normal(0.6 + 0.1 * arm, 0.2), 0.0, 1.0)),
                    "duration_s": float(rng.gamma(4.0, 40.0 - 3.0 * arm)),
                }
            )
    return pl.DataFrame(rows)


@pytest.fixture(scope="module")
def found() -> ab.Findings:
    study = ab.Study(
        arm="arm",
        control="v1",
        metrics=METRICS,
        segment="intent",
        allocation="day",
        probability="share",
        time="unit",
    )
    return study.analyze(calls(), in_order=True)


@pytest.fixture(scope="module")
def specs(found: ab.Findings) -> dict[tuple[str, str], dict[str, Any]]:
    """Every picture of the goal in both themes."""
    return {
        (kind, theme): found.plot(kind, theme=theme).to_dict()
        for kind in KINDS
        for theme in ("light", "dark")
    }


def rows_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the picture and of all its parts, which travel within the specification."""
    inner = [row for part in ("layer", "vconcat") for each in spec.get(part, ()) for row in rows_of(each)]
    return spec.get("data", {}).get("values", []) + inner


def encodings(spec: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every channel of every layer."""
    if isinstance(spec, dict):
        yield from spec.get("encoding", {}).items()
        for part in ("layer", "vconcat"):
            for inner in spec.get(part, ()):
                yield from encodings(inner)


def titles(spec: dict[str, Any]) -> set[str]:
    return {
        channel["axis"]["title"] for _, channel in encodings(spec) if (channel.get("axis") or {}).get("title")
    }


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255.0 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_row_of_a_lift_is_a_number_of_the_result(found: ab.Findings):
    for name in found:
        rows = [row for row in rows_of(found[name].plot("lift").to_dict()) if "says" in row]
        told = {(row["arm"], row["says"]): (row["value"], row["lower"], row["upper"]) for row in rows}
        for arm in ("v2", "v3"):
            mine = found[name][arm]
            assert told[arm, "belief: posterior"] == (mine.lift.absolute, *mine.lift.absolute_interval)
            # The split moved: the plain tests would be wrong.
            assert told[arm, "evidence: at one look"] == (mine.adaptive.estimate, *mine.adaptive.interval)
            expected = (mine.adaptive.estimate, *mine.always_valid.interval)
            assert told.get((arm, "evidence: at any look"), expected) == expected
        assert ("v3", "evidence: at any look") in told
        assert not any(arm == "v1" for arm, _ in told)


def test_where_the_split_stood_still_one_look_is_the_plain_test():
    found = ab.compare({"v1": (820, 1000), "v2": (860, 1000)}, control="v1")
    rows = {row["says"]: row for row in rows_of(found.plot().to_dict()) if "says" in row}
    test = found["v2"].z_test
    assert (rows["evidence: at one look"]["lower"], rows["evidence: at one look"]["upper"]) == test.interval
    assert rows["evidence: at one look"]["value"] == test.estimate
    # At any look costs width, and says less than one look (docs/choosing-a-method.md).
    assert rows["evidence: at any look"]["lower"] < rows["evidence: at one look"]["lower"]


def test_an_interval_that_is_not_known_is_left_out_and_the_picture_says_why():
    few = ab.compare({"v1": (8, 10), "v2": (9, 10)}, control="v1")
    spec = few.plot("lift").to_dict()
    assert {row.get("says") for row in rows_of(spec)} >= {"belief: posterior"}
    assert "evidence: at any look" not in {row.get("says") for row in rows_of(spec)}
    below = " ".join(spec["title"]["subtitle"])
    assert re.search("v2 at any look: .* needs 100 outcomes of both variants", below)


def test_what_does_not_matter_is_told_in_the_unit_of_the_axis():
    """0.05 of a score is no five points."""
    study = ab.Study(arm="arm", control="a", metrics=[ab.Score("quality", goal=True)])
    found = study.analyze({"a": (90, 50.0, 30.0), "b": (90, 54.0, 34.0)})
    below = " ".join(found.plot("lift").to_dict()["title"]["subtitle"])
    assert f"shaded: below {found.plan.effect:g}, which" in below


def test_a_curve_of_belief_holds_the_mass_that_its_interval_says(found: ab.Findings):
    for name in found:
        rows = rows_of(found[name].plot("posteriors").to_dict())
        intervals = {row["arm"]: row for row in rows if "mean" in row}
        assert intervals.keys() == {"v1", "v2", "v3"}
        for arm, interval in intervals.items():
            posterior = found[name][arm].posterior
            assert (interval["lower"], interval["upper"]) == posterior.interval
            assert interval["mean"] == posterior.mean
            x, y = np.array(
                [(row["value"], row["density"]) for row in rows if row["arm"] == arm and "density" in row]
            ).T
            assert np.trapezoid(y, x) == pytest.approx(1.0, abs=2e-3)
            inside = (x >= interval["lower"]) & (x <= interval["upper"])
            assert np.trapezoid(y[inside], x[inside]) == pytest.approx(0.95, abs=0.03)


def test_extreme_counts_have_pictures_too():
    """No outcomes, all successes, none: densities without a bound at 0 or 1 stay finite."""
    for counts in ({"a": (0, 0), "b": (5, 5)}, {"a": (0, 30), "b": (0, 0)}):
        rows = rows_of(ab.compare(counts, control="a").plot("posteriors").to_dict())
        assert np.isfinite([row["density"] for row in rows if "density" in row]).all()
    amounts = ab.Study(arm="arm", control="a", metrics=[ab.Amount("cost_usd")])
    with pytest.raises(ValueError, match="enough outcomes of 'cost_usd'"):
        amounts.analyze({"a": (0, 0.0, 0.0), "b": (0, 0.0, 0.0)}).plot("posteriors")


def test_the_course_ends_where_the_result_stands_and_begins_with_the_first_day(found: ab.Findings):
    rows = [row for row in rows_of(found.plot("rates").to_dict()) if row["arm"] == "v3"]
    assert [row["units"] for row in rows] == [PER_DAY * day for day in range(1, DAYS + 1)]
    assert (rows[-1]["value"], rows[-1]["lower"], rows[-1]["upper"]) == (
        found["resolved"]["v3"].mean,
        *found["resolved"]["v3"].interval,
    )
    first = calls().filter((pl.col("day") == 0) & (pl.col("arm") == "v3"))
    assert rows[0]["value"] == first["resolved"].mean()
    top, bottom = found.plot("split").to_dict()["vconcat"]
    shares, best = ([row["value"] for row in rows_of(panel) if row["arm"] == "v3"] for panel in (top, bottom))
    assert shares == pytest.approx([SPLITS[0][2], *(SPLITS[day // 2][2] for day in range(DAYS))])
    assert best[-1] == found["resolved"]["v3"].probability_best
    assert top["mark"]["interpolate"] == "step-before"


def test_an_early_look_compares_the_arms_that_got_units_then():
    """b came in the second period, and c was retired before the third."""
    splits = [{"a": 0.5, "b": 0.0, "c": 0.5}, {"a": 0.4, "b": 0.3, "c": 0.3}, {"a": 0.5, "b": 0.5, "c": 0.0}]
    rows = [
        {"variant": arm, "metric": name, "allocation": day, "n": 50, "total": good, "total_sq": good}
        for day, split in enumerate(splits)
        for arm, good in (("a", 20), ("b", 30), ("c", 25))
        if split[arm]
        for name in ("assigned", "resolved")
    ]
    counts = ab.Counts.from_rows(rows, splits=dict(enumerate(splits)))
    found = ab.Study(arm="arm", control="a", metrics=METRICS[:1]).analyze(counts)
    looks = ab.looks_of(found)
    best = [{arm: look.findings["resolved"][arm].probability_best for arm in "abc"} for look in looks[:2]]
    alone = ab.compare({"a": (20, 50), "c": (25, 50)}, control="a")
    assert best[0] == {
        "b": None,
        **{arm: pytest.approx(alone[arm].probability_best) for arm in "ac"},
    }
    assert sum(best[1].values()) == pytest.approx(1.0)
    panel = found.plot("split").to_dict()["vconcat"][1]
    assert {row["arm"] for row in rows_of(panel) if row["units"] == 100} == {"a", "c"}


def test_of_many_allocations_as_many_are_shown_as_can_be_seen():
    rows = [
        {"variant": arm, "metric": name, "allocation": day, "n": 20, "total": good, "total_sq": good}
        for day in range(90)
        for arm, good in (("a", 9), ("b", 11))
        for name in ("assigned", "resolved")
    ]
    splits = {day: {"a": 0.5, "b": 0.5} for day in range(90)}
    study = ab.Study(arm="arm", control="a", metrics=METRICS[:1])
    looks = ab.looks_of(study.analyze(ab.Counts.from_rows(rows, splits=splits)), most=4)
    assert [look.allocation for look in looks] == [0, 30, 59, 89]
    assert [look.units for look in looks] == [40, 1240, 2400, 3600]
    with pytest.raises(ValueError, match="1 allocation, must have two"):
        ab.compare({"a": (1, 2), "b": (1, 2)}, control="a").plot("rates")


def test_evidence_stands_against_one_over_alpha_on_a_logarithmic_scale(found: ab.Findings):
    """Two arms beside the control: a claim needs 2 / 0.05 = 40 (Bonferroni)."""
    spec = found.plot("e_value").to_dict()
    rows = rows_of(spec)
    assert [row["needed"] for row in rows if "needed" in row] == [pytest.approx(2 / 0.05)]
    scales = [channel["scale"] for name, channel in encodings(spec) if name == "y"]
    assert {scale["type"] for scale in scales} == {"log"}
    assert all(scale["domain"][0] > 0.0 for scale in scales)
    path = [row for row in rows if row.get("arm") == "v3"]
    assert (path[0]["units"], path[0]["value"]) == (0, pytest.approx(1.0))
    assert path[-1]["units"] == DAYS * PER_DAY
    assert path[-1]["value"] == found["resolved"]["v3"].always_valid.e_value
    assert all(earlier["units"] < later["units"] for earlier, later in pairwise(path))
    assert max(row["value"] for row in path) > 40.0
    two = ab.compare({"v1": (8, 10), "v2": (9, 10)}, control="v1")
    with pytest.raises(ValueError, match="in_order=True"):
        two.plot("e_value")
    with pytest.raises(ValueError, match="no e-value"):
        found["duration_s"].plot("e_value")


def test_a_sample_ratio_shows_the_surplus_and_its_alarm(found: ab.Findings):
    rows = rows_of(found.plot("sample_ratio").to_dict())
    assert [row["needed"] for row in rows if "needed" in row] == [1000.0]
    units = {arm: found.observed.tally.units.sum(axis=0)[index] for index, arm in enumerate(found.plan.arms)}
    last = {row["arm"]: row["value"] for row in rows if row.get("units") == DAYS * PER_DAY and "arm" in row}
    for arm, value in last.items():
        surplus = (units[arm] - found.sample_ratio.expected[arm]) / (DAYS * PER_DAY)
        assert value == pytest.approx(surplus, abs=1e-12)
    assert sum(last.values()) == pytest.approx(0.0, abs=1e-12)
    evidence = [row["value"] for row in rows if "arm" not in row and "value" in row]
    assert evidence[-1] == found.sample_ratio.e_value
    with pytest.raises(ValueError, match="the split is not known"):
        ab.compare({"a": (1, 2), "b": (1, 2)}, control="a").plot("sample_ratio")


def test_a_forest_holds_every_segment_alone_and_all_together(found: ab.Findings):
    rows = [row for row in rows_of(found.plot("segments").to_dict()) if "segment" in row]
    told = {(row["segment"].rpartition(" (n")[0], row["arm"]): (row["lower"], row["upper"]) for row in rows}
    assert told.keys() == {(s, a) for s in ("all units", "order", "refund") for a in ("v2", "v3")}
    assert told["all units", "v3"] == found["resolved"]["v3"].lift.absolute_interval
    alone = found.segments()["refund"]["resolved"]["v3"].lift.absolute_interval
    assert told["refund", "v3"] == alone
    counts = ab.BinaryCounts(n=[[90, 110], [12, 8], [60, 70]], successes=[[60, 85], [3, 6], [24, 35]])
    fit = ab.fit_segments(counts, control=0)
    names = ["order", "refund", "other"]
    pooled = rows_of(fit.plot(segments=names, arms=["a", "b"], control=0, metric=METRICS[0]).to_dict())
    by_name = {row["segment"]: row for row in pooled if "segment" in row}
    assert by_name["refund"]["upper"] == fit.segments.lift_interval.upper[1, 1]
    assert by_name["all units"]["value"] == fit.overall.lift[1]
    with pytest.raises(ValueError, match="2 segments and 2 arms are named, must be 3 and 2"):
        fit.plot(segments=names[:2], arms=["a", "b"], control=0, metric=METRICS[0])
    cells = [("all units", "a", 9), ("all units", "b", 12), ("order", "a", 8), ("order", "b", 9)]
    told = [
        {"variant": arm, "metric": name, "segment": segment, "n": 20, "total": good, "total_sq": good}
        for segment, arm, good in cells
        for name in ("assigned", "resolved")
    ]
    study = ab.Study(arm="arm", control="a", metrics=METRICS[:1], segment="intent")
    forest = rows_of(study.analyze(ab.Counts.from_rows(told)).plot("segments").to_dict())
    names = [row["segment"] for row in forest if "segment" in row]
    assert names == ["all units (n = 80)", "all units (n = 40)", "order (n = 40)"]
    with pytest.raises(ValueError, match="one segment at most"):
        ab.compare({"a": (1, 2), "b": (1, 2)}, control="a").plot("segments")


@pytest.mark.parametrize("design", ["fixed", "always_valid"])
def test_the_plan_lies_on_its_curve_of_power(design: Any):
    plan = ab.sample_size(baseline=0.7, minimum_detectable_effect=0.05, design=design)
    spec = plan.plot().to_dict()
    curves = [row for row in rows_of(spec) if "effect" in row]
    assert {row["effect"] for row in curves} == {"+2.5", "+5", "+10"}
    mine = sorted((row["units"], row["power"]) for row in curves if row["effect"] == "+5")
    units, power = np.array(mine).T
    assert np.interp(plan.per_arm, units, power) == pytest.approx(0.8, abs=2e-3)
    assert (np.diff(power) >= 0.0).all()
    (point,) = [row for row in rows_of(spec) if "label" in row]
    assert (point["units"], point["power"]) == (plan.per_arm_ceil, 0.8)
    assert titles(spec) == {"units of the control", "power, %"}
    with pytest.raises(ValueError, match="for a mean"):
        ab.sample_size_mean(sd=60.0, minimum_detectable_effect=10.0).plot()


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
