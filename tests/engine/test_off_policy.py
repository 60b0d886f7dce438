"""Off-policy estimates: published cases, exact expectations over every possible log, laws, simulated bandits."""

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.off_policy import doubly_robust, effective_sample_size, ips, snips

shares = st.floats(0.05, 0.95)
outcomes = st.floats(-100, 100).map(lambda x: round(x, 3))


@st.composite
def logs(draw: st.DrawFn, least: int = 2, most: int = 30) -> dict:
    """Units served by splits of their own; the probability of every arm is known."""
    n, arms = draw(st.integers(least, most)), draw(st.integers(2, 4))
    seed = np.random.default_rng(draw(st.integers(0, 2**32)))
    split = 0.9 * seed.dirichlet(np.ones(arms), n) + 0.1 / arms
    return {
        "outcome": np.array(draw(st.lists(outcomes, min_size=n, max_size=n))),
        "arm": np.array([seed.choice(arms, p=row) for row in split / split.sum(axis=1, keepdims=True)]),
        "probability": split,
    }


def target_of(log: dict, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(log["probability"].shape[1]))


def value_of(found) -> tuple[float, float]:
    return found.estimate, found.standard_error


# --- numbers made elsewhere -------------------------------------------------------------------------------


def test_one_unit_agrees_with_vowpal_wabbits_estimators():
    """VowpalWabbit/estimators, test_single_example: logged .3, asked .6, reward 1: IPS 2, SNIPS 1."""
    log = {"outcome": [1], "arm": [0], "probability": [[0.3, 0.7]], "target": [0.6, 0.4]}
    assert ips(**log).estimate == pytest.approx(2.0, rel=1e-15)
    assert snips(**log).estimate == pytest.approx(1.0, rel=1e-15)
    assert np.isnan([ips(**log).standard_error, snips(**log).standard_error, snips(**log).upper]).all()


@pytest.mark.parametrize("k", [2, 10, 1_000])
def test_self_normalising_mends_propensity_overfitting(k):
    """Swaminathan and Joachims (2015), section 4, example 1: k actions served evenly, losses of -2 or -1.

    The policy that repeats what was logged seems to have at most -k by IPS; no policy has less than -2.
    """
    rng = np.random.default_rng(k)
    arm = rng.integers(0, k, 40)
    log = {
        "outcome": np.where(rng.random(40) < 1 / k, -2.0, -1.0),
        "arm": arm,
        "probability": np.full((40, k), 1 / k),
        "target": np.eye(k)[arm],
    }
    assert ips(**log).estimate <= -k * (1 - 1e-12)
    assert -2.0 <= snips(**log).estimate <= -1.0


def test_a_log_of_four_is_computed_by_hand():
    """w = 5/8, 5/8, 5/2, 5/2; SNIPS (5/8 + 5)/(25/4) = .9; ESS (25/4)^2 / (2 x 25/64 + 2 x 25/4) = 2.941.

    SNIPS's error: sqrt(25/64 (.01 + .81) + 25/4 (.01 + .01)) / (25/4); IPS's terms .625, 0, 2.5, 2.5.
    """
    log = {"outcome": [1, 0, 1, 1], "arm": [0, 0, 1, 1], "probability": [0.8, 0.8, 0.2, 0.2]}
    weighted, plain = snips(**log, target=[0.5, 0.5]), ips(**log, target=[0.5, 0.5])
    assert weighted.estimate == pytest.approx(0.9, rel=1e-14)
    assert weighted.standard_error == pytest.approx(np.sqrt(0.3203125 + 0.125) / 6.25, rel=1e-14)
    assert weighted.effective_sample_size == pytest.approx(2.9411764705882355, rel=1e-14)
    assert plain.estimate == pytest.approx(5.625 / 4, rel=1e-14)
    assert plain.standard_error == pytest.approx(np.std([0.625, 0, 2.5, 2.5], ddof=1) / 2, rel=1e-14)
    assert plain.mean_weight == pytest.approx(6.25 / 4, rel=1e-14)
    assert plain.upper - plain.estimate == pytest.approx(1.959963984540054 * plain.standard_error, rel=1e-13)


# --- exact expectations -----------------------------------------------------------------------------------


