"""What a run has decided before it sends anything: kept in its row, so that a restart asks the very same."""

import hashlib
from collections.abc import Mapping

import msgspec

from domain.fields import Record
from domain.optimizer_settings import OptimizerSettings
from optimizer.answers import STAGES, Stage
from optimizer.requests import Asking, Effort
from optimizer.sampling import SampleRules

MAX_DAYS = 365


class Scope(Record, frozen=True, kw_only=True):
    """What the person who starts a run chooses."""

    days: int = 7
    limit: int = 50

    @property
    def rules(self) -> SampleRules:
        """Up to `limit` failing calls, and half as many good ones beside them."""
        return SampleRules(size=self.limit, contrast=self.limit // 2)


class Plan(Record, frozen=True, kw_only=True):
    """How a run asks, about which versions; `versions` are the live ones by the name of their variant."""

    parent_version_id: int
    versions: Mapping[str, int]
    models: Mapping[Stage, str]
    max_output_tokens: int

    def asking(self, stage: Stage, *, seed: str) -> Asking:
        """Reading a call is easy, the rest is worth an effort."""
        effort: Effort | None = None if stage == "map" else "medium"
        return Asking(model=self.models[stage], max_tokens=self.max_output_tokens, seed=seed, effort=effort)


def plan_for(settings: OptimizerSettings, *, parent_version_id: int, versions: Mapping[str, int]) -> Plan:
    """The plan that the settings make."""
    return Plan(
        parent_version_id=parent_version_id,
        versions=dict(versions),
        models={stage: settings.model_of(stage) for stage in STAGES},
        max_output_tokens=settings.optimizer_max_output_tokens,
    )


def config_hash(settings: OptimizerSettings, scope: Scope) -> str:
    """Of all that changes what a run asks; its budget does not, so that a larger one can end what a small one began."""
    told = {
        "days": scope.days,
        "rules": scope.rules,
        "models": {stage: settings.model_of(stage) for stage in STAGES},
        "max_output_tokens": settings.optimizer_max_output_tokens,
    }
    return hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()
