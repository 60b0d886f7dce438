"""Agents at a steady rate, and a ledger of everything they were told."""

import collections
import http.client
import json
import queue
import random
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

AGENTS = 4
PERIOD_S = 0.06  # of one agent: 4 agents ask 65 times a second
SENDERS = 2
BATCH = 20
TWICE = 0.2  # share of the outcome batches that are sent a second time, at the same moment
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One `POST /assignments` as the client saw it; status 0: no answer."""

    at: float
    unit_id: str
    first: bool
    seconds: float
    status: int
    reason: str = ""
    variant: str | None = None
    allocation: int | None = None
    content_hash: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """One `POST /outcomes` as the client saw it; status 0: no answer."""

    at: float
    seconds: float
    status: int
    retry_after: str | None


class Wire:
    """A connection that is opened again when it was closed."""

    def __init__(self, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def post(self, path: str, body: Any) -> tuple[int, Any, str | None]:
        """Status, answer and Retry-After; status 0 when there was no answer."""
        try:
            self._connection.request("POST", path, json.dumps(body), self._headers)
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.getheader("Retry-After")
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, None, None

    def close(self) -> None:
        self._connection.close()


def ask(wire: Wire, prompt: str, unit: str, *, first: bool) -> tuple[Ask, Any]:
    """`POST /assignments`; what the client saw, and the problem if there was one."""
    at = time.monotonic()
    status, answer, _ = wire.post("/assignments", {"prompt": prompt, "unit_id": unit})
    seconds = time.monotonic() - at
    if status != 200:
        return Ask(at, unit, first, seconds, status), answer
    return Ask(
        at,
        unit,
        first,
        seconds,
        status,
        answer["reason"],
        answer["variant"],
        answer["allocation"],
        answer["version"]["content_hash"],
    ), None


class Load:
    """Agents that ask, ask again and tell; senders that send until they are acknowledged.

    `asks` and `told` are what the clients saw, `acknowledged` the outcomes by unit that were answered
    with 200, `statuses` how often each status was given.

    Parameters
    ----------
    tell_allocation : the share of outcomes that tell the allocation under which their call was assigned.
    name : tells its agents, and so its units, from those of another load on the same prompt.
    period_s : how often each agent asks.
    """

    def __init__(
        self,
        port: int,
        key: str,
        prompt: str,
        *,
        tell_allocation: float = 0.5,
        name: str = "",
        period_s: float = PERIOD_S,
    ) -> None:
        self.prompt = prompt
        self.asks: list[Ask] = []
        self.told: list[Told] = []
        self.sent: dict[str, dict[str, Any]] = {}
        self.acknowledged: dict[str, dict[str, float]] = {}
        self.statuses: collections.Counter[str] = collections.Counter()
        self.problems: list[Any] = []
        self.started_at = time.monotonic()
        self._tell_allocation = tell_allocation
        self._period_s = period_s
        self._port = port
        self._key = key
        self._asking = threading.Event()
        self._telling = threading.Event()
        self._outbox: queue.Queue[dict[str, Any]] = queue.Queue()
        self._unsent = 0
        self._lock = threading.Lock()
        self._agents = [threading.Thread(target=self._be_agent, args=(f"{name}{n}",)) for n in range(AGENTS)]
        self._senders = [threading.Thread(target=self._be_sender, args=(n,)) for n in range(SENDERS)]

    def __enter__(self) -> Self:
        self._asking.set()
        self._telling.set()
        for thread in self._agents + self._senders:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_asking()
        self._telling.clear()
        for thread in self._senders:
            thread.join(PATIENCE_S + 5)

    def stop_asking(self) -> None:
        self._asking.clear()
        for thread in self._agents:
            thread.join(PATIENCE_S + 5)

    def drain(self, timeout_s: float = 15.0) -> None:
        """Stop asking and wait until every outcome is acknowledged."""
        self.stop_asking()
        deadline = time.monotonic() + timeout_s
        while self._unsent and time.monotonic() < deadline:
            time.sleep(0.02)
        last = self.told[-3:], self.problems[-3:]
        assert not self._unsent, f"{self._unsent} outcomes were not acknowledged; {self.statuses}; {last}"

    # --- threads ---------------------------------------------------------------------------------

    def _be_agent(self, name: str) -> None:
        chance = random.Random(name)
        wire = Wire(self._port, self._key)
        mine: list[str] = []
        due = time.monotonic() + chance.random() * self._period_s
        while self._asking.is_set():
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + self._period_s, time.monotonic())
            again = bool(mine) and chance.random() < 0.3
            unit = chance.choice(mine) if again else f"{self.prompt}-{name}-{len(mine)}"
            got, problem = ask(wire, self.prompt, unit, first=not again)
            self.asks.append(got)
            if problem is not None:
                self.problems.append(problem)
            if not again and got.status == 200:
                mine.append(unit)
                self._tell(got, chance)
        wire.close()

    def _tell(self, got: Ask, chance: random.Random) -> None:
        outcome: dict[str, Any] = {
            "prompt": self.prompt,
            "unit_id": got.unit_id,
            "metrics": {"resolved": chance.random() < 0.7, "duration_s": round(chance.uniform(10, 200), 1)},
        }
        if chance.random() < self._tell_allocation:  # the others wait for the backlog
            outcome["allocation"] = got.allocation
        self.sent[got.unit_id] = outcome
        with self._lock:
            self._unsent += 1
        self._outbox.put(outcome)

    def _be_sender(self, number: int) -> None:
        chance = random.Random(number)
        wire = Wire(self._port, self._key)
        while self._telling.is_set():
            batch = self._take_batch()
            if not batch:
                continue
            twin = None
            if chance.random() < TWICE:
                twin = threading.Thread(target=self._send_once, args=(batch,))
                twin.start()
            while not self._send(wire, batch) and self._telling.is_set():
                time.sleep(chance.uniform(0.05, 0.3))
            if twin is not None:
                twin.join(PATIENCE_S + 5)
        wire.close()

    def _take_batch(self) -> list[dict[str, Any]]:
        batch: list[dict[str, Any]] = []
        try:
            batch.append(self._outbox.get(timeout=0.05))
            while len(batch) < BATCH:
                batch.append(self._outbox.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _send_once(self, batch: list[dict[str, Any]]) -> None:
        wire = Wire(self._port, self._key)
        self._send(wire, batch)
        wire.close()

    def _send(self, wire: Wire, batch: list[dict[str, Any]]) -> bool:
        at = time.monotonic()
        status, answer, retry_after = wire.post("/outcomes", batch)
        self.told.append(Told(at, time.monotonic() - at, status, retry_after))
        if status != 200:
            self.problems.append(answer)
            return False
        with self._lock:
            for outcome, result in zip(batch, answer["results"], strict=True):
                self.statuses[result["status"]] += 1
                if result["status"] == "rejected":
                    self.problems.append(result)
                    continue
                if outcome["unit_id"] not in self.acknowledged:
                    self._unsent -= 1
                values = {name: float(value) for name, value in outcome["metrics"].items()}
                self.acknowledged[outcome["unit_id"]] = values
        return True
