"""The parts of a Grafana dashboard: classic JSON, schema version 42."""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

SCHEMA_VERSION = 42
COLUMNS = 24
POSTGRES: Json = {"type": "grafana-postgresql-datasource", "uid": "promptbandit-postgres"}
PROMETHEUS: Json = {"type": "prometheus", "uid": "promptbandit-prometheus"}


def sql(query: str, *, as_table: bool = False) -> Json:
    """A query of PostgreSQL; a series needs the columns time, metric and value."""
    return {
        "datasource": POSTGRES,
        "editorMode": "code",
        "format": "table" if as_table else "time_series",
        "rawQuery": True,
        "rawSql": query.strip(),
    }


def promql(query: str, legend: str = "") -> Json:
    """A query of Prometheus over the time that the dashboard shows."""
    return {
        "datasource": PROMETHEUS,
        "editorMode": "code",
        "expr": query,
        "legendFormat": legend or "__auto",
        "range": True,
    }


def panel(
    kind: str,
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    unit: str = "short",
    size: tuple[int, int] = (12, 8),
    steps: Sequence[tuple[str, float | None]] = (("green", None),),
    options: Json | None = None,
    **field: Any,
) -> Json:
    """One panel; `laid_out` gives it its place.

    Parameters
    ----------
    size : width, of 24, and height.
    steps : colours from a value upwards; the first has none.
    field : more of the fields' defaults, such as min and max, and `columns`: units by column of a table.
    """
    columns: Json = field.pop("columns", {})
    defaults: Json = {
        "unit": unit,
        "thresholds": {
            "mode": "absolute",
            "steps": [{"color": color, "value": value} for color, value in steps],
        },
        **field,
    }
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": targets[0]["datasource"],
        "targets": [{"refId": chr(ord("A") + i), **target} for i, target in enumerate(targets)],
        "fieldConfig": {"defaults": defaults, "overrides": [_unit_of(*item) for item in columns.items()]},
        "options": options or {},
        "gridPos": {"w": size[0], "h": size[1]},
    }


def _unit_of(column: str, unit: str) -> Json:
    matcher = {"id": "byName", "options": column}
    return {"matcher": matcher, "properties": [{"id": "unit", "value": unit}]}


def lines(title: str, description: str, *targets: Json, limit: float | None = None, **more: Any) -> Json:
    """Values over time; a dashed line at `limit`."""
    custom: Json = {"lineWidth": 2, "spanNulls": True, "showPoints": "auto", **more.pop("custom", {})}
    if limit is not None:
        custom["thresholdsStyle"] = {"mode": "dashed"}
        more["steps"] = (("green", None), ("red", limit))
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, description, targets, options=options, custom=custom, **more)


def laid_out(panels: Sequence[Json]) -> list[Json]:
    """Ids and places: from left to right, a new row where the next one does not fit."""
    placed, x, y, row_height = [], 0, 0, 0
    for number, item in enumerate(panels, start=1):
        width, height = item["gridPos"]["w"], item["gridPos"]["h"]
        if x + width > COLUMNS:
            x, y, row_height = 0, y + row_height, 0
        placed.append({"id": number, **item, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x, row_height = x + width, max(row_height, height)
    return placed


def dashboard(
    uid: str,
    title: str,
    description: str,
    panels: Sequence[Json],
    *,
    since: str,
    variables: Sequence[Json] = (),
) -> Json:
    """A whole dashboard that refreshes every minute."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["promptbandit"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": since, "to": "now"},
        "refresh": "1m",
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "links": [],
        "panels": laid_out(panels),
    }


def variable(name: str, label: str, query: str) -> Json:
    """Something to choose from, filled by PostgreSQL."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": POSTGRES,
        "query": query,
        "definition": query,
        "refresh": 2,
        "sort": 0,
        "multi": False,
        "includeAll": False,
    }
