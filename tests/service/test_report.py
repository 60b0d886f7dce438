"""The report's numbers against references, the laws they obey, and what it may never say."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.metrics import DEFAULT_METRICS, Metric
from domain.report import Comparison, Report
from engine.analysis import analyse
from service.change_variants import retire_variant
from service.report import build_report
from service.split import goal_probability_best, split_for
from storage.allocations import current_allocation
from storage.counts import CountRow
from storage.database import Database
from storage.schema import counts
from tests.engine.references import cases
from tests.service.world import (
    ACTOR,
    NOW,
    binary_rows,
    call,
    known_of,
    moment_rows,
    outcome,
    plain,
    read_report,
    start,
    tell,
)

Side = tuple[int, int]
RESOLVED = (Metric(name="resolved", kind="binary", direction="increase", role="goal"),)
TRANSFERRED = (Metric(name="transferred", kind="binary", direction="decrease", role="goal"),)
QUALITY = (Metric(name="quality", kind="score", direction="increase", role="goal"),)


def report_of(*sides: Side, **more: Any) -> Report:
    """(successes, trials) of the control and the others."""
    experiment, allocation = plain(arms="abcdefghij"[: len(sides)], metrics=RESOLVED, **more)
    return build_report(known_of(experiment, allocation, binary_rows(sides)), now=NOW)


def only(report: Report) -> Comparison:
    (comparison,) = report.comparisons
    return comparison


def with_our_prior(category: str, file: str = "high_precision") -> list[Any]:
    """The cases with prior Beta(1, 1), the report's; those with another one test the engine alone."""
    return [
        case for case in cases(file, category=category) if not case.values[0] or has_our_prior(case.values[0])
    ]


def has_our_prior(case: dict[str, Any]) -> bool:
    if "prior" in case:
        return bool(case["prior"] == ["1", "1"])
    if "settings" in case:
        return bool(case["settings"]["prior"] == "Beta(1,1)")
    shapes = case.get("posteriors") or [(case["alpha"], case["beta"])]
    return all(float(x) >= 1 and float(x).is_integer() for pair in shapes for x in pair)


def side_of(case: dict[str, Any]) -> Side:
    return case["successes"], case["n"]


@pytest.mark.parametrize("case", cases("high_precision", category="two_proportions"))
def test_the_z_test_and_all_intervals_agree_with_thirty_digits(case):
    report = report_of((case["x1"], case["n1"]), (case["x2"], case["n2"]))
    test = only(report).z_test
    assert test is not None
    assert test.estimate == pytest.approx(float(case["diff"]), abs=1e-15)
    if case["z_pooled"] is None:  # no success, or no failure, in both: no evidence of a difference
        assert (test.statistic, test.p_value) == (0.0, 1.0)
    else:
        assert test.statistic == pytest.approx(float(case["z_pooled"]), rel=1e-13)
        assert test.p_value == pytest.approx(float(case["p_pooled"]), rel=1e-12)
    if case.get("mee95"):
        assert test.interval == pytest.approx([float(end) for end in case["mee95"]], abs=1e-12)
    for variant, name in zip(report.variants, ("wilson95_1", "wilson95_2"), strict=True):
        if case.get(name):
            interval = variant.metrics["resolved"].interval
            assert interval == pytest.approx([float(end) for end in case[name]], abs=1e-14)


@pytest.mark.parametrize("case", cases("peer_vectors", category="two_proportion_z"))
def test_peers_z_tests_are_reproduced(case):
    report = report_of(side_of(case["inputs"]["control"]), side_of(case["inputs"]["treatment"]))
    test, expected, tolerance = only(report).z_test, case["expected"], case["abs_tolerance"]
    assert test is not None
    assert test.p_value == pytest.approx(expected.get("p_pooled", expected.get("p_value")), abs=tolerance)
    if "z_pooled" in expected:
        assert test.statistic == pytest.approx(expected["z_pooled"], abs=tolerance)
        wilson = report.variants[1].metrics["resolved"].interval
        assert wilson == pytest.approx(expected["wilson_treatment"], abs=tolerance)


