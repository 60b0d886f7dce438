"""Lists taken from the code: nothing exists that is not described, nothing is described that does not exist."""

import re
from pathlib import Path
from typing import Any, get_type_hints

import click
import msgspec
import pytest

from api.app import ROUTES
from api.auth import OPEN
from api.metrics import ServerMetrics
from api.openapi import BODIES
from api.problems import ALL_KINDS, DOMAIN_KINDS, problem_of
from api.settings import Settings, load_settings
from api.watched import GAUGES
from domain import errors
from domain.environment import PREFIX
from domain.errors import Conflict, DomainError, InvalidValue, NotFound
from domain.fields import Request
from domain.optimizer_settings import OptimizerSettings

DOCS = Path(__file__).resolve().parents[2] / "docs"
GROUPS = {DomainError, NotFound, Conflict}  # never raised themselves


def rows(document: str) -> list[list[str]]:
    """The cells of the tables of a document."""
    lines = (DOCS / document).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]


def domain_errors() -> list[type[DomainError]]:
    found = [
        item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, DomainError)
    ]
    return [item for item in found if item not in GROUPS]


def test_every_domain_error_has_a_problem_document():
    assert set(domain_errors()) == set(DOMAIN_KINDS)


@pytest.mark.parametrize("error", domain_errors())
def test_a_domain_error_says_its_data_and_what_to_do(error: type[DomainError]):
    """The docstring is the message: each of its fields is filled, and a long value is cut."""
    names = set(re.findall(r"\{(\w+)", (error.__doc__ or "").replace("{{", "")))
    data: dict[str, Any] = dict.fromkeys(names, "x" * 10_000)
    if issubclass(error, InvalidValue):
        data = {"pointer": "/field", "problem": "is 2, must be below 1"}
    problem = problem_of(error(**data))
    assert problem.status in (404, 409, 422)
    assert "{" not in problem.detail.replace("{id}", "").replace("{key}", "")
    assert len(problem.detail) <= 500
    assert "x" * 201 not in problem.detail
    expected = 404 if issubclass(error, NotFound) else 409 if issubclass(error, Conflict) else 422
    assert problem.status == expected


def test_every_problem_is_described_with_its_status():
    described = {
        cells[0].strip("`"): cells[1] for cells in rows("errors.md") if cells[0].startswith("`/problems")
    }
    assert described == {f"/problems/{kind.slug}": str(kind.status) for kind in ALL_KINDS}


def test_no_two_problems_share_a_type():
    slugs = [kind.slug for kind in ALL_KINDS]
    assert len(slugs) == len(set(slugs))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", slug) for slug in slugs)


def test_every_setting_is_described_with_its_default():
    described = {
        cells[0].strip("`"): cells[1].strip("`") for cells in rows("settings.md") if PREFIX in cells[0]
    }
    fields = [*msgspec.structs.fields(Settings), *msgspec.structs.fields(OptimizerSettings)]
    assert set(described) == {PREFIX + field.name.upper() for field in fields}
    for field in fields:
        assert described[PREFIX + field.name.upper()] == written(field.default)


def written(default: object) -> str:
    """A default as the table of settings writes it."""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default or "none")


@pytest.mark.parametrize("kind", [Settings, OptimizerSettings])
def test_every_setting_is_explained_in_the_code_too(kind: type[msgspec.Struct]):
    hints = get_type_hints(kind, include_extras=True)
    described = [hint.__metadata__[-1].description for hint in hints.values()]
    assert len(described) == len(kind.__struct_fields__)
    assert all(described)


def test_the_server_starts_beside_settings_of_the_optimizer_and_reads_none():
    """One environment file may serve both; a wrong value there is the optimizer's to refuse."""
    environment = {PREFIX + name.upper(): "!" for name in OptimizerSettings.__struct_fields__}
    assert load_settings(environment) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POOL_SIZE", "many"),
        ("KEY_CACHE_S", "6"),
        ("LOG_LEVEL", "loud"),
        ("NO_SUCH", "1"),
        ("SOFT_DEADLINE_MS", "0"),
        ("DATABASE_URL", "mysql://x"),
        ("TRUSTED_PROXIES", "*"),
        ("TRUSTED_PROXIES", "10.0.0.5, proxy.internal"),
        ("AGENT_REQUESTS_PER_S", "-1"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, value: str):
    with pytest.raises(ValueError, match=PREFIX + name):
        load_settings({PREFIX + name: value})


def test_every_route_is_described_with_its_scope():
    described = {cells[0].strip("`"): cells[1] for cells in rows("http.md") if cells[0].startswith("`")}
    routes = {
        f"{next(iter(handler.http_methods))} {re.sub(r':[a-z]+}', '}', path)}": handler.opt["scope"]
        for handler in ROUTES
        for path in handler.paths
    }
    described = {route: scope for route, scope in described.items() if " /" in route}
    assert described == {route: "open" if scope == OPEN else scope for route, scope in routes.items()}


def test_every_metric_is_described_with_its_labels():
    described = {
        cells[0].strip("`").removesuffix("_total"): () if cells[1] == "none" else tuple(cells[1].split(", "))
        for cells in rows("observability.md")
        if cells[0].startswith("`promptbandit_")
    }
    collectors = set(ServerMetrics().registry._names_to_collectors.values())
    own = {item._name: item._labelnames for item in collectors}
    watched = {f"promptbandit_{name}": labels for name, (labels, _) in GAUGES.items()}
    assert described == own | watched


def test_every_command_is_described():
    from cli.main import promptbandit

    text = (DOCS / "commands.md").read_text()
    context = click.Context(promptbandit)
    names = promptbandit.list_commands(context)
    assert len(names) >= 9
    missing = [name for name in names if f"`promptbandit {name}" not in text]
    assert missing == []
    told = set(re.findall(r"`promptbandit ([a-z]+)", text))
    assert told <= set(names)


def test_every_option_of_a_command_is_described():
    from cli.main import promptbandit

    text = (DOCS / "commands.md").read_text() + (DOCS / "importing.md").read_text()
    context = click.Context(promptbandit)
    for name in promptbandit.list_commands(context):
        command = promptbandit.get_command(context, name)
        assert command is not None
        group = command.commands.values() if isinstance(command, click.Group) else [command]
        options = [p.opts for c in group for p in c.params if isinstance(p, click.Option)]
        assert [names for names in options if not any(option in text for option in names)] == [], name


def test_every_request_record_forbids_unknown_fields():
    """Also those that no test has sent yet: a subclass of Request cannot forget it."""
    records = _subclasses(Request)
    assert set(BODIES) <= records
    assert {
        record.__name__ for record in records if not record.__struct_config__.forbid_unknown_fields
    } == set()


def _subclasses(record: type[Request]) -> set[type[Request]]:
    direct = set(record.__subclasses__())
    return direct.union(*(_subclasses(child) for child in direct))
