"""A process of phone agents: calls at a steady rate, each asked for and told through the real client.

`python -m tests.chaos.agents` reads its orders as JSON, one a line (`Orders`, then words): `drain 60` stops
the calls and answers whether everything was delivered, `go` lets calls begin again, `twice 1.0` changes how
many outcomes are told by two clients at once. When its input ends, it ends.
"""

import contextlib
import datetime as dt
import heapq
import itertools
import logging
import os
import random
import ssl
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from promptbandit import Assignment, Client, PromptBanditError
from promptbandit.memory import Given
from tests.chaos.ledger import Acked, Asked, Pen, Refused, Sums, Told

PROMPT = "support"
FALLBACK = "You answer for a shop whose server is away."
AGAIN = 0.15  # of the calls ask again: transferred to another agent
LASTING_S = (0.1, 1.5)  # of a call
CALLERS = 40  # threads: 60 calls a second of 0.3 s each are 18
CAPACITY = 100_000  # outcomes of a client that may wait; none is to be dropped here


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a process of agents has to do; `rate` is in calls a second."""

    url: str
    key: str
    ledger: str
    name: str
    seed: int
    rate: float
    agents: int = 3
    twice: float = 0.2


class Watched:
    """A client with a witness: what its outbox settles is written down, and how much it sends is counted."""

    def __init__(self, orders: Orders, pen: Pen, tls: ssl.SSLContext, *, copy: bool) -> None:
        self.client = Client(
            orders.url, orders.key, {PROMPT: FALLBACK}, outbox_capacity=CAPACITY, ssl_context=tls
        )
        self.items = 0
        self.recorded = 0
        self._pen = pen
        self._copy = copy
        self._outbox: Any = self.client._outbox
        self._settle, self._count_attempt = self._outbox.settle, self._outbox.count_attempt
        self._outbox.settle, self._outbox.count_attempt = self._on_settle, self._on_attempt

    def _on_settle(self, statuses: list[str]) -> None:
        now = time.monotonic()
        head = list(itertools.islice(self._outbox._queue, len(statuses)))
        for item, status in zip(head, statuses, strict=True):
            self._pen.write(Acked(at=now, unit=item.unit_id, status=status, copy=self._copy))
        self._settle(statuses)

    def _on_attempt(self) -> None:
        self.items += self._outbox._taken
        self._count_attempt()

    def tell(self, unit: str, metrics: dict[str, Any], given: Assignment | None, when: dt.datetime) -> None:
        if given is not None:  # a copy comes from a client that never asked and knows the same
            self.client._memory.keep(PROMPT, unit, Given(given, None))
        values = {name: float(value) for name, value in metrics.items()}
        allocation = given.allocation if given else None
        told = Told(at=time.monotonic(), unit=unit, metrics=values, allocation=allocation, copy=self._copy)
        self._pen.write(told)
        self.recorded += 1
        self.client.record(PROMPT, unit, metrics, occurred_at=when)


class WhyRejected(logging.Handler):
    """Reads the reasons of rejections in the client's log, where its user would read them."""

    def __init__(self, pen: Pen) -> None:
        super().__init__()
        self.seen = 0
        self._pen = pen

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and "was rejected" in str(record.msg):
            _, unit, why = record.args
            self._pen.write(Refused(at=time.monotonic(), unit=str(unit), why=str(why)))
            self.seen += 1


