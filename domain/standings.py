"""How an experiment stood at one moment: what cannot be had from counts afterwards."""

import datetime as dt

from domain.fields import Record


class Standing(Record, frozen=True, kw_only=True):
    """One variant at that moment.

    `assigned` units were given to it in all, `matured` of them are old enough to be judged, and `told` of
    those have an outcome of the goal. `e_value` is the two-sided evidence against the control and `e_needed`
    what a claim needs; both are null for the control, the evidence also for an amount.
    """

    variant_id: int
    variant: str
    share_bp: int
    assigned: int
    matured: int
    told: int
    probability_best: float | None
    e_value: float | None
    e_needed: float | None

    @property
    def missing(self) -> float | None:
        """Share of the matured units without an outcome of the goal; None where none has matured."""
        return 1.0 - self.told / self.matured if self.matured else None


class Judgement(Record, frozen=True, kw_only=True):
    """All variants of one experiment, and what was recommended.

    `sample_ratio_e_value` is null beyond 1e300; `sample_ratio_mismatch` says whether it has ever passed the
    alarm. `recommended` is the variant that `action` speaks of.
    """

    experiment_id: int
    experiment: str
    policy: str
    at: dt.datetime
    action: str
    recommended: str | None
    sample_ratio_e_value: float | None
    sample_ratio_mismatch: bool
    standings: tuple[Standing, ...]


class Verification(Record, frozen=True, kw_only=True):
    """One run of `promptbandit verify`: how many rows of counts were compared, and how many differ.

    `first_difference` names the first row that differs.
    """

    at: dt.datetime
    compared: int
    differences: int
    first_difference: dict[str, object] | None = None