@pytest.mark.parametrize("case", with_our_prior("beta_pair"))
def test_belief_about_a_pair_agrees_with_thirty_digits(case):
    """From no trial to 10^8 of each."""
    report = report_of((case["x_a"], case["n_a"]), (case["x_b"], case["n_b"]))
    belief = only(report).bayes
    losses = [float(case["expected_loss_choose_a"]), float(case["expected_loss_choose_b"])]
    best = [float(case["p_a_gt_b"]), float(case["p_b_gt_a"])]
    assert [variant.expected_loss for variant in report.variants] == pytest.approx(losses, abs=1e-10)
    assert [variant.probability_best for variant in report.variants] == pytest.approx(best, abs=1e-10)
    assert belief.probability_better == pytest.approx(best[1], abs=1e-10)
    assert belief.expected_loss == pytest.approx(losses[1], abs=1e-10)
    assert belief.lift.mean == pytest.approx(float(case["mean_diff"]), abs=1e-10)
    if case.get("diff_eti95"):
        assert belief.lift.interval == pytest.approx([float(x) for x in case["diff_eti95"]], abs=1e-10)
    if case.get("rel_eti95"):
        assert belief.relative_lift.interval == pytest.approx(
            [float(x) for x in case["rel_eti95"]], rel=1e-9, abs=1e-10
        )
    mean_relative = None if case["mean_rel"] == "inf" else pytest.approx(float(case["mean_rel"]), abs=1e-10)
    assert belief.relative_lift.mean == mean_relative


@pytest.mark.parametrize("case", with_our_prior("best_of_k"))
def test_the_best_of_many_agrees_with_thirty_digits(case):
    shapes = [(int(float(alpha)), int(float(beta))) for alpha, beta in case["posteriors"]]
    report = report_of(*((alpha - 1, alpha + beta - 2) for alpha, beta in shapes))
    best, losses = ([float(x) for x in case[name]] for name in ("p_best", "expected_loss"))
    assert [variant.probability_best for variant in report.variants] == pytest.approx(best, abs=1e-10)
    assert [variant.expected_loss for variant in report.variants] == pytest.approx(losses, abs=1e-10)


