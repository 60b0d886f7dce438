"""`compare` and `Study` on counts: the engine's numbers by name, the laws they obey, what they refuse."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine as ab
from engine.beta_binomial import BetaPosterior, expected_loss, lift, probability_best
from engine.findings import Findings

METRICS = (
    ab.Binary("resolved", goal=True),
    ab.Score("quality"),
    ab.Amount("duration_s", better="decrease"),
)
STUDY = ab.Study(arm="variant", control="v1", metrics=METRICS)
OBSERVED = {
    "assigned": {"v1": 1020, "v2": 1010},
    "resolved": {"v1": (820, 1000), "v2": (860, 1000)},
    "quality": {"v1": (900, 630.0, 460.0), "v2": (910, 655.0, 490.0)},
    "duration_s": {"v1": (1000, 200_000.0, 48_000_000.0), "v2": (1000, 190_000.0, 44_000_000.0)},
}

arm_counts = st.tuples(st.integers(0, 300), st.integers(0, 300)).map(lambda pair: (min(pair), max(pair)))
some_arms = st.lists(arm_counts, min_size=2, max_size=3).map(
    lambda sides: {f"v{index}": side for index, side in enumerate(sides, 1)}
)


def numbers(value: Any) -> Any:
    """The same without names that may differ: for comparing two results."""
    return json.loads(json.dumps(value))


def test_the_names_of_the_front_hold_the_numbers_of_the_engine():
    found = ab.compare({"v1": (820, 1000), "v2": (860, 1000)}, control="v1")
    counts = ab.BinaryCounts(n=[1000, 1000], successes=[820, 860])
    posterior = BetaPosterior.from_counts(counts)
    v2, expected = found["v2"], lift(posterior, control=0)
    assert v2.rate == 0.86
    assert v2.lift.absolute == expected.absolute_mean[1]
    assert v2.lift.absolute_interval == (expected.absolute_lower[1], expected.absolute_upper[1])
    assert v2.lift.relative == expected.relative_median[1]
    # A report asks more, and by another way than a question that is asked alone.
    assert v2.probability_best == pytest.approx(probability_best(posterior)[1], rel=1e-12)
    assert v2.expected_loss == pytest.approx(expected_loss(posterior)[1], rel=1e-11)
    assert v2.z_test.p_value == ab.z_test(counts, control=0).p_value[1]
    assert found["v1"].lift is None
    assert found["v1"].z_test is None
    with pytest.raises(KeyError, match="'v3' is no arm; there are v1, v2"):
        found["v3"]


def test_a_study_is_asked_by_metric_and_arm():
    found = STUDY.analyze(OBSERVED, splits={0: {"v1": 0.5, "v2": 0.5}})
    assert list(found) == ["resolved", "quality", "duration_s"]
    assert list(found["resolved"]) == ["v1", "v2"]
    assert found["resolved"]["v1"].missing == pytest.approx(20 / 1020)
    assert found["quality"]["v2"].mean == 655.0 / 910
    assert found["quality"]["v2"].welch_test.method == "Welch's t-test"
    assert found["duration_s"]["v2"].probability_better > 0.9  # less is better
    assert found["duration_s"]["v2"].lift.absolute == pytest.approx(-10.0)
    assert found.sample_ratio.expected == {"v1": 1015.0, "v2": 1015.0}
    assert not found.sample_ratio.mismatch
    assert found.recommendation.action == "keep_collecting"


def test_what_counts_cannot_tell_is_none_with_a_reason():
    found = STUDY.analyze({name: OBSERVED[name] for name in ("resolved", "quality", "duration_s")})
    evidence = found["resolved"]["v2"].always_valid
    assert (evidence.e_value, evidence.p_value, evidence.n) == (None, None, None)
    assert "order" in evidence.reason
    assert None not in evidence.interval
    assert found["resolved"]["v2"].missing is None
    assert found.sample_ratio.p_value is None
    assert "splits" in found.sample_ratio.reason
    told = STUDY.analyze({"resolved": OBSERVED["resolved"]}, splits={0: {"v1": 0.5, "v2": 0.5}})
    assert "assigned" in told.sample_ratio.reason


def test_counts_alone_lead_to_a_switch_by_the_sequence_that_may_be_looked_at_at_any_time():
    strong = {"resolved": {"v1": (6000, 10_000), "v2": (7000, 10_000)}}
    study = ab.Study(arm="variant", control="v1", metrics=METRICS[:1])
    advice = study.analyze(strong).recommendation
    assert (advice.action, advice.variant) == ("switch", "v2")
    waiting = study.analyze(strong, days_left=2.0).recommendation
    assert waiting.action == "keep_collecting"
    turned = {"resolved": {"v1": (7000, 10_000), "v2": (6000, 10_000)}}
    assert study.analyze(turned).recommendation.action == "keep_control"
    same = {"resolved": {"v1": (60_000, 100_000), "v2": (60_050, 100_000)}}
    assert study.analyze(same).recommendation.action == "equivalent"


@given(some_arms)
@settings(max_examples=6)
def test_comparing_is_a_study_of_one_metric(arms):
    one = ab.compare(arms, control="v1").to_dict()
    metric = ab.Binary("success", goal=True)
    study = ab.Study(arm="anything", control="v1", metrics=[metric])
    assert study.analyze({"success": arms}).to_dict() == one
    assert study.analyze(arms).to_dict() == one
    assert json.loads(json.dumps(one, allow_nan=False)) == one


@given(some_arms, st.randoms(use_true_random=False))
@settings(max_examples=5)
def test_the_order_in_which_arms_are_told_changes_nothing(arms, random):
    shuffled = list(arms.items())
    random.shuffle(shuffled)
    assert ab.compare(dict(shuffled), control="v1").to_dict() == ab.compare(arms, control="v1").to_dict()


@given(some_arms)
@settings(max_examples=5)
def test_turning_a_metric_and_its_outcomes_mirrors_the_findings(arms):
    failures = {arm: (trials - successes, trials) for arm, (successes, trials) in arms.items()}
    one, other = ab.compare(arms, control="v1"), ab.compare(failures, control="v1", better="decrease")
    for arm in arms:
        mine, theirs = one[arm], other[arm]
        assert theirs.probability_best == mine.probability_best
        assert theirs.expected_loss == mine.expected_loss
        assert theirs.probability_better == mine.probability_better
        if mine.lift is not None:
            assert theirs.lift.absolute == pytest.approx(-mine.lift.absolute, rel=1e-12, abs=1e-15)
            assert theirs.z_test.p_value == mine.z_test.p_value
    advices = [found.findings.recommendation for found in (one, other)]
    assert advices[0].action == advices[1].action


def test_results_are_frozen_and_the_same_every_time():
    found = STUDY.analyze(OBSERVED)
    assert STUDY.analyze(OBSERVED).to_dict() == found.to_dict()
    assert isinstance(found, Findings)
    with pytest.raises(AttributeError):
        found.days_left = 1.0
    with pytest.raises(AttributeError):
        found["resolved"]["v2"].summary = None


def test_tables_are_aligned_rounded_and_safe_to_show():
    found = ab.compare({"<b>": (820, 1000), "v2": (860, 1000)}, control="<b>")
    text = str(found)
    first, *lines = text.splitlines()
    assert first.split() == ["metric", "arm", "n", "missing", "mean", "interval", "P(best)", "loss"]
    assert lines[1].split()[:5] == ["success", "v2", "1000", "-", "0.860"]
    assert first.index("loss") + 4 == len(lines[0]) == len(lines[1])
    assert repr(found) == text
    html = found._repr_html_()
    assert "<td>&lt;b&gt;*</td>" in html
    assert "<b>" not in html


def test_explaining_says_what_the_numbers_say_and_what_is_missing():
    said = STUDY.analyze(OBSERVED).explain()
    assert "resolved (binary, more is better): v1, the control, has 0.820 over 1000 units." in said
    assert "v2 has 0.860 over 1000: +0.040 against the control" in said
    assert "better with a probability of 0.9926" in said
    assert "duration_s (amount, less is better)" in said
    assert "was not tested: the split is not known" in said
    assert "Recommendation: keep collecting." in said


def test_counts_by_segment_give_findings_by_segment_and_a_long_table():
    def rows(segment: str, v1: tuple[int, int], v2: tuple[int, int]) -> list[dict[str, Any]]:
        return [
            {
                "variant": arm,
                "segment": segment,
                "metric": "resolved",
                "n": n,
                "total": good,
                "total_sq": good,
            }
            for arm, (good, n) in (("v1", v1), ("v2", v2))
        ]

    study = ab.Study(arm="variant", control="v1", metrics=METRICS[:1], segment="intent")
    counts = ab.Counts.from_rows(rows("refund", (40, 100), (50, 100)) + rows("order", (80, 100), (85, 100)))
    found = study.analyze(counts)
    by_segment = found.segments()
    assert sorted(by_segment) == ["order", "refund"]
    alone = study.analyze({"resolved": {"v1": (40, 100), "v2": (50, 100)}})
    mine, theirs = by_segment["refund"]["resolved"]["v2"], alone["resolved"]["v2"]
    assert (mine.summary, mine.z_test, mine.lift) == (theirs.summary, theirs.z_test, theirs.lift)
    assert found["resolved"]["v2"].adaptive.segment_adjusted.estimate == pytest.approx(0.075)
    long = found.to_polars()
    assert long.height == 2 * 3
    assert set(long["segment"]) == {None, "order", "refund"}
    assert long.filter(arm="v2", segment="order")["mean"].item() == 0.85
    assert found["resolved"].to_polars().height == 6


BAD_COUNTS = [
    ({"v1": (1010, 1000), "v2": (1, 2)}, "success of 'v1' has 1010 successes of 1000 trials"),
    ({"v1": (1, 2, 3), "v2": (1, 2)}, r"success of 'v1' == \(1, 2, 3\), must be \(successes, trials\)"),
    ({"v1": (-1, 2), "v2": (1, 2)}, "-1 successes"),
    ({"v1": (0.5, 2), "v2": (1, 2)}, "must be whole numbers"),
    ({"v1": (1, 2)}, "the only arm is 'v1', must be two at least"),
    ({"a": (1, 2), "b": (1, 2)}, "control == 'v1', must be one of a, b"),
]


@pytest.mark.parametrize(("counts", "message"), BAD_COUNTS)
def test_bad_counts_are_refused_by_name_value_and_bound(counts, message):
    with pytest.raises(ValueError, match=message):
        ab.compare(counts, control="v1")


def test_bad_studies_are_refused():
    def study(*metrics: ab.Metric, **more: Any) -> ab.Study:
        return ab.Study(arm="variant", control="v1", metrics=metrics, **more)

    with pytest.raises(ValueError, match="metrics is empty"):
        study()
    with pytest.raises(ValueError, match="must be there once"):
        study(ab.Binary("x"), ab.Score("x"))
    with pytest.raises(ValueError, match="goals are"):
        study(ab.Binary("x", goal=True), ab.Score("y", goal=True))
    with pytest.raises(ValueError, match=r"alpha == 5\.0, must be in \(0, 1\)"):
        study(ab.Binary("x"), alpha=5.0)
    with pytest.raises(ValueError, match="margin == -1"):
        ab.Score("x", margin=-1)
    with pytest.raises((ValueError, TypeError), match="'up'"):
        ab.Score("x", better="up")
    with pytest.raises(ValueError, match="is the goal and has a margin"):
        ab.Score("x", goal=True, margin=0.1)
    with pytest.raises(ValueError, match="counts of 'csat', must be of one of x, y"):
        study(ab.Binary("x"), ab.Binary("y")).analyze({"x": {"v1": (1, 2)}, "csat": {"v1": (1, 2)}})
    with pytest.raises(ValueError, match="arm 'v3' has units and is not among arms"):
        study(ab.Binary("x"), arms=["v1", "v2"]).analyze({"v1": (1, 2), "v3": (1, 2)})


def test_bad_splits_are_refused():
    counts = {"v1": (1, 2), "v2": (1, 2)}
    with pytest.raises(ValueError, match=r"allocation 0 adds up to 0\.9, must be 1"):
        ab.compare(counts, control="v1", split={"v1": 0.5, "v2": 0.4})
    study = ab.Study(arm="variant", control="v1", metrics=[ab.Binary("x")])
    with pytest.raises(ValueError, match="splits lack allocation 0"):
        study.analyze(counts, splits={1: {"v1": 0.5, "v2": 0.5}})
    one, other = (study.count(counts, splits={0: {"v1": p, "v2": 1.0 - p}}) for p in (0.5, 0.6))
    with pytest.raises(ValueError, match="give each split an allocation of its own"):
        one + other


def test_a_guardrail_is_judged_by_the_sequence_where_there_are_only_counts():
    metrics = [ab.Binary("resolved", goal=True), ab.Amount("duration_s", better="decrease", margin=5)]
    study = ab.Study(arm="variant", control="v1", metrics=metrics)
    rng = np.random.default_rng(1)
    longer = {
        arm: (5000, float(values.sum()), float((values**2).sum()))
        for arm, values in (("v1", rng.gamma(4, 50, 5000)), ("v2", rng.gamma(4, 60, 5000)))
    }
    found = study.analyze({"resolved": {"v1": (3000, 5000), "v2": (3200, 5000)}, "duration_s": longer})
    (guardrail,) = found.guardrails
    assert (guardrail.variant, guardrail.status, guardrail.e_value) == ("v2", "harmed", None)
    assert found.recommendation.action in ("keep_control", "pause_variant")
    assert math.isclose(guardrail.margin, 5.0)
