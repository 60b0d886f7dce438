"""Take outcomes: store them, and move the counts in the same transaction."""

import datetime as dt
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Given
from domain.errors import DomainError, PromptNotFound
from domain.metrics import Metric
from domain.outcomes import NewOutcome
from domain.redaction import RedactedTranscript
from domain.snapshot import Snapshot
from service.outcome_batch import OutcomeBatch, Recorded
from service.rederive import rederive
from storage.assignments import find_given
from storage.counts import add_counts
from storage.experiments import metrics_of
from storage.locks import lock_units
from storage.outcomes import Unit, find_outcomes, find_superseded, write_confirmed, write_settled
from storage.prompts import find_prompt_ids
from storage.recount import restore_lost_digits
from storage.transcripts import write_transcripts

NO_TRANSCRIPTS: Mapping[int, RedactedTranscript] = MappingProxyType({})


async def record(
    connection: AsyncConnection,
    outcomes: Sequence[NewOutcome],
    *,
    now: dt.datetime,
    snapshot: Snapshot | None = None,
    transcripts: Mapping[int, RedactedTranscript] = NO_TRANSCRIPTS,
) -> list[Recorded]:
    """Store outcomes in the order given; one bad outcome does not hold up the others.

    Parameters
    ----------
    snapshot : what never changes once it stands there, ids of prompts and metrics of experiments, need not
        be read again.
    transcripts : by the index of their outcome, redacted; those of outcomes themselves are never read. The
        last one told of a unit stands, also where its values are `unchanged`.

    Returns
    -------
    For each outcome its status, or the error for which it was rejected (nothing of it is stored).
    """
    prompt_ids = await _prompt_ids(connection, {item.prompt for item in outcomes}, snapshot)
    units = {
        index: (prompt_ids[item.prompt], item.unit_id)
        for index, item in enumerate(outcomes)
        if item.prompt in prompt_ids
    }
    known = list(dict.fromkeys(units.values()))
    if not known:
        return [PromptNotFound(name=item.prompt) for item in outcomes]
    await lock_units(connection, known)
    given = await find_given(connection, known)
    unplaced = {i: (unit, outcomes[i]) for i, unit in units.items() if unit not in given}
    derived, failures = await rederive(connection, unplaced, now=now)
    batch = await _open_batch(connection, known, given | derived, snapshot)
    results: list[Recorded] = []
    for index, item in enumerate(outcomes):
        if index not in units:
            results.append(PromptNotFound(name=item.prompt))
        elif index in failures:
            results.append(failures[index])
        else:
            results.append(batch.take(units[index], item, now=now))
    await write_settled(connection, batch.settled, now=now)
    await write_confirmed(connection, batch.confirmed)
    await add_counts(connection, batch.deltas)
    await restore_lost_digits(connection, batch.taken)
    if transcripts:
        await write_transcripts(connection, _kept(transcripts, units, results), now=now)
    return results


def _kept(
    transcripts: Mapping[int, RedactedTranscript], units: Mapping[int, Unit], results: Sequence[Recorded]
) -> dict[Unit, RedactedTranscript]:
    """The last transcript of each unit whose outcome was not refused."""
    return {
        units[index]: transcripts[index]
        for index in sorted(transcripts)
        if not isinstance(results[index], DomainError)
    }


async def _prompt_ids(
    connection: AsyncConnection, names: set[str], snapshot: Snapshot | None
) -> dict[str, int]:
    prompts = snapshot.prompts if snapshot else {}
    known = {name: prompts[name].prompt_id for name in names if name in prompts}
    unknown = sorted(names - set(known))
    return known | (await find_prompt_ids(connection, unknown) if unknown else {})


async def _open_batch(
    connection: AsyncConnection,
    units: list[Unit],
    given: dict[Unit, Given],
    snapshot: Snapshot | None,
) -> OutcomeBatch:
    ids = {item.experiment_id for item in given.values() if item.experiment_id is not None}
    stored = await find_outcomes(connection, units)
    corrected = [
        unit for unit, values in stored.items() if any(value.revision > 0 for value in values.values())
    ]
    return OutcomeBatch(
        given,
        await _metrics(connection, ids, snapshot),
        stored,
        await find_superseded(connection, corrected),
    )


async def _metrics(
    connection: AsyncConnection, experiment_ids: set[int], snapshot: Snapshot | None
) -> dict[int, dict[str, Metric]]:
    """The declared metrics by experiment and name."""
    states = snapshot.prompts.values() if snapshot else ()
    known = {
        state.experiment.id: {metric.name: metric for metric in state.experiment.metrics}
        for state in states
        if state.experiment and state.experiment.id in experiment_ids
    }
    unknown = experiment_ids - set(known)
    return known | (await metrics_of(connection, unknown) if unknown else {})