@pytest.mark.parametrize("case", with_our_prior("beta_single"))
def test_posterior_intervals_agree_with_thirty_digits(case):
    alpha, beta = int(case["alpha"]), int(case["beta"])
    belief = report_of((alpha - 1, alpha + beta - 2), (0, 0)).variants[0].metrics["resolved"]
    assert belief.posterior.mean == pytest.approx(float(case["mean"]), abs=1e-10)
    ends = [float(case["quantiles"][name]) for name in ("0.025", "0.975")]
    assert belief.posterior.interval == pytest.approx(ends, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("case", cases("paper_cases", category="pbest_exact"))
def test_the_best_of_many_agrees_with_exact_rationals(case):
    report = report_of(*((alpha - 1, alpha + beta - 2) for alpha, beta in case["posteriors"]))
    assert [v.probability_best for v in report.variants] == pytest.approx(case["p_best"], abs=case["tol"])
    assert [v.expected_loss for v in report.variants] == pytest.approx(case["expected_loss"], abs=case["tol"])


@pytest.mark.parametrize("case", cases("paper_cases", category="pbest_2arm"))
def test_probability_better_agrees_with_forty_digit_series(case):
    shapes = case["args"]
    sides = [(shapes[f"a{arm}"] - 1, shapes[f"a{arm}"] + shapes[f"b{arm}"] - 2) for arm in "AB"]
    belief = only(report_of(*sides)).bayes
    assert belief.probability_better == pytest.approx(float(case["value"]), abs=case["tol"])


@pytest.mark.parametrize("case", with_our_prior("beta_binomial", "peer_vectors"))
def test_peers_beliefs_are_reproduced(case):
    report = report_of(side_of(case["inputs"]["control"]), side_of(case["inputs"]["treatment"]))
    expected, tolerance = case["expected"], case["abs_tolerance"]
    assert only(report).bayes.probability_better == pytest.approx(
        expected["p_treatment_gt_control"], abs=tolerance
    )
    for variant, name in zip(report.variants, ("ci_control", "ci_treatment"), strict=True):
        interval = variant.metrics["resolved"].posterior.interval
        assert interval == pytest.approx(expected[name], abs=tolerance)


@pytest.mark.parametrize("case", cases("high_precision", category="welch"))
def test_welch_agrees_with_thirty_digits(case):
    sides = []
    for arm in "12":
        n, mean, sd = case[f"n{arm}"], float(case[f"mean{arm}"]), float(case[f"sd{arm}"])
        sides.append((n, n * mean, (n - 1) * sd**2 + n * mean**2))
    experiment, allocation = plain(metrics=QUALITY)
    test = only(build_report(known_of(experiment, allocation, moment_rows(sides)), now=NOW)).welch_test
    assert test is not None
    assert test.statistic == pytest.approx(float(case["t"]), rel=1e-11)
    assert test.p_value == pytest.approx(float(case["p_two_sided"]), rel=1e-10)
    assert test.interval == pytest.approx([float(end) for end in case["ci95"]], abs=1e-11)


async def test_a_report_from_the_counts_table_sums_over_allocations_and_segments(database: Database):
    """820 of 1 000 against 860 of 1 000, in pieces; p from high_precision.json `agent_1000`, by hand .0147."""
    experiment = await start(database)
    pieces = {"a": [(400, 500), (420, 500)], "b": [(430, 500), (430, 500)]}
    rows = [
        {
            "experiment_id": experiment.id,
            "allocation_id": 1,
            "variant_id": variant.id,
            "segment": f"intent-{index}",
            "metric": "resolved",
            "n": n,
            "total": float(successes),
            "total_sq": float(successes),
        }
        for variant in experiment.variants
        for index, (successes, n) in enumerate(pieces[variant.key])
    ]
    async with database.writing() as connection:
        allocation = (await current_allocation(connection, experiment.id)).id
        await connection.execute(sa.insert(counts), [row | {"allocation_id": allocation} for row in rows])
    test = next(c for c in (await read_report(database)).comparisons if c.metric == "resolved").z_test
    assert test is not None
    assert (round(test.estimate or 0, 12), round(test.p_value or 0, 4)) == (0.04, 0.0147)


sides = (st.integers(0, 3_000) | st.integers(0, 10**8)).flatmap(
    lambda n: st.tuples(st.integers(0, n), st.just(n))
)


@given(st.lists(sides, min_size=2, max_size=4), st.sampled_from(["thompson", "top_two"]))
@settings(max_examples=40)
def test_turning_a_binary_metric_and_its_values_changes_no_belief_at_all(given_sides, policy):
    """`transferred`, less is better, is `not transferred`, more is better: the same bits, not only close."""
    turned = [(n - successes, n) for successes, n in given_sides]
    up, allocation = plain(arms="abcd"[: len(given_sides)], metrics=RESOLVED, policy=policy)
    down = replace(up, metrics=TRANSFERRED, goal="transferred")
    beliefs = []
    for experiment, rows in (
        (up, binary_rows(given_sides)),
        (down, binary_rows(turned, metric="transferred")),
    ):
        (metric,), everybody = experiment.metrics, np.ones(len(given_sides), dtype=bool)
        known = known_of(experiment, allocation, rows)
        analysis = analyse(metric.measure, known.observed, everybody)
        best = goal_probability_best(known, everybody)
        split = split_for(experiment.policy, experiment.variants, best)
        beliefs.append([analysis.probability_best, analysis.expected_loss, best, split])
    for one, other in zip(*beliefs, strict=True):
        assert one.tolist() == other.tolist()


def test_turning_a_binary_metric_and_its_values_changes_no_line_of_the_report():
    up, allocation = plain(arms="abc", metrics=RESOLVED)
    down = replace(up, metrics=TRANSFERRED, goal="transferred")
    one = build_report(known_of(up, allocation, binary_rows([(0, 0), (5, 7), (90, 100)])), now=NOW)
    rows = binary_rows([(0, 0), (2, 7), (10, 100)], metric="transferred")
    other = build_report(known_of(down, allocation, rows), now=NOW)
    for left, right in zip(one.variants, other.variants, strict=True):
        assert (left.probability_best, left.expected_loss) == (right.probability_best, right.expected_loss)
    for left, right in zip(one.comparisons, other.comparisons, strict=True):
        assert left.bayes.probability_better == right.bayes.probability_better
        assert left.bayes.expected_loss == right.bayes.expected_loss


scores = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20)


@given(st.lists(scores, min_size=2, max_size=3))
@settings(max_examples=10)
def test_turning_a_score_changes_no_belief_beyond_rounding(values):
    experiment, split = plain(arms="abc"[: len(values)], metrics=QUALITY)
    turned_metric = (replace(QUALITY[0], direction="decrease"),)
    turned = replace(experiment, metrics=turned_metric)
    one = build_report(known_of(experiment, split, moment_rows([moments(v) for v in values])), now=NOW)
    other = build_report(
        known_of(turned, split, moment_rows([moments([1 - x for x in v]) for v in values])), now=NOW
    )
    spread = min(np.std(v) for v in values)
    if spread < 1e-3:  # with no spread belief is a step, and rounding decides on which side it falls
        return
    for left, right in zip(one.variants, other.variants, strict=True):
        assert left.probability_best == pytest.approx(right.probability_best, abs=1e-6)
        assert left.expected_loss == pytest.approx(right.expected_loss, abs=1e-6)


