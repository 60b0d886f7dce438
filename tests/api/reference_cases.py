"""The cases of shared/reference/bad_inputs.json in the words of our API.

Their paths and fields are generic: here they become ours, or it is said why they cannot.
"""

import base64
import datetime as dt
import gzip
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from domain.keys import checksum
from tests.running_server import RunningServer

FILE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "bad_inputs.json"


def cases() -> list[dict[str, Any]]:
    """All cases; none where the reference folder is not beside the repository."""
    return list(json.loads(FILE.read_text())["cases"]) if FILE.exists() else []


# Nothing in our API that such a request could meet.
NO_COUNTERPART = {
    "auth-07": "there are no projects: one installation, one set of keys",
    "auth-13": "test_scopes.py asks with a key of every scope",
    "auth-14": "four eyes are not configured: a manager approves, and the audit names him",
    "asg-07": "an experiment always serves: its control and one more variant cannot be retired (409)",
    "adm-15": "no path changes a split by hand, so there is nothing to hold an If-Match against",
    "opt-01": "the optimizer, not the HTTP API",
    "opt-02": "the optimizer, not the HTTP API",
    "opt-03": "the optimizer, not the HTTP API",
    "opt-04": "the optimizer, not the HTTP API",
    "opt-05": "the optimizer, not the HTTP API",
    "opt-06": "test_suggestions.py: of many who decide at once one decides",
}

# Needs many threads: in test_concurrency.py.
CONCURRENT = {
    "out-15": "test_two_different_outcomes_at_once_are_one_value_and_its_revision",
    "asg-05": "test_fifty_first_assignments_at_once_are_one_answer",
    "adm-04": "test_one_version_is_active_at_every_moment",
    "adm-14": "test_of_two_creations_at_once_one_is_made",
}

# Needs a socket: in test_raw_requests.py.
RAW = {
    "http-10": "test_a_body_that_ends_early_is_not_stored",
    "http-13": "test_a_dripping_body_is_ended_and_holds_up_nobody",
    "http-14": "test_two_hundred_half_requests_hold_up_nobody",
    "http-17": "test_an_endless_path_is_refused",
    "http-18": "test_a_line_break_in_a_header_reaches_no_answer",
    "http-23": "test_a_path_upwards_leads_nowhere",
    "auth-10": "test_two_keys_are_no_key",
}

# (statuses, why) where our design answers otherwise than the file expects.
DIFFERENT: dict[str, tuple[set[int], str]] = {
    "out-11": ({200}, "design §5: an outcome without assignment is parked and joined when it appears"),
    "out-12": ({200}, "unit ids are the caller's own text, any text; so this is out-11 again"),
    "out-14": ({200}, "design §5: a later value is `revised`, the old one kept in outcome_revisions"),
    "out-21": ({200}, "idempotent by (prompt, unit, metric), not by a header: the other value is `revised`"),
}

# Our name of a problem where the file has another.
TYPES = {
    "/problems/experiment-not-found": "/problems/prompt-not-found",
    "/problems/arm-mismatch": "/problems/allocation-mismatch",
    "/problems/forbidden-override": "/problems/unknown-field",
    "/problems/illegal-transition": "/problems/experiment-stopped",
}


class World(NamedTuple):
    """What stands in a server before the cases: `other_allocation` is one of another experiment."""

    server: RunningServer
    versions: list[int]
    other_allocation: int


class Sent(NamedTuple):
    """A request in our words."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes | None


def set_up(server: RunningServer) -> World:
    """A running experiment on `support`, a stopped one on `done`, three versions of `other`, `idle`."""
    server.create_version("support", "Active text.")
    server.start_experiment("greeting", "support")
    server.create_version("done", "Active text.")
    stopped = server.start_experiment("stopped", "done")
    assert server.manager.patch(f"/experiments/{stopped['key']}/stop").status_code == 200
    server.create_version("idle", "Active text.")
    versions = [server.create_version("other", f"Text {number}.")["id"] for number in (1, 2, 3)]
    allocations = server.manager.get("/experiments/stopped/allocations").json()
    return World(server, versions, allocations[-1]["id"])


def translate(case: dict[str, Any], world: World, unit_id: str) -> Sent:
    """The case's request as our API has it; `unit_id` stands for $ASG."""
    asked = case["request"]
    headers = {name: value for name, value in asked.get("headers", {}).items() if value is not None}
    method, path = _path(asked["method"], asked["path"])
    content = _content(asked, unit_id)
    if content is not None:
        content = _ours(content, path, world, unit_id)
        if "Content-Type" not in asked.get("headers", {}):
            headers["Content-Type"] = "application/json"
    return Sent(method, path, headers | _authorization(asked["auth"], world.server), content)