@given(
    potential=st.lists(st.tuples(outcomes, outcomes), min_size=3, max_size=3),
    first=shares,
    moved=st.lists(shares, min_size=6, max_size=6),
    asked=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    guesses=st.lists(outcomes, min_size=14, max_size=14),
)
@settings(max_examples=50)
def test_ips_and_doubly_robust_are_unbiased_over_every_possible_log(potential, first, moved, asked, guesses):
    """Three units whose split follows the past: all 8 logs, each with its probability, give the true value.

    Predictions follow the past as well, and are as wrong as they like.
    """
    y, target = np.array(potential), np.stack([1 - np.array(asked), asked], axis=1)
    q = np.reshape(guesses, (7, 2))
    expected, total = np.zeros(2), 0.0
    for a, b, c in product((0, 1), repeat=3):
        share = np.array([first, moved[a], moved[2 + 2 * a + b]])  # of arm 1
        split, arm = np.stack([1 - share, share], axis=1), np.array([a, b, c])
        likely = float(np.prod(split[np.arange(3), arm]))
        log = {
            "outcome": y[np.arange(3), arm],
            "arm": arm,
            "probability": split,
            "target": target,
        }
        robust = doubly_robust(**log, prediction=q[[0, 1 + a, 3 + 2 * a + b]])
        expected += likely * np.array([ips(**log).estimate, robust.estimate])
        total += likely
    assert total == pytest.approx(1.0, rel=1e-14)
    assert expected.tolist() == pytest.approx([float((target * y).sum(axis=1).mean())] * 2, abs=1e-10)


# --- laws -------------------------------------------------------------------------------------------------


@given(logs())
def test_the_split_that_was_served_has_the_plain_mean(log):
    served = ips(**log, target=log["probability"])
    plain = np.mean(log["outcome"]), np.std(log["outcome"], ddof=1) / np.sqrt(log["arm"].size)
    assert value_of(served) == pytest.approx(plain, rel=1e-12, abs=1e-12)
    assert served.effective_sample_size == pytest.approx(log["arm"].size, rel=1e-12)
    assert served.mean_weight == pytest.approx(1.0, rel=1e-12)
    weighted = snips(**log, target=log["probability"])
    plain = np.mean(log["outcome"]), np.std(log["outcome"]) / np.sqrt(log["arm"].size)
    assert value_of(weighted) == pytest.approx(plain, rel=1e-12, abs=1e-12)


@given(logs(), st.integers(0, 1000), st.sampled_from([-8.0, -1.0, 0.25, 60.0]), st.floats(-100, 100))
def test_snips_and_doubly_robust_move_and_scale_with_the_outcome(log, seed, scale, shift):
    """y -> a y + b: SNIPS whatever the weights, doubly robust as its predictions move along."""
    target = target_of(log, seed)
    q = np.random.default_rng(seed).normal(0, 10, log["probability"].shape)
    other = {**log, "outcome": scale * log["outcome"] + shift}
    for one, moved in (
        (snips(**log, target=target), snips(**other, target=target)),
        (
            doubly_robust(**log, target=target, prediction=q),
            doubly_robust(**other, target=target, prediction=scale * q + shift),
        ),
    ):
        assume(one.standard_error >= 0)
        size = 1e-9 * (abs(shift) + abs(scale) * 100 * max(1.0, one.mean_weight))
        assert moved.estimate == pytest.approx(scale * one.estimate + shift, abs=size)
        assert moved.standard_error == pytest.approx(abs(scale) * one.standard_error, abs=size)


@given(logs(), st.integers(0, 1000))
def test_failure_instead_of_success_is_the_mirror_image(log, seed):
    """1 - y: SNIPS and doubly robust give 1 - V and mirrored ends; both IPS add up to the mean weight."""
    target, flipped = target_of(log, seed), {**log, "outcome": 1 - log["outcome"]}
    q = np.random.default_rng(seed).random(log["probability"].shape)
    for one, other in (
        (snips(**log, target=target), snips(**flipped, target=target)),
        (
            doubly_robust(**log, target=target, prediction=q),
            doubly_robust(**flipped, target=target, prediction=1 - q),
        ),
    ):
        assume(one.standard_error >= 0)
        size = 1e-10 * max(1.0, one.mean_weight) * 100
        assert other.estimate == pytest.approx(1 - one.estimate, abs=size)
        assert (other.lower, other.upper) == pytest.approx((1 - one.upper, 1 - one.lower), abs=10 * size)
    both = ips(**log, target=target).estimate + ips(**flipped, target=target).estimate
    assert both == pytest.approx(ips(**log, target=target).mean_weight, abs=1e-9)


