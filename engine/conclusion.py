"""From what was observed to all that is concluded: belief, comparisons, claims, and what to do."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.analysis import Analysis, analyse
from engine.claims import Claims, claims_of, running_mask
from engine.comparisons import compare_all
from engine.decision import THRESHOLD_OF_CARING, Contrast, Progress, Recommendation, recommend
from engine.estimates import estimates_of
from engine.metrics import Metric
from engine.observed import Observed, Plan
from engine.planning import POWER
from engine.results import AlwaysValid, Comparison, GuardrailSummary, SampleRatio, number
from engine.sample_ratio import SampleRatioTest, sample_ratio_test


@dataclass(frozen=True, slots=True, eq=False)
class Conclusion:
    """All that is concluded about an experiment; `analyses` by metric, `claims` by arm."""

    plan: Plan
    analyses: Mapping[str, Analysis]
    claims: Mapping[str, Claims]
    comparisons: tuple[Comparison, ...]
    sample_ratio: SampleRatio
    guardrails: tuple[GuardrailSummary, ...]
    recommendation: Recommendation


def conclude(observed: Observed, *, days_left: float = 0.0, ended: bool = False) -> Conclusion:
    """A pure function of what was observed.

    Parameters
    ----------
    days_left : What is missing of the minimum duration.
    ended : No more outcomes will come.
    """
    plan = observed.plan
    estimates = estimates_of(plan.metrics, observed)
    claims = claims_of(observed, estimates)
    running = running_mask(plan, claims)
    analyses = {metric.name: analyse(metric, observed, running) for metric in plan.metrics}
    comparisons = tuple(compare_all(observed, analyses, estimates, claims))
    ratio = _sample_ratio(observed)
    goal = analyses[plan.goal]
    progress = Progress(
        calls=int(goal.statistics.n[plan.live].sum()),
        planned_calls=plan.planned_calls,
        effect=_effect(plan),
        days_left=days_left,
        ended=ended,
        sample_ratio_mismatch=ratio.mismatch,
        missing_differs=[arm for arm, claim in claims.items() if claim.missing_differs],
    )
    return Conclusion(
        plan=plan,
        analyses=analyses,
        claims=claims,
        comparisons=comparisons,
        sample_ratio=ratio,
        guardrails=tuple(_guardrails(claims)),
        recommendation=_recommendation(plan, goal, comparisons, claims, progress),
    )


def _sample_ratio(observed: Observed) -> SampleRatio:
    if observed.untested_split:
        return SampleRatio(None, None, None, mismatch=False, expected={}, reason=observed.untested_split)
    test: SampleRatioTest = sample_ratio_test(observed.tally.units, observed.probability)
    return SampleRatio(
        e_value=number(test.e_value),
        p_value=test.p_value,
        fixed_p_value=number(test.fixed_p_value),
        mismatch=test.mismatch,
        expected={arm: float(units) for arm, units in zip(observed.plan.arms, test.expected, strict=True)},
    )


def _guardrails(claims: Mapping[str, Claims]) -> list[GuardrailSummary]:
    return [
        GuardrailSummary(
            metric=item.metric, variant=arm, margin=item.margin, status=item.status, e_value=item.e_value
        )
        for arm, claim in claims.items()
        for item in claim.guardrails
    ]


def _recommendation(
    plan: Plan,
    goal: Analysis,
    comparisons: tuple[Comparison, ...],
    claims: Mapping[str, Claims],
    progress: Progress,
) -> Recommendation:
    of_goal = {item.variant: item for item in comparisons if item.metric == plan.goal}
    contrasts = [
        _contrast(plan, of_goal[plan.arms[index]], claims[plan.arms[index]], goal, index)
        for index in plan.others
        if plan.live[index]
    ]
    return recommend(
        progress,
        contrasts,
        control=plan.arms[plan.control],
        threshold_of_caring=_caring(goal, plan.control),
    )


def _caring(goal: Analysis, control: int) -> float:
    """The expected loss that nobody minds: half a point of a share or score, half a percent of an amount."""
    mean = number(goal.posterior.mean[control])
    if goal.metric.kind != "amount" or mean is None:
        return THRESHOLD_OF_CARING
    return THRESHOLD_OF_CARING * abs(mean)


def _contrast(plan: Plan, item: Comparison, claim: Claims, goal: Analysis, index: int) -> Contrast:
    found = item.adaptive.estimate
    return Contrast(
        name=item.variant,
        better=claim.better,
        worse=claim.worse,
        equivalent=claim.equivalent,
        evidence=_in_words(plan, goal.metric, item.always_valid, claim),
        estimate=None if found is None else goal.metric.sign * found,
        expected_loss=number(goal.expected_loss[index]),
        harmed=claim.harmed,
    )


def _in_words(plan: Plan, metric: Metric, test: AlwaysValid, claim: Claims) -> str:
    """The evidence so far, higher is better; the largest e-value counts, because it was allowed to look then."""
    ends = [metric.sign * end for end in test.interval if end is not None]
    interval = f"difference between {min(ends):+.3g} and {max(ends):+.3g}" if ends else ""
    if claim.equivalent:
        return f"differs by less than {plan.effect:g}" + (f", {interval}" if interval else "")
    if test.p_value is None:
        return interval
    e_value = f"e-value {1.0 / test.p_value:.3g}" if test.p_value > 0.0 else "e-value above 1e300"
    needed = f"{e_value} (a claim needs {claim.needed:.3g})"
    return f"{needed}, {interval}" if interval else needed


def _effect(plan: Plan) -> str:
    is_share = plan.goal_metric.kind != "amount"
    size = f"a difference of {100 * plan.effect:g} points" if is_share else "it"
    found = f"{size} with {100 * POWER:g} % chance"
    return f"{found} under an even split, more under one that moves" if plan.split_moves else found