def _path(method: str, path: str) -> tuple[str, str]:
    path = path.removeprefix("/v1").replace("$EXP", "greeting").replace("$FINISHED", "stopped")
    path = path.replace("$AGENT_KEY", "pb_agent_secret")
    if path == "/experiments/stopped/start":  # the illegal transition that we have
        return "PATCH", "/experiments/stopped/stop"
    return ("PATCH", path) if path.endswith("/stop") else (method, path)


def _authorization(auth: str | None, server: RunningServer) -> dict[str, str]:
    if auth is None:
        return {}
    scopes = {"agent": "agent", "readonly": "analyst", "admin": "manager", "manager": "manager"}
    key = server.key(scopes[auth]) if auth in scopes else auth.removeprefix("raw:")
    if key == "$PREFIX_PUBID_WRONGSECRET":
        key = wrong_secret(server.key("agent"))
    repeat = re.fullmatch(r"\$REPEAT\((.),(\d+)\)", key)
    return {"Authorization": f"Bearer {repeat[1] * int(repeat[2]) if repeat else key}"}


def wrong_secret(key: str) -> str:
    """The same public part, another secret, a checksum that fits."""
    public = key.rsplit("_", 1)[0]
    body = f"{public}_{base64.b32encode(bytes(32)).decode().rstrip('=').lower()}"
    return body + checksum(body)


def _content(asked: dict[str, Any], unit_id: str) -> bytes | None:
    if "json" in asked:
        return json.dumps(asked["json"]).encode()
    if "raw_body_latin1" in asked:
        return str(asked["raw_body_latin1"]).encode("latin-1")
    if "body_python_expr" in asked:
        good = {"assignment_id": "$ASG", "resolved": True, "quality": 0.8, "duration_s": 31.5}
        ours = _fields(good, "/outcomes", None, unit_id)
        names = {"__builtins__": {}, "json": json, "gzip": gzip, "OK": ours}
        return bytes(eval(asked["body_python_expr"], names))
    return None


_OUTCOME = re.compile(rb'^\{"assignment_id":"([^"]*)",(.*)\}$', re.DOTALL)


def _ours(content: bytes, path: str, world: World, unit_id: str) -> bytes:
    if _OUTCOME.match(content):  # written by hand for what is wrong with it: only the names change
        named = _OUTCOME.sub(rb'{"prompt":"support","unit_id":"\1","metrics":{\2}}', content)
        return named.replace(b"$ASG", unit_id.encode())
    try:
        return json.dumps(_fields(json.loads(content.decode()), path, world, unit_id)).encode()
    except ValueError:  # no JSON, and so it has to stay
        return content


def _fields(document: Any, path: str, world: World | None, unit_id: str) -> Any:
    if not isinstance(document, dict) or "unit_id" in document:
        return document
    if "assignment_id" in document:
        return _outcome(document, world, unit_id)
    if path.startswith("/assignments"):
        names = {"greeting": "support", "$STOPPED": "done"}
        prompt = names.get(document["experiment"], document["experiment"])
        rest = {name: value for name, value in document.items() if name not in ("experiment", "call_id")}
        return {"prompt": prompt, "unit_id": document["call_id"], **rest}
    if "arms" in document and world is not None:
        return _experiment(document, world)
    return document


def _outcome(document: dict[str, Any], world: World | None, unit_id: str) -> dict[str, Any]:
    rest = dict(document)
    unit = rest.pop("assignment_id").replace("$ASG", unit_id)
    ours: dict[str, Any] = {"prompt": "support", "unit_id": unit}
    if "ended_at" in rest:
        an_hour_ago = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).isoformat()
        ours["occurred_at"] = rest.pop("ended_at").replace("$ASSIGNED-1h", an_hour_ago)
    if "arm" in rest and world is not None:
        ours["allocation"] = world.other_allocation
        del rest["arm"]
    return {**ours, "metrics": rest}


def _experiment(document: dict[str, Any], world: World) -> dict[str, Any]:
    rest = {name: value for name, value in document.items() if name not in ("name", "arms")}
    variants = [
        {"key": key, "version_id": world.versions[int(arm["version_id"][-1]) - 1], "share": arm["weight"]}
        for key, arm in zip("abc", document["arms"], strict=False)
    ]
    return {"key": document["name"], "prompt": "other", "control": "a", "variants": variants, **rest}
