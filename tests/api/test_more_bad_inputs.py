"""Bad inputs beyond the reference file, and good ones that look bad; the table stands in refused.py."""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.api.reference_cases import World
from tests.api.refused import ALL, GOOD, JSON, Bad
from tests.api.tables import counted, state
from tests.api.test_bad_inputs import check_problem


@pytest.mark.parametrize("bad", ALL.values(), ids=ALL)
def test_a_bad_input_is_refused_and_changes_nothing(bad: Bad, worlds: dict[str, World]):
    for world in worlds.values():
        world.server.assign("known")
        before = state(world.server)
        answer = _send(world, bad)
        assert answer.status_code == bad.status, answer.text
        assert state(world.server) == before
        if bad.method == "HEAD":
            continue
        problem = check_problem(answer.status_code, dict(answer.headers), answer.content)
        assert problem["type"] == f"/problems/{bad.slug}"
        _check_no_echo(bad, answer.text)
        assert world.server.assign("known")["reason"] == "SPLIT"


def _send(world: World, bad: Bad) -> httpx.Response:
    with world.server.client(bad.scope) as client:
        return client.request(bad.method, bad.path, headers=bad.headers, content=bad.content)


def _check_no_echo(bad: Bad, text: str) -> None:
    """No answer repeats more than 200 characters of the request in one piece."""
    sent = bad.path + (bad.content or b"").decode(errors="replace")
    assert not any(sent[start : start + 201] in text for start in range(0, min(len(sent), 20_000) - 200, 50))


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(worlds: dict[str, World]):
    def pieces() -> Iterator[bytes]:
        for _ in range(200):
            yield b" " * 8_192

    for world in worlds.values():
        answer = world.server.manager.post("/outcomes", content=pieces(), headers=JSON)
        assert answer.status_code == 413
        check_problem(413, dict(answer.headers), answer.content)


@pytest.mark.parametrize(("number", "status"), [(0, 422), (1, 200), (1_000, 200), (1_001, 422)])
def test_a_list_holds_up_to_a_thousand_outcomes(number: int, status: int, worlds: dict[str, World]):
    for world in worlds.values():
        world.server.assign("more")
        before = state(world.server)
        answer = world.server.manager.post("/outcomes", json=[GOOD] * number)
        assert answer.status_code == status
        if status == 422:
            assert state(world.server) == before
        else:
            assert len(answer.json()["results"]) == number


def test_a_unit_may_stand_twice_in_one_list(worlds: dict[str, World]):
    """The second value replaces the first, as if told one after the other."""
    for world in worlds.values():
        world.server.assign("twice")
        n, total = counted(world.server, "quality")
        values = (0.25, 0.25, 0.75)
        body = [GOOD | {"unit_id": "twice", "metrics": {"quality": value}} for value in values]
        answer = world.server.manager.post("/outcomes", json=body)
        statuses = [result["status"] for result in answer.json()["results"]]
        assert statuses == ["accepted", "unchanged", "revised"]
        assert counted(world.server, "quality") == (n + 1, pytest.approx(total + 0.75))


def test_bad_outcomes_of_a_list_do_not_spoil_the_others(worlds: dict[str, World]):
    """What no database takes (NUL, a huge number, half a surrogate pair) is refused item by item, too."""
    bad = [
        '{"x":1}',
        "5",
        "null",
        "[[1]]",
        '{"prompt":"support","unit_id":"v\\u0000"}',
        '{"prompt":"support","unit_id":"\\ud800","metrics":{"quality":1}}',
        '{"prompt":"support","unit_id":"v","metrics":{"quality":1e999}}',
        '{"prompt":"support","unit_id":"v","metrics":{"quality":7}}',
        '{"prompt":"nope","unit_id":"v","metrics":{"quality":1}}',
        '{"prompt":"support","unit_id":"v","metrics":' + '{"a":' * 40 + "1" + "}" * 40 + "}",
    ]
    for world in worlds.values():
        world.server.assign("spoilt")
        good = json.dumps(GOOD | {"unit_id": "spoilt"})
        body = f"[{good},{','.join(bad)},{good}]".encode()
        answer = world.server.manager.post("/outcomes", content=body, headers=JSON)
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert [result["status"] for result in results] == ["accepted", *["rejected"] * len(bad), "unchanged"]
        for index, result in enumerate(results[1:-1], start=1):
            problem = result["problem"]
            assert problem["type"].startswith("/problems/")
            if problem["status"] == 422 and index < 8:
                assert problem["errors"][0]["pointer"].startswith(f"/{index}")


def test_what_looks_odd_but_is_right_is_taken(worlds: dict[str, World]):
    """A good API refuses no good input: emoji, 32 levels, the largest integers, -0.0, nanoseconds, a lower t."""
    deep = json.loads('{"a":' * 31 + "1" + "}" * 31)
    largest = {"": [2**63 - 1, -(2**63) + 1]}
    for world in worlds.values():
        server = world.server
        unit = server.assign("\U0001f600 caf\u00e9 \u202e" + "x" * 180)
        assert server.assign(unit["unit_id"]) == unit
        made = server.create_version("odd", "\u202etext\t\r\n\x1b", metadata=deep, tools_config=largest)
        shown = server.manager.get(f"/prompts/{made['id']}").json()
        assert (shown["metadata"], shown["tools_config"]) == (deep, largest)
        told = {"metrics": {"quality": -0.0}, "occurred_at": "2026-01-01t00:00:00.123456789-14:00"}
        assert server.record("parked and odd", **told) == "parked"
        assert server.record("parked and odd", **told) == "unchanged"


def test_media_types_are_compared_without_case(worlds: dict[str, World]):
    for world in worlds.values():
        content = json.dumps({"prompt": "support", "unit_id": "media"})
        headers = {"Content-Type": 'Application/JSON ; Charset="UTF-8"'}
        assert world.server.manager.post("/assignments", content=content, headers=headers).status_code == 200


def test_head_is_get_without_its_body(worlds: dict[str, World]):
    for world in worlds.values():
        for path in ("/health/live", "/prompts", "/experiments/greeting/report"):
            answer = world.server.manager.head(path)
            assert answer.status_code == 200
            assert answer.content == b""
            assert int(answer.headers["content-length"]) > 0


def test_options_needs_no_key(worlds: dict[str, World]):
    """Which methods a path takes is no secret; /schema tells it, too."""
    for world in worlds.values():
        for path, method in {"/outcomes": "POST", "/health/live": "GET"}.items():
            with world.server.client(None) as nobody:
                answer = nobody.options(path)
            assert answer.status_code == 204
            assert method in answer.headers["allow"]