def moments(values: list[float]) -> tuple[int, float, float]:
    return len(values), math.fsum(values), math.fsum(x * x for x in values)


def test_a_decreasing_metric_keeps_its_sign_while_probability_better_turns():
    """60 of 100 transferred against 50 of 100: ten points less, and that is better."""
    counted = [(60, 100), (50, 100)]
    up, split = plain(metrics=(replace(TRANSFERRED[0], direction="increase"),))
    down, _ = plain(metrics=TRANSFERRED)
    rows = binary_rows(counted, metric="transferred")
    more, less = (only(build_report(known_of(item, split, rows), now=NOW)) for item in (up, down))
    assert more.z_test == less.z_test
    assert less.z_test is not None
    assert less.z_test.estimate == pytest.approx(-0.1, abs=1e-15)
    assert less.bayes.lift == more.bayes.lift
    assert more.bayes.probability_better is not None
    assert less.bayes.probability_better == pytest.approx(1 - more.bayes.probability_better, abs=1e-12)
    assert less.bayes.probability_better > 0.9


@given(sides, sides)
@settings(max_examples=10)
def test_the_losses_differ_by_the_means_and_the_best_sum_to_one(a, b):
    """Coherence (statistics.md 5.5), and zero outside the lift's interval exactly when P(better) says so."""
    report = report_of(a, b)
    one, other = report.variants
    assert one.probability_best + other.probability_best == pytest.approx(1, abs=1e-10)
    means = [variant.metrics["resolved"].posterior.mean for variant in (one, other)]
    assert one.expected_loss - other.expected_loss == pytest.approx(means[1] - means[0], abs=1e-10)
    belief = only(report).bayes
    if abs(belief.probability_better - 0.5) < 0.475 - 1e-9:
        assert belief.lift.interval[0] <= 0 <= belief.lift.interval[1]
    elif abs(belief.probability_better - 0.5) > 0.475 + 1e-9:
        assert not belief.lift.interval[0] <= 0 <= belief.lift.interval[1]


async def test_missing_outcomes_are_missing_and_never_failures(database: Database):
    await start(database)
    given_calls = [await call(database, f"call-{index}") for index in range(30)]
    ours = [item for item in given_calls if item.variant == "a"]
    await tell(database, *(outcome(item.unit_id, resolved=True, quality=None) for item in ours[:4]))
    a, b = (await read_report(database)).variants
    assert (a.assigned, a.metrics["resolved"].n, a.metrics["resolved"].mean) == (len(ours), 4, 1.0)
    assert a.missing == pytest.approx(1 - 4 / len(ours), abs=1e-15)
    assert (a.metrics["quality"].n, a.metrics["quality"].mean) == (0, None)
    assert (b.assigned, b.missing, b.metrics["resolved"].n) == (30 - len(ours), 1.0, 0)


async def test_a_retired_variant_keeps_its_numbers_and_has_no_chance_to_be_best(database: Database):
    await start(database, arms="abc")
    given_calls = [await call(database, f"call-{index}") for index in range(30)]
    await tell(database, *(outcome(item.unit_id, resolved=item.variant != "a") for item in given_calls))
    before = {variant.key: variant for variant in (await read_report(database)).variants}
    async with database.writing() as connection:
        await retire_variant(connection, "greeting", "c", actor=ACTOR, now=NOW)
    after = {variant.key: variant for variant in (await read_report(database)).variants}
    assert after["c"].metrics == before["c"].metrics
    assert (after["c"].live, after["c"].share) == (False, 0.0)
    assert (after["c"].probability_best, after["c"].expected_loss) == (None, None)
    assert after["a"].probability_best + after["b"].probability_best == pytest.approx(1, abs=1e-10)


