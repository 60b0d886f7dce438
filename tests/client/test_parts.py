"""The client's parts by themselves: arguments, backoff, outbox, errors, documentation."""

import datetime as dt
import doctest
import importlib
import pkgutil
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import promptbandit
from promptbandit import Client, NoPromptAvailable, PromptBanditError, Refused, backoff
from promptbandit.backoff import delay_s, read_retry_after_s, slow_delay_s
from promptbandit.outbox import Outbox, Waiting
from tests.client.servers import NOBODY_LISTENS

URL = NOBODY_LISTENS
NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)

BAD_ARGUMENTS = [
    ({"base_url": "prompts.example.com"}, "base_url == 'prompts.example.com', must be like"),
    ({"base_url": "ftp://prompts.example.com"}, "must be like"),
    ({"base_url": "http://"}, "must be like"),
    ({"base_url": "http://example.com:port"}, "base_url == "),
    ({"base_url": "http://me:secret@example.com"}, "pass the API key as `key`"),
    ({"key": ""}, "key must be one word"),
    ({"key": "two words"}, "key must be one word"),
    ({"key": "line\r\nbreak"}, "key must be one word"),
    ({"key": "schlüssel"}, "key must be one word"),
    ({"timeout_s": 0}, "timeout_s == 0, must be finite and at least 0.001"),
    ({"timeout_s": float("nan")}, "timeout_s == nan"),
    ({"timeout_s": float("inf")}, "timeout_s == inf"),
    ({"remembered_units": -1}, "remembered_units == -1"),
    ({"outbox_capacity": 0}, "outbox_capacity == 0"),
    ({"fallbacks": {"support": " "}}, r"fallbacks\['support'\]"),
    ({"fallbacks": {"support": {"text": "Kind."}}}, "unknown field `text`"),
    ({"fallbacks": {"support": {}}}, "system_prompt"),
    ({"fallbacks": {"support": 7}}, "write the text, or"),
    ({"fallbacks": {"support": {"system_prompt": "x", "tools_config": "y"}}}, "tools_config"),
    ({"fallbacks": {"support": {"system_prompt": "x", "metadata": {"at": object()}}}}, "object"),
]


@pytest.mark.parametrize(("changed", "message"), BAD_ARGUMENTS)
def test_an_impossible_argument_is_named_with_its_bound(changed, message):
    arguments = {"base_url": URL, "key": "pb_key"} | changed
    with pytest.raises(ValueError, match=message):
        Client(**arguments)


def test_an_error_about_the_key_does_not_show_it():
    with pytest.raises(ValueError, match="key") as raised:
        Client(URL, "pb_secret with a blank")
    assert "pb_secret" not in str(raised.value)


def test_the_client_shows_itself_without_its_key():
    with Client(URL, "pb_secret") as client:
        assert URL in repr(client)
        assert "pb_secret" not in repr(client)


def test_the_errors_of_the_client_have_one_base():
    errors = [NoPromptAvailable(prompt="a", reason="b"), Refused(prompt="a", status=404, problem={})]
    assert all(isinstance(error, PromptBanditError) for error in errors)
    assert "no reason given" in str(errors[1])


@given(st.integers(1, 10_000), st.integers(), st.floats(0, 60))
def test_the_wait_is_jitter_in_a_window_that_doubles_up_to_two_seconds(failures, seed, asked_s):
    """reliability.md, §2.2: full jitter, 50 ms ... 2 s; what the server asks for comes first."""
    window_s = min(2.0, 0.05 * 2 ** (min(failures, 20) - 1))
    wait_s = delay_s(failures, random.Random(seed), retry_after_s=asked_s)
    assert asked_s <= wait_s <= asked_s + window_s


def test_the_jitter_is_full():
    """Uniform on [0, 2 s]: of 1 000 waits, each quarter holds 250 ± 5 standard deviations (13.7)."""
    rng = random.Random(1)
    waits = [delay_s(50, rng) for _ in range(1_000)]
    for quarter in range(4):
        assert 181 <= sum(quarter * 0.5 <= wait < (quarter + 1) * 0.5 for wait in waits) <= 319