class Timeline:
    """Things to do at their time, by a pool of threads."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = itertools.count()
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(CALLERS)
        self._open = 0
        threading.Thread(target=self._run, daemon=True).start()

    def at(self, due: float, work: Callable[[float], None]) -> None:
        """Call `work(due)` then, or a little later."""
        with self._changed:
            self._open += 1
            heapq.heappush(self._heap, (due, next(self._number), work))
            self._changed.notify_all()

    def wait_until_done(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    self._changed.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                due, _, work = heapq.heappop(self._heap)
            self._pool.submit(self._do, work, due)

    def _do(self, work: Callable[[float], None], due: float) -> None:
        try:
            work(due)
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()


class Agents:
    """Calls of one process. Their number does not fall when answers are slow: callers do not wait either."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._pen = Pen(Path(orders.ledger))
        self._rng = random.Random(f"{orders.seed}/{orders.name}")
        self.twice = orders.twice
        self._rejections = WhyRejected(self._pen)
        logging.getLogger("promptbandit").addHandler(self._rejections)
        logging.getLogger("promptbandit").propagate = False
        tls = ssl.create_default_context()
        self._agents = [Watched(orders, self._pen, tls, copy=False) for _ in range(orders.agents)]
        self._echo = Watched(orders, self._pen, tls, copy=True)
        self._calling = threading.Event()
        self._timeline = Timeline()
        threading.Thread(target=self._begin_calls, daemon=True).start()

    def go(self) -> None:
        self._calling.set()

    def drain(self, timeout_s: float) -> bool:
        """No new calls; whether everything that was told is answered within `timeout_s`."""
        until = time.monotonic() + timeout_s
        self._calling.clear()
        done = self._timeline.wait_until_done(timeout_s)
        for watched in (*self._agents, self._echo):
            done &= watched.client.flush(max(0.0, until - time.monotonic()))
        self._sum_up(until)
        return done

    def _sum_up(self, until: float) -> None:
        all_stats = [watched.client.stats for watched in (*self._agents, self._echo)]
        rejected = sum(stats.rejected for stats in all_stats)
        while self._rejections.seen < rejected and time.monotonic() < until:
            time.sleep(0.01)  # a client settles first and says why afterwards
        sums = Sums(
            at=time.monotonic(),
            recorded=sum(watched.recorded for watched in (*self._agents, self._echo)),
            items=sum(watched.items for watched in (*self._agents, self._echo)),
            sent=sum(stats.sent for stats in all_stats),
            dropped=sum(stats.dropped for stats in all_stats),
            waiting=sum(stats.waiting for stats in all_stats),
            attempts=sum(stats.attempts for stats in all_stats),
        )
        self._pen.write(sums)

    def _begin_calls(self) -> None:
        due = time.monotonic()
        for number in itertools.count():
            if not self._calling.is_set():
                self._calling.wait()
                due = time.monotonic()
            due += self._rng.expovariate(self._orders.rate)
            time.sleep(max(0.0, due - time.monotonic()))
            self._timeline.at(due, self._call(number))

    def _call(self, number: int) -> Callable[[float], None]:
        unit = f"{self._orders.name}-{number}"
        chance = random.Random(f"{self._orders.seed}/{unit}")
        first, second = chance.sample(self._agents, 2)

        def begin(due: float) -> None:
            given = self._ask(first, unit, due, first=True)
            lasting_s = chance.uniform(*LASTING_S)
            if chance.random() < AGAIN:
                again_s = chance.uniform(0.0, lasting_s)
                self._timeline.at(due + again_s, lambda due: self._again(second, unit, due))
            self._timeline.at(due + lasting_s, lambda due: self._end(first, unit, given, chance))

        return begin

    def _again(self, agent: Watched, unit: str, due: float) -> None:
        self._ask(agent, unit, due, first=False)

    def _ask(self, agent: Watched, unit: str, due: float, *, first: bool) -> Assignment | None:
        began_at = time.monotonic()
        given, problem = None, ""
        try:
            given = agent.client.assign(PROMPT, unit)
        except PromptBanditError as error:
            problem = f"{type(error).__name__}: {error}"
        asked = Asked(
            at=began_at,
            unit=unit,
            first=first,
            late_s=began_at - due,
            seconds=time.monotonic() - began_at,
            source=given.source if given else "",
            reason=given.reason if given else "",
            variant=given.variant if given else None,
            allocation=given.allocation if given else None,
            content_hash=given.version.content_hash if given else "",
            problem=problem,
        )
        self._pen.write(asked)
        return given

    def _end(self, agent: Watched, unit: str, given: Assignment | None, chance: random.Random) -> None:
        metrics = {
            "resolved": chance.random() < 0.7,
            "quality": round(chance.random(), 3),
            "duration_s": round(chance.uniform(10, 200), 1),
        }
        when = dt.datetime.now(dt.UTC)
        tellers = [agent, self._echo] if chance.random() < self.twice else [agent]
        for teller in tellers:
            teller.tell(unit, metrics, given, when)


def main() -> None:
    """Follow the orders of standard input."""
    with contextlib.suppress(OSError):  # root may: who measures must not wait for what is measured
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    agents = Agents(msgspec.json.decode(sys.stdin.readline(), type=Orders))
    for line in sys.stdin:
        word, _, value = line.strip().partition(" ")
        if word == "go":
            agents.go()
        elif word == "twice":
            agents.twice = float(value)
        elif word == "drain":
            sys.stdout.write(f"{int(agents.drain(float(value)))}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