@given(logs(), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_neither_the_order_of_units_nor_the_names_of_arms_matter(log, seed, random):
    units, arms = list(range(log["arm"].size)), list(range(log["probability"].shape[1]))
    random.shuffle(units)
    random.shuffle(arms)
    target, new_name = target_of(log, seed), np.argsort(arms)
    moved = {
        "outcome": log["outcome"][units],
        "arm": new_name[log["arm"][units]],
        "probability": log["probability"][units][:, arms],
        "target": target[arms],
    }
    q = np.random.default_rng(seed).random(log["probability"].shape)
    for one, other in (
        (ips(**log, target=target), ips(**moved)),
        (snips(**log, target=target), snips(**moved)),
        (
            doubly_robust(**log, target=target, prediction=q),
            doubly_robust(**moved, prediction=q[units][:, arms]),
        ),
    ):
        assert value_of(other) == pytest.approx(value_of(one), rel=1e-10, abs=1e-10, nan_ok=True)


@given(logs(), st.integers(0, 1000), st.floats(0, 1))
def test_a_mixture_of_targets_has_the_mixture_of_their_values(log, seed, share):
    one, other = target_of(log, seed), target_of(log, seed + 1)
    mixed = ips(**log, target=share * one + (1 - share) * other).estimate
    parts = share * ips(**log, target=one).estimate + (1 - share) * ips(**log, target=other).estimate
    assert mixed == pytest.approx(parts, rel=1e-9, abs=1e-9)


@given(logs(), st.integers(0, 1000))
def test_doubly_robust_joins_ips_and_snips(log, seed):
    """Predicting 0 everywhere is IPS, predicting SNIPS's own value everywhere is SNIPS."""
    target = target_of(log, seed)
    zero = doubly_robust(**log, target=target, prediction=np.zeros(log["probability"].shape))
    assert value_of(zero) == pytest.approx(value_of(ips(**log, target=target)), rel=1e-12, abs=1e-12)
    value = snips(**log, target=target).estimate
    constant = doubly_robust(**log, target=target, prediction=np.full(log["probability"].shape, value))
    assert constant.estimate == pytest.approx(value, abs=1e-9 * 100 * max(1.0, constant.mean_weight))


@given(logs(), st.integers(0, 1000))
def test_perfect_predictions_leave_no_residual(log, seed):
    """Then every term is the target's own mean outcome of the unit, whatever arm was served."""
    target = target_of(log, seed)
    q = np.random.default_rng(seed).normal(0, 10, log["probability"].shape)
    log["outcome"] = q[np.arange(log["arm"].size), log["arm"]]
    found, terms = doubly_robust(**log, target=target, prediction=q), q @ target
    plain = terms.mean(), terms.std(ddof=1) / np.sqrt(terms.size)
    assert value_of(found) == pytest.approx(plain, rel=1e-12, abs=1e-12)
    everywhere = np.tile(q[0], (log["arm"].size, 1))
    log["outcome"] = everywhere[np.arange(log["arm"].size), log["arm"]]
    alike = doubly_robust(**log, target=target, prediction=everywhere)
    assert value_of(alike) == pytest.approx((float(q[0] @ target), 0.0), rel=1e-12, abs=1e-10)


@given(logs())
def test_one_arm_of_an_unchanging_split_has_the_mean_of_its_own_units(log):
    """SNIPS: all its units weigh the same. Given only the served arm's probability, as logs often have it."""
    arm = int(log["arm"][0])
    own = log["outcome"][log["arm"] == arm]
    served = np.bincount(log["arm"], minlength=4) / log["arm"].size
    one_arm = np.eye(4)[arm]
    found = snips(outcome=log["outcome"], arm=log["arm"], probability=served[log["arm"]], target=one_arm)
    assert found.estimate == pytest.approx(own.mean(), rel=1e-12, abs=1e-12)
    assert found.effective_sample_size == pytest.approx(own.size, rel=1e-12)


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=40), st.sampled_from([1e-200, 0.5, 1e-7]))
def test_the_effective_sample_size_is_at_most_the_number_of_weights_and_knows_no_scale(weight, scale):
    assume(max(weight) > 1e-50 and min(w for w in weight if w > 0) > 1e-50)
    units = effective_sample_size(weight)
    assert 1 - 1e-12 <= units <= np.count_nonzero(weight) * (1 + 1e-12)
    assert effective_sample_size(np.array(weight) * scale) == pytest.approx(units, rel=1e-9)


def test_equal_weights_count_in_full_and_no_weight_as_nothing():
    assert effective_sample_size([0.3] * 7) == pytest.approx(7.0, rel=1e-14)
    assert effective_sample_size([0, 0]) == 0.0


# --- frequencies ------------------------------------------------------------------------------------------

RUNS, UNITS = 1_000, 600


