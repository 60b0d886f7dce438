"""What an agent uses: ask for a prompt when a call starts, tell what became of the call."""

import atexit
import datetime as dt
import logging
import math
import ssl
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from promptbandit.answers import read_json, read_problem
from promptbandit.errors import NoPromptAvailable, Refused
from promptbandit.fallbacks import Fallbacks
from promptbandit.memory import Given, Memory
from promptbandit.outbox import Outbox, Waiting
from promptbandit.records import Assignment, AssignmentRequest, MetricValue, Outcome, Stats
from promptbandit.transport import TRANSIENT, Unreachable
from promptbandit.warn import WarnOnce
from promptbandit.worker import Worker

FLUSH_S = 2.0

log = logging.getLogger("promptbandit")


class Client:
    """Prompts in time and outcomes for sure; any number of threads may share one client.

    A process needs one client: its single sender is what keeps an outage from becoming a retry storm.
    It logs to the logger `promptbandit`.

    Parameters
    ----------
    base_url : of the server, such as `https://prompts.example.com`.
    key : an API key of scope `agent`.
    fallbacks : the prompt to use per name while the server does not answer: the text, or
        `{"system_prompt": ..., "tools_config": ..., "metadata": ...}`.
    timeout_s : how long `assign` waits for the server, in seconds, everything included.
    remembered_units : how many units' answers are kept for being asked again.
    outbox_capacity : how many outcomes may wait; beyond, the oldest is dropped.
    ssl_context : for a certificate authority of your own; default: the public ones.

    Raises
    ------
    ValueError : an argument is impossible; nothing is sent here, so a server that is away does not matter.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        fallbacks: Mapping[str, str | Mapping[str, Any]] | None = None,
        *,
        timeout_s: float = 0.3,
        remembered_units: int = 1_000,
        outbox_capacity: int = 10_000,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        _check_base_url(base_url)
        _check_key(key)
        _check_at_least("timeout_s", timeout_s, 0.001)
        _check_at_least("remembered_units", remembered_units, 0)
        _check_at_least("outbox_capacity", outbox_capacity, 1)
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._fallbacks = Fallbacks(fallbacks or {})
        self._memory = Memory(remembered_units)
        self._outbox = Outbox(outbox_capacity)
        self._warn = WarnOnce()
        self._worker = Worker(base_url, key, ssl_context or httpx.create_ssl_context(), self._outbox)
        atexit.register(self.close)

    def assign(self, prompt: str, unit_id: str, *, segment: str | None = None) -> Assignment:
        """The prompt version for a call, within `timeout_s` whatever the network does.

        Parameters
        ----------
        prompt : name of the prompt.
        unit_id : the call's id; asked again with the same id, this process gives the same answer.
        segment : something known about the call that its prompt cannot change, such as the intent.

        Returns
        -------
        The server's answer, or the fallback of this name with `source == "fallback"`.

        Raises
        ------
        NoPromptAvailable : the server did not answer and there is no fallback of this name.
        Refused : the server said no (key, name of the prompt, arguments) and there is no fallback;
            with one, the refusal is logged once.
        """
        given = self._memory.find(prompt, unit_id)
        if given is None:
            chosen = self._choose(prompt, unit_id, segment)
            given = self._memory.keep(prompt, unit_id, Given(chosen, segment))
        return given.assignment

    def _choose(self, prompt: str, unit_id: str, segment: str | None) -> Assignment:
        try:
            assignment = self._ask(prompt, unit_id, segment)
        except (Refused, NoPromptAvailable) as error:
            fallback = self._fallbacks.assignment(prompt, unit_id)
            if fallback is None:
                raise
            if isinstance(error, Refused):
                self._warn((prompt, error.status), "calls get the fallback of %r: %s", prompt, error)
            else:
                self._warn("away", "calls get the fallback: %s", error.reason)
            return fallback
        self._warn.forget("away")
        return assignment

    def _ask(self, prompt: str, unit_id: str, segment: str | None) -> Assignment:
        try:
            body = msgspec.json.encode(AssignmentRequest(prompt=prompt, unit_id=unit_id, segment=segment))
        except (TypeError, ValueError) as error:  # such as half a surrogate pair in unit_id
            raise Refused(prompt=prompt, status=422, problem={"detail": str(error)}) from error
        try:
            answer = self._worker.ask("/assignments", body, wait_s=self._timeout_s)
        except Unreachable as error:
            reason = f"{self._base_url}: {error}"
            raise NoPromptAvailable(prompt=prompt, reason=reason) from error
        assignment = read_json(answer.body, Assignment) if answer.status == 200 else None
        if assignment is not None:
            return assignment
        if 300 <= answer.status < 500 and answer.status not in TRANSIENT:
            raise Refused(prompt=prompt, status=answer.status, problem=read_problem(answer.body))
        reason = f"{self._base_url} answered {answer.status} without an assignment"
        raise NoPromptAvailable(prompt=prompt, reason=reason)

    def record(
        self,
        prompt: str,
        unit_id: str,
        metrics: Mapping[str, MetricValue],
        *,
        occurred_at: dt.datetime | None = None,
        allocation: int | None = None,
        segment: str | None = None,
        transcript: Sequence[Mapping[str, Any]] | None = None,
        known_values: Mapping[str, str | int | None] | None = None,
        caller: str | None = None,
    ) -> None:
        """Tell what became of a call; returns at once, the client delivers it in the background.

        The hash of the text that the unit got goes with it, if this process remembers it: the outcome of a
        call that got the fallback counts for no variant.

        Parameters
        ----------
        metrics : value by metric name; True or False for a binary metric, None for one that is unknown.
        occurred_at : with a time zone; default now. A later value of the same metric corrects the earlier.
        allocation, segment : default: those of the unit's assignment, if this process remembers it.
        transcript : the turns of the call, such as `{"role": "user", "content": "..."}`; the server takes out
            what is personal before it stores them. A later one replaces the earlier.
        known_values : what the agent knows of the caller, such as `{"caller_name": "Ann Smith"}`: taken out of
            the transcript wherever it stands, and not stored.
        caller : who called, such as the telephone number or the customer's id, always in one form: the optimizer
            counts one caller once. The server keeps a keyed hash of it beside the transcript, nothing else.

        Raises
        ------
        TypeError, ValueError : the outcome cannot be written as JSON, or `occurred_at` has no time zone.
        ClientClosed : after `close`.
        """
        given = self._memory.find(prompt, unit_id)
        if given is not None:
            allocation = given.assignment.allocation if allocation is None else allocation
            segment = given.segment if segment is None else segment
        served = given.assignment.version.content_hash if given else None
        outcome = Outcome(
            prompt=prompt,
            unit_id=unit_id,
            metrics=_checked_metrics(metrics),
            occurred_at=_checked_time(occurred_at),
            allocation=allocation,
            segment=segment,
            content_hash=served,
            transcript=transcript,
            known_values=known_values,
            caller=caller,
        )
        if not self._outbox.put(Waiting(prompt, unit_id, _encoded(outcome))):
            self._warn("full", "the outbox is full: the oldest outcomes are dropped, see Client.stats")
        self._worker.wake_sender()

    def flush(self, timeout_s: float = FLUSH_S) -> bool:
        """Wait until no outcome waits any more; False when some still do after `timeout_s` seconds."""
        return self._outbox.wait_until_empty(timeout_s)

    def close(self, timeout_s: float = FLUSH_S) -> None:
        """Deliver what waits, for `timeout_s` seconds at most, and end the background thread.

        Outcomes that are still undelivered are dropped, counted and logged. Afterwards `assign` gives
        what it remembers or the fallback. A second time does nothing.
        """
        self._outbox.close()
        self._outbox.wait_until_empty(timeout_s)
        self._worker.stop()
        lost = self._outbox.abandon()
        if lost:
            log.warning("closed with %d undelivered outcomes, which are lost; give close() more time", lost)
        atexit.unregister(self.close)

    @property
    def stats(self) -> Stats:
        """The outcomes' counts of this moment."""
        return self._outbox.stats

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Without the key: this may end in a log."""
        return f"Client({self._base_url!r}, {self.stats})"


def _check_base_url(base_url: str) -> None:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"base_url == {base_url!r}: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"base_url == {base_url!r}, must be like 'https://prompts.example.com'")
    if url.userinfo:
        raise ValueError("base_url holds a user name or password; pass the API key as `key`")


def _check_key(key: str) -> None:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("key must be one word of ASCII; `promptbandit keys create --scope agent` prints one")


def _check_at_least(name: str, value: float, bound: float) -> None:
    if not bound <= value < math.inf:
        raise ValueError(f"{name} == {value!r}, must be finite and at least {bound:g}")


def _checked_metrics(metrics: Mapping[str, object]) -> dict[str, MetricValue]:
    if not metrics:
        raise ValueError("metrics is empty, must hold at least one; write {'resolved': True}")
    return {name: _checked_value(name, value) for name, value in metrics.items()}


def _checked_value(name: str, value: object) -> MetricValue:
    if value is None or isinstance(value, bool | int):
        return value
    if not isinstance(value, float):
        raise TypeError(
            f"metrics[{name!r}] is of type {type(value).__name__}, must be bool, int, float or None; "
            "convert it, for example with bool(...) or float(...)"
        )
    if not math.isfinite(value):
        raise ValueError(f"metrics[{name!r}] == {value}, must be finite; write None for an unknown value")
    return float(value)  # numpy's float64 is a float, too, but not for JSON


def _encoded(outcome: Outcome) -> bytes:
    try:
        return msgspec.json.encode(outcome)
    except UnicodeEncodeError as error:
        where = "prompt, unit_id, segment or the name of a metric"
        raise ValueError(f"{where} holds half of a surrogate pair; send whole characters") from error


def _checked_time(occurred_at: dt.datetime | None) -> dt.datetime:
    when = dt.datetime.now(dt.UTC) if occurred_at is None else occurred_at
    if when.utcoffset() is None:
        raise ValueError(f"occurred_at == {when!r}, must have a time zone; write datetime.now(UTC)")
    return when
