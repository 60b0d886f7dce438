"""What the always-valid tests know of one metric: how far they have read, and the wealth of each."""

import datetime as dt

from domain.fields import Record
from engine.metrics import Claim


class Process(Record, frozen=True, kw_only=True):
    """One e-process between two passes: the state of `engine.sequential.EProcess`.

    `n` and `total` are of the control and the variant.
    """

    variant: str
    claim: Claim
    n: tuple[float, float]
    total: tuple[float, float]
    total_sq: float
    log_wealth: tuple[float, ...]
    log_e_max: float


class Evidence(Record, frozen=True, kw_only=True):
    """All processes of one metric, after the units up to (`read_until`, `unit_id`) in the order of assignment.

    `units` were read, `missing` of them without an outcome.
    """

    metric: str
    read_until: dt.datetime | None = None
    unit_id: str = ""
    units: int = 0
    missing: int = 0
    processes: tuple[Process, ...] = ()

    def process(self, variant: str, claim: Claim) -> Process | None:
        """The process of this claim, None where the metric has none or the variant was not met yet."""
        return next((p for p in self.processes if (p.variant, p.claim) == (variant, claim)), None)
