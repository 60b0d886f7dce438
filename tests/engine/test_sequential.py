"""The gambler's wealth against the published rule in fractions, the laws of a fair game, and its price."""

from fractions import Fraction
from itertools import pairwise
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from engine.sequential import (
    MOST_AT_STAKE,
    SHRINKAGE,
    EProcess,
    confidence_sequence,
    confidence_sequence_factor,
)
from tests.engine.references import cases

MIRROR = {"better": "worse", "worse": "better", "two-sided": "two-sided"}
KINDS = [
    pytest.param({"direction": "two-sided"}, id="plug-in, two-sided"),
    pytest.param({"direction": "better"}, id="plug-in, better"),
    pytest.param({"direction": "worse"}, id="plug-in, worse"),
    pytest.param({"direction": "better", "margin": 0.05}, id="plug-in, better by a margin"),
    pytest.param({"direction": "better", "margin": -0.05}, id="plug-in, not worse by a margin"),
    pytest.param({"direction": "worse", "margin": 0.1}, id="plug-in, worse by a margin"),
    pytest.param({"direction": "worse", "margin": -0.1}, id="plug-in, not better by a margin"),
    pytest.param({"direction": "two-sided", "effects": [0.05, 0.2]}, id="planned, two-sided"),
    pytest.param({"direction": "better", "effects": [0.05]}, id="planned, better"),
    pytest.param({"direction": "worse", "effects": [0.01, 1.0], "margin": 0.1}, id="planned, worse"),
    pytest.param({"direction": "better", "effects": [0.1], "margin": -0.2}, id="planned, not worse"),
]
every_kind = pytest.mark.parametrize("kind", KINDS)

scores = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0))
shares = st.one_of(st.sampled_from([0.5, 1e-4, 0.95]), st.floats(0.01, 0.99))
units = st.lists(st.tuples(scores, st.booleans(), shares), min_size=0, max_size=30)
laws = settings(max_examples=20)


def columns(rows):
    y, treated, pi = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(y, float), np.array(treated, bool), np.array(pi, float)


def told(rows, **kind):
    return EProcess.start(**kind).update(*columns(rows))


def factor(process, outcome, treated, probability):
    after = process.update([outcome], [treated], probability)
    return exp(float(after.log_e) - float(process.log_e))


# --- sources ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("paper_cases", category="eprocess_rows"))
def test_the_worked_rows_are_reproduced(case):
    process = EProcess.start()
    path = process.path(case["y"], case["A"], case["pi1"])
    assert path.tolist() == pytest.approx(case["log_e"], rel=0.0, abs=case["tol"])
    assert float(process.update(case["y"], case["A"], case["pi1"]).log_e) == pytest.approx(
        case["log_e"][-1], rel=0.0, abs=case["tol"]
    )


def plug_in_in_fractions(rows, direction, margin=Fraction(0)):
    """prod of y r1(A) + (1 - y) r0(A), r1 = m_A / m, r0 = (1 - m_A) / (1 - m), m = pi m_1 + (1 - pi) m_0.

    The likelihood ratio of two Bernoulli rates, as it was published; the module writes it as a stake and a
    centre. A margin m > 0 lifts one arm by m and divides by 1 + m.
    """
    kappa, n, s, wealth = Fraction(int(SHRINKAGE)), [0, 0], [Fraction(0), Fraction(0)], Fraction(1)
    lifted = int((margin > 0) != (direction == "better"))
    for y, arm, pi in rows:
        value = (y + (abs(margin) if arm == lifted and margin else 0)) / (1 + abs(margin))
        pool = (sum(s) + 1) / Fraction(sum(n) + 2)
        m = [(s[a] + kappa * pool) / (n[a] + kappa) for a in (0, 1)]
        if (direction == "better" and m[1] < m[0]) or (direction == "worse" and m[1] > m[0]):
            m[1] = m[0]
        middle = pi * m[1] + (1 - pi) * m[0]
        wealth *= value * m[arm] / middle + (1 - value) * (1 - m[arm]) / (1 - middle)
        n[arm] += 1
        s[arm] += value
    return wealth


