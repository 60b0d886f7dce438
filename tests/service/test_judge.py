"""How experiments stood is noted now and then, and says what the report said at that moment."""

import datetime as dt

import pytest
import sqlalchemy as sa

from domain.experiments import NewPolicy
from domain.report import Report
from domain.standings import Judgement
from service.judge import KEPT, LEAST_GAP_S, judge
from service.reallocate import reallocate_fully
from service.verify import note_verified
from storage.database import Database
from storage.schema import standings
from storage.standings import last_judged, last_verification, newest_judgements
from tests.service.world import (
    DAY,
    LATER,
    MINUTE,
    NOW,
    RATES,
    check,
    fill,
    luck,
    play,
    read_report,
    start,
    stop,
)

SOON = LATER + dt.timedelta(seconds=1)
FAST = NewPolicy(name="thompson", every_s=0.0, burn_in=10)


async def newest(database: Database) -> list[Judgement]:
    async with database.reading() as connection:
        return await newest_judgements(connection)


async def rows_of(database: Database) -> int:
    async with database.reading() as connection:
        return int(await connection.scalar(sa.select(sa.func.count()).select_from(standings)) or 0)


def check_says_what_the_report_says(noted: Judgement, report: Report) -> None:
    assert noted.at == report.as_of
    assert (noted.action, noted.recommended) == (report.recommendation.action, report.recommendation.variant)
    assert noted.sample_ratio_e_value == report.sample_ratio.e_value
    assert noted.sample_ratio_mismatch == report.sample_ratio.mismatch
    e_values = {item.variant: item.always_valid.e_value for item in report.comparisons if item.role == "goal"}
    assert [item.variant for item in noted.standings] == [item.key for item in report.variants]
    for mine, said in zip(noted.standings, report.variants, strict=True):
        assert mine.share_bp == round(said.share * 10_000)
        assert (mine.assigned, mine.told) == (said.assigned, said.metrics[report.goal].n)
        assert mine.probability_best == said.probability_best
        assert mine.e_value == e_values.get(said.key)
        assert mine.missing == said.missing


async def test_a_pass_notes_what_the_report_says_at_that_moment(database: Database):
    experiment = await start(database, arms="abc", policy=FAST)
    rate = luck(RATES)
    # Every tenth call is never told.
    await play(database, experiment, 300, lambda key, index: {} if index % 10 == 0 else rate(key, index))
    assert await newest(database) == []
    await reallocate_fully(database, experiment.id, lambda: LATER)
    (noted,) = await newest(database)
    check_says_what_the_report_says(noted, await read_report(database, now=LATER))
    assert (noted.experiment, noted.policy) == ("greeting", "thompson")
    assert sum(item.matured for item in noted.standings) == 300
    assert sum(item.told for item in noted.standings) == 270
    # Bonferroni: the k-th variant beside the control needs k / alpha; all three came together.
    assert [item.e_needed for item in noted.standings] == [None, pytest.approx(40.0), pytest.approx(40.0)]


async def test_passes_of_the_same_minute_note_one_standing(database: Database):
    experiment = await start(database, policy=FAST)
    await play(database, experiment, 60, luck(RATES))
    for after_s in (0.0, 5.0, LEAST_GAP_S - 1.0):
        await reallocate_fully(database, experiment.id, lambda s=after_s: LATER + dt.timedelta(seconds=s))
    assert await rows_of(database) == 2
    again = LATER + dt.timedelta(seconds=LEAST_GAP_S)
    await reallocate_fully(database, experiment.id, lambda: again)
    assert await rows_of(database) == 4
    async with database.reading() as connection:
        assert await last_judged(connection, experiment.id) == again


async def test_a_fixed_split_is_judged_as_often_as_its_policy_would_look(database: Database):
    experiment = await start(database)
    for minutes, rows in ((0, 2), (4, 2), (5, 4)):
        await reallocate_fully(database, experiment.id, lambda m=minutes: LATER + m * MINUTE)
        assert await rows_of(database) == rows


async def test_a_paused_variant_is_noted_at_once(database: Database):
    """Its evidence does not wait for the next minute: the split changed because of it."""
    experiment = await start(database, policy=FAST, minimum_detectable_effect=0.3)
    before = NOW - dt.timedelta(seconds=LEAST_GAP_S / 2)
    assert await judge(database, experiment.id, lambda: before) is not None
    await play(database, experiment, 600, lambda key, index: {"resolved": key == "a"}, every_s=0.05)
    passed = await reallocate_fully(database, experiment.id, lambda: NOW + dt.timedelta(seconds=3))
    assert passed.outcome == "paused"
    (noted,) = await newest(database)
    assert noted.at == NOW + dt.timedelta(seconds=3)
    assert [item.share_bp for item in noted.standings] == [10_000, 0]
    assert (noted.action, noted.recommended) == ("keep_control", "a")


async def test_a_mismatch_of_the_sample_ratio_is_noted(database: Database):
    experiment = await start(database)
    await fill(database, experiment, metric="assigned", a=(600, 0.0, 0.0), b=(400, 0.0, 0.0))
    noted = await judge(database, experiment.id, lambda: LATER)
    assert noted is not None
    assert noted.sample_ratio_mismatch
    assert noted.action == "investigate"


async def test_a_stop_notes_the_last_standing_and_nothing_follows(database: Database):
    experiment = await start(database)
    await play(database, experiment, 40, luck(RATES))
    await stop(database, now=LATER)
    assert await rows_of(database) == 2
    assert await newest(database) == []  # of running experiments
    assert await judge(database, experiment.id, lambda: LATER + DAY, at_once=True) is None
    await reallocate_fully(database, experiment.id, lambda: LATER + DAY)
    assert await rows_of(database) == 2


async def test_standings_older_than_their_time_go(database: Database):
    experiment = await start(database)
    for at in (LATER, LATER + DAY, LATER + KEPT + DAY):
        assert await judge(database, experiment.id, lambda now=at: now) is not None
    async with database.reading() as connection:
        kept = set(await connection.scalars(sa.select(standings.c.at)))
    assert kept == {LATER + DAY, LATER + KEPT + DAY}


async def test_a_moment_is_judged_once(database: Database):
    experiment = await start(database)
    assert await judge(database, experiment.id, lambda: LATER) is not None
    assert await judge(database, experiment.id, lambda: LATER, at_once=True) is None
    assert await judge(database, experiment.id, lambda: SOON, at_once=True) is not None
    assert await rows_of(database) == 4


async def test_what_verify_found_is_kept_with_its_first_difference(database: Database):
    experiment = await start(database)
    async with database.reading() as connection:
        assert await last_verification(connection) is None
    await play(database, experiment, 20, luck(RATES))
    for now, lies in ((NOW, False), (LATER, True)):
        if lies:
            await fill(database, experiment, metric="quality", a=(1, 0.5, 0.25))
        found = await check(database)
        async with database.writing() as connection:
            await note_verified(connection, found, now=now)
        async with database.reading() as connection:
            last = await last_verification(connection)
        assert last is not None
        assert (last.at, last.compared, last.differences) == (now, found.rows, int(lies))
    assert last.first_difference is not None
    assert last.first_difference["metric"] == "quality"
    assert last.first_difference["stored"] == {"n": 1, "total": 0.5, "total_sq": 0.25}
