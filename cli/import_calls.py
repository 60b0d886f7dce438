"""`promptbandit import FILE --prompt P`."""

import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import batched
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.progress import Progress

from api.problems import RequestProblem, problem_of
from api.reading import convert, parse_json
from api.settings import load_settings
from cli.running import clock_of, run_with_database
from domain.errors import DomainError, InvalidValue
from domain.fields import ExperimentKey, Name
from domain.imports import Imported, ImportedCall
from domain.metrics import outcome_value
from domain.redaction import RedactedTranscript, Redactor
from service.import_calls import finish_import, infer_metrics, open_import
from service.import_calls import import_calls as store
from service.imported_experiment import ImportedExperiment
from service.transcripts import check_length, load_redactor, redacted, without_raw
from storage.database import Database

CHUNK = 100
FIELDS = frozenset(ImportedCall.__struct_fields__)
Line = tuple[int, ImportedCall]


class Cleaner(NamedTuple):
    """What keeps personal data out of the database."""

    redactor: Redactor
    caller_key: str


@click.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--prompt", required=True, help="The prompt these calls ran with.")
@click.option(
    "--experiment", help="Key of the experiment that the variants become.  [default: PROMPT-import]"
)
@click.option("--variant-from", help="The field of a line that tells the variant, such as `trial`.")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="KEY=VALUE,...",
    help="With --variant-from: which values are variant KEY; the first one is the control.",
)
def import_calls(
    file: Path, prompt: str, experiment: str | None, variant_from: str | None, variants: tuple[str, ...]
) -> None:
    """Take calls from JSON lines (also .gz): {unit_id, variant?, segment?, metrics, transcript?, known_values?,
    caller?, occurred_at?}. Transcripts are redacted before they are stored.

    Lines with a variant become a finished experiment that `promptbandit report` shows; other fields of a
    line are not imported, and are named. Importing a file again changes nothing. If any line is wrong,
    nothing is imported.

    \b
    Example:
      promptbandit import calls.jsonl.gz --prompt airline --experiment airline-aa \\
          --variant-from trial --variant a=0,2 --variant b=1,3
    """
    prompt = convert(prompt, Name)
    mapping = _mapping(variants) if variants else {}
    if bool(variants) != bool(variant_from):
        raise click.UsageError("--variant-from and --variant go together")
    settings = load_settings()
    redactor = load_redactor(settings.redactor)
    lines, ignored = _read(file, variant_from, mapping, settings.max_transcript_bytes)
    _check_values(lines)
    keys = list(dict.fromkeys(mapping.values())) or sorted({c.variant for _, c in lines if c.variant})
    wanted = _experiment(keys, [call for _, call in lines], experiment or f"{prompt}-import")
    clean = Cleaner(redactor, settings.caller_key)
    imported = run_with_database(lambda database: _store(database, lines, prompt, wanted, clean))
    _tell(imported, lines, ignored, wanted)


def _mapping(variants: tuple[str, ...]) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for text in variants:
        key, separator, values = text.partition("=")
        if not separator or not key or not values:
            raise click.UsageError(f"--variant {text!r}: write KEY=VALUE,VALUE such as a=0,2")
        for value in values.split(","):
            if value in mapping:
                raise click.UsageError(
                    f"--variant {text!r}: value {value!r} already means {mapping[value]!r}"
                )
            mapping[value] = key
    return mapping


def _read(
    file: Path, variant_from: str | None, mapping: dict[str, str], most_transcript_bytes: int
) -> tuple[list[Line], Counter[str]]:
    lines: list[Line] = []
    ignored: Counter[str] = Counter()
    seen: dict[str, int] = {}
    for number, raw in _raw_lines(file):
        fields = _object(number, raw)
        if variant_from is not None:
            fields["variant"] = _variant(number, fields.pop(variant_from, None), mapping, variant_from)
        ignored.update(set(fields) - FIELDS)
        known = {name: value for name, value in fields.items() if name in FIELDS}
        call = _call(number, known, most_transcript_bytes)
        if call.unit_id in seen:
            raise ValueError(
                f"line {number}: unit_id {call.unit_id!r} stands in line {seen[call.unit_id]} already"
            )
        seen[call.unit_id] = number
        lines.append((number, call))
    if not lines:
        raise ValueError(f"{file} holds no line; write one JSON object a line")
    return lines, ignored


def _raw_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        try:
            yield from ((number, raw) for number, raw in enumerate(stream, 1) if raw.strip())
        except (gzip.BadGzipFile, EOFError) as error:
            raise ValueError(f"{file} is not a whole gzip file: {error}") from error