@pytest.mark.parametrize(
    ("direction", "margin"),
    [
        ("two-sided", 0),
        ("better", 0),
        ("worse", 0),
        ("better", 10),
        ("better", -10),
        ("worse", 5),
        ("worse", -5),
    ],
)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1), st.integers(1, 15)), min_size=1, max_size=25),
)
@laws
def test_the_plug_in_is_the_published_product_in_fractions(direction, margin, rows):
    exact = [(Fraction(y, 8), arm, Fraction(pi, 16)) for y, arm, pi in rows]
    wanted = plug_in_in_fractions(exact, direction, Fraction(margin, 100))
    found = told(
        [(y / 8, arm == 1, pi / 16) for y, arm, pi in rows], direction=direction, margin=margin / 100
    )
    assert float(found.log_e) == pytest.approx(log(wanted), rel=1e-10, abs=1e-12)


def planned_wealth(rows, effects, sign):
    """Each gambler multiplies by 1 + b c (y - pool), b = effect / variance but at most 90 % at stake."""
    wealth, n, total, squares = np.ones(len(effects)), 0, 0.0, 0.0
    for y, treated, pi in rows:
        pool = (total + 1) / (n + 2)
        variance = (squares + 1) / (n + 2) - pool**2
        for j, effect in enumerate(effects):
            most = MOST_AT_STAKE / (max(pi, 1 - pi) * max(pool, 1 - pool))
            stake = sign * min(effect / variance, most)
            wealth[j] *= 1 + stake * ((1 - pi) if treated else -pi) * (y - pool)
        n, total, squares = n + 1, total + y, squares + y * y
    return wealth.mean()


@pytest.mark.parametrize(("direction", "sign"), [("better", 1), ("worse", -1)])
@given(units, st.lists(st.sampled_from([0.01, 0.05, 0.2, 1.0]), min_size=1, max_size=3))
@laws
def test_planned_gamblers_share_the_wealth_evenly(direction, sign, rows, effects):
    found = float(told(rows, direction=direction, effects=effects).log_e)
    assert found == pytest.approx(log(planned_wealth(rows, effects, sign)), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize(
    ("n", "half_width"), [(1000, 0.106375), (5000, 0.042924), (10_000, 0.030615), (100_000, 0.010552)]
)
def test_half_widths_of_the_asymptotic_sequence(n, half_width):
    """Waudby-Smith et al. (2024), the boundary with rho for t* = 5000: sd = 1, alpha = .05."""
    interval = confidence_sequence(0.0, 1.0 / sqrt(n), n=n, planned=5000)
    assert interval.upper[0] == pytest.approx(half_width, abs=5e-7)
    assert interval.lower[0] == -interval.upper[0]


@pytest.mark.parametrize("case", cases("paper_cases", category="asympcs"))
def test_half_widths_of_a_shorter_plan(case):
    for n, half_width in case["half_width"].items():
        found = float(confidence_sequence_factor(int(n), planned=1000, alpha=0.05)) / sqrt(int(n))
        assert found == pytest.approx(half_width, rel=1e-12)


def relative_lift(control, treatment):
    """Estimate and standard error of mean_t / mean_c - 1 by the delta method."""
    means, errors = [], []
    for group in (control, treatment):
        n, mean = group["n"], group["sum"] / group["n"]
        squares = group.get("sum_squares", group["sum"])  # a proportion: zeros and ones
        spread = squares / n - mean**2
        means.append(mean)
        errors.append(spread / n if "sum_squares" not in group else spread / (n - 1))
    ratio = means[1] / means[0]
    return ratio - 1.0, sqrt(errors[1] + ratio**2 * errors[0]) / means[0]


@pytest.mark.parametrize("case", cases("peer_vectors", category="sequential_confidence_sequence"))
def test_growthbooks_sequential_intervals_are_reproduced(case):
    """Of relative lifts, which are made here: the sequence takes any estimate with a standard error."""
    control, treatment = case["inputs"]["control"], case["inputs"]["treatment"]
    estimate, error = relative_lift(control, treatment)
    planned, expected = case["settings"]["tuning_N_star"], case["expected"]
    found = confidence_sequence(estimate, error, n=control["n"] + treatment["n"], planned=planned)
    lower, upper = expected.get("ci", [expected.get("ci_low"), None])
    assert found.lower[0] == pytest.approx(lower, abs=case["abs_tolerance"])
    if upper is not None:
        assert found.upper[0] == pytest.approx(upper, abs=case["abs_tolerance"])


def test_looking_all_the_time_costs_half_the_width_at_the_planned_size():
    """1.549 times the z interval at the planned size, 1.61 at five times, 1.97 at a tenth (our derivation)."""
    factors = confidence_sequence_factor([5000, 25_000, 500], planned=5000, alpha=0.05)
    assert (factors / ndtri(0.975)).tolist() == pytest.approx([1.549, 1.61, 1.97], abs=0.005)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.floats(0.001, 0.5))
