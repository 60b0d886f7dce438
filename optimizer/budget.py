"""A run's purse: what could be spent is set aside before a request is sent."""

import math

from domain.fields import Record


class Budget(Record, frozen=True, kw_only=True):
    """The most that a run may spend, and all runs of a calendar month together."""

    max_usd: float
    max_tokens: int
    max_month_usd: float = math.inf


class Amount(Record, frozen=True, kw_only=True):
    """Money and tokens."""

    usd: float = 0.0
    tokens: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        """Both together."""
        return Amount(usd=self.usd + other.usd, tokens=self.tokens + other.tokens)


class Account:
    """What one run has spent and set aside.

    A request whose bill is unknown keeps what was set aside for it until the run ends: the budget errs on the
    side of the purse. A run that goes on after a restart begins with what its ledger says was spent.
    """

    def __init__(self, budget: Budget, spent: Amount | None = None, *, others_usd: float = 0.0) -> None:
        self.budget = budget
        self.spent = spent or Amount()
        self.others_usd = others_usd  # what other runs have spent this month
        self._set_aside: dict[str, list[Amount]] = {}

    @property
    def committed(self) -> Amount:
        """Spent, or set aside for what is under way or unknown."""
        return sum((amount for amounts in self._set_aside.values() for amount in amounts), self.spent)

    def set_aside(self, request_hash: str, most: Amount) -> str | None:
        """Set aside the most that a request may cost; the reason when the budget does not hold it."""
        after = self.committed + most
        if after.usd > self.budget.max_usd:
            return (
                f"could cost {most.usd:.4f} USD, {after.usd:.4f} with what is spent and under way; "
                f"the run may spend {self.budget.max_usd:g} (PROMPTBANDIT_OPTIMIZER_MAX_COST_USD)"
            )
        month_usd = self.others_usd + after.usd
        if month_usd > self.budget.max_month_usd:
            return (
                f"could cost {most.usd:.4f} USD, {month_usd:.4f} with all of this month and what is under way; "
                f"a month may cost {self.budget.max_month_usd:g} (PROMPTBANDIT_OPTIMIZER_MAX_MONTH_USD)"
            )
        if after.tokens > self.budget.max_tokens:
            return (
                f"could take {most.tokens} tokens, {after.tokens} with what is spent and under way; "
                f"the run may take {self.budget.max_tokens} (PROMPTBANDIT_OPTIMIZER_MAX_TOKENS)"
            )
        self._set_aside.setdefault(request_hash, []).append(most)
        return None

    def settle(self, request_hash: str, paid: Amount) -> None:
        """Put what was paid in the place of what was set aside last for this request."""
        if self._set_aside.get(request_hash):
            self._set_aside[request_hash].pop()
        self.spent = self.spent + paid
