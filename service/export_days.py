"""Write an experiment's calls as files that a data lake takes: a folder an experiment and a day.

`experiment=greeting/day=2026-11-20/part-0.parquet`. A file gets its name when it is whole. It says itself
whether its day was over, and its outcomes in, when it was written; such a file is not written again.
"""

import datetime as dt
import os
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from urllib.parse import quote

from domain.experiments import Experiment
from domain.fields import Record
from service.arrow_calls import PAGE, ArrowFormat, batch_of, load_pyarrow, open_writer, schema_of
from storage.calls import next_call_at, read_calls_since
from storage.database import Database

DAY = dt.timedelta(days=1)
FINISHED = b"promptbandit.finished"
LEFT_OVER_S = 3_600.0


class Exported(Record, frozen=True, kw_only=True):
    """What one export did."""

    calls: int
    written: tuple[dt.date, ...]
    kept: tuple[dt.date, ...]


async def export_days(
    database: Database,
    experiment: Experiment,
    folder: Path,
    *,
    file_format: ArrowFormat,
    start: dt.datetime,
    now: dt.datetime,
    again: bool = False,
    with_turns: bool = False,
    tell: Callable[[int], None] = lambda calls: None,
) -> Exported:
    """One file for each day with calls from `start` on, each from one state of the database.

    Parameters
    ----------
    again : write finished days, too.
    tell : is told the number of calls of each page that was written.

    Raises
    ------
    ExtraMissing : pyarrow is not installed.
    """
    load_pyarrow()
    calls, when = 0, start
    written: list[dt.date] = []
    kept: list[dt.date] = []
    while True:
        async with database.reading() as connection:
            first = await next_call_at(connection, experiment, when)
        if first is None:
            return Exported(calls=calls, written=tuple(written), kept=tuple(kept))
        day = first.replace(hour=0, minute=0, second=0, microsecond=0)
        part = _Part(experiment, folder, day, file_format, with_turns)
        if not again and part.is_finished():
            kept.append(day.date())
        else:
            calls += await part.write(database, finished=is_settled(experiment, day, now), tell=tell)
            written.append(day.date())
        when = day + DAY


def is_settled(experiment: Experiment, day: dt.datetime, now: dt.datetime) -> bool:
    """Whether a day of calls is over and its outcomes had a day, or the maturity window, to come in."""
    return now >= day + DAY + max(DAY, dt.timedelta(seconds=experiment.maturity_s))


def escaped(key: str) -> str:
    """A key as the name of a folder, from which every reader gets it back.

    Letters beyond ASCII stay: polars and DuckDB read %C3%B6 as one letter, Spark as two.
    """
    return "".join(quote(letter, safe="") if letter.isascii() else letter for letter in key)


class _Part:
    """The file of one day."""

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        day: dt.datetime,
        file_format: ArrowFormat,
        with_turns: bool,
    ) -> None:
        self._experiment, self._day, self._format = experiment, day, file_format
        self._with_turns = with_turns
        # The folder names are columns already, so the files do not repeat them.
        self._schema = schema_of(experiment, without=("experiment",), with_turns=with_turns)
        place = folder / f"experiment={escaped(experiment.key)}" / f"day={day:%Y-%m-%d}"
        self._path = place / f"part-0.{file_format}"

    def is_finished(self) -> bool:
        """Whether a file with these columns stands there and says that nothing more will come."""
        pa = load_pyarrow()
        if not self._path.exists():
            return False
        try:
            if self._format == "parquet":
                schema = pa.parquet.read_schema(self._path)
            else:
                with pa.ipc.open_file(self._path) as reader:
                    schema = reader.schema
        except pa.ArrowInvalid:  # somebody else's file, or broken: it is written anew
            return False
        return bool(schema.equals(self._schema)) and (schema.metadata or {}).get(FINISHED) == b"true"

    async def write(self, database: Database, *, finished: bool, tell: Callable[[int], None]) -> int:
        """Write all calls of the day under another name, then rename; how many there were."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(self._path)
        # Readers pass over names that begin with a dot, and none ends like a data file.
        unfinished = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            calls = await self._fill(database, unfinished, finished, tell)
            _to_disk(unfinished)
            unfinished.replace(self._path)
        finally:
            with suppress(OSError):
                unfinished.unlink()
        return calls

    async def _fill(self, database: Database, path: Path, finished: bool, tell: Callable[[int], None]) -> int:
        schema = self._schema.with_metadata({FINISHED: b"true" if finished else b"false"})
        calls = 0
        with open_writer(path, schema, self._format) as writer:
            async with database.reading() as connection:
                pages = read_calls_since(
                    connection,
                    self._experiment,
                    self._day,
                    self._day + DAY,
                    limit=PAGE,
                    with_turns=self._with_turns,
                )
                async with aclosing(pages):
                    async for rows in pages:
                        writer.write_batch(batch_of(rows, self._experiment, schema))
                        calls += len(rows)
                        tell(len(rows))
        return calls


def _tidy(path: Path) -> None:
    """Remove what exports that were killed have left; another one may be at work here at this moment."""
    for left_over in path.parent.glob(f".{path.name}.*"):
        with suppress(OSError):
            if time.time() - left_over.stat().st_mtime > LEFT_OVER_S:
                left_over.unlink()


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