@laws
def test_the_sequence_is_wider_than_the_z_interval_and_grows_with_confidence(n, planned, alpha):
    one = float(confidence_sequence_factor(n, planned=planned, alpha=alpha))
    assert one > ndtri(1.0 - alpha / 2.0)
    assert float(confidence_sequence_factor(n, planned=planned, alpha=alpha / 2)) > one


def test_the_sequence_is_about_as_narrow_as_can_be_at_its_planned_size():
    """No plan gives a factor at n = 5000 that is more than 0.1 % below that of the plan for 5000."""
    best = min(
        float(confidence_sequence_factor(5000, planned=p, alpha=0.05)) for p in range(500, 50_000, 250)
    )
    assert float(confidence_sequence_factor(5000, planned=5000, alpha=0.05)) <= 1.001 * best


# --- a fair game ------------------------------------------------------------------------------------------


@every_kind
@given(past=units, y=scores, pi=shares)
@laws
def test_the_expected_factor_of_one_unit_is_exactly_one_over_its_assignment(kind, past, y, pi):
    """At the edge of the null: the same outcome, less the margin that one arm is allowed to lack."""
    process, margin = told(past, **kind), kind.get("margin", 0.0)
    room = 1.0 - abs(margin)  # y in [0, 1] for both arms
    ahead, behind = y * room + abs(margin), y * room
    treated_ahead = (margin > 0.0) == (kind["direction"] == "better")
    treated, control = (ahead, behind) if treated_ahead else (behind, ahead)
    mean = pi * factor(process, treated, True, pi) + (1.0 - pi) * factor(process, control, False, pi)
    assert mean == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("direction", ["better", "worse"])
@pytest.mark.parametrize("effects", [[], [0.05, 0.3]])
@given(
    past=units,
    pi=shares,
    margin=st.sampled_from([0.0, 0.05, -0.05, 0.3]),
    ends=st.tuples(scores, scores, scores, scores),
    chances=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@laws
def test_no_outcome_law_inside_the_null_makes_the_game_favourable(
    direction, effects, past, pi, margin, ends, chances
):
    """Two-point outcomes with mean_treated <= mean_control + margin (or the mirror image)."""
    treated = [(1.0 - chances[0], ends[0]), (chances[0], ends[1])]
    control = [(1.0 - chances[1], ends[2]), (chances[1], ends[3])]
    difference = sum(p * y for p, y in treated) - sum(p * y for p, y in control)
    process = told(past, direction=direction, margin=margin, effects=effects)
    mean = pi * sum(p * factor(process, y, True, pi) for p, y in treated)
    mean += (1.0 - pi) * sum(p * factor(process, y, False, pi) for p, y in control)
    is_null = difference <= margin if direction == "better" else -difference <= margin
    if is_null:
        assert mean <= 1.0 + 1e-9
    else:
        assert mean >= 1.0 - 1e-9


@every_kind
@given(rows=units, cut=st.integers(0, 30))
@laws
def test_wealth_is_positive_and_p_never_grows(kind, rows, cut):
    first = told(rows[:cut], **kind)
    process = first.update(*columns(rows[cut:]))
    assert np.isfinite(process.log_wealth).all()
    assert float(process.e_value) > 0.0
    assert float(process.p_value) <= float(first.p_value) <= 1.0
    if rows:
        path = EProcess.start(**kind).path(*columns(rows))
        assert float(process.p_value) == pytest.approx(exp(-max(path.max(), 0.0)), rel=1e-9)


@every_kind
@pytest.mark.parametrize("treated_outcome", [1.0, 0.0])
def test_a_hundred_thousand_hostile_units_leave_the_wealth_finite(kind, treated_outcome):
    """Everybody of one arm succeeds, nobody of the other does, under a split that hardly serves one."""
    arm = np.arange(100_000) % 2 == 0
    y = np.where(arm, treated_outcome, 1.0 - treated_outcome)
    process = EProcess.start(**kind).update(y, arm, np.where(arm, 0.999, 0.001))
    assert np.isfinite(process.log_wealth).all()
    assert np.isfinite(process.log_e)
    assert 0.0 <= process.p_value <= 1.0


def test_a_gambler_who_is_wrong_keeps_a_tenth_of_the_wealth_on_one_unit():
    process = EProcess.start(direction="better", effects=[1.0])
    # pool 1/2 and pi 1/2: the whole stake is 1 / (1/2 * 1/2), and 90 % of it is laid.
    assert factor(process, 0.0, True, 0.5) == pytest.approx(0.1, abs=1e-12)
    assert factor(process, 1.0, True, 0.5) == pytest.approx(1.9, abs=1e-12)


# --- laws -------------------------------------------------------------------------------------------------


@every_kind
@given(rows=units, cuts=st.lists(st.integers(0, 30), max_size=3))
@laws
def test_updating_in_parts_is_updating_at_once(kind, rows, cuts):
    y, treated, pi = columns(rows)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    process, path = EProcess.start(**kind), []
    for start, end in pairwise(edges):
        part = slice(start, end)
        if end > start:
            path.append(process.path(y[part], treated[part], pi[part]))
        process = process.update(y[part], treated[part], pi[part])
    whole = EProcess.start(**kind).update(y, treated, pi)
    for name in ("n", "total", "total_sq", "log_wealth", "log_e_max"):
        np.testing.assert_allclose(getattr(process, name), getattr(whole, name), rtol=1e-9, atol=1e-11)
    if rows:
        np.testing.assert_allclose(
            np.concatenate(path), EProcess.start(**kind).path(y, treated, pi), rtol=1e-9, atol=1e-11
        )


@every_kind
@given(rows=units)
@laws
def test_failures_in_one_direction_are_successes_in_the_other(kind, rows):
    mirrored = {**kind, "direction": MIRROR[kind["direction"]]}
    other = told([(1.0 - y, treated, pi) for y, treated, pi in rows], **mirrored)
    np.testing.assert_allclose(other.log_e, told(rows, **kind).log_e, rtol=1e-9, atol=1e-10)


@every_kind
@given(rows=units)
@laws
def test_swapping_the_arms_swaps_the_directions(kind, rows):
    mirrored = {**kind, "direction": MIRROR[kind["direction"]]}
    other = told([(y, not treated, 1.0 - pi) for y, treated, pi in rows], **mirrored)
    np.testing.assert_allclose(other.log_e, told(rows, **kind).log_e, rtol=1e-9, atol=1e-10)


@every_kind
@given(rows=units, places=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), max_size=6))
@laws
def test_missing_units_and_units_without_a_choice_change_nothing(kind, rows, places):
    """Outcome nan, or a probability of 0 or 1: no bet, and nothing learned."""
    idle = [(float("nan"), True, 0.5), (1.0, True, 1.0), (1.0, False, 0.0)]
    mixed = list(rows)
    for place, which in places:
        mixed.insert(min(place, len(mixed)), idle[which])
    np.testing.assert_allclose(told(mixed, **kind).log_wealth, told(rows, **kind).log_wealth, atol=1e-12)


