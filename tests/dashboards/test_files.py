"""The files that Grafana and Prometheus read."""

import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from dashboards.build import built
from dashboards.parts import COLUMNS, laid_out
from tests.dashboards.grafana import DASHBOARDS, dashboards

FILES = sorted(dashboards())
UNITS = {
    "short",
    "none",
    "percentunit",
    "s",
    "reqps",
    "bool_on_off",
    "bool_yes_no",
    "dateTimeFromNow",
    "dateTimeAsIso",
}
KINDS = {"timeseries", "table", "stat", "state-timeline"}


def provisioned() -> dict[str, str]:
    """The type of each data source by uid."""
    text = (DASHBOARDS / "provisioning" / "datasources" / "promptbandit.yml").read_text()
    return {item["uid"]: item["type"] for item in yaml.safe_load(text)["datasources"]}


def test_the_files_are_what_the_generator_builds():
    """`python -m dashboards.build` writes them."""
    assert {path.name: path.read_text() for path in (DASHBOARDS / "grafana").iterdir()} == built()


@pytest.mark.parametrize("file", FILES)
def test_a_dashboard_is_one_that_grafana_takes(file: str):
    board = dashboards()[file]
    assert board["schemaVersion"] == 42
    assert re.fullmatch(r"[a-z0-9-]{1,40}", board["uid"])
    assert "id" not in board  # Grafana gives it
    assert board["title"]
    assert board["description"]
    ids = [panel["id"] for panel in board["panels"]]
    assert ids == list(range(1, len(ids) + 1))
    titles = [panel["title"] for panel in board["panels"]]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("file", FILES)
def test_panels_lie_beside_each_other(file: str):
    places = [panel["gridPos"] for panel in dashboards()[file]["panels"]]
    for place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= COLUMNS
        assert place["h"] >= 3
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_a_panel_that_does_not_fit_begins_a_row_below_the_highest():
    sizes = [(12, 4), (8, 6), (8, 3)]
    placed = laid_out([{"gridPos": {"w": width, "h": height}} for width, height in sizes])
    assert [(item["gridPos"]["x"], item["gridPos"]["y"]) for item in placed] == [(0, 0), (12, 0), (0, 6)]


@pytest.mark.parametrize("file", FILES)
def test_every_panel_says_what_it_shows_in_which_unit_from_a_source_that_is_provisioned(file: str):
    board = dashboards()[file]
    for panel in board["panels"]:
        assert panel["type"] in KINDS
        assert panel["description"].endswith(".")
        assert set(units_of(panel)) <= UNITS
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert provisioned()[source["uid"]] == source["type"]
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None
    for variable in board["templating"]["list"]:
        assert provisioned()[variable["datasource"]["uid"]] == variable["datasource"]["type"]


def units_of(panel: dict[str, Any]) -> list[str]:
    config = panel["fieldConfig"]
    overrides = [item["value"] for override in config["overrides"] for item in override["properties"]]
    return [config["defaults"]["unit"], *overrides]


@pytest.mark.parametrize("file", FILES)
def test_every_variable_that_a_query_uses_is_declared(file: str):
    board = dashboards()[file]
    declared = {item["name"] for item in board["templating"]["list"]}
    queries = [t.get("rawSql") or t["expr"] for panel in board["panels"] for t in panel["targets"]]
    used = {name for query in queries for name in re.findall(r"\$\{(\w+)", query)}
    assert used == declared


def test_secrets_come_from_the_environment():
    """Of Grafana, not of the server: that refuses PROMPTBANDIT_ variables which it does not know."""
    for path in (DASHBOARDS / "provisioning").rglob("*.yml"):
        names = re.findall(r"\$(\w+)", path.read_text())
        assert names
        assert all(name.startswith("PB_") for name in names)
    text = (DASHBOARDS / "provisioning" / "datasources" / "promptbandit.yml").read_text()
    (postgres, _) = yaml.safe_load(text)["datasources"]
    assert postgres["secureJsonData"] == {"password": "$PB_POSTGRES_PASSWORD"}


def test_the_dashboards_are_looked_for_where_they_are_built():
    text = (DASHBOARDS / "provisioning" / "dashboards" / "promptbandit.yml").read_text()
    (provider,) = yaml.safe_load(text)["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "$PB_DASHBOARDS"
    assert provider["allowUiUpdates"] is False  # what is changed by hand would be lost


# --- the document -------------------------------------------------------------------------------


def table_under(heading: str) -> dict[str, list[str]]:
    """The rows of the first table under a heading of the document, by their first cell."""
    text = (DASHBOARDS.parent / "docs" / "observability.md").read_text()
    _, _, section = text.partition(f"# {heading}\n")
    lines = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0].splitlines()
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")
    ]
    return {row[0].strip("`"): row[1:] for row in cells[2:]}


@pytest.mark.parametrize("file", FILES)
def test_every_panel_is_explained(file: str):
    board = dashboards()[file]
    assert list(table_under(board["title"])) == [panel["title"] for panel in board["panels"]]


def test_every_alert_is_explained_with_its_severity():
    (group,) = yaml.safe_load((DASHBOARDS / "alerts.yml").read_text())["groups"]
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in group["rules"]}
    assert {name: row[0] for name, row in table_under("Alerts").items()} == severities


def test_every_variable_of_grafanas_environment_is_explained():
    used = {
        name
        for path in (DASHBOARDS / "provisioning").rglob("*.yml")
        for name in re.findall(r"\$(PB_\w+)", path.read_text())
    }
    assert set(table_under("Grafana")) == used
