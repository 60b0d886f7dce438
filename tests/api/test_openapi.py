"""The OpenAPI document says what the server does: bodies, queries, errors, keys."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from api.app import ROUTES
from api.openapi import Described
from api.problems import PROBLEM_JSON
from tests.api.reference_cases import World
from tests.api.test_scopes import METHODS, NEEDS, operations

EVERY = {"400", "401", "403", "414", "422", "429", "431", "503"}


@pytest.fixture(scope="module")
def document(worlds: dict[str, World]) -> dict[str, Any]:
    answer = worlds["sqlite"].server.manager.get("/schema")
    assert answer.headers["content-type"] == "application/vnd.oai.openapi+json"
    return dict(answer.json())


def references(value: Any) -> Iterator[str]:
    """Every $ref in the document."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_reference_leads_somewhere(document: dict[str, Any]):
    found = set(references(document))
    assert len(found) >= 10
    for reference in found:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


def test_every_component_is_referred_to(document: dict[str, Any]):
    names = {reference.rsplit("/", 1)[1] for reference in references(document)}
    assert set(document["components"]["schemas"]) <= names


def test_every_operation_needs_a_key_but_the_health_checks(document: dict[str, Any]):
    assert document["openapi"].startswith("3.1")
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    without = {name for name, operation in operations(document).items() if operation.get("security") == []}
    assert without == {name for name, scope in NEEDS.items() if scope == "open"}


def test_every_operation_has_an_id_and_a_sentence(document: dict[str, Any]):
    found = operations(document)
    ids = [operation["operationId"] for operation in found.values()]
    assert len(ids) == len(set(ids))
    assert [name for name, operation in found.items() if not operation.get("description")] == []


def test_every_body_and_query_that_is_read_is_described(document: dict[str, Any]):
    """Routes read them by hand, so the description comes from `takes(...)` beside each route."""
    described = operations(document)
    for handler in ROUTES:
        path = re.sub(r":\w+\}", "}", next(iter(handler.paths)))
        method = next(iter(handler.http_methods))
        operation, takes = described[f"{method} {path}"], handler.operation_class
        body = takes.body if issubclass(takes, Described) else None
        query = takes.query if issubclass(takes, Described) else None
        assert ("requestBody" in operation) is (body is not None)
        parameters = {item["name"] for item in operation.get("parameters", []) if item["in"] == "query"}
        assert parameters == set(query.__struct_fields__ if query else ())
        if body is not None:
            schema = json.dumps(operation["requestBody"]["content"]["application/json"])
            assert f'"#/components/schemas/{body.__name__}"' in schema


def test_every_request_forbids_unknown_fields(document: dict[str, Any]):
    """Mass assignment: what is not listed is refused."""
    schemas = document["components"]["schemas"]
    bodies = [name for name in schemas if name.startswith(("New", "Stop", "Turn"))]
    assert len(bodies) >= 9
    assert [name for name in bodies if schemas[name]["additionalProperties"] is not False] == []


def test_every_operation_declares_its_errors_as_problems(document: dict[str, Any]):
    for name, operation in operations(document).items():
        if NEEDS[name] == "open":
            continue
        errors = {status: item for status, item in operation["responses"].items() if status >= "400"}
        expected = EVERY | ({"408", "413", "415"} if name.startswith(("POST", "PATCH")) else set())
        assert set(errors) >= expected | ({"404"} if "{" in name else set()), name
        assert {content for item in errors.values() for content in item["content"]} == {PROBLEM_JSON}


def test_a_path_says_without_a_key_which_methods_it_takes(document: dict[str, Any], worlds: dict[str, World]):
    with worlds["sqlite"].server.client(None) as client:
        for path, item in document["paths"].items():
            answer = client.options(re.sub(r"\{\w+\}", "1", path))
            assert answer.status_code == 204
            told = answer.headers["allow"].split(", ")
            assert told == sorted({*(method.upper() for method in item if method in METHODS), "OPTIONS"}), (
                path
            )


def test_what_may_be_tried_again_says_when(document: dict[str, Any]):
    for name, operation in operations(document).items():
        for status in operation["responses"].keys() & {"429", "503"}:
            assert list(operation["responses"][status]["headers"]) == ["Retry-After"], name


def test_what_the_server_answers_is_declared(document: dict[str, Any], worlds: dict[str, World]):
    """A few answers of each status, looked up in the document."""
    described = operations(document)
    manager = worlds["sqlite"].server.manager
    tries: list[tuple[str, str, str, Any]] = [
        ("GET", "/prompts", "/prompts", None),
        ("POST", "/prompts", "/prompts", {"name": "support", "system_prompt": "Active text."}),
        ("GET", "/prompts/{version_id}", "/prompts/999999", None),
        ("POST", "/assignments", "/assignments", {"prompt": "support", "unit_id": "declared"}),
        ("POST", "/assignments", "/assignments", {"prompt": "nope", "unit_id": "declared"}),
        ("POST", "/outcomes", "/outcomes", {"prompt": "nope"}),
        ("POST", "/experiments", "/experiments", {}),
        ("GET", "/experiments/{key}/report", "/experiments/greeting/report", None),
        ("PATCH", "/experiments/{key}/stop", "/experiments/stopped/stop", {}),
    ]
    for method, template, path, body in tries:
        answer = manager.request(method, path, json=body)
        assert str(answer.status_code) in described[f"{method} {template}"]["responses"], answer.text
