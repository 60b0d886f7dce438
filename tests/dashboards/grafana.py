"""What Grafana does to a query before it is sent: variables, then macros, in a small port of its rules."""

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).resolve().parents[2] / "dashboards"
# As in Grafana's SQL data sources: the arguments of a macro cannot hold a closing bracket.
_MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}")
INTERVAL_S = 600


def dashboards() -> dict[str, dict[str, Any]]:
    """The built dashboards by file name."""
    return {
        path.name: json.loads(path.read_text()) for path in sorted((DASHBOARDS / "grafana").glob("*.json"))
    }


def targets(file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The queries of a dashboard, each with its panel's title and its letter."""
    for panel in dashboards()[file]["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target


def expanded_sql(
    query: str,
    *,
    start: dt.datetime,
    end: dt.datetime,
    variables: Mapping[str, str],
    interval_s: int = INTERVAL_S,
) -> str:
    """The statement that PostgreSQL gets."""

    def variable(found: re.Match[str]) -> str:
        assert found[2] == "sqlstring", f"{found[0]} is not quoted"
        return "'" + variables[found[1]].replace("'", "''") + "'"

    def macro(found: re.Match[str]) -> str:
        arguments = [part.strip() for part in found[2].split(",")]
        return _macro(found[1], arguments, start, end)

    text = _VARIABLE.sub(variable, query).replace("$__interval", f"{interval_s}s")
    text = _MACRO.sub(macro, text)
    assert "$" not in text, text
    return text


def _macro(name: str, arguments: list[str], start: dt.datetime, end: dt.datetime) -> str:
    first, last = (f"'{at.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%S.%fZ}'" for at in (start, end))
    match name, arguments:
        case "__timeFilter", [column]:
            return f"{column} BETWEEN {first} AND {last}"
        case "__timeFrom", [""]:
            return first
        case "__timeTo", [""]:
            return last
        case "__time", [column]:
            return f'{column} AS "time"'
        case (("__timeGroup" | "__timeGroupAlias"), [column, interval]):
            seconds = re.fullmatch(r"'?(\d+)s'?", interval)
            assert seconds is not None, interval
            group = f"floor(extract(epoch from {column})/{seconds[1]})*{seconds[1]}"
            return group if name == "__timeGroup" else f'{group} AS "time"'
    raise AssertionError(f"Grafana has no macro ${name} with {len(arguments)} arguments for PostgreSQL")


def expanded_promql(query: str) -> str:
    """The expression that Prometheus gets."""
    text = query.replace("$__rate_interval", "1m")
    assert "$" not in text, text
    return text
