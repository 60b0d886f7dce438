"""Settings from `PROMPTBANDIT_*` variables, checked at start; `docs/settings.md` lists them (a test compares)."""

import os
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated

import msgspec
from msgspec import Meta

from domain.environment import PREFIX, read_settings, refuse_unknown
from domain.optimizer_settings import OptimizerSettings
from storage.database import parse_url

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
    caller_key: Annotated[
        str,
        Meta(
            max_length=500,
            pattern=r"^[\x21-\x7e]*$(?!\n)",
            description="Secret that `caller` of an outcome is hashed with beside that of the database, so that a "
            "copy of the database alone tells nobody's number; the same for all servers and imports",
        ),
    ] = ""
    body_deadline_ms: Annotated[
        _Ms, Meta(description="How long a request body may take to arrive before it gets 408")
    ] = 4_000
    key_cache_s: Annotated[
        float,
        Meta(ge=0.0, le=5.0, description="How long a checked key is believed; a revoked one stops within it"),
    ] = 3.0
    agent_requests_per_s: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1e6,
            description="Requests a second of one key to the agent's routes, per worker; more get 429; 0: no limit",
        ),
    ] = 0.0
    desk_requests_per_s: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1e6,
            description="Requests a second of one key to all other routes, per worker; more get 429; 0: no limit",
        ),
    ] = 100.0
    failed_keys_per_minute: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1e6,
            description="Keys a minute from one address that open nothing, per worker; then keys that were not "
            "good before get 429; 0: no limit",
        ),
    ] = 300.0
    trusted_proxies: Annotated[
        str,
        Meta(
            description="Addresses or networks (comma-separated) whose X-Forwarded-For is believed; empty: nobody's"
        ),
    ] = ""
    log_level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    ] = "info"

    def __post_init__(self) -> None:
        """Refuse a database URL that we cannot serve from, and proxies that are no addresses."""
        try:
            parse_url(self.database_url)
        except ValueError as error:
            raise ValueError(f"{PREFIX}DATABASE_URL: {error}") from error
        for proxy in filter(None, self.trusted_proxies.split(",")):
            _check_proxy(proxy.strip())


def _check_proxy(text: str) -> None:
    try:
        ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"{PREFIX}TRUSTED_PROXIES: {text!r} is no address or network; write 10.0.0.5 or 10.0.0.0/24"
        ) from error


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check the environment; ValueError names the variable, its value and the bound.

    The optimizer's variables are known, so that both processes may share one environment file, and not read.
    """
    given = os.environ if environment is None else environment
    refuse_unknown(given, [*Settings.__struct_fields__, *OptimizerSettings.__struct_fields__])
    try:
        return read_settings(Settings, given)
    except msgspec.ValidationError as error:  # each value alone was possible: it is __post_init__
        raise ValueError(str(error)) from error