def bandit_logs(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """A greedy bandit with a floor of 15 %, on rates that drift by 30 points: outcome, arm, split, predictions.

    Predictions are each arm's mean so far, shrunk by four units: from earlier units only.
    """
    total, n = np.full((RUNS, 2), 2.0), np.full((RUNS, 2), 4.0)
    told = []
    for t in range(UNITS):
        q = total / n
        share = np.where(q[:, 1] > q[:, 0], 0.85, 0.15)
        arm = (rng.random(RUNS) < share).astype(int)
        rate = drifting_rates(np.array([t]))[0][arm]
        y = (rng.random(RUNS) < rate).astype(float)
        told.append((y, arm, np.stack([1 - share, share], axis=1), q))
        total[np.arange(RUNS), arm] += y
        n[np.arange(RUNS), arm] += 1.0
    return tuple(np.stack(part, axis=1) for part in zip(*told, strict=True))


def drifting_rates(t: np.ndarray) -> np.ndarray:
    drift = 0.3 * t / UNITS
    return np.stack([0.35 + drift, 0.40 + drift], axis=1)


def test_estimates_from_a_bandit_under_drift_are_unbiased_and_covered_as_promised():
    """1 000 logs of 600 units; a plain mean per arm is biased here, by the drift and by the bandit.

    Bias within three standard errors (SNIPS: and its own 1 / n), coverage 95 % within three, 2.1 points.
    """
    y, arm, split, q = bandit_logs(np.random.default_rng(20261122))
    target = np.array([0.4, 0.6])
    truth = float((drifting_rates(np.arange(UNITS)) @ target).mean())
    naive = np.array([[y[run][arm[run] == a].mean() for a in (0, 1)] @ target for run in range(RUNS)])
    assert abs(naive.mean() - truth) > 8 * naive.std() / np.sqrt(RUNS)
    found = {"ips": [], "snips": [], "robust": []}
    for run in range(RUNS):
        log = {"outcome": y[run], "arm": arm[run], "probability": split[run], "target": target}
        found["ips"].append(ips(**log))
        found["snips"].append(snips(**log))
        found["robust"].append(doubly_robust(**log, prediction=q[run]))
    for name, values in found.items():
        estimates = np.array([one.estimate for one in values])
        allowed = 3 * estimates.std() / np.sqrt(RUNS) + (1 / UNITS if name == "snips" else 0.0)
        assert abs(estimates.mean() - truth) < allowed, name
        covered = np.mean([one.lower <= truth <= one.upper for one in values])
        assert covered == pytest.approx(0.95, abs=0.021), name
        claimed = np.mean([one.standard_error for one in values])
        assert claimed == pytest.approx(estimates.std(), rel=0.07), name
        assert not any(one.weights_off or one.small_sample for one in values), name
    errors = {name: np.mean([one.standard_error for one in values]) for name, values in found.items()}
    assert errors["robust"] < 1.02 * errors["snips"] < 0.9 * errors["ips"]


def test_the_effective_sample_size_is_the_size_that_the_error_has():
    """Outcomes that do not depend on the arm: sd of SNIPS = sd of y / sqrt(ESS), 2 000 logs, within 5 %."""
    rng = np.random.default_rng(3)
    split, target = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.2, 0.7])
    values = []
    for _ in range(2_000):
        arm = rng.choice(3, 500, p=split)
        values.append(snips(outcome=rng.normal(0, 2, 500), arm=arm, probability=split[arm], target=target))
    spread = np.std([one.estimate for one in values])
    units = np.mean([one.effective_sample_size for one in values])
    assert spread == pytest.approx(2 / np.sqrt(units), rel=0.05)
    assert units == pytest.approx(500 / (0.01 / 0.7 + 0.04 / 0.2 + 0.49 / 0.1), rel=0.02)


# --- flags and errors -------------------------------------------------------------------------------------


def even_log(n: int, **change) -> dict:
    arm = np.arange(n) % 2
    log = {"outcome": arm.astype(float), "arm": arm, "probability": np.full(n, 0.5), "target": [0.5, 0.5]}
    return log | change


def test_a_small_effective_sample_is_flagged_with_the_way_out():
    assert not ips(**even_log(100)).small_sample
    assert ips(**even_log(100)).reason == ""
    few = ips(**even_log(98))
    assert few.small_sample
    assert few.reason.startswith("98 units say as much as 98 served by the target itself, at least 100 are")