def test_a_report_on_no_outcome_at_all_has_the_prior_and_nothing_else():
    """Beta(1, 1) twice: P(best) 1/2 and loss 1/6 (statistics.md 5.2)."""
    report = report_of((0, 0), (0, 0))
    for variant in report.variants:
        assert (variant.assigned, variant.missing) == (0, None)
        assert variant.metrics["resolved"].mean is None
        assert variant.metrics["resolved"].interval == (None, None)
        assert variant.probability_best == pytest.approx(1 / 2, abs=1e-10)
        assert variant.expected_loss == pytest.approx(1 / 6, abs=1e-10)
    test = only(report).z_test
    assert test is not None
    assert (test.estimate, test.p_value, test.p_value_adjusted) == (None, None, None)
    assert report.recommendation.action == "keep_collecting"


@pytest.mark.parametrize("arms", ["ab", "abcde"])
def test_a_report_of_default_metrics_without_a_row_can_be_written(arms):
    experiment, allocation = plain(arms=arms)
    report = build_report(known_of(experiment, allocation, []), now=NOW)
    assert numbers_of(report)
    assert report.recommendation.action == "keep_collecting"


def numbers_of(report: Report) -> list[float]:
    """Every number of the report; nan and inf would be written as null without a word."""
    found: list[float] = []

    def collect(item: Any) -> None:
        if isinstance(item, dict):
            for child in item.values():
                collect(child)
        elif isinstance(item, list | tuple):
            for child in item:
                collect(child)
        elif isinstance(item, float):
            found.append(item)

    collect(msgspec.to_builtins(report))
    return found


values = st.lists(
    st.one_of(st.sampled_from([0.0, 1.0, 300.0, 1e12, 1e-12]), st.floats(0, 1e12, allow_subnormal=False)),
    max_size=4,
)


@given(
    st.lists(sides, min_size=3, max_size=3),
    st.lists(st.lists(st.floats(0, 1), max_size=4), min_size=3, max_size=3),
    st.lists(values, min_size=3, max_size=3),
    st.sets(st.sampled_from("bc"), max_size=1),
)
@example([(0, 0)] * 3, [[]] * 3, [[0.0, 1.4916435887275905e-260], [0.0], [1e12]], set())  # its square is 0
@settings(max_examples=12)
def test_nan_and_infinity_never_reach_the_report(resolved, quality, duration, retired):
    experiment, allocation = plain(arms="abc")
    variants = tuple(replace(variant, live=variant.key not in retired) for variant in experiment.variants)
    rows: list[CountRow] = binary_rows(resolved)
    rows += moment_rows([moments(v) for v in quality])
    rows += moment_rows([moments(v) for v in duration], metric="duration_s")
    report = build_report(known_of(replace(experiment, variants=variants), allocation, rows), now=NOW)
    assert all(math.isfinite(number) for number in numbers_of(report))


def test_the_seed_rule_is_shown_with_its_warning_and_nothing_acts_on_it():
    report = report_of((5, 100), (60, 100))
    seed = only(report).seed_rule
    assert seed is not None
    assert (seed.declares_winner, "37 %" in seed.warning) == (True, True)
    assert report.recommendation.action == "keep_collecting"


def test_a_new_variant_without_a_score_does_not_hide_what_is_known_of_the_others():
    experiment, allocation = plain(arms="abc", metrics=QUALITY)
    rows = moment_rows([(400, 200.0, 110.0), (400, 240.0, 154.0)])
    report = build_report(known_of(experiment, allocation, rows), now=NOW)
    a, b, c = report.variants
    assert a.probability_best + b.probability_best == pytest.approx(1, abs=1e-10)
    assert (c.probability_best, c.expected_loss) == (None, None)


def test_default_metrics_are_reported_in_their_own_units():
    experiment, allocation = plain()
    assert [metric.name for metric in experiment.metrics] == [metric.name for metric in DEFAULT_METRICS]
    rows = binary_rows([(8, 10), (9, 10)])
    rows += moment_rows([(2, 1.5, 1.25), (2, 1.0, 0.5)])
    rows += moment_rows([(2, 600.0, 200_000.0), (2, 500.0, 130_000.0)], metric="duration_s")
    report = build_report(known_of(experiment, allocation, rows), now=NOW)
    a, b = report.calls["a"], report.calls["b"]
    assert (a.resolved_share, a.quality_mean, a.duration_mean_s) == (0.8, 0.75, 300.0)
    assert (b.resolved_share, b.quality_mean, b.duration_mean_s) == (0.9, 0.5, 250.0)
    shorter = next(c for c in report.comparisons if c.metric == "duration_s")
    assert shorter.welch_test is not None
    assert shorter.welch_test.estimate == -50.0
    assert shorter.bayes.probability_better > 0.5
