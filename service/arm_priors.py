"""What is believed of a variant that came while the experiment ran, before its first call."""

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.experiments import Experiment, Variant
from engine.prior import ArmPrior, new_arm_prior
from engine.statistics import BinaryCounts
from engine.tally import Tally
from storage.past_arms import parents_of, past_arms


async def read_priors(
    connection: AsyncConnection, experiment: Experiment, tally: Tally
) -> dict[str, ArmPrior]:
    """Priors of later variants by key: around their parent's rate, as strong as past arms were alike.

    Only a binary goal has one. Counts are never copied: that would lend the new text the old one's certainty.
    """
    later = _later(experiment)
    if not later:
        return {}
    past = await past_arms(connection, experiment.prompt_id, experiment.goal, besides=experiment.id)
    parents = await parents_of(connection, [item.version_id for item in later if item.version_id])
    return priors_of(experiment, tally, past, parents)


def priors_of(
    experiment: Experiment, tally: Tally, past: BinaryCounts, parents: dict[int, int]
) -> dict[str, ArmPrior]:
    """The same as a pure function.

    Parameters
    ----------
    past : units and successes of variants of other experiments.
    parents : the version that a version was made from.
    """
    later = _later(experiment)
    if not later:
        return {}
    counts = tally.whole(experiment.goal_metric.measure)
    assert isinstance(counts, BinaryCounts)
    rates = (counts.successes + 1.0) / (counts.n + 2.0)
    return {
        item.key: new_arm_prior(past, parent_mean=float(rates[_parent(experiment, item, parents)]))
        for item in later
    }


def _later(experiment: Experiment) -> list[Variant]:
    if experiment.goal_metric.kind != "binary":
        return []
    return [item for item in experiment.variants if item.created_at > experiment.started_at]


def _parent(experiment: Experiment, variant: Variant, parents: dict[int, int]) -> int:
    """Position of the variant whose text was changed into this one; else the control's."""
    versions = np.array([item.version_id or 0 for item in experiment.variants])
    wanted = parents.get(variant.version_id or 0, 0)
    found = np.flatnonzero((versions == wanted) & (versions > 0))
    if found.size:
        return int(found[0])
    return next(index for index, item in enumerate(experiment.variants) if item.is_control)
