"""Limits: what the buckets let through, and a server that refuses one request too many."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.problems import PROBLEM_JSON, RequestProblem
from api.rate_limits import MAX_NAMES, RateLimits, TokenBuckets, network_of
from api.settings import Settings
from tests.api.raw_http import exchange, request_bytes
from tests.api.reference_cases import wrong_secret
from tests.made_keys import make_keys
from tests.running_server import RunningServer

KEYS = ("desk", "body", "both", "known", "agent", "new")
# One request, then none for longer than any test takes, on however slow a machine.
ENVIRONMENT = {
    "PROMPTBANDIT_DESK_REQUESTS_PER_S": "0.0005",
    "PROMPTBANDIT_FAILED_KEYS_PER_MINUTE": "0.02",
}
OUTCOME = {"prompt": "support", "unit_id": "call-1", "metrics": {"resolved": True}}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@given(
    per_s=st.floats(0.01, 1_000.0),
    burst=st.floats(1.0, 1_000.0),
    pauses_s=st.lists(st.floats(0.0, 5.0), max_size=50),
)
def test_no_more_pass_than_a_bucket_and_what_has_flowed_into_it(
    per_s: float, burst: float, pauses_s: list[float]
):
    """The law of the token bucket, and its other half: a token that is there is given."""
    clock = Clock()
    buckets = TokenBuckets(per_s=per_s, burst=burst, clock=clock)
    level = burst  # the same bucket, kept as a level and refilled step by step
    for pause_s in pauses_s:
        clock.now += pause_s
        level = min(burst, level + pause_s * per_s)
        wait_s = buckets.take("key")
        if abs(level - 1.0) < 1e-5 * burst:  # either is right
            level = level - 1.0 if wait_s == 0.0 else level
            continue
        assert (wait_s == 0.0) is (level >= 1.0)
        if wait_s == 0.0:
            level -= 1.0
        else:
            assert wait_s == pytest.approx((1.0 - level) / per_s, rel=1e-6, abs=1e-6)


def test_after_the_wait_that_it_was_told_a_key_passes():
    clock = Clock()
    buckets = TokenBuckets(per_s=0.3, burst=2.0, clock=clock)
    while (wait_s := buckets.take("key")) == 0.0:
        pass
    clock.now += wait_s
    assert buckets.wait_s("key") == 0.0
    assert buckets.take("key") == 0.0
    assert buckets.take("key") > 0.0


def test_names_do_not_share_a_bucket_and_do_not_fill_the_memory():
    buckets = TokenBuckets(per_s=0.1, burst=1.0, clock=Clock())
    assert [buckets.take(str(number)) for number in range(MAX_NAMES + 1)] == [0.0] * (MAX_NAMES + 1)
    assert len(buckets) == MAX_NAMES
    assert buckets.take(str(MAX_NAMES)) > 0.0
    assert buckets.take("0") == 0.0  # silent for longest, so forgotten


def test_an_agent_is_not_limited_unless_a_setting_says_so():
    limits = RateLimits(Settings(), clock=Clock())
    for _ in range(100_000):
        limits.count_request("key", "agent")


def test_an_agent_is_limited_when_a_setting_says_so():
    """Ten seconds' worth at once, each key for itself; managers' routes have a bucket of their own."""
    clock = Clock()
    limits = RateLimits(Settings(agent_requests_per_s=2.0, desk_requests_per_s=0.0), clock=clock)
    for _ in range(20):
        limits.count_request("leaked", "agent")
    with pytest.raises(RequestProblem) as refused:
        limits.count_request("leaked", "agent")
    assert (refused.value.kind.status, refused.value.headers) == (429, {"Retry-After": "1"})
    limits.count_request("other", "agent")
    for _ in range(1_000):
        limits.count_request("leaked", "manager")
    clock.now += 0.5
    limits.count_request("leaked", "agent")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("", "@socket", True),
    ],
)
def test_an_ipv6_customer_is_one_address(one: str, other: str, is_same: bool):
    """Who rents a /64 has 2^64 addresses to guess from."""
    assert (network_of(one) == network_of(other)) is is_same


def _serve(folder: Path, **more: str) -> Iterator[RunningServer]:
    url = f"sqlite:///{folder / 'limits.db'}"
    server = RunningServer(url, folder, environment=ENVIRONMENT | more)
    server.take_keys(asyncio.run(make_keys(url, dict.fromkeys(KEYS, "manager"))))
    with server:
        yield server


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that takes one request of a key and one wrong key of an address."""
    yield from _serve(tmp_path_factory.mktemp("limits"))


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The same, and it believes a proxy on this machine."""
    yield from _serve(tmp_path_factory.mktemp("proxy"), PROMPTBANDIT_TRUSTED_PROXIES="127.0.0.1,::1")


def at(server: RunningServer, address: str = "127.0.0.1") -> httpx.Client:
    """A client without a key that calls from this address of the loopback."""
    transport = httpx.HTTPTransport(local_address=address, verify=False)
    return httpx.Client(base_url=server.url, transport=transport, timeout=30.0)


def bearer(server: RunningServer, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.key(name)}"}


def wrong(server: RunningServer) -> dict[str, str]:
    """A key that could be one of ours and is none."""
    return {"Authorization": f"Bearer {wrong_secret(server.key('new'))}"}


def check_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 429, answer.text
    assert answer.headers["content-type"] == PROBLEM_JSON
    assert answer.json()["type"] == "/problems/too-many-requests"
    assert int(answer.headers["retry-after"]) > 60


def test_one_request_too_many_of_a_key_is_refused_with_the_time_to_wait(strict: RunningServer):
    with at(strict) as client:
        answers = [client.get("/prompts", headers=bearer(strict, "desk")) for _ in range(3)]
        assert answers[0].status_code == 200
        check_refused(answers[1])
        check_refused(answers[2])
        assert client.get("/health/live").status_code == 200


def test_the_limit_of_managers_is_not_that_of_agents(strict: RunningServer):
    with at(strict) as client:
        headers = bearer(strict, "both")
        assert client.get("/prompts", headers=headers).status_code == 200
        check_refused(client.get("/prompts", headers=headers))
        for _ in range(20):
            assert client.post("/outcomes", json=OUTCOME, headers=headers).status_code == 404


def test_it_is_refused_before_its_body_is_read(strict: RunningServer):
    """A thousand bytes are announced and none is sent: reading them would end in 408."""
    with at(strict) as client:
        assert client.get("/prompts", headers=bearer(strict, "body")).status_code == 200
    headers = bearer(strict, "body") | {"Content-Type": "application/json", "Content-Length": "1000"}
    answer = exchange(strict, request_bytes("POST", "/prompts", headers))
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) > 60


def test_an_address_that_guesses_keys_is_stopped_and_good_keys_go_on(strict: RunningServer):
    """Behind one address may be a whole fleet: what it guesses wrong must not stop who was let in before."""
    with at(strict, "127.0.0.2") as client:
        known = bearer(strict, "known")
        assert client.post("/outcomes", json=OUTCOME, headers=known).status_code == 404
        assert client.get("/prompts", headers=wrong(strict)).status_code == 401
        check_refused(client.get("/prompts", headers=wrong(strict)))
        check_refused(client.get("/prompts", headers={"Authorization": "Bearer pb_nonsense"}))
        check_refused(client.post("/outcomes", json=OUTCOME, headers=bearer(strict, "new")))
        assert client.post("/outcomes", json=OUTCOME, headers=known).status_code == 404
    with at(strict, "127.0.0.3") as client:
        assert client.post("/outcomes", json=OUTCOME, headers=bearer(strict, "agent")).status_code == 404


def test_no_key_at_all_is_no_guess(strict: RunningServer):
    with at(strict, "127.0.0.4") as client:
        assert {client.get("/prompts").status_code for _ in range(5)} == {401}
        assert client.get("/prompts", headers=wrong(strict)).status_code == 401


def test_a_guesser_cannot_say_that_he_is_somebody_else(strict: RunningServer):
    with at(strict, "127.0.0.5") as client:
        tries = [
            client.get("/prompts", headers=wrong(strict) | {name: f"192.0.2.{number}"})
            for number, name in enumerate(["X-Forwarded-For", "X-Forwarded-For", "Forwarded", "X-Real-IP"])
        ]
    assert [answer.status_code for answer in tries] == [401, 429, 429, 429]


def test_a_named_proxy_says_whose_guess_it_was(behind_proxy: RunningServer):
    """The last address that is no proxy counts: what the client wrote before it is the client's word."""
    with at(behind_proxy) as client:

        def guess(forwarded: str) -> int:
            headers = wrong(behind_proxy) | {"X-Forwarded-For": forwarded}
            return client.get("/prompts", headers=headers).status_code

        assert [guess("192.0.2.1"), guess("192.0.2.1"), guess("198.51.100.1, 192.0.2.1")] == [401, 429, 429]
        assert guess("192.0.2.1, 192.0.2.2") == 401
    with at(behind_proxy, "127.0.0.9") as client:
        headers = wrong(behind_proxy)
        answers = [
            client.get("/prompts", headers=headers | {"X-Forwarded-For": f"203.0.113.{i}"}) for i in (1, 2)
        ]
        assert [answer.status_code for answer in answers] == [401, 429]
