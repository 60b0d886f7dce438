"""An experiment as it stood after each of its allocations: the same numbers from the counts so far."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.findings import Findings, findings_of
from engine.observed import Plan

MOST_LOOKS = 40  # a picture shows no more, and each costs as much as a report


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What was found so far.

    Attributes
    ----------
    allocation : Label of the last allocation that is in.
    units : Units so far; outcomes of the goal, where nobody counted units.
    findings : All numbers; their e-values are None but for the last look, because counts know no order. A
        recommendation of an earlier look takes the days that are left now for those that were left then.
    """

    allocation: Any
    units: int
    findings: Findings


def looks_of(found: Findings, *, most: int = MOST_LOOKS) -> tuple[Look, ...]:
    """How the experiment stood after its allocations; the last look is `found` itself.

    Parameters
    ----------
    most : Looks; of more allocations, evenly spaced ones.

    Raises
    ------
    ValueError
        Counts of one allocation, which tell nothing about time.
    """
    labels = found.counts.allocations
    if len(labels) < 2:
        raise ValueError(
            f"the counts have {len(labels)} allocation, must have two at least to show a course; name a column of "
            "allocations, or of days where the split stood still"
        )
    ends = np.unique(np.linspace(0, len(labels) - 1, min(most, len(labels))).round().astype(int))
    return tuple(_look(found, labels, int(end)) for end in ends)


def _look(found: Findings, labels: list[Any], end: int) -> Look:
    so_far = found
    if end < len(labels) - 1:
        part = found.counts.of_allocations(labels[: end + 1])
        so_far = findings_of(
            _plan_at(found, end), part, priors=found.observed.priors, days_left=found.days_left
        )
    outcomes = so_far.conclusion.analyses[found.plan.goal].statistics.n
    return Look(labels[end], so_far.counts.units or int(outcomes.sum()), so_far)


def _plan_at(found: Findings, end: int) -> Plan:
    """Among the arms that got units then: one that came later was no rival yet, one that was retired still was."""
    served = found.observed.probability[end] > 0.0
    served[found.plan.control] = True
    return replace(found.plan, live=served, paused=np.zeros_like(served))
