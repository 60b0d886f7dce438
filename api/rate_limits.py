"""How often somebody may ask: per key, and per address for keys that open nothing.

Each worker counts for itself, in memory: a limit costs a look into a dictionary and no round trip, and N
workers together let through up to N times as much. Counting starts before the body is read.
"""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from api.problems import TOO_MANY_REQUESTS, RequestProblem
from api.settings import Settings

BURST_S = 10.0  # a key that was silent may send this many seconds' worth at once
MAX_NAMES = 10_000  # remembered; the one that was silent for longest is forgotten first


class TokenBuckets:
    """A bucket of tokens per name: `burst` of them at most, `per_s` more every second.

    What is kept of a bucket is one number, the time at which it will be full again.

    Examples
    --------
    >>> buckets = TokenBuckets(per_s=2.0, burst=2.0, clock=lambda: 100.0)
    >>> [buckets.take("a"), buckets.take("a"), buckets.take("a"), buckets.take("b")]
    [0.0, 0.0, 0.5, 0.0]
    """

    def __init__(
        self,
        *,
        per_s: float,
        burst: float,
        max_names: int = MAX_NAMES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval_s = 1.0 / per_s if per_s else 0.0  # 0: no limit
        self._full_s = max(burst, 1.0) * self._interval_s
        self._max_names = max_names
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_s(self, name: str) -> float:
        """How long until there is a token; 0.0 when there is one."""
        now = self._clock()
        return self._wait_s(max(self._full_at.get(name, now), now), now)

    def take(self, name: str) -> float:
        """Take a token and answer 0.0, or take none and answer how long until there is one."""
        if not self._interval_s:
            return 0.0
        now = self._clock()
        full_at = max(self._full_at.get(name, now), now)
        wait_s = self._wait_s(full_at, now)
        if wait_s == 0.0:
            self._full_at[name] = full_at + self._interval_s
            self._full_at.move_to_end(name)
            if len(self._full_at) > self._max_names:
                self._full_at.popitem(last=False)
        return wait_s

    def _wait_s(self, full_at: float, now: float) -> float:
        over_s = full_at + self._interval_s - now - self._full_s
        return over_s if over_s > 1e-9 else 0.0  # the sum of many intervals is off by rounding


class RateLimits:
    """The limits of one worker."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        def per_key(per_s: float) -> TokenBuckets:
            return TokenBuckets(per_s=per_s, burst=per_s * BURST_S, clock=clock)

        self._agent = per_key(settings.agent_requests_per_s)
        self._desk = per_key(settings.desk_requests_per_s)
        failures = settings.failed_keys_per_minute
        self._failures = TokenBuckets(per_s=failures / 60, burst=failures, clock=clock)

    def count_request(self, key: str, needed: str) -> None:
        """Count a request of this key to a route of scope `needed`; RequestProblem when it is one too many.

        `key` is the key's public part: its name in the audit may be shared.
        """
        buckets = self._agent if needed == "agent" else self._desk
        _refuse_if(buckets.take(key), "requests with this key")

    def check_address(self, address: str) -> None:
        """RequestProblem when too many keys of this address opened nothing.

        Asked only for keys that this worker has not seen open anything: behind one address may be a whole
        fleet, and a stranger's noise must not stop it.
        """
        _refuse_if(self._failures.wait_s(network_of(address)), "keys from this address that open nothing")

    def count_failure(self, address: str) -> None:
        """Count a key that opened nothing."""
        self._failures.take(network_of(address))


def _refuse_if(wait_s: float, what: str) -> None:
    if wait_s > 0.0:
        headers = {"Retry-After": str(math.ceil(wait_s))}
        raise RequestProblem(TOO_MANY_REQUESTS, f"too many {what}; wait for Retry-After", headers=headers)


def network_of(address: str) -> str:
    """Whom an address stands for: an IPv4 host, or the /64 that one IPv6 customer gets.

    Examples
    --------
    >>> network_of("192.0.2.7"), network_of("2001:db8::7"), network_of("::ffff:192.0.2.7"), network_of("")
    ('192.0.2.7', '2001:db8::/64', '192.0.2.7', 'unknown')
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket has none
        return "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
