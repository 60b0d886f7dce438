"""Two servers with two workers each on one database: they say and count the same, and news reaches all.

Restarted, or without one of their workers, they lose nothing that they acknowledged.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_type_hints

import pytest

from api.background import LOOK_EVERY_S
from api.settings import Settings
from tests.outage.judge import rows
from tests.outage.load import Load
from tests.running_server import RunningServer
from tests.servers.calls import (
    DEADLINE_S,
    allocations,
    at_once,
    patiently,
    play,
    post,
    read,
    stop,
    tell,
    wait_for,
)
from tests.servers.restarting import check, unanswered, wait_for_more
from tests.servers.workers import Worker, Workers, pids_of

_log = logging.getLogger("servers")  # pytest --log-cli-level=INFO shows the figures
EAGER = {"name": "thompson", "burn_in": 0, "every_s": 0.0}
pytestmark = pytest.mark.timeout(600)  # servers start several times, each in 2 s or, on a busy machine, in 30
PROMISE_S = 5.0  # on a machine that is not overloaded; the settings below are what makes it true


def test_what_arrives_moves_the_split_once_although_all_workers_try(pair: list[RunningServer]):
    """Four workers pass again and again, and two commands beside them at the very moment."""
    server = pair[0]
    server.start_experiment("once", "once", policy=EAGER)
    # Without an outcome a first pass writes down the split of the prior; from there on each round is one.
    wait_for("the first pass", lambda: len(allocations(server, "once")) == 2)
    expected, rounds = [0, 0], []
    with ThreadPoolExecutor() as pool:
        for number in range(4):
            commands = [pool.submit(_reallocate, server) for _ in range(2 if number == 1 else 0)]
            rounds.append(play(pair[number % 2], "once", f"round-{number}"))
            expected.append(expected[-1] + rounds[-1].counted)
            wait_for("a new split", lambda: _told(server)[-1] >= expected[-1])
            assert [command.result() for command in commands] == [0] * len(commands)
    time.sleep(1.0)  # the next passes of each worker have nothing to do
    numbers, told = [item["number"] for item in allocations(server, "once")], _told(server)
    assert numbers == list(range(1, len(numbers) + 1))  # no gap and no twin
    assert told[1:] == sorted(set(told[1:]))  # none from the same outcomes as another one
    assert told[-1] == expected[-1]
    if all(item.at_once for item in rounds):
        assert told == expected
    stop(server, "once")


def _told(server: RunningServer) -> list[int]:
    """From how many outcomes each split was made."""
    return [sum(item["counts"].get("n", {}).values()) for item in allocations(server, "once")]


def _reallocate(server: RunningServer) -> int:
    return server.command("reallocate", "--force").returncode


def test_a_unit_gets_one_answer_whoever_is_asked_at_the_same_moment(pair: list[RunningServer]):
    """While splits move, workers know different ones: the first answer that is recorded stands."""
    server = pair[0]
    server.start_experiment("same", "same", policy=EAGER)
    recorded = 0
    for number in range(40):
        if number % 5 == 4:
            play(server, "same", f"round-{number}")
        body = {"prompt": "same", "unit_id": f"unit-{number}"}
        asks = [lambda one=one, body=body: post(one, "/assignments", body) for one in pair * 4]
        given = at_once(*asks)
        given += [post(one, "/assignments", body) for one in pair]
        if any(item["reason"] == "STALE" for item in given):
            continue  # the database seemed away to somebody: that is another story
        answers = {(item["variant"], item["allocation"], item["version"]["id"]) for item in given}
        assert len(answers) == 1, answers
        assert set(_stored(server, f"unit-{number}")) == answers
        recorded += 1
        if recorded == 12:
            break
    assert recorded > 0
    stop(server, "same")


def _stored(server: RunningServer, unit: str) -> list[tuple[Any, ...]]:
    query = (
        "SELECT v.key, a.allocation_id, a.version_id FROM assignments a"
        f" LEFT JOIN variants v ON v.id = a.variant_id WHERE a.unit_id = '{unit}'"
    )
    return rows(server.database_url, query)


def test_an_outcome_sent_to_both_servers_at_once_counts_once(pair: list[RunningServer]):
    server = pair[0]
    server.start_experiment("twice", "twice")
    units = [f"twice-{number}" for number in range(60)]
    given = [post(server, "/assignments", {"prompt": "twice", "unit_id": unit}) for unit in units]
    # A worker that has not heard of the experiment yet gives the active version: such calls are in none.
    inside = sum(answer["experiment"] == "twice" for answer in given)
    assert inside > 0
    outcomes = [
        {"prompt": "twice", "unit_id": unit, "metrics": {"resolved": number % 3 == 0, "duration_s": number}}
        for number, unit in enumerate(units)
    ]
    backwards = outcomes[::-1]
    answers = at_once(
        lambda: tell(pair[0], outcomes),
        lambda: tell(pair[1], backwards)[::-1],
        lambda: tell(pair[1], outcomes),
        lambda: tell(pair[0], backwards)[::-1],
    )
    for told in zip(*answers, strict=True):
        assert told.count("accepted") <= 1  # none: it was stored, and the answer was lost
        assert set(told) <= {"accepted", "parked", "unchanged"}
    wait_for("every outcome's count", lambda: _counted(server, "twice") == inside)
    verified = server.command("verify")
    assert verified.returncode == 0, verified.stderr
    stop(server, "twice")


def _counted(server: RunningServer, key: str) -> int:
    report = read(server, f"/experiments/{key}/report")
    return sum(item["metrics"]["resolved"]["n"] for item in report["variants"])


def test_one_of_two_experiments_that_start_at_once_on_a_prompt_runs(pair: list[RunningServer]):
    ids = [pair[0].create_version("race", f"text {number}")["id"] for number in range(2)]
    variants = [{"key": key, "version_id": id_} for key, id_ in zip("ab", ids, strict=True)]

    def start(number: int) -> int:
        body = {"key": f"race-{number}", "prompt": "race", "control": "a", "variants": variants}
        with pair[number % 2].client("manager") as client:
            return patiently(lambda: client.post("/experiments", json=body)).status_code

    statuses = at_once(*(lambda number=number: start(number) for number in range(4)))
    assert set(statuses) <= {201, 409}
    assert statuses.count(201) <= 1  # none: it was started, and the answer was lost
    query = "SELECT count(*) FROM experiments WHERE key LIKE 'race-%' AND status = 'running'"
    assert rows(pair[0].database_url, query) == [(1,)]


@pytest.fixture
def workers(pair: list[RunningServer]) -> Iterator[list[Worker]]:
    """A connection to each worker of both servers."""
    with Workers(pair) as found:
        assert len({worker.pid for worker in found}) == 4
        yield found


def until_all_know(news: str, workers: list[Worker], knows: Callable[[Worker, str], bool]) -> None:
    """Ask each worker for new units until it knows; the time that the last one took goes to the log."""
    began_at = time.monotonic()
    ignorant = list(workers)
    turn = 0
    while ignorant:
        turn += 1
        ignorant = [worker for worker in ignorant if not knows(worker, f"{news}-{worker.pid}-{turn}")]
        late = time.monotonic() > began_at + DEADLINE_S
        assert not (ignorant and late), f"{news}: {len(ignorant)} of {len(workers)} workers do not know"
        time.sleep(0.02)
    _log.info("%s: every worker knew within %.2f s", news, time.monotonic() - began_at)


def served(worker: Worker, key: str, prompt: str, unit: str) -> dict[str, Any]:
    """What this worker gives the unit; version 0 while it cannot say."""
    status, answer = worker.ask("POST", "/assignments", key, {"prompt": prompt, "unit_id": unit})
    assert status in (200, 404, 503), answer
    return answer if status == 200 else {"variant": "", "allocation": 0, "version": {"id": 0}, "reason": ""}


def test_news_needs_less_than_the_promise_by_its_settings():
    """A reading every `refresh_ms`, and a key that is believed for `key_cache_s` at most."""
    settings = Settings()
    assert settings.refresh_ms / 1000 + LOOK_EVERY_S <= PROMISE_S / 2
    bound = get_type_hints(Settings, include_extras=True)["key_cache_s"].__metadata__[0].le
    assert settings.key_cache_s <= bound <= PROMISE_S


def test_a_new_split_and_a_new_experiment_and_its_end(pair: list[RunningServer], workers: list[Worker]):
    first, key = pair[0], pair[0].key("agent")
    first.create_version("news", "before")
    until_all_know(
        "a prompt", workers, lambda worker, unit: served(worker, key, "news", unit)["variant"] is None
    )
    first.start_experiment("news", "news")
    until_all_know(
        "an experiment",
        workers,
        lambda worker, unit: bool(served(worker, key, "news", unit)["variant"]),
    )
    version = first.create_version("news", "a third text")
    added = first.manager.post("/experiments/news/variants", json={"key": "c", "version_id": version["id"]})
    assert added.status_code == 201, added.text
    newest = max(item["id"] for item in read(first, "/experiments/news/allocations"))
    until_all_know(
        "an allocation",
        workers,
        lambda worker, unit: served(worker, key, "news", unit)["allocation"] == newest,
    )
    stopped = first.manager.patch("/experiments/news/stop", json={"winner": "c"})
    assert stopped.status_code == 200, stopped.text
    until_all_know(
        "a winner",
        workers,
        lambda worker, unit: served(worker, key, "news", unit)["version"]["id"] == version["id"],
    )


def test_an_activated_version(pair: list[RunningServer], workers: list[Worker]):
    first, key = pair[0], pair[0].key("agent")
    first.create_version("active", "old")
    version = first.create_version("active", "new")
    until_all_know(
        "the old version",
        workers,
        lambda worker, unit: served(worker, key, "active", unit)["reason"] == "STATIC",
    )
    assert first.manager.patch(f"/prompts/{version['id']}/activate").status_code == 200
    until_all_know(
        "an activated version",
        workers,
        lambda worker, unit: served(worker, key, "active", unit)["version"]["id"] == version["id"],
    )


def test_a_revoked_key(pair: list[RunningServer], workers: list[Worker]):
    """Every worker has believed it a moment before."""
    first = pair[0]
    first.create_version("revoked", "text")
    key = first.key("to be revoked")
    for worker in workers:
        served(worker, key, "revoked", f"before-{worker.pid}")
    done = first.command("keys", "revoke", key.split("_")[2])
    assert done.returncode == 0, done.stderr

    def refuses(worker: Worker, unit: str) -> bool:
        status, _ = worker.ask("POST", "/assignments", key, {"prompt": "revoked", "unit_id": unit})
        assert status in (200, 401, 503)
        return status == 401

    until_all_know("a revoked key", workers, refuses)


# --- restarts -----------------------------------------------------------------------------------------


def test_a_rolling_restart_loses_nothing(pair: list[RunningServer], loads: list[Load]):
    """One server after the other is stopped and started; the agents of the other one notice nothing."""
    for index, server in enumerate(pair):
        other = loads[1 - index]
        failed = unanswered(other)
        server.stop()
        wait_for_more(other)
        server.start()
        wait_for_more(loads[index])
        assert unanswered(other) == failed
    check(pair, loads)


def test_a_killed_worker_is_replaced_and_nothing_that_was_acknowledged_is_lost(
    pair: list[RunningServer], loads: list[Load]
):
    """kill -9 of one of two workers: its supervisor starts another one."""
    server = pair[0]
    before = pids_of(server)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    after = pids_of(server)
    assert len(after) == 2
    assert victim not in after
    wait_for_more(loads[0])
    check(pair, loads)
