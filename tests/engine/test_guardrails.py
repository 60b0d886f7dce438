"""Thresholds of claims, and what a guardrail is called, case by case."""

from math import exp, inf, log, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.guardrails import SequenceOfOne, guardrail_status, thresholds
from engine.sequential import ENOUGH_PER_ARM

names = ("direction", "equivalence", "harm", "missing")
alphas = st.floats(1e-6, 0.5)


@given(alphas, st.integers(1, 50))
def test_the_false_claims_that_the_thresholds_allow_add_up_to_their_level(alpha, contrasts):
    """Ville: a claim at threshold T is false with a chance of at most 1 / T; the union bound adds them up."""
    found = thresholds(alpha=alpha, contrasts=contrasts)
    assert 2 * contrasts * exp(-found.direction) == pytest.approx(alpha, rel=1e-12)  # better and worse
    assert contrasts * exp(-found.equivalence) == pytest.approx(alpha, rel=1e-12)
    assert contrasts * exp(-found.harm) == pytest.approx(0.01, rel=1e-12)
    assert contrasts * exp(-found.missing) == pytest.approx(0.001, rel=1e-12)


@given(alphas, st.integers(1, 50))
def test_more_variants_raise_every_threshold_alike(alpha, contrasts):
    one, more = thresholds(alpha=alpha, contrasts=1), thresholds(alpha=alpha, contrasts=contrasts)
    for name in names:
        assert getattr(more, name) - getattr(one, name) == pytest.approx(log(contrasts), abs=1e-12)


@given(alphas, st.integers(1, 9), st.integers(1, 9))
def test_all_guardrails_of_all_variants_together_keep_their_level(alpha, contrasts, guardrails):
    found = thresholds(alpha=alpha, contrasts=contrasts, guardrails=guardrails)
    assert contrasts * guardrails * exp(-found.harm) == pytest.approx(0.01, rel=1e-12)
    assert found.direction == thresholds(alpha=alpha, contrasts=contrasts).direction


def test_two_variants_at_five_percent():
    found = thresholds(alpha=0.05, contrasts=2)
    assert [round(exp(getattr(found, name))) for name in names] == [80, 40, 200, 2000]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 5.0, "contrasts": 1}, r"alpha == 5\.0, must be in \(0, 1\); write 0\.05 for 5 %"),
        ({"alpha": 0.05, "contrasts": 0}, "contrasts == 0, must be at least 1; count the variants"),
    ],
)
def test_thresholds_of_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        thresholds(**arguments)


# margin 0.1 and a threshold of 4.6 throughout: lower, upper, outcomes of the smaller arm, log e, and the state
@pytest.mark.parametrize(
    ("lower", "upper", "n", "log_e", "state"),
    [
        pytest.param(-0.05, 0.2, 400, None, "safe", id="the whole sequence is above the margin"),
        pytest.param(-0.1, 0.2, 400, None, "safe", id="its end lies at the margin: as bad is still accepted"),
        pytest.param(-0.11, 0.2, 400, None, "unknown", id="the margin is inside"),
        pytest.param(-0.3, -0.1, 400, None, "unknown", id="its end lies at the margin from below"),
        pytest.param(-0.3, -0.11, 400, None, "harmed", id="the whole sequence is below the margin"),
        pytest.param(-0.05, 0.2, 99, None, "unknown", id="too few outcomes to be safe"),
        pytest.param(-0.3, -0.2, 99, None, "unknown", id="too few outcomes to be harmed"),
        pytest.param(-0.3, -0.2, 100, None, "harmed", id="just enough outcomes"),
        pytest.param(nan, nan, 400, None, "unknown", id="no estimate"),
        pytest.param(-inf, -0.2, 400, None, "unknown", id="no lower end"),
        pytest.param(-0.05, inf, 400, None, "unknown", id="no upper end"),
        pytest.param(-0.05, 0.2, 400, 4.6, "harmed", id="the e-process has reached its threshold"),
        pytest.param(-0.05, 0.2, 400, 4.5, "safe", id="the e-process has not, and the sequence is above"),
        pytest.param(-0.3, -0.2, 400, 4.5, "unknown", id="with an e-process the sequence proves no harm"),
        pytest.param(nan, nan, 3, 4.7, "harmed", id="the e-process needs no hundred outcomes"),
        pytest.param(-0.05, 0.2, 99, 4.5, "unknown", id="neither says enough"),
    ],
)
def test_what_a_guardrail_is_called(lower, upper, n, log_e, state):
    sequence = SequenceOfOne(lower=lower, upper=upper, smaller_n=n)
    found = guardrail_status(margin=0.1, sequence=sequence, log_e_max=log_e, harm_threshold=4.6)
    assert found == state


@given(
    st.floats(-100, 100),
    st.floats(0, 100),
    st.floats(0, 50),
    st.integers(0, 400),
    st.one_of(st.none(), st.floats(0, 20)),
)
def test_a_wider_margin_never_does_more_harm(lower, width, margin, n, log_e):
    """At one sequence and one e-value: from harmed towards safe, never back."""
    sequence = SequenceOfOne(lower=lower, upper=lower + width, smaller_n=n)
    order = {"harmed": 0, "unknown": 1, "safe": 2}
    narrow, wide = (
        order[guardrail_status(margin=m, sequence=sequence, log_e_max=log_e, harm_threshold=4.6)]
        for m in (margin, margin + 1.0)
    )
    assert narrow <= wide
    if n < ENOUGH_PER_ARM and log_e is None:
        assert narrow == wide == 1


@pytest.mark.parametrize("margin", [-0.1, nan])
def test_a_margin_below_zero_is_refused(margin):
    with pytest.raises(ValueError, match=r"margin == .*, must be at least 0; it is how much worse"):
        guardrail_status(margin=margin, sequence=SequenceOfOne(0.0, 1.0, 400))


@pytest.mark.parametrize(("rarest", "readable"), [(None, True), (20, True), (19, False), (0, False)])
def test_a_share_without_twenty_of_each_outcome_is_not_read(rarest, readable):
    assert SequenceOfOne(-0.1, 0.1, 400, rarest).is_readable is readable
