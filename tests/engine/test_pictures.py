"""Pictures say what the results say: their rows are the result's numbers."""

import re
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

import engine as ab
from tests.engine.pictured import DAYS, METRICS, PER_DAY, SPLITS, calls, encodings, rows_of, study, titles


@pytest.fixture(scope="module")
def found() -> ab.Findings:
    return study()


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
