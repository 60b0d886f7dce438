"""Requests that are refused: what the gaps of the reference file let us guess, and what we found by trying."""

import gzip
import json
from typing import Any, NamedTuple

HUGE = 2**63
GOOD = {"prompt": "support", "unit_id": "more", "metrics": {"resolved": True}}
JSON = {"Content-Type": "application/json"}


class Bad(NamedTuple):
    """A request that is refused, and the problem that says so."""

    method: str
    path: str
    content: bytes | None
    status: int
    slug: str
    headers: dict[str, str] = JSON
    scope: str = "manager"


def outcome(content: bytes | str, status: int = 422, slug: str = "validation", **more: Any) -> Bad:
    raw = content.encode() if isinstance(content, str) else content
    return Bad("POST", "/outcomes", raw, status, slug, **more)


def media(content_type: str) -> Bad:
    content = json.dumps(GOOD).encode()
    return Bad("POST", "/outcomes", content, 415, "unsupported-media-type", {"Content-Type": content_type})


def encoded(content_encoding: str) -> Bad:
    headers = JSON | {"Content-Encoding": content_encoding}
    content = gzip.compress(json.dumps(GOOD).encode())
    return Bad("POST", "/outcomes", content, 415, "unsupported-content-encoding", headers)


def told(status: int = 422, slug: str = "validation", **fields: Any) -> Bad:
    return outcome(json.dumps(GOOD | fields), status, slug)


def measured(value: str) -> Bad:
    return outcome('{"prompt":"support","unit_id":"more","metrics":{"quality":' + value + "}}")


def posted(path: str, body: Any, status: int = 422, slug: str = "validation") -> Bad:
    return Bad("POST", path, json.dumps(body).encode(), status, slug)


def ab_test(status: int = 422, slug: str = "validation", **fields: Any) -> Bad:
    body = {"test_name": "t", "variant_a_id": 1, "variant_b_id": 2} | fields
    return posted("/prompts/ab-tests", body, status, slug)


def patched(path: str, content: bytes | None, status: int = 422, slug: str = "validation") -> Bad:
    return Bad("PATCH", path, content, status, slug)


def got(path: str, status: int = 422, slug: str = "validation") -> Bad:
    return Bad("GET", path, None, status, slug, {})


def version(**fields: Any) -> Bad:
    return posted("/prompts", {"name": "more", "system_prompt": "x"} | fields)


def experiment(**fields: Any) -> Bad:
    """The versions do not exist, but the rules of the fields are looked at before."""
    variants = [{"key": key, "version_id": number} for number, key in enumerate("ab", start=10**9)]
    body = {"key": "more", "prompt": "idle", "control": "a", "variants": variants}
    return posted("/experiments", body | fields)


DEEP = 100_000
LONG_VARIANT = f"/experiments/greeting/variants/{'a' * 7_000}/retire"
STOP = "/experiments/greeting/stop"
MALFORMED = (400, "malformed-json")
NOT_UTF8 = (400, "malformed-request")
MISSING = (404, "not-found")

