"""Who may do what: every route of the OpenAPI document with a key of every scope, and keys that end."""

import itertools
import re
import time
from typing import Any

import httpx
import pytest

from api.app import ROUTES
from domain.keys import SCOPES, Scope
from storage.schema import metadata
from tests.api.reference_cases import World, wrong_secret
from tests.api.tables import select
from tests.running_server import RunningServer

# A new route without an entry fails the first test; `open` needs no key.
NEEDS = {
    "POST /assignments": "agent",
    "POST /outcomes": "agent",
    "GET /prompts": "analyst",
    "POST /prompts": "manager",
    "GET /prompts/{version_id}": "analyst",
    "GET /prompts/{version_id}/diff/{other_id}": "analyst",
    "PATCH /prompts/{version_id}/activate": "manager",
    "GET /prompts/ab-tests": "analyst",
    "POST /prompts/ab-tests": "manager",
    "PATCH /prompts/ab-tests/{ab_test_id}/stop": "manager",
    "GET /experiments": "analyst",
    "POST /experiments": "manager",
    "GET /experiments/{key}": "analyst",
    "PATCH /experiments/{key}/stop": "manager",
    "POST /experiments/{key}/variants": "manager",
    "PATCH /experiments/{key}/variants/{variant}/retire": "manager",
    "GET /experiments/{key}/report": "analyst",
    "GET /experiments/{key}/allocations": "analyst",
    "GET /experiments/{key}/calls": "analyst",
    "GET /suggestions": "manager",
    "POST /suggestions": "optimizer",
    "GET /suggestions/{suggestion_id}": "manager",
    "POST /suggestions/{suggestion_id}/approve": "manager",
    "POST /suggestions/{suggestion_id}/reject": "manager",
    "GET /audit": "manager",
    "GET /health/live": "open",
    "GET /health/ready": "open",
    "GET /metrics": "analyst",
}
METHODS = ("get", "post", "patch", "put", "delete")


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """`METHOD /path` of everything that the document describes."""
    return {
        f"{method.upper()} {path}": item[method]
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    }


def test_every_route_says_who_may_use_it(worlds: dict[str, World]):
    document = worlds["sqlite"].server.manager.get("/schema").json()
    assert set(operations(document)) == set(NEEDS)


def test_every_handler_asks_for_the_scope_that_stands_here():
    """Also what the document leaves out."""
    asked = {
        f"{method} {re.sub(r':[a-z]+}', '}', path)}": handler.opt["scope"]
        for handler in ROUTES
        for path in handler.paths
        for method in handler.http_methods
    }
    assert asked == NEEDS


@pytest.mark.parametrize("route", NEEDS)
def test_a_key_that_ended_or_was_guessed_opens_no_route(route: str, worlds: dict[str, World]):
    """The guessed one has the public part of a manager's key, another secret and a checksum that fits."""
    server = worlds["sqlite"].server
    for key in (server.key("revoked"), wrong_secret(server.key("manager"))):
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}, verify=False) as client:
            answer = _send(client, server, route)
        if NEEDS[route] == "open":
            assert answer.status_code == 200
        else:
            assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")


@pytest.mark.parametrize(("route", "scope"), list(itertools.product(NEEDS, (None, *SCOPES))), ids=str)
def test_a_key_opens_what_its_scope_grants_and_nothing_else(
    route: str, scope: Scope | None, worlds: dict[str, World]
):
    needed = NEEDS[route]
    answer = _ask(worlds["sqlite"].server, route, scope)
    if needed == "open" or scope in (needed, "manager"):
        assert answer.status_code not in (401, 403)
    elif scope is None:
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")
    else:
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/insufficient-scope")
        assert f"scope {needed}" in answer.json()["detail"]


def _ask(server: RunningServer, route: str, scope: Scope | None) -> httpx.Response:
    with server.client(scope) as client:
        return _send(client, server, route)


def _send(client: httpx.Client, server: RunningServer, route: str) -> httpx.Response:
    method, path = route.split(" ")
    path = re.sub(r"\{\w+\}", "999999", path)  # nothing that exists: a key that may would change nothing
    body = {} if method == "POST" else None
    return client.request(method, server.url + path, json=body, timeout=30.0)


def test_what_a_key_may_not_touch_it_cannot_find_out(worlds: dict[str, World]):
    """The scope is looked at before the record: the answer is the same whether it exists or not."""
    for world in worlds.values():
        with world.server.client("agent") as agent:
            answers = [agent.get(f"/experiments/{key}").json() for key in ("greeting", "no-such-thing")]
        assert answers[0] | {"request_id": ""} == answers[1] | {"request_id": ""}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Basic cGI6cGI=",
        "{key}",
        "Token {key}",
        "Bearer {key}x",
        "Bearer {cut}",
        "Bearer é",
    ],
)
def test_what_is_no_bearer_key_opens_nothing(header: str, worlds: dict[str, World]):
    for world in worlds.values():
        key = world.server.key("manager")
        value = header.format(key=key, cut=key[:-1]).encode()
        with world.server.client(None) as client:
            answer = client.get("/prompts", headers=[(b"Authorization", value)])
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_opens_nothing_within_five_seconds(shared: RunningServer, worlds: dict[str, World]):
    """It is believed for PROMPTBANDIT_KEY_CACHE_S at most, and the setting is at most 5."""
    with shared.client("to be revoked") as client:
        assert client.get("/prompts").status_code == 200
        revoked = shared.command("keys", "revoke", shared.key("to be revoked").split("_")[2])
        assert revoked.returncode == 0, revoked.stderr
        deadline = time.monotonic() + 5.0
        while client.get("/prompts").status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert client.get("/prompts").status_code == 401


def test_no_key_stands_in_the_database(shared: RunningServer, worlds: dict[str, World]):
    """In no column of no table: nobody finds one in a dump."""
    stored = "".join(str(select(shared, f"SELECT * FROM {table.name}")) for table in metadata.sorted_tables)
    assert "create_key" in stored
    for scope in SCOPES:
        prefix, secret = shared.key(scope).split("_")[2:]
        assert prefix in stored
        assert secret not in stored
