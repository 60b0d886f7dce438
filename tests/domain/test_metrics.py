"""Which values a metric takes."""

import math
from typing import Any

import pytest

from domain.errors import InvalidValue
from domain.metrics import DEFAULT_METRICS, MAX_AMOUNT, MAX_SECONDS, NewMetric, declare, outcome_value

DEFAULTS = {metric.name: metric for metric in DEFAULT_METRICS}


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("resolved", True, 1.0),
        ("resolved", False, 0.0),
        ("quality", 0, 0.0),
        ("quality", 1, 1.0),
        ("quality", 0.1, 0.1),
        ("duration_s", 0, 0.0),
        ("duration_s", MAX_SECONDS, MAX_SECONDS),
    ],
)
@pytest.mark.parametrize("declared", [DEFAULTS, None])
def test_a_possible_value_is_a_number(name: str, value: Any, stored: float, declared: Any):
    assert outcome_value(name, value, declared) == stored


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resolved", 1),
        ("resolved", 0.5),
        ("quality", True),
        ("quality", 1.0000000000000002),
        ("quality", -5e-324),
        ("quality", math.nan),
        ("duration_s", -1),
        ("duration_s", MAX_SECONDS * 1.001),
        ("duration_s", False),
        ("duration_s", 2**63 - 1),
    ],
)
@pytest.mark.parametrize("declared", [DEFAULTS, None])
def test_an_impossible_value_is_refused_at_its_metric(name: str, value: Any, declared: Any):
    with pytest.raises(InvalidValue) as refused:
        outcome_value(name, value, declared)
    assert refused.value.pointer == f"/metrics/{name}"


def test_a_metric_that_nobody_declared_is_refused_in_an_experiment_and_taken_outside():
    with pytest.raises(InvalidValue, match="declare it"):
        outcome_value("csat", 4, DEFAULTS)
    assert outcome_value("csat", 4, None) == 4.0
    assert outcome_value("transferred", True, None) == 1.0
    with pytest.raises(InvalidValue):
        outcome_value("csat", MAX_AMOUNT * 2, None)


def test_one_metric_is_the_goal():
    """The one that has the role, else the first, else the one that `goal` names."""
    x, y = (NewMetric(name=name, kind="binary") for name in "xy")
    goal_y = NewMetric(name="y", kind="binary", role="goal")
    assert [m.role for m in declare([x, y], goal=None)] == ["goal", "secondary"]
    assert [m.role for m in declare([x, goal_y], goal=None)] == ["secondary", "goal"]
    assert [m.role for m in declare([x, goal_y], goal="x")] == ["goal", "secondary"]
    assert [m.role for m in declare(None, goal=None)] == ["goal", "secondary", "secondary"]


@pytest.mark.parametrize(
    ("metrics", "goal", "pointer"),
    [
        ([{"name": "x"}, {"name": "x"}], None, "/metrics/0/name"),
        ([{"name": "assigned"}], None, "/metrics/0/name"),
        ([{"name": "x", "role": "guardrail"}], None, "/metrics/0/margin"),
        ([{"name": "x"}], "y", "/goal"),
        ([{"name": "x", "role": "goal"}, {"name": "y", "role": "goal"}], None, "/metrics"),
    ],
)
def test_metrics_that_contradict_each_other_are_refused(
    metrics: list[dict[str, Any]], goal: Any, pointer: str
):
    with pytest.raises(InvalidValue) as refused:
        declare([NewMetric(**{"kind": "binary"} | metric) for metric in metrics], goal=goal)
    assert refused.value.pointer == pointer