BODIES = {
    "text/plain": media("text/plain"),
    "XML": media("application/xml"),
    "a form": media("application/x-www-form-urlencoded"),
    "a problem": media("application/problem+json"),
    "latin-1 declared": media("application/json; charset=latin-1"),
    "brotli declared": encoded("br"),
    "two encodings": encoded("identity, gzip"),
    "empty": outcome(b"", *MALFORMED),
    "blank": outcome(b"  \n", *MALFORMED),
    "cut off": outcome('{"prompt":"support","unit_id":', *MALFORMED),
    "trailing comma": outcome('{"prompt":"support",}', *MALFORMED),
    "single quotes": outcome("{'prompt':'support'}", *MALFORMED),
    "comment": outcome("{} // nothing", *MALFORMED),
    "arrays 100 000 deep": outcome(b"[" * DEEP + b"]" * DEEP),
    "objects 100 000 deep": outcome(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "arrays 100 000 deep, never closed": outcome(b"[" * DEEP),
    "33 deep": version(metadata=json.loads('{"a":' * 33 + "1" + "}" * 33)),
    "surrogate bytes ED A0 80": outcome(b'{"prompt":"support","unit_id":"\xed\xa0\x80"}', *MALFORMED),
    "overlong NUL C0 80": outcome(b'{"prompt":"support","unit_id":"\xc0\x80"}', *MALFORMED),
    "a number": outcome("5"),
    "a string": outcome('"outcome"'),
    "an object for a list": posted("/assignments", [GOOD]),
    "2 MiB": outcome(b" " * 2**21, 413, "body-too-large"),
    "65 KiB to assign": Bad("POST", "/assignments", b" " * 66_560, 413, "body-too-large"),
    "surrogate as a key, twice": outcome('{"\\ud800":1,"\\ud800":2}', 422, "duplicate-key"),
    "130 000 keys, the last one twice": outcome(
        "{" + ",".join(f'"{n:x}":1' for n in range(80_000)) + ',"0":1}', 422, "duplicate-key"
    ),
    "key twice, deep inside": outcome('{"metrics":{"quality":1,"quality":1}}', 422, "duplicate-key"),
}

FIELDS = {
    "NUL in a unit id": told(unit_id="a\x00b"),
    "NUL as a key": told(metrics={"qua\x00lity": 0.5}),
    "line break at the end of a unit id": told(unit_id="more\n"),
    "escape in a segment": told(segment="\x1b[31m"),
    "no unit id": outcome('{"prompt":"support","metrics":{"quality":1}}'),
    "empty unit id": told(unit_id=""),
    "unit id of 201 characters": told(unit_id="a" * 201),
    "unit id as a number": told(unit_id=5),
    "unit id null": told(unit_id=None),
    "half a surrogate pair": told(unit_id="\ud83d"),
    "no metrics": told(metrics={}),
    "31 metrics": told(metrics={f"m{number}": 1 for number in range(31)}),
    "metric name with a capital": told(metrics={"Quality": 1}),
    "metric name with a line break": told(metrics={"quality\n": 1}),
    "metric of another experiment": told(unit_id="known", metrics={"csat": 5}),
    "metric as an object": told(metrics={"quality": {"value": 1}}),
    "metric as a list": told(metrics={"quality": [1]}),
    "binary metric as a number": told(metrics={"resolved": 1}),
    "10^400": measured("1" + "0" * 400),
    "1e400": measured("1e400"),
    "-1e400": measured("-1e400"),
    "-Infinity": Bad(*measured("-Infinity")[:3], 400, "malformed-json"),
    "2^63 as a metric": told(metrics={"duration_s": HUGE}),
    "2^63 - 1 seconds": told(metrics={"duration_s": HUGE - 1}),
    "allocation 2^63": told(allocation=HUGE),
    "allocation 2^63 - 1": told(404, "allocation-not-found", unit_id="nobody", allocation=HUGE - 1),
    "allocation -1": told(allocation=-1),
    "allocation 0.5": told(allocation=0.5),
    "allocation true": told(allocation=True),
    "time as a number": told(occurred_at=1_800_000_000),
    "time as words": told(occurred_at="yesterday"),
    "time without a clock": told(occurred_at="2026-11-22"),
    "30 February": told(occurred_at="2026-02-30T00:00:00Z"),
    "second 60": told(occurred_at="2016-12-31T23:59:60Z"),
    "year 1": told(slug="timestamp-out-of-range", occurred_at="0001-01-01T00:00:00+14:00"),
    "year 1969": told(slug="timestamp-out-of-range", occurred_at="1969-12-31T23:59:59Z"),
    "year 9999": told(slug="timestamp-out-of-range", occurred_at="9999-12-31T23:59:59-14:00"),
    "transcript as text": told(transcript="hello"),
    "transcript turn with an unknown field": told(
        slug="unknown-field", transcript=[{"role": "user", "text": "x"}]
    ),
    "unknown field": told(slug="unknown-field", experiment="greeting"),
    "variant told by the agent": told(slug="unknown-field", variant="a"),
    "prompt of another case": told(404, "prompt-not-found", prompt="Support"),
    "prompt name in capitals exists": posted(
        "/prompts", {"name": "SUPPORT", "system_prompt": "x"}, 409, "name-taken"
    ),
    "NUL in a prompt": version(system_prompt="a\x00"),
    "NUL as a metadata key": version(metadata={"a\x00": 1}),
    "2^63 in metadata": version(metadata={"n": HUGE}),
    "-2^63 - 1 in tools": version(tools_config=[-HUGE - 1]),
    "metadata as a list": version(metadata=[]),
    "tools as text": version(tools_config="none"),
    "blank prompt": version(system_prompt=" \n "),
    "prompt of 200 001 characters": version(system_prompt="a" * 200_001),
    "parent of another prompt": version(parent_id=HUGE - 1),
    "parent 2^63": version(parent_id=HUGE),
    "author with a line break": version(author="me\nyou"),
    "is_active told": Bad(*version(is_active=True)[:3], 422, "unknown-field"),
}

EXPERIMENTS = {
    "one variant": experiment(variants=[{"key": "a", "version_id": 1}]),
    "21 variants": experiment(variants=[{"key": f"v{n}", "version_id": n} for n in range(1, 22)]),
    "a key twice": experiment(variants=[{"key": "a", "version_id": n} for n in (1, 2)]),
    "a version twice": experiment(variants=[{"key": key, "version_id": 1} for key in "ab"]),
    "control among nobody": experiment(control="z"),
    "versions that do not exist": experiment(),
    "version 2^63": experiment(variants=[{"key": key, "version_id": HUGE} for key in "ab"]),
    "shares of 0.9": experiment(
        variants=[{"key": k, "version_id": n, "share": 0.45} for n, k in enumerate("ab", 1)]
    ),
    "alpha 0": experiment(alpha=0),
    "alpha 1": experiment(alpha=1),
    "alpha that no test can reach": experiment(alpha=5e-324),
    "effect that no sample can show": experiment(minimum_detectable_effect=1e-300),
    "baseline 1": experiment(baseline=1),
    "baseline and effect above 1": experiment(baseline=0.99, minimum_detectable_effect=0.05),
    "minimum days -1": experiment(min_days=-1),
    "minimum days 1e18": experiment(min_days=1e18),
    "maturity as text": experiment(maturity_s="7 days"),
    "unknown policy": experiment(policy={"name": "greedy"}),
    "unknown policy of 1 000 letters": experiment(policy={"name": "g" * 1_000}),
    "cap below the control's floor": experiment(
        policy={"name": "thompson", "control_floor": 0.9, "cap": 0.6}
    ),
    "floors above 1": experiment(policy={"name": "thompson", "floor": 0.5, "control_floor": 0.6}),
    "caps below 1": experiment(policy={"name": "top_two", "cap": 0.4}),
    "goal among nobody": experiment(goal="csat"),
    "two goals": experiment(metrics=[{"name": n, "kind": "binary", "role": "goal"} for n in ("x", "y")]),
    "guardrail without margin": experiment(metrics=[{"name": "x", "kind": "binary", "role": "guardrail"}]),
    "metric named assigned": experiment(metrics=[{"name": "assigned", "kind": "binary"}]),
    "traffic split 0": ab_test(traffic_split=0),
    "traffic split 1": ab_test(traffic_split=1),
    "a against a": ab_test(variant_b_id=1),
    "A/B test of nothing": ab_test(404, "version-not-found", variant_a_id=10**9),
    "winner that is no variant": patched(STOP, b'{"winner":"z"}', 404, "variant-not-found"),
    "winner null body": patched(STOP, b"null"),
    "stop with half a body": patched(STOP, b'{"winner"', *MALFORMED),
    "stop without media type": Bad(
        "PATCH", "/experiments/greeting/stop", b"{}", 415, "unsupported-media-type", {}
    ),
    "activation with a body": patched("/prompts/1/activate", b'{"force":true}', 422, "unknown-field"),
}

PATHS: dict[str, Bad] = {
    "version 2^63": got(f"/prompts/{HUGE}", *MISSING),
    "version of 5 000 digits": got(f"/prompts/{'9' * 5_000}", *MISSING),
    "version -1": got("/prompts/-1", 404, "version-not-found"),
    "version 0": got("/prompts/0", 404, "version-not-found"),
    "version 1.5": got("/prompts/1.5", *MISSING),
    "activate 2^63": patched(f"/prompts/{HUGE}/activate", None, *MISSING),
    "compare with 2^63": got(f"/prompts/1/diff/{HUGE}", *MISSING),
    "stop A/B test 2^63": patched(f"/prompts/ab-tests/{HUGE}/stop", None, *MISSING),
    "stop A/B test 10^9": Bad(
        "PATCH", "/prompts/ab-tests/1000000000/stop", None, 404, "experiment-not-found"
    ),
    "NUL in a path": got("/experiments/%00", *NOT_UTF8),
    "line break in a path": got("/experiments/a%0Ab", *NOT_UTF8),
    "byte FF in a path": got("/experiments/%ff", *NOT_UTF8),
    "surrogate in a path": got("/experiments/%ED%A0%80", *NOT_UTF8),
    "byte FF in a query": got("/prompts?prompt=%ff", *NOT_UTF8),
    "slash in a key": got("/experiments/a%2Fb", *MISSING),
    "SQL in a key": got("/experiments/' OR 1=1 --", 404, "experiment-not-found"),
    "key of 7 000 letters": got(f"/experiments/{'a' * 7_000}", 404, "experiment-not-found"),
    "unknown variant of 7 000 letters": patched(LONG_VARIANT, None, 404, "variant-not-found"),
    "limit=1e21": got("/experiments?limit=1e21"),
    "limit=10^30": got(f"/experiments?limit={10**30}"),
    "limit=0": got("/prompts?limit=0"),
    "limit=1001": got("/audit?limit=1001"),
    "limit=ten": got("/prompts/ab-tests?limit=ten"),
    "limit without a value": got("/experiments?limit="),
    "limit=NaN": got("/experiments?limit=NaN"),
    "offset=-1": got("/experiments/greeting/allocations?offset=-1"),
    "offset=2^63": got(f"/experiments?offset={HUGE}"),
    "NUL in a query": got("/prompts?prompt=%00"),
    "unknown status": got("/experiments?status=paused"),
    "unknown parameter": got("/prompts?page=2"),
    "parameter where none is taken": got("/experiments/greeting/report?format=csv"),
    "parameter on a POST": Bad("POST", "/assignments?force=b", json.dumps(GOOD).encode(), 422, "validation"),
    "page of the schema": got("/schema/swagger", *MISSING),
    "DELETE": Bad("DELETE", "/experiments/greeting", None, 405, "method-not-allowed", {}),
    "PROPFIND": Bad("PROPFIND", "/prompts", None, 405, "method-not-allowed", {}),
    "HEAD of what is only posted": Bad("HEAD", "/outcomes", None, 405, "method-not-allowed", {}),
}

ALL = BODIES | FIELDS | EXPERIMENTS | PATHS
