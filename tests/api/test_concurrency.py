"""Many at once: threads that want the same record, on both databases, and a reader that looks all the time."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.api.tables import counted, select
from tests.running_server import RunningServer


def at_once(work: Callable[[int], Any], number: int) -> list[Any]:
    """`work(0)`, `work(1)`, ... in threads of their own that begin together."""
    barrier = threading.Barrier(number)

    def begin(index: int) -> Any:
        barrier.wait(timeout=60)
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(begin, range(number)))


def statuses(answers: list[httpx.Response]) -> dict[int, int]:
    return dict(Counter(answer.status_code for answer in answers))


@contextmanager
def reader(look: Callable[[], Any]) -> Iterator[list[Any]]:
    """What one more thread sees, as often as it can look."""
    seen: list[Any] = []
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            seen.append(look())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def test_one_version_is_active_at_every_moment(shared: RunningServer):
    """8 threads x 30 activations (adm-04): in 60, two naive UPDATEs gave 2 active versions and 100 deadlocks."""
    ids = [shared.create_version("activated", f"Text {number}.")["id"] for number in range(8)]

    def activate(thread: int) -> list[int]:
        with shared.client("manager") as manager:
            return [
                manager.patch(f"/prompts/{ids[(thread + turn) % 8]}/activate").status_code
                for turn in range(30)
            ]

    def active() -> int:
        with shared.client("analyst") as analyst:
            versions = analyst.get("/prompts", params={"prompt": "activated"}).json()
        return sum(version["is_active"] for version in versions)

    with reader(active) as seen:
        answers = at_once(activate, 8)
    assert {status for given in answers for status in given} == {200}
    assert len(seen) >= 10
    assert set(seen) == {1}


def test_fifty_first_assignments_at_once_are_one_answer(shared: RunningServer):
    """asg-05: insert-or-select in one statement returned nothing in 382 of 800 races."""
    _experiment(shared, "fifty")
    body = {"prompt": "fifty", "unit_id": "the one", "segment": "new"}
    with shared.client("agent") as agent:
        answers = at_once(lambda _: agent.post("/assignments", json=body), 50)
    assert statuses(answers) == {200: 50}
    assert len({answer.content for answer in answers}) == 1
    assert select(shared, "SELECT COUNT(*) FROM assignments WHERE unit_id = 'the one'") == [(1,)]
    sql = "SELECT SUM(n) FROM counts c JOIN experiments e ON e.id = c.experiment_id WHERE e.key = 'fifty'"
    assert [int(row[0]) for row in select(shared, sql)] == [1]


def test_of_two_creations_at_once_one_is_made(shared: RunningServer):
    """adm-14, several rounds: one key on two prompts."""
    prompts = ("race-a", "race-b")
    ids = {name: [shared.create_version(name, text)["id"] for text in "ab"] for name in prompts}
    for turn in range(10):
        bodies = [
            _body(f"Race-{turn}" if name == "race-a" else f"race-{turn}", name, ids[name]) for name in prompts
        ]
        answers = _all_but_one_refused(shared, bodies, "/problems/name-taken")
        key = answers[0].json()["key"]
        assert shared.manager.patch(f"/experiments/{key}/stop").status_code == 200


def test_of_two_experiments_on_one_prompt_at_once_one_runs(shared: RunningServer):
    ids = [shared.create_version("crowded", text)["id"] for text in "ab"]
    for turn in range(10):
        bodies = [_body(f"crowded-{turn}-{number}", "crowded", ids) for number in range(4)]
        answers = _all_but_one_refused(shared, bodies, "/problems/experiment-running")
        key = answers[0].json()["key"]
        assert shared.manager.patch(f"/experiments/{key}/stop").status_code == 200


def test_equal_versions_at_once_are_one_version(shared: RunningServer):
    """A new prompt, too, is made once: the losers learn which version has their text."""
    for turn in range(5):
        body = {"name": f"twin-{turn}", "system_prompt": "The same text."}
        answers = at_once(lambda _, body=body: shared.manager.post("/prompts", json=body), 6)
        assert statuses(answers) == {201: 1, 409: 5}
        assert len(shared.manager.get("/prompts", params={"prompt": body["name"]}).json()) == 1


def test_twenty_equal_outcomes_at_once_count_once(shared: RunningServer):
    _experiment(shared, "twenty")
    for turn in range(5):
        shared.assign(f"twenty-{turn}", "twenty")
        before = counted(shared, "quality")
        body = {
            "prompt": "twenty",
            "unit_id": f"twenty-{turn}",
            "metrics": {"resolved": True, "quality": 0.5},
        }
        with shared.client("agent") as agent:
            answers = at_once(lambda _, a=agent, b=body: a.post("/outcomes", json=b), 20)
        told = Counter(answer.json()["results"][0]["status"] for answer in answers)
        assert told == {"accepted": 1, "unchanged": 19}
        n, total = counted(shared, "quality")
        assert (n, total) == (before[0] + 1, pytest.approx(before[1] + 0.5))


def test_two_different_outcomes_at_once_are_one_value_and_its_revision(shared: RunningServer):
    """out-15, 30 rounds: the unit counts once, with the value that came last."""
    _experiment(shared, "differing")
    for turn in range(30):
        unit = f"differing-{turn}"
        shared.assign(unit, "differing")
        before = counted(shared, "resolved")
        bodies = [{"prompt": "differing", "unit_id": unit, "metrics": {"resolved": v}} for v in (True, False)]
        answers = at_once(lambda i, b=bodies: shared.manager.post("/outcomes", json=b[i]), 2)
        assert sorted(a.json()["results"][0]["status"] for a in answers) == ["accepted", "revised"]
        kept = select(shared, f"SELECT value FROM outcomes WHERE unit_id = '{unit}'")[0][0]
        assert counted(shared, "resolved") == (before[0] + 1, before[1] + kept)


def test_an_outcome_and_its_first_assignment_cannot_miss_each_other(shared: RunningServer):
    """Whichever comes first, the outcome counts when both have been answered."""
    _experiment(shared, "meeting")
    n, _ = counted(shared, "resolved")
    for turn in range(20):
        unit = {"prompt": "meeting", "unit_id": f"meeting-{turn}"}
        calls = [("/assignments", unit), ("/outcomes", unit | {"metrics": {"resolved": True}})]
        answers = at_once(lambda i, c=calls: shared.manager.post(c[i][0], json=c[i][1]), 2)
        assert statuses(answers) == {200: 2}
    assert counted(shared, "resolved")[0] == n + 20


def test_batches_in_opposite_orders_do_not_wait_for_each_other(shared: RunningServer):
    """Locks are taken in one order: no deadlock, nothing lost."""
    _experiment(shared, "batches")
    units = [f"batch-{number}" for number in range(60)]
    for unit in units:
        shared.assign(unit, "batches")
    n, _ = counted(shared, "quality")

    def tell(index: int) -> httpx.Response:
        order = units if index % 2 else units[::-1]
        body = [{"prompt": "batches", "unit_id": unit, "metrics": {"quality": 0.5}} for unit in order]
        return shared.manager.post("/outcomes", json=body)

    assert statuses(at_once(tell, 8)) == {200: 8}
    assert counted(shared, "quality")[0] == n + 60


def test_changes_of_one_experiment_go_one_by_one(shared: RunningServer):
    """Arms are added and retired, versions activated, calls assigned, then it is stopped: no error of ours."""
    _experiment(shared, "busy")
    ids = [shared.create_version("busy", f"Arm {number}.")["id"] for number in range(6)]

    def work(index: int) -> list[httpx.Response]:
        with shared.client("manager") as manager:
            arm = {"key": f"arm-{index}", "version_id": ids[index]}
            return [
                manager.post("/experiments/busy/variants", json=arm),
                manager.post("/assignments", json={"prompt": "busy", "unit_id": f"busy-{index}"}),
                manager.patch(f"/prompts/{ids[index]}/activate"),
                manager.patch(f"/experiments/busy/variants/arm-{index}/retire"),
                manager.get("/experiments/busy/report"),
            ]

    answers = [answer for given in at_once(work, 6) for answer in given]
    assert statuses(answers) == {200: 24, 201: 6}
    splits = [item["split"] for item in shared.manager.get("/experiments/busy/allocations").json()]
    assert len(splits) == 13
    assert {sum(split.values()) for split in splits} == {10_000}
    stopped = at_once(lambda _: shared.manager.patch("/experiments/busy/stop", json={"winner": "a"}), 6)
    assert statuses(stopped) == {200: 1, 409: 5}


def test_counts_equal_outcomes_after_all_this(shared: RunningServer):
    done = shared.command("verify")
    assert done.returncode == 0, done.stderr


def _experiment(server: RunningServer, name: str) -> dict[str, Any]:
    """A running experiment of that key on a prompt of that name."""
    server.create_version(name, "Active text.")
    return server.start_experiment(name, name)


def _body(key: str, prompt: str, ids: list[int]) -> dict[str, Any]:
    variants = [{"key": arm, "version_id": version} for arm, version in zip("ab", ids, strict=True)]
    return {"key": key, "prompt": prompt, "control": "a", "variants": variants}


def _all_but_one_refused(
    server: RunningServer, bodies: list[dict[str, Any]], problem: str
) -> list[httpx.Response]:
    """The answers of creations at once, the good one first."""
    answers = at_once(lambda index: server.manager.post("/experiments", json=bodies[index]), len(bodies))
    assert statuses(answers) == {201: 1, 409: len(bodies) - 1}
    answers.sort(key=lambda answer: answer.status_code)
    assert {answer.json()["type"] for answer in answers[1:]} <= {problem, "/problems/conflict"}
    return answers
