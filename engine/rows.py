"""Findings as rows: one per arm and metric, the same columns for every metric."""

from typing import Any

from engine.conclusion import Conclusion
from engine.results import Comparison, TestSummary


def long_rows(conclusion: Conclusion, segment: str | None) -> list[dict[str, Any]]:
    """One row per arm and metric; None where a number is unknown or the arm is the control."""
    plan = conclusion.plan
    against = {(item.metric, item.variant): item for item in conclusion.comparisons}
    rows = []
    for name, analysis in conclusion.analyses.items():
        for index, (arm, summary) in enumerate(zip(plan.arms, analysis.summaries(), strict=True)):
            first = {
                "segment": segment,
                "metric": name,
                "kind": analysis.metric.kind,
                "direction": analysis.metric.direction,
                "role": analysis.metric.role,
                "arm": arm,
                "is_control": index == plan.control,
                "n": summary.n,
                "missing": summary.missing,
                "mean": summary.mean,
                "posterior_mean": summary.posterior.mean,
                "probability_best": summary.probability_best,
                "expected_loss": summary.expected_loss,
            }
            first |= _ends("interval", summary.interval) | _ends("posterior", summary.posterior.interval)
            rows.append(first | _against_control(against.get((name, arm))))
    return rows


def _against_control(item: Comparison | None) -> dict[str, Any]:
    test = (item.z_test or item.welch_test) if item else None
    return _belief(item) | _one_look(test) | _evidence(item)


def _belief(item: Comparison | None) -> dict[str, Any]:
    bayes = item.bayes if item else None
    lift, relative = (bayes.lift, bayes.relative_lift) if bayes else (None, None)
    return {
        "probability_better": bayes.probability_better if bayes else None,
        "lift_absolute": lift.mean if lift else None,
        **_ends("lift_absolute", lift.interval if lift else (None, None)),
        "lift_relative": relative.median if relative else None,
        **_ends("lift_relative", relative.interval if relative else (None, None)),
    }


def _one_look(test: TestSummary | None) -> dict[str, Any]:
    return {
        "difference": test.estimate if test else None,
        **_ends("difference", test.interval if test else (None, None)),
        "p_value": test.p_value if test else None,
        "p_value_adjusted": test.p_value_adjusted if test else None,
    }


def _evidence(item: Comparison | None) -> dict[str, Any]:
    adaptive = item.adaptive if item else None
    always = item.always_valid if item else None
    return {
        "adaptive": adaptive.estimate if adaptive else None,
        "adaptive_standard_error": adaptive.standard_error if adaptive else None,
        **_ends("always_valid", always.interval if always else (None, None)),
        "e_value": always.e_value if always else None,
    }


def _ends(name: str, interval: tuple[float | None, float | None]) -> dict[str, Any]:
    return {f"{name}_lower": interval[0], f"{name}_upper": interval[1]}