def _object(number: int, raw: bytes) -> dict[str, Any]:
    try:
        fields = parse_json(raw)
    except (RequestProblem, DomainError) as problem:
        raise ValueError(f"line {number}: {problem}; nothing was imported") from problem
    if not isinstance(fields, dict):
        raise ValueError(f"line {number}: is no JSON object; nothing was imported")
    return fields


def _call(number: int, fields: dict[str, Any], most_transcript_bytes: int) -> ImportedCall:
    try:
        call = convert(fields, ImportedCall)
        check_length(call, most_bytes=most_transcript_bytes)
        return call
    except (RequestProblem, DomainError) as problem:
        raise ValueError(f"line {number}: {problem_of(problem).detail}; nothing was imported") from problem


def _variant(number: int, value: Any, mapping: dict[str, str], field: str) -> str:
    if isinstance(value, bool | int | float | str) and str(value) in mapping:
        return mapping[str(value)]
    raise ValueError(
        f"line {number}: {field} is {value!r}, must be one of {sorted(mapping)}; nothing was imported"
    )


def _check_values(lines: list[Line]) -> None:
    declared = {metric.name: metric for metric in infer_metrics([call for _, call in lines])}
    for number, call in lines:
        for name, value in call.metrics.items():
            if value is None:
                continue
            try:
                outcome_value(name, value, declared)
            except InvalidValue as error:
                raise ValueError(f"line {number}: {error.pointer} {error}; nothing was imported") from error


def _experiment(keys: list[str], calls: list[ImportedCall], key: str) -> ImportedExperiment | None:
    if not keys:
        return None
    if len(keys) < 2:
        raise ValueError(f"all lines are variant {keys[0]!r}; an experiment has at least two")
    return ImportedExperiment(
        key=convert(key, ExperimentKey), variants=tuple(keys), metrics=infer_metrics(calls)
    )


async def _store(
    database: Database,
    lines: list[Line],
    prompt: str,
    wanted: ImportedExperiment | None,
    clean: Cleaner,
) -> list[Imported]:
    now = (await clock_of(database))()
    async with database.writing() as connection:
        shares = _shares(lines, wanted) if wanted else []
        experiment = await open_import(
            connection, prompt=prompt, experiment=wanted, shares=shares, actor="command line", now=now
        )
    done = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("importing", total=len(lines))
        for chunk in batched(lines, CHUNK):
            transcripts = _redacted(clean, chunk)
            calls = [(number, without_raw(call)) for number, call in chunk]
            async with database.writing() as connection:
                part = await store(
                    connection, calls, prompt=prompt, experiment=experiment, now=now, transcripts=transcripts
                )
            done.append(part)
            progress.advance(task, len(chunk))
    if experiment is not None:
        async with database.writing() as connection:
            await finish_import(connection, experiment, now=now)
    return done


def _redacted(clean: Cleaner, lines: Sequence[Line]) -> dict[int, RedactedTranscript]:
    """The transcripts by line; what a redactor says of a text that it fails on is not repeated."""
    done = {}
    for number, call in lines:
        try:
            transcript = redacted(clean.redactor, call, caller_key=clean.caller_key)
        except Exception as error:
            raise ValueError(f"line {number}: the redactor failed ({type(error).__name__})") from None
        if transcript is not None:
            done[number] = transcript
    return done


def _shares(lines: list[Line], wanted: ImportedExperiment) -> list[float]:
    """The shares that the file shows: nobody told us those that were served."""
    calls = Counter(call.variant for _, call in lines)
    return [calls[key] / len(lines) for key in wanted.variants]


def _tell(
    imported: list[Imported], lines: list[Line], ignored: Counter[str], wanted: ImportedExperiment | None
) -> None:
    statuses: Counter[str] = Counter()
    for part in imported:
        statuses.update(part.statuses)
    click.echo(f"{len(lines)} calls: " + ", ".join(f"{n} {status}" for status, n in statuses.most_common()))
    for field, number in ignored.most_common():
        click.echo(f"field {field!r} of {number} lines was not imported")
    transcripts = sum(call.transcript is not None for _, call in lines)
    if transcripts:
        click.echo(f"{transcripts} transcripts were redacted")
    for line, problem in [item for part in imported for item in part.refused][:10]:
        click.echo(f"line {line} was refused: {problem}", err=True)
    if wanted is not None:
        click.echo(f"see: promptbandit report {wanted.key}")