def test_a_server_that_asks_for_an_hour_is_asked_again_after_a_minute():
    assert delay_s(1, random.Random(1), retry_after_s=3_600) <= backoff.LONGEST_RETRY_AFTER_S + 0.05


def test_a_refused_key_waits_at_least_fifteen_seconds():
    rng = random.Random(1)
    assert all(15.0 <= slow_delay_s(rng) <= 30.0 for _ in range(100))


RETRY_AFTER = [
    (None, 0.0),
    ("7", 7.0),
    (" 7 ", 7.0),
    ("Sun, 22 Nov 2026 12:01:30 GMT", 90.0),
    ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
    ("Sun, 22 Nov 2026 13:01:00 +0100", 60.0),
    ("Sun, 22 Nov 2026 12:01:00 -0000", 60.0),
    ("-3", 0.0),
    ("1.5", 0.0),
    ("soon", 0.0),
    ("", 0.0),
    ("Sun, 99 Nov 2026 12:01:30 GMT", 0.0),
]


@pytest.mark.parametrize(("header", "seconds"), RETRY_AFTER)
def test_retry_after_is_seconds_or_a_date_and_anything_else_is_nothing(header, seconds):
    assert read_retry_after_s(header, now=NOW) == seconds


@given(st.text())
def test_no_retry_after_header_raises(header):
    assert read_retry_after_s(header, now=NOW) >= 0.0


class OutboxAgainstAList(RuleBasedStateMachine):
    """The outbox beside the textbook version: a list of what was taken and a list of what waits."""

    capacity = 5
    most_bytes = 30

    def __init__(self):
        super().__init__()
        self.outbox = Outbox(self.capacity, self.most_bytes)
        self.taken, self.queue = [], []
        self.recorded = self.dropped = self.sent = 0

    @rule(size=st.integers(2, 40))
    def put(self, size):
        self.recorded += 1
        item = Waiting("support", f"call-{self.recorded}", b"x" * size)
        self.queue.append(item)
        had_room = True
        while len(self.queue) > self.capacity or (len(self.queue) > 1 and self.size() > self.most_bytes):
            self.queue.pop(0)
            self.dropped += 1
            had_room = False
        assert self.outbox.put(item) == had_room

    def size(self):
        return sum(len(item.body) for item in self.taken + self.queue)

    @rule(limit=st.integers(1, 4), most_bytes=st.integers(1, 60))
    def take(self, limit, most_bytes):
        everything = self.taken + self.queue
        number = 1
        while number < limit and sum(len(item.body) for item in everything[: number + 1]) <= most_bytes:
            number += 1
        self.taken, self.queue = everything[:number], everything[number:]
        assert self.outbox.take(limit, most_bytes=most_bytes) == self.taken

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def settle(self, data):
        number = data.draw(st.integers(1, len(self.taken)))
        self.sent += number
        del self.taken[:number]
        self.outbox.settle(["accepted"] * number)

    @precondition(lambda self: self.taken)
    @rule()
    def drop(self):
        self.dropped += 1
        del self.taken[0]
        self.outbox.drop(1)

    @invariant()
    def every_recorded_outcome_is_in_one_place(self):
        stats = self.outbox.stats
        assert (stats.sent, stats.accepted, stats.dropped) == (self.sent, self.sent, self.dropped)
        assert stats.waiting == len(self.taken) + len(self.queue)
        assert stats.sent + stats.dropped + stats.waiting == self.recorded
        assert self.outbox.wait_until_empty(0) == (stats.waiting == 0)

    def teardown(self):
        self.outbox.close()
        assert self.outbox.abandon() == len(self.taken) + len(self.queue)
        assert self.outbox.stats.waiting == 0


test_the_outbox_is_a_bounded_queue = OutboxAgainstAList.TestCase


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(promptbandit.__path__)])
def test_the_examples_in_the_documentation_hold(name):
    assert doctest.testmod(importlib.import_module(f"promptbandit.{name}")).failed == 0


def test_the_example_of_the_package_holds():
    tried = doctest.testmod(promptbandit)
    assert tried.attempted > 0
    assert tried.failed == 0