@every_kind
def test_processes_side_by_side_are_the_single_ones(kind):
    rng = np.random.default_rng(0)
    y, treated, pi = rng.random((3, 2, 40)), rng.random((3, 2, 40)) < 0.4, rng.uniform(0.1, 0.9, (3, 2, 40))
    y[rng.random(y.shape) < 0.1] = np.nan
    together = EProcess.start(**kind, batch=(3, 2)).update(y, treated, pi)
    assert together.log_e.shape == together.p_value.shape == together.e_value.shape == (3, 2)
    for i, j in np.ndindex(3, 2):
        single = EProcess.start(**kind).update(y[i, j], treated[i, j], pi[i, j])
        assert together.log_e[i, j] == pytest.approx(float(single.log_e), abs=1e-12)
        assert together.p_value[i, j] == pytest.approx(float(single.p_value), rel=1e-12)


@given(rows=units, effects=st.lists(st.sampled_from([0.02, 0.1, 0.5]), min_size=1, max_size=3))
@laws
def test_two_sided_with_effects_is_the_average_of_both_directions(rows, effects):
    each = [float(told(rows, direction=way, effects=effects).log_e) for way in ("better", "worse")]
    found = float(told(rows, direction="two-sided", effects=effects).log_e)
    assert found == pytest.approx(np.logaddexp(*each) - log(2.0), rel=1e-9, abs=1e-11)


def test_a_process_that_has_seen_nothing_claims_nothing():
    for process in (EProcess.start(), EProcess.start().update([], [], 0.5)):
        assert float(process.e_value) == float(process.p_value) == 1.0
        assert float(process.log_e) == 0.0
    assert EProcess.start().path([], [], 0.5).shape == (0,)


def test_the_first_unit_cannot_win_for_the_plug_in():
    """Both arms start at the pool, so there is no difference to bet on."""
    assert factor(EProcess.start(), 1.0, True, 0.3) == 1.0


