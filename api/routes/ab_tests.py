"""A/B tests: experiments with two variants, seen as the first three of the user's own paths see them."""

import datetime as dt

from litestar import get, patch, post
from litestar.params import FromPath
from sqlalchemy.ext.asyncio import AsyncConnection

from api import numerics
from api.context import AnyRequest, actor_of, now_of, parts_of
from api.openapi import answers, takes
from api.reading import read_body, read_optional_body, read_query
from api.routes.paging import Page
from domain.errors import NotAnAbTest
from domain.experiments import Experiment, NewAbTest, StopExperiment
from domain.fields import BASIS_POINTS, Record
from domain.report import Report
from service.find import allocation_now, experiment_with_id
from storage.experiments import list_two_variant_experiments


class Significance(Record, frozen=True, kw_only=True):
    """Evidence beside belief about b against a, and what they allow to say.

    `p_value` and `interval` are the z-test's on the goal; they are valid at one look, at the planned
    sample size. `e_value`, `always_valid_p_value` and `always_valid_interval` hold however often one looks,
    and only they decide. `probability_better` is belief and never triggers anything.
    """

    p_value: float | None
    interval: tuple[float | None, float | None]
    e_value: float | None
    always_valid_p_value: float | None
    always_valid_interval: tuple[float | None, float | None]
    probability_better: float | None
    action: str
    because: tuple[str, ...]
    still_needed: tuple[str, ...]


class AbTest(Record, frozen=True, kw_only=True):
    """An experiment with two variants; a is the control."""

    id: int
    test_name: str
    variant_a_id: int | None
    variant_b_id: int | None
    calls_a: int
    calls_b: int
    quality_a: float | None
    quality_b: float | None
    traffic_split: float
    status: str
    started_at: dt.datetime
    significance: Significance
    recommended_variant: str | None


async def _view(connection: AsyncConnection, experiment: Experiment, now: dt.datetime) -> AbTest:
    split = (await allocation_now(connection, experiment)).split
    return ab_test_view(experiment, split, await numerics.report(connection, experiment.key, now=now))


def ab_test_view(experiment: Experiment, split: dict[str, int], found: Report) -> AbTest:
    """The experiment, its last split and its report in the words of an A/B test."""
    a, b = sorted(found.variants, key=lambda variant: not variant.is_control)
    comparison = next(item for item in found.comparisons if item.metric == found.goal)
    test = comparison.z_test or comparison.welch_test
    advice = found.recommendation
    return AbTest(
        id=experiment.id,
        test_name=experiment.key,
        variant_a_id=a.version_id,
        variant_b_id=b.version_id,
        calls_a=a.assigned,
        calls_b=b.assigned,
        quality_a=found.calls[a.key].quality_mean,
        quality_b=found.calls[b.key].quality_mean,
        traffic_split=split[b.key] / BASIS_POINTS,
        status=experiment.status,
        started_at=experiment.started_at,
        significance=Significance(
            p_value=test.p_value if test else None,
            interval=test.interval if test else (None, None),
            e_value=comparison.always_valid.e_value,
            always_valid_p_value=comparison.always_valid.p_value,
            always_valid_interval=comparison.always_valid.interval,
            probability_better=comparison.bayes.probability_better,
            action=advice.action,
            because=advice.because,
            still_needed=advice.still_needed,
        ),
        recommended_variant=advice.variant if advice.action in ("switch", "keep_control") else None,
    )


@get("/prompts/ab-tests", opt={"scope": "analyst"}, operation_class=takes(query=Page), responses=answers())
async def get_ab_tests(request: AnyRequest) -> list[AbTest]:
    """A/B tests, the newest first."""
    page = read_query(request, Page)
    now = now_of(request)
    await numerics.loaded()
    async with parts_of(request).database.reading() as connection:
        found = await list_two_variant_experiments(connection, limit=page.limit, offset=page.offset)
        return [await _view(connection, experiment, now) for experiment in found]


@post(
    "/prompts/ab-tests",
    opt={"scope": "manager"},
    operation_class=takes(NewAbTest),
    responses=answers(404, 409, 413, 415),
)
async def post_ab_test(request: AnyRequest) -> AbTest:
    """Start one; a is the control, `traffic_split` is the share of b."""
    new = await read_body(request, NewAbTest)
    parts, now = parts_of(request), now_of(request)
    await numerics.loaded()
    async with parts.database.writing() as connection:
        experiment = await numerics.start_ab_test(connection, new, actor=actor_of(request), now=now)
        view = await _view(connection, experiment, now)
    await parts.last_known.refresh()
    return view


@patch(
    "/prompts/ab-tests/{ab_test_id:int}/stop",
    opt={"scope": "manager"},
    operation_class=takes(StopExperiment, optional=True),
    responses=answers(404, 409, 413, 415),
)
async def patch_stop(request: AnyRequest, ab_test_id: FromPath[int]) -> AbTest:
    """Stop it; with a winner (`a` or `b`) its version becomes active."""
    stop = await read_optional_body(request, StopExperiment)
    parts, now = parts_of(request), now_of(request)
    await numerics.loaded()
    async with parts.database.writing() as connection:
        experiment = await experiment_with_id(connection, ab_test_id)
        if len(experiment.variants) != 2:
            raise NotAnAbTest(key=experiment.key, variants=len(experiment.variants))
        experiment = await numerics.stop_experiment(
            connection, experiment.key, winner=stop.winner, actor=actor_of(request), now=now
        )
        view = await _view(connection, experiment, now)
    await parts.last_known.refresh()
    return view


ROUTES = [get_ab_tests, post_ab_test, patch_stop]
