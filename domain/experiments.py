"""Experiments: variants of one prompt under one policy, and the rules by which they start and change."""

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from domain.errors import InvalidValue
from domain.fields import (
    BASIS_POINTS,
    ExperimentKey,
    Id,
    JsonObject,
    MetricName,
    Name,
    OpenProbability,
    Probability,
    Record,
    Request,
    VariantKey,
)
from domain.metrics import Metric, NewMetric

PolicyName = Literal["fixed", "thompson", "top_two"]
Status = Literal["running", "stopped"]
MAX_VARIANTS = 20
_ROUNDING = 1e-12  # 0.09 + 13 * 0.07 is 1.0000000000000002


class Policy(Record, frozen=True, kw_only=True):
    """How the split moves. Shares are in [0, 1]; burn_in is in matured outcomes per variant."""

    name: PolicyName
    floor: float = 0.05
    control_floor: float = 0.10
    cap: float = 0.90
    burn_in: int = 100
    every_s: float = 300.0
    half_life_calls: float | None = None


class NewPolicy(Request, frozen=True, kw_only=True):
    """The policy as the manager asks for it; what is left out takes the default."""

    name: PolicyName
    floor: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.05
    control_floor: Annotated[float, Meta(ge=0.0, le=0.9)] = 0.10
    cap: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.90
    burn_in: Annotated[int, Meta(ge=0, le=1_000_000)] = 100
    every_s: Annotated[float, Meta(ge=0.0, le=86_400.0)] = 300.0
    half_life_calls: Annotated[float, Meta(ge=100.0, le=1e9)] | None = None


class Variant(Record, frozen=True, kw_only=True):
    """One version taking part. `version_id` is null only for imported calls whose text nobody recorded."""

    id: int
    key: str
    position: int
    version_id: int | None
    is_control: bool
    live: bool
    created_at: dt.datetime
    retired_at: dt.datetime | None = None


class NewVariant(Request, frozen=True, kw_only=True):
    """A variant of a new experiment, or a new arm of a running one; `share` is its part of the calls."""

    key: VariantKey
    version_id: Id
    share: Probability | None = None


class Experiment(Record, frozen=True, kw_only=True):
    """A comparison of variants of one prompt."""

    id: int
    key: str
    prompt_id: int
    prompt: str
    status: Status
    policy: Policy
    goal: str
    alpha: float
    minimum_detectable_effect: float
    baseline: float
    maturity_s: float
    min_days: float
    salt: str
    metrics: tuple[Metric, ...]
    variants: tuple[Variant, ...]
    started_at: dt.datetime
    stopped_at: dt.datetime | None = None
    decision: JsonObject | None = None

    @property
    def control(self) -> Variant:
        """The variant that the others are compared with."""
        return next(variant for variant in self.variants if variant.is_control)

    @property
    def goal_metric(self) -> Metric:
        """The metric that decides."""
        return next(metric for metric in self.metrics if metric.name == self.goal)

    def variant(self, key: str) -> Variant | None:
        """The variant of that key, live or retired."""
        return next((variant for variant in self.variants if variant.key == key), None)


class NewExperiment(Request, frozen=True, kw_only=True):
    """`POST /experiments`."""

    key: ExperimentKey
    prompt: Name
    variants: Annotated[list[NewVariant], Meta(min_length=2, max_length=MAX_VARIANTS)]
    control: VariantKey
    policy: NewPolicy | None = None
    metrics: Annotated[list[NewMetric], Meta(max_length=30)] | None = None
    goal: MetricName | None = None
    # Beyond these bounds the planned sample size is no number any more.
    alpha: Annotated[float, Meta(ge=1e-6, le=0.2)] = 0.05
    minimum_detectable_effect: Annotated[float, Meta(ge=1e-4, lt=1.0)] = 0.05
    baseline: Annotated[float, Meta(ge=1e-4, le=0.9999)] = 0.5
    maturity_s: Annotated[float, Meta(ge=0.0, le=30 * 86_400.0)] = 0.0
    min_days: Annotated[float, Meta(ge=0.0, le=365.0)] = 7.0


