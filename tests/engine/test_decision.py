"""The recommendation, situation by situation, and what it must never say."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decision import THRESHOLD_OF_CARING, Contrast, Progress, recommend

DONE = Progress(calls=3000, planned_calls=2600, effect="5 points", days_left=0.0)
EARLY = replace(DONE, calls=300, days_left=2.0)
ENDED = replace(DONE, ended=True)

OPEN = Contrast("b", False, False, False, "e-value 3", estimate=0.01, expected_loss=0.004)
BETTER = replace(OPEN, better=True, evidence="e-value 52", estimate=0.06, expected_loss=0.0001)
DEAR = replace(BETTER, expected_loss=0.02)
WORSE = replace(OPEN, worse=True, evidence="e-value 70", estimate=-0.08, expected_loss=0.08)
HARMFUL = replace(BETTER, harmed=("duration_s",))
EQUAL = replace(OPEN, equivalent=True, evidence="within 2 points")


def named(name, item):
    return replace(item, name=name)


def action(progress, *contrasts):
    return recommend(progress, contrasts, control="a")


@pytest.mark.parametrize(
    ("progress", "contrasts", "wanted", "variant"),
    [
        pytest.param(DONE, [BETTER], "switch", "b", id="better, cheap to be wrong about, all over"),
        pytest.param(ENDED, [BETTER], "switch", "b", id="the same after the end"),
        pytest.param(DONE, [OPEN, named("c", BETTER)], "switch", "c", id="the better one of two"),
        pytest.param(
            DONE,
            [BETTER, named("c", replace(BETTER, expected_loss=0.00005))],
            "switch",
            "c",
            id="the cheaper one of two that are better",
        ),
        pytest.param(DONE, [WORSE, named("c", BETTER)], "switch", "c", id="beside one that is worse"),
        pytest.param(DONE, [HARMFUL, named("c", BETTER)], "switch", "c", id="beside one that is harmful"),
        pytest.param(DONE, [DEAR], "keep_collecting", None, id="better, but dear to be wrong about"),
        pytest.param(DONE, [replace(BETTER, expected_loss=None)], "keep_collecting", None, id="loss unknown"),
        pytest.param(EARLY, [BETTER], "keep_collecting", None, id="better, but too early"),
        pytest.param(DONE, [OPEN], "keep_collecting", None, id="nothing shown"),
        pytest.param(DONE, [], "keep_collecting", None, id="nobody beside the control"),
        pytest.param(EARLY, [EQUAL], "keep_collecting", None, id="equivalent, but too early"),
        pytest.param(DONE, [EQUAL, named("c", OPEN)], "keep_collecting", None, id="only one is equivalent"),
        pytest.param(DONE, [EQUAL], "equivalent", "a", id="equivalent"),
        pytest.param(DONE, [EQUAL, named("c", EQUAL)], "equivalent", "a", id="all are equivalent"),
        pytest.param(
            ENDED, [EQUAL, named("c", WORSE)], "equivalent", "a", id="ended, the rest is equivalent"
        ),
        pytest.param(EARLY, [WORSE], "pause_variant", "b", id="worse before the duration is over"),
        pytest.param(DONE, [WORSE, named("c", OPEN)], "pause_variant", "b", id="one worse, one open"),
        pytest.param(DONE, [named("c", OPEN), HARMFUL], "pause_variant", "b", id="one harmful, one open"),
        pytest.param(
            EARLY, [HARMFUL, named("c", BETTER)], "pause_variant", "b", id="pause while the winner waits"
        ),
        pytest.param(DONE, [WORSE], "keep_control", "a", id="the only one is worse"),
        pytest.param(DONE, [HARMFUL, named("c", WORSE)], "keep_control", "a", id="none is left"),
        pytest.param(
            replace(ENDED, days_left=2.0), [WORSE], "keep_control", "a", id="ended early, it is worse"
        ),
        pytest.param(ENDED, [OPEN], "keep_control", "a", id="ended, nothing shown"),
        pytest.param(ENDED, [DEAR], "investigate", None, id="ended, dear to be wrong about"),
        pytest.param(
            replace(ENDED, days_left=2.0), [BETTER], "investigate", None, id="ended too early to switch"
        ),
        pytest.param(ENDED, [OPEN, named("c", WORSE)], "keep_control", "a", id="ended, one open, one worse"),
        pytest.param(ENDED, [], "keep_control", "a", id="ended with nobody beside the control"),
        pytest.param(
            replace(DONE, sample_ratio_mismatch=True),
            [BETTER],
            "investigate",
            None,
            id="sample ratio mismatch",
        ),
        pytest.param(
            replace(DONE, missing_differs=("b",)), [BETTER], "investigate", None, id="missing differs"
        ),
        pytest.param(
            replace(ENDED, sample_ratio_mismatch=True),
            [WORSE],
            "investigate",
            None,
            id="mismatch after the end",
        ),
    ],
)
def test_what_a_situation_recommends(progress, contrasts, wanted, variant):
    found = recommend(progress, contrasts, control="a")
    assert (found.action, found.variant) == (wanted, variant)
    assert found.because
    assert all(found.because)
    assert all(found.still_needed)
    assert bool(found.still_needed) or wanted not in {"keep_collecting", "investigate"}


@pytest.mark.parametrize(
    ("progress", "contrast", "named_in"),
    [
        pytest.param(DONE, replace(BETTER, better=False), "nothing was shown", id="always-valid test"),
        pytest.param(
            DONE, replace(BETTER, expected_loss=THRESHOLD_OF_CARING), "expected loss", id="expected loss"
        ),
        pytest.param(DONE, replace(BETTER, harmed=("quality",)), "quality", id="guardrail"),
        pytest.param(replace(DONE, sample_ratio_mismatch=True), BETTER, "sample ratio", id="sample ratio"),
        pytest.param(replace(DONE, missing_differs=("b",)), BETTER, "missing", id="missing outcomes"),
        pytest.param(replace(DONE, days_left=0.01), BETTER, "0.1 more days", id="minimum duration"),
    ],
)
def test_switch_needs_every_one_of_its_conditions_and_says_which_is_missing(progress, contrast, named_in):
    """design.md, section 7; each condition knocked out alone."""
    assert action(DONE, BETTER).action == "switch"
    found = action(progress, contrast)
    assert found.action != "switch"
    assert any(named_in in sentence for sentence in (*found.because, *found.still_needed))


def test_a_switch_says_on_what_it_rests():
    found = action(DONE, BETTER)
    assert found.still_needed == ()
    text = " ".join(found.because)
    for part in (
        "b is better than a by +0.06",
        "e-value 52",
        "0.0001",
        "0.005",
        "guardrail",
        "sample ratio",
        "duration",
    ):
        assert part in text


def test_the_threshold_of_caring_can_be_chosen():
    assert recommend(DONE, [DEAR], control="a", threshold_of_caring=0.03).action == "switch"
    assert recommend(DONE, [BETTER], control="a", threshold_of_caring=0.0001).action == "keep_collecting"


def test_a_pause_names_everybody_who_is_out_and_why():
    found = action(EARLY, WORSE, named("c", HARMFUL), named("d", OPEN))
    text = " ".join(found.because)
    assert "b is worse than a by 0.08: e-value 70" in text
    assert "c makes duration_s worse by more than the margin, although it is better on the goal" in text
    assert found.still_needed == ("about 2 300 more calls to find 5 points", "2.0 more days")
    both = action(EARLY, replace(WORSE, harmed=("quality", "duration_s")))
    assert both.because[0].endswith("; b makes quality, duration_s worse by more than the margin")


def test_an_experiment_that_ended_names_what_it_showed_of_everybody():
    found = action(
        replace(ENDED, days_left=1.94), DEAR, named("c", OPEN), named("d", WORSE), named("e", HARMFUL)
    )
    text = "\n".join(found.because)
    for part in (
        "ended after 3 000 calls",
        "b is better than a by +0.06 (e-value 52)",
        "expected loss 0.02",
        "no difference shown between c and a: e-value 3",
        "d is worse than a by 0.08: e-value 70",
        "e makes duration_s worse",
        "it ended 2.0 days before the minimum duration was over",
    ):
        assert part in text
    equal = action(ENDED, EQUAL, named("c", WORSE))
    assert equal.because == ("b is as good as a: within 2 points", "c is worse than a by 0.08: e-value 70")


@pytest.mark.parametrize(
    ("calls", "planned", "wanted"),
    [
        (300, 1540, "about 1 240 more calls to find 5 points"),
        (1540, 1540, "more calls: the planned 1 540 are there and nothing was shown"),
        (300, None, "more calls; how many cannot be planned for this goal"),
    ],
)
def test_it_says_how_many_calls_are_missing(calls, planned, wanted):
    found = action(replace(DONE, calls=calls, planned_calls=planned), replace(OPEN, evidence=""))
    assert found.because == ("nothing is shown yet",)
    assert len(found.still_needed) == 1
    assert found.still_needed[0].startswith(wanted)


def test_a_winner_needs_no_more_calls_for_the_planned_effect():
    assert action(EARLY, BETTER).still_needed == ("2.0 more days",)
    (needed,) = action(DONE, DEAR).still_needed
    assert needed.startswith("an expected loss of b below 0.005")


def test_a_contrast_without_an_estimate_is_told_without_a_number():
    found = action(DONE, replace(BETTER, estimate=None))
    assert found.because[0].startswith("b is better than a: e-value 52")


# --- never ------------------------------------------------------------------------------------------------


# Plain dictionaries: beartype looks at random entries of a sequence, which Hypothesis forbids while it draws.
contrasts = st.fixed_dictionaries(
    {
        "verdict": st.sampled_from(["better", "worse", "open"]),
        "equivalent": st.booleans(),
        "expected_loss": st.sampled_from([None, 0.0, 0.0049, 0.005, 0.3]),
        "harmed": st.sampled_from([(), ("quality",), ("quality", "duration_s")]),
        "evidence": st.sampled_from(["", "e-value 52"]),
    }
)
everybody = st.lists(contrasts, max_size=4)
progresses = st.fixed_dictionaries(
    {
        "calls": st.sampled_from([0, 300, 5000]),
        "planned_calls": st.sampled_from([None, 1500]),
        "days_left": st.sampled_from([0.0, 0.5, 7.0]),
        "ended": st.booleans(),
        "sample_ratio_mismatch": st.sampled_from([False, False, False, True]),
        "missing_differs": st.sampled_from([(), (), (), ("c",)]),
    }
)


def situation(progress, drawn):
    items = []
    for name, row in zip("bcde", drawn, strict=False):
        parts = dict(row)
        verdict = parts.pop("verdict")
        items.append(
            Contrast(name, better=verdict == "better", worse=verdict == "worse", estimate=None, **parts)
        )
    return Progress(effect="5 points", **progress), items


@given(progresses, everybody)
@settings(max_examples=400)
def test_no_situation_breaks_the_promises(progress, drawn):
    progress, items = situation(progress, drawn)
    found = recommend(progress, items, control="a")
    by_name = {item.name: item for item in items}
    doubt = progress.sample_ratio_mismatch or bool(progress.missing_differs)
    undecided = progress.ended and any(item.better and not item.is_out for item in items)
    assert (found.action == "investigate") <= (doubt or undecided)
    assert found.action == "investigate" or not doubt
    if found.action == "switch":
        chosen = by_name[found.variant]
        assert chosen.better
        assert not chosen.worse
        assert not chosen.harmed
        assert progress.days_left <= 0
        assert chosen.expected_loss < THRESHOLD_OF_CARING
        rivals = [i.expected_loss for i in items if i.better and not i.harmed and i.expected_loss is not None]
        assert chosen.expected_loss == min(rivals)
    if found.action == "pause_variant":
        assert by_name[found.variant].worse or by_name[found.variant].harmed
        assert not progress.ended
    if found.action == "equivalent":
        assert all(item.equivalent for item in items if not item.is_out)
        assert progress.days_left <= 0
    if progress.ended:
        assert found.action not in {"keep_collecting", "pause_variant"}
    if found.action in {"pause_variant", "equivalent", "keep_control"}:
        text = " ".join(found.because)
        assert all(f"{item.name} " in text for item in items if item.worse or item.harmed)


@given(progresses, everybody)
@settings(max_examples=200)
def test_a_switch_does_not_hang_on_the_order_of_the_variants(progress, drawn):
    progress, items = situation(progress, drawn)
    losses = [item.expected_loss for item in items]
    one, other = (recommend(progress, order, control="a") for order in (items, items[::-1]))
    assert one.action == other.action
    if len(set(losses)) == len(losses) and one.action != "pause_variant":
        assert one.variant == other.variant


def test_every_action_can_be_reached():
    """All verdicts of two variants under all states of an experiment."""
    verdicts = [OPEN, BETTER, DEAR, WORSE, HARMFUL, EQUAL]
    states = [DONE, EARLY, ENDED, replace(DONE, sample_ratio_mismatch=True)]
    reached = {
        action(progress, one, named("c", other)).action
        for progress, one, other in product(states, verdicts, verdicts)
    }
    assert reached == {
        "keep_collecting",
        "switch",
        "keep_control",
        "equivalent",
        "pause_variant",
        "investigate",
    }