def test_p_remembers_the_largest_wealth_and_e_forgets_it():
    good = EProcess.start(direction="better", effects=[0.2]).update([1, 0] * 60, [1, 0] * 60, 0.5)
    after = good.update([0, 1] * 60, [1, 0] * 60, 0.5)
    assert float(after.e_value) < float(good.e_value)
    assert float(after.p_value) == float(good.p_value) == pytest.approx(1.0 / float(good.e_value), rel=1e-12)


def test_false_alarms_stay_under_alpha_although_the_split_follows_a_drift():
    """1 000 runs of 600 units whose rate swings by 30 points together with the share of the treatment."""
    rng = np.random.default_rng(5)
    runs, length = 1_000, 600
    wave = np.sin(np.linspace(0.0, 6.0, length))
    pi = np.broadcast_to(0.5 + 0.4 * wave, (runs, length))
    y = (rng.random((runs, length)) < 0.5 + 0.3 * wave).astype(float)
    arm = rng.random((runs, length)) < pi
    for kind in ({"direction": "two-sided"}, {"direction": "better", "effects": [0.1, 0.3]}):
        process = EProcess.start(**kind, batch=(runs,)).update(y, arm, pi)
        assert (process.p_value <= 0.05).mean() <= 0.05
    assert (arm * y).sum() / arm.sum() - (~arm * y).sum() / (~arm).sum() > 0.1  # what pooling would see


def test_the_planned_effect_is_found_with_fewer_units_than_by_learning_it():
    """The docstring's fifth: at 60 against 75 %, the planned gambler needs at most 9 units of the plug-in's 10."""
    rng = np.random.default_rng(6)
    runs, length = 300, 3_000
    arm = rng.random((runs, length)) < 0.5
    y = (rng.random((runs, length)) < np.where(arm, 0.75, 0.60)).astype(float)
    stops = []
    for effects in ([0.15], []):
        path = EProcess.start(direction="better", effects=effects, batch=(runs,)).path(y, arm, 0.5)
        claimed = path >= log(20.0)
        assert claimed.any(axis=1).mean() > 0.95
        stops.append(np.where(claimed.any(axis=1), claimed.argmax(axis=1), length).mean())
    assert stops[0] < 0.9 * stops[1]


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": 1.0, "direction": "better"}, r"margin == 1\.0, must be in \(-1, 1\)"),
        ({"margin": float("nan"), "direction": "better"}, r"margin == nan, must be in \(-1, 1\)"),
        ({"margin": 0.1}, r"margin == 0\.1, must be 0 for 'two-sided'; ask for one direction"),
        ({"effects": [0.1, 0.0]}, r"effects\[1\] == 0\.0, must be in \(0, 1\]"),
        ({"effects": [1.5]}, r"effects\[0\] == 1\.5, must be in \(0, 1\]"),
    ],
)
def test_a_bet_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EProcess.start(**arguments)


@pytest.mark.parametrize(
    ("outcome", "treated", "probability", "message"),
    [
        ([0.5, 2.0], [1, 0], 0.5, r"outcome\[1\] == 2\.0, must be in \[0, 1\], or nan where missing"),
        ([-0.1], [1], 0.5, r"outcome\[0\] == -0\.1, must be in \[0, 1\]"),
        ([np.inf], [1], 0.5, r"outcome\[0\] == inf, must be in \[0, 1\]"),
        ([0.5], [1], 1.5, r"probability\[0\] == 1\.5, must be in \[0, 1\]"),
        ([0.5], [1], np.nan, r"probability\[0\] == nan, must be in \[0, 1\]"),
        ([0.5, 0.5], [1], 0.5, r"outcome has shape \(2,\) and treated \(1,\), both must be"),
        ([[0.5]], [[1]], 0.5, r"outcome has shape \(1, 1\) and treated \(1, 1\), both must be"),
    ],
)
def test_a_unit_that_cannot_be_is_refused(outcome, treated, probability, message):
    with pytest.raises(ValueError, match=message):
        EProcess.start().update(outcome, treated, probability)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0, "planned": 100, "alpha": 0.05}, r"n == 0\.0, must be greater than 0"),
        ({"n": 10, "planned": 0, "alpha": 0.05}, "planned == 0, must be finite and greater than 0"),
        ({"n": 10, "planned": 100, "alpha": 5.0}, r"alpha == 5\.0, must be in \(0, 1\); write 0\.05 for 5 %"),
    ],
)
def test_a_sequence_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        confidence_sequence_factor(**arguments)