class NewAbTest(Request, frozen=True, kw_only=True):
    """`POST /prompts/ab-tests`: an experiment with two variants; `traffic_split` is the share of b."""

    test_name: ExperimentKey
    variant_a_id: Id
    variant_b_id: Id
    traffic_split: OpenProbability = 0.5


class StopExperiment(Request, frozen=True, kw_only=True):
    """`PATCH /experiments/{key}/stop`: with a winner, that variant's version becomes active."""

    winner: VariantKey | None = None


def check_new_experiment(new: NewExperiment) -> None:
    """Raise InvalidValue at the first rule that the experiment breaks."""
    keys = [variant.key for variant in new.variants]
    versions = [variant.version_id for variant in new.variants]
    for index, (key, version_id) in enumerate(zip(keys, versions, strict=True)):
        if keys.index(key) != index:
            raise InvalidValue(pointer=f"/variants/{index}/key", problem=f"{key!r} stands there twice")
        if versions.index(version_id) != index:
            raise InvalidValue(
                pointer=f"/variants/{index}/version_id",
                problem=f"version {version_id} stands there twice; compare different versions",
            )
    if new.control not in keys:
        raise InvalidValue(pointer="/control", problem=f"{new.control!r} is not among the variants {keys}")
    if not new.baseline + new.minimum_detectable_effect < 1.0:
        raise InvalidValue(
            pointer="/minimum_detectable_effect",
            problem=f"baseline {new.baseline:g} + effect {new.minimum_detectable_effect:g} must stay below 1",
        )
    shares_of(new.variants)
    check_bounds(policy_of(new.policy, variants=len(keys)), live=len(keys))


def policy_of(new: NewPolicy | None, *, variants: int) -> Policy:
    """The policy to run: two variants are split evenly, three and more by top-two Thompson sampling."""
    if new is None:
        return Policy(name="fixed" if variants == 2 else "top_two")
    return Policy(
        name=new.name,
        floor=new.floor,
        control_floor=max(new.floor, new.control_floor),
        cap=new.cap,
        burn_in=new.burn_in,
        every_s=new.every_s,
        half_life_calls=new.half_life_calls,
    )


def shares_of(variants: Sequence[NewVariant]) -> list[float]:
    """The shares of a new experiment: as given, or even. They add up to 1 within 1e-6."""
    shares = [variant.share for variant in variants]
    if all(share is None for share in shares):
        return [1.0 / len(variants)] * len(variants)
    given = [share for share in shares if share is not None]
    if len(given) < len(shares):
        raise InvalidValue(pointer="/variants", problem="give a share to every variant or to none")
    if abs(sum(given) - 1.0) > 1e-6:
        raise InvalidValue(pointer="/variants", problem=f"shares add up to {sum(given):g}, must be 1")
    return given


def check_bounds(policy: Policy, *, live: int) -> None:
    """Raise InvalidValue when floors and caps cannot hold together for `live` variants."""
    if policy.name == "fixed" or live < 2:
        return
    if policy.control_floor > policy.cap:
        raise InvalidValue(
            pointer="/policy/cap",
            problem=f"cap {policy.cap:g} is below the control's floor {policy.control_floor:g}; raise it",
        )
    floors = policy.control_floor + (live - 1) * policy.floor
    if floors > 1.0 + _ROUNDING:
        raise InvalidValue(
            pointer="/policy/floor",
            problem=f"floors of {live} live variants add up to {floors:g}, more than 1; lower them or retire one",
        )
    if policy.cap * live < 1.0 - _ROUNDING:
        raise InvalidValue(
            pointer="/policy/cap", problem=f"cap {policy.cap:g} x {live} variants is less than 1; raise it"
        )


def split_adds_up(split: dict[str, int]) -> bool:
    """Whether a split is one: basis points, none negative, 10 000 in all."""
    return sum(split.values()) == BASIS_POINTS and min(split.values()) >= 0
