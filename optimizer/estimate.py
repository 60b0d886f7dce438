"""What a run would read, ask and cost, without asking and without storing anything."""

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.fields import Record
from domain.optimizer_settings import OptimizerSettings
from optimizer.answers import MAX_SUGGESTIONS, STAGES, Stage
from optimizer.ledger import Tokens
from optimizer.plan import Plan, Scope
from optimizer.prices import Price, cost_usd, most_tokens, price_of, prices_from
from optimizer.requests import propose_request, reduce_request
from optimizer.run import look
from optimizer.sampling import Sample, Trigger
from optimizer.stages import map_requests
from optimizer.window import Material, read_material

# What an answer usually has, thinking included: a guess, beside which the most that it can have is told.
USUAL_OUTPUT: Mapping[Stage, int] = {"map": 600, "reduce": 6_000, "propose": 6_000, "critic": 2_000}
NOTE_BYTES = 700  # what the stages after the first one get of each call


class StageEstimate(Record, frozen=True, kw_only=True):
    """The requests of one stage; only those of `map` are known before they are asked."""

    stage: Stage
    model: str
    requests: int
    bytes: int
    usual_usd: float
    most_usd: float


class Estimate(Record, frozen=True, kw_only=True):
    """What a run would do."""

    trigger: Trigger
    drawn: Sample | None
    stages: tuple[StageEstimate, ...]

    @property
    def usual_usd(self) -> float:
        """About what it costs."""
        return sum(stage.usual_usd for stage in self.stages)

    @property
    def most_usd(self) -> float:
        """If every answer were as long as it may be."""
        return sum(stage.most_usd for stage in self.stages)


async def estimate(
    connection: AsyncConnection,
    prompt_id: int,
    *,
    settings: OptimizerSettings,
    scope: Scope,
    seed: str,
    now: dt.datetime,
) -> Estimate:
    """A run that began now."""
    window = (now - dt.timedelta(days=scope.days), now)
    seen = await look(connection, prompt_id, settings=settings, rules_of=scope, window=window, seed=seed)
    if seen.plan is None or seen.drawn is None:
        return Estimate(trigger=seen.trigger, drawn=None, stages=())
    material = await read_material(connection, prompt_id, seen.plan, seen.drawn)
    sizes = _sizes(material, seen.plan, seed)
    prices = prices_from(settings.optimizer_prices)
    return Estimate(
        trigger=seen.trigger,
        drawn=seen.drawn,
        stages=tuple(
            _stage(stage, sizes[stage], seen.plan, price_of(seen.plan.models[stage], prices))
            for stage in STAGES
        ),
    )


def _sizes(material: Material, plan: Plan, seed: str) -> dict[Stage, list[int]]:
    """The size in bytes of each request."""
    noted = NOTE_BYTES * len(material.calls)
    reduce = reduce_request([], prompt=material.study, asking=plan.asking("reduce", seed=seed))
    propose = propose_request([], earlier=[], prompt=material.study, asking=plan.asking("propose", seed=seed))
    return {
        "map": [_bytes(request.body) for _, request in map_requests(material, plan, seed=seed)],
        "reduce": [_bytes(reduce.body) + noted],
        "propose": [_bytes(propose.body) + noted],
        "critic": [_bytes(propose.body) + noted // 2] * MAX_SUGGESTIONS,
    }


def _bytes(body: Mapping[str, object]) -> int:
    return len(msgspec.json.encode(body))


def _stage(stage: Stage, sizes: Sequence[int], plan: Plan, price: Price) -> StageEstimate:
    longest = plan.max_output_tokens
    tokens = [most_tokens({"": "x" * size, "max_tokens": longest}) for size in sizes]
    usual = [Tokens(input=t.written, output=min(USUAL_OUTPUT[stage], longest)) for t in tokens]
    return StageEstimate(
        stage=stage,
        model=plan.models[stage],
        requests=len(sizes),
        bytes=sum(sizes),
        usual_usd=sum(cost_usd(item, price) for item in usual),
        most_usd=sum(cost_usd(item, price) for item in tokens),
    )