def test_an_effective_sample_below_five_percent_of_the_log_is_flagged():
    """101 units of weight 20 beside 9 899 of weight 0: more than 100, but 1 % of the log."""
    arm = (np.arange(10_000) < 101).astype(int)
    found = snips(outcome=arm, arm=arm, probability=np.where(arm, 0.05, 0.95), target=[0.0, 1.0])
    assert found.effective_sample_size == pytest.approx(101)
    assert found.small_sample
    assert "at least 500 are needed" in found.reason


def test_probabilities_that_were_not_the_ones_served_are_noticed():
    """Served evenly, logged as .8 and .2: the weights average (1/.8 + 1/.2) / 4 = 1.5625."""
    wrong = np.where(np.arange(2_000) % 2, 0.2, 0.8)
    found = snips(**even_log(2_000, probability=wrong))
    assert found.mean_weight == pytest.approx(1.5625)
    assert found.weights_off
    assert "the weights average 1.562 instead of 1" in found.reason
    assert not snips(**even_log(2_000)).weights_off


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": [0.5, 0.0, 0.5, 0.5]}, r"probability\[1\] == 0.0, must be in \(0, 1\]"),
        ({"probability": [0.5, 1.5, 0.5, 0.5]}, r"probability\[1\] == 1.5, must be in \(0, 1\]"),
        ({"probability": [0.5, np.nan, 0.5, 0.5]}, r"probability\[1\] == nan, must be in \(0, 1\]"),
        ({"probability": 0.5}, r"probability has shape \(1,\), must be \(4,\) or \(4, 2\)"),
        ({"probability": [[0.5, 0.4]] * 4}, r"sum of probability\[0\] == 0.9, must be 1"),
        ({"probability": [[1.0, 0.0]] * 4}, r"target\[0, 1\] == 0.5, must be 0 where the probability is"),
        ({"arm": [0, 1, 2, 1]}, r"arm\[2\] == 2, must be in 0..1, a position in the target"),
        ({"arm": [0, 1, -1, 1]}, r"arm\[2\] == -1, must not be negative"),
        ({"arm": [0, 1, 0.5, 1]}, r"arm\[2\] == 0.5, must be a whole number"),
        ({"arm": [0, 1]}, r"arm has shape \(2,\), must be \(4,\)"),
        ({"outcome": [1, np.nan, 0, 1]}, r"outcome\[1\] == nan, must be finite; leave missing outcomes out"),
        ({"outcome": []}, r"outcome has shape \(0,\), must be \(unit,\) with at least one unit"),
        ({"target": [0.5, 0.4]}, r"sum of target == 0.9, must be 1 within 1e-06; divide by the sum"),
        ({"target": [5_000, 5_000]}, r"sum of target == 10000.0, must be 1"),
        ({"target": [[0.5, 0.5]] * 3 + [[0.5, 0.6]]}, r"sum of target\[3\] == 1.1, must be 1"),
        ({"target": [1.5, -0.5]}, r"target\[1\] == -0.5, must not be negative"),
        ({"target": [0.5, 0.3, 0.2]}, r"target\[2\] == 0.2, must be 0; that arm was never served"),
        ({"target": [[0.5, 0.5]] * 3}, r"target has shape \(3, 2\), must be \(2,\) or \(4, 2\)"),
        ({"confidence_level": 95.0}, r"confidence_level == 95.0, must be in \(0, 1\)"),
    ],
)
def test_a_log_that_cannot_answer_is_refused(change, message):
    for estimate in (ips, snips):
        with pytest.raises(ValueError, match=message):
            estimate(**even_log(4, **change))
    with pytest.raises(ValueError, match=message):
        doubly_robust(**even_log(4, **change), prediction=np.zeros((4, 2)))


def test_predictions_must_be_finite_and_one_per_unit_and_arm():
    with pytest.raises(ValueError, match=r"prediction has shape \(4,\), must be \(4, 2\)"):
        doubly_robust(**even_log(4), prediction=[0.5] * 4)
    with pytest.raises(ValueError, match=r"prediction\[0, 1\] == inf, must be finite"):
        doubly_robust(**even_log(4), prediction=[[0.5, np.inf]] * 4)


def test_weights_must_be_finite_and_not_negative():
    with pytest.raises(ValueError, match=r"weight\[1\] == -1.0, must not be negative"):
        effective_sample_size([1, -1])


def test_a_target_that_no_unit_could_have_come_from_has_no_weighted_mean():
    log = {"outcome": [1.0], "arm": [0], "probability": [[0.5, 0.5]], "target": [0.0, 1.0]}
    with pytest.raises(ValueError, match="target gives no weight to any unit of the log"):
        snips(**log)
    assert ips(**log).estimate == 0.0
    assert ips(**log).effective_sample_size == 0.0
