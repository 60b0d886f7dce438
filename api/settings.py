"""Settings from `PROMPTBANDIT_*` variables, checked at start; `docs/settings.md` lists them (a test compares)."""

import os
from collections.abc import Mapping
from typing import Annotated, get_type_hints

import msgspec
from msgspec import Meta

from storage.database import parse_url

PREFIX = "PROMPTBANDIT_"

_Ms = Annotated[int, Meta(ge=1, le=600_000)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each field is the variable `PROMPTBANDIT_<FIELD>`; times are in ms or s as the name ends."""

    database_url: Annotated[
        str, Meta(description="SQLite file or postgresql+psycopg://user:password@host/name")
    ] = "sqlite:///promptbandit.db"
    fallback_file: Annotated[
        str,
        Meta(description="JSON file with the prompt to serve per name while nothing is known; empty: none"),
    ] = ""
    agent_key_hashes: Annotated[
        str,
        Meta(
            description="SHA-256 (hex, comma-separated) of agent keys that are valid even while the database is away"
        ),
    ] = ""
    soft_deadline_ms: Annotated[
        _Ms, Meta(description="How long POST /assignments waits for the database before it answers STALE")
    ] = 150
    outcome_deadline_ms: Annotated[
        _Ms, Meta(description="How long POST /outcomes waits for the commit before it answers 503")
    ] = 3_000
    statement_timeout_ms: Annotated[
        _Ms, Meta(description="PostgreSQL statement_timeout of the server's connections")
    ] = 5_000
    lock_timeout_ms: Annotated[
        _Ms, Meta(description="PostgreSQL lock_timeout of the server's connections")
    ] = 2_000
    pool_size: Annotated[
        int,
        Meta(
            ge=5,
            le=200,
            description="Database connections per worker for calls, which share transactions; up to ten more "
            "serve managers and look whether the database is there",
        ),
    ] = 6
    max_in_flight: Annotated[
        int,
        Meta(
            ge=1, le=10_000, description="Assignments that may wait for the database at once; more get STALE"
        ),
    ] = 500
    backlog_size: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="Assignments given while the database was away, kept to be recorded",
        ),
    ] = 100_000
    refresh_ms: Annotated[
        _Ms, Meta(description="How often a worker reads the state (splits, active versions) it serves from")
    ] = 1_000
    reallocate_every_s: Annotated[
        float,
        Meta(ge=0.0, le=86_400.0, description="How often the server looks for due reallocations; 0: never"),
    ] = 5.0
    max_body_bytes: Annotated[int, Meta(ge=1_024, le=2**30, description="Larger request bodies get 413")] = (
        1_048_576
    )
    max_transcript_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=2**24,
            description="Outcomes with a longer transcript (as JSON) are rejected",
        ),
    ] = 131_072
    redactor: Annotated[
        str,
        Meta(
            pattern=r"^[\w.]+:\w+$(?!\n)",
            description="What takes personal data out of transcripts, as package.module:name",
        ),
    ] = "domain.redaction:redact"
    body_deadline_ms: Annotated[
        _Ms, Meta(description="How long a request body may take to arrive before it gets 408")
    ] = 4_000
    key_cache_s: Annotated[
        float,
        Meta(ge=0.0, le=5.0, description="How long a checked key is believed; a revoked one stops within it"),
    ] = 3.0
    log_level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    ] = "info"

    def __post_init__(self) -> None:
        """Refuse a database URL that we cannot serve from."""
        parse_url(self.database_url)


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check the environment; ValueError names the variable, its value and the bound."""
    found = {
        key.removeprefix(PREFIX).lower(): value
        for key, value in (os.environ if environment is None else environment).items()
        if key.startswith(PREFIX)
    }
    unknown = sorted(set(found) - set(Settings.__struct_fields__))
    if unknown:
        known = ", ".join(PREFIX + name.upper() for name in Settings.__struct_fields__)
        raise ValueError(f"{PREFIX}{unknown[0].upper()} is not a setting; there are {known}")
    for name, value in found.items():
        _check(name, value)
    try:
        return msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:  # each value alone was possible: it is the URL
        raise ValueError(f"{PREFIX}DATABASE_URL: {error}") from error


def _check(name: str, value: str) -> None:
    try:
        msgspec.convert(value, get_type_hints(Settings, include_extras=True)[name], strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{PREFIX}{name.upper()} == {value!r}: {error}") from error
