"""The power goes under load, once for each database: what was acknowledged is there afterwards."""

from contextlib import closing

import pytest

from tests.chaos.power_cuts import BACKENDS, Backend, cut_power
from tests.chaos.skipping import skipping

SEED = 20_261_126
RATE = 30.0
TRIES = 8

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_acknowledged_survives_a_power_cut(backend: Backend):
    with skipping(), closing(cut_power(backend, cuts=1, weak=False, seed=SEED, rate=RATE)) as cuts:
        cut = next(cuts)
    assert cut.acked > 0
    assert cut.broken == {}


def test_a_database_that_does_not_wait_for_the_disk_loses_what_was_acknowledged():
    """SQLite with synchronous=NORMAL. If it lost nothing, the test above would prove nothing."""
    with skipping(), closing(cut_power("sqlite", cuts=TRIES, weak=True, seed=SEED, rate=RATE)) as cuts:
        assert any("lost" in cut.broken for cut in cuts)
