"""What is simulated about belief is the belief of the report."""

import numpy as np
import pytest

import engine as ab
from benchmarks.belief_at_the_end import BATCH, CALLS, World, play
from engine.beta_binomial import probability_better


@pytest.mark.parametrize("drift", [0.0, 0.15])
def test_the_belief_that_is_simulated_is_the_one_that_is_reported(drift: float):
    log = play(World(drift=drift), np.random.default_rng(3))
    assert len(log.n) == CALLS // BATCH
    assert len({tuple(split) for split in log.split}) > 5  # it moved
    rows = [
        {"variant": arm, "allocation": number, "metric": "resolved", "n": n, "total": good, "total_sq": good}
        for number, both in enumerate(zip(log.n, log.successes, strict=True))
        for arm, n, good in zip("ab", *both, strict=True)
    ]
    splits = {number: dict(zip("ab", split, strict=True)) for number, split in enumerate(log.split)}
    study = ab.Study(arm="variant", control="a", metrics=[ab.Binary("resolved", goal=True)])
    found = study.analyze(ab.Counts.from_rows(rows, splits=splits))["resolved"]["b"]
    by_hand = probability_better(log.believed(), control=0)[1]
    assert found.probability_better == pytest.approx(by_hand, rel=1e-12)
    assert abs(by_hand - probability_better(log.pooled(), control=0)[1]) > 1e-3
