"""Time by the database's clock, told from this machine's monotonic one."""

import datetime as dt
import time
from itertools import pairwise

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from storage.clock import DatabaseClock, nearest_offset
from storage.database import Database

DAY = dt.timedelta(days=1)
seconds = st.floats(-1e6, 1e6)


def tomorrow() -> dt.datetime:
    return dt.datetime.now(dt.UTC) + DAY


async def test_on_postgresql_a_wrong_local_clock_does_not_matter(database: Database):
    """What we tell lies between two answers of PostgreSQL around it."""
    clock = DatabaseClock(tomorrow)
    assert clock.now() > dt.datetime.now(dt.UTC) + DAY / 2  # all that is known before the first comparison
    async with database.reading() as connection:
        await clock.compare(connection)
        if database.is_sqlite:
            assert clock.now() > dt.datetime.now(dt.UTC) + DAY / 2
            return
        asked_at = time.monotonic()
        earlier = await connection.scalar(sa.select(sa.func.clock_timestamp()))
        told = clock.now()
        later = await connection.scalar(sa.select(sa.func.clock_timestamp()))
        # Half of the first answer's time is the most that a first comparison can be off by.
        slack = dt.timedelta(seconds=5 + time.monotonic() - asked_at)
    assert earlier is not None
    assert later is not None
    assert earlier - slack <= told <= later + slack


@given(known=seconds, true=seconds, asked=st.floats(0, 1e6), there=st.floats(0, 60), back=st.floats(0, 60))
def test_an_offset_is_never_farther_from_the_truth_than_the_answer_took(known, true, asked, there, back):
    """The database answers with the true time, `there` seconds after the question."""
    told = asked + there + true
    found = nearest_offset(known, told, asked_at=asked, answered_at=asked + there + back)
    assert abs(found - true) <= there + back + 1e-6


@given(true=seconds, delays=st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), min_size=1))
def test_more_answers_make_it_no_worse(true, delays):
    """The error is at most the quickest answer's, and no slow answer undoes what a quick one has taught."""
    offset, asked, errors = None, 0.0, []
    for there, back in delays:
        told = asked + there + true
        offset = nearest_offset(offset, told, asked_at=asked, answered_at=asked + there + back)
        errors.append(abs(offset - true))
        asked += 100.0
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(errors))
    assert errors[-1] <= min(there + back for there, back in delays) + 1e-6
