"""What must hold on a quiet machine: figures of a run and their bounds, as pure functions."""

import bisect
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scipy.stats import chi2

from tests.chaos.ledger import Asked, Ledger
from tests.chaos.stored import Rows

PROMPT_MS = 350.0  # the client's 300 ms and 50 ms for a machine that does other things, too
RECOVERY_S = 1.0
ATTEMPTS = 2.0
FALLBACK_SHARE = 0.05
LAG_MS = 50.0
SPLIT_P = 1e-4
_LEAST_EXPECTED = 5.0  # calls of a variant, for the chi-squared approximation


class Fault(NamedTuple):
    """A fault that was: `cut` where it kept the agents from every server."""

    kind: str
    began_at: float
    ended_at: float
    cut: bool


class Quantiles(NamedTuple):
    """Median, 99 % and largest."""

    p50: float
    p99: float
    largest: float


def quantiles(values: Iterable[float]) -> Quantiles:
    """NaN where there are none.

    >>> quantiles([3.0, 1.0, 2.0])
    Quantiles(p50=2.0, p99=3.0, largest=3.0)
    """
    found = sorted(values)
    if not found:
        return Quantiles(math.nan, math.nan, math.nan)
    return Quantiles(statistics.median(found), found[min(len(found) - 1, int(0.99 * len(found)))], found[-1])


def prompt_ms(asked: Iterable[Asked]) -> Quantiles:
    """How long calls waited for their prompt."""
    return quantiles(event.seconds * 1000 for event in asked)


def inside(asked: Sequence[Asked], faults: Sequence[Fault]) -> list[Asked]:
    """What was asked while a fault lasted."""
    return [event for event in asked if _fault_at(event.at, faults)]


def _fault_at(at: float, faults: Sequence[Fault]) -> Fault | None:
    index = bisect.bisect_right([fault.began_at for fault in faults], at) - 1
    return faults[index] if index >= 0 and at <= faults[index].ended_at else None


def recoveries(asked: Sequence[Asked], faults: Sequence[Fault]) -> dict[str, list[float]]:
    """For each kind, how long after the end of each fault a new call was recorded at once; inf: never again."""
    good = sorted(
        (event.at, event.at + event.seconds) for event in asked if event.first and event.reason == "SPLIT"
    )
    begins = [begin for begin, _ in good]
    found: dict[str, list[float]] = defaultdict(list)
    for fault in faults:
        index = bisect.bisect_left(begins, fault.ended_at)
        answered = min((end for _, end in good[index : index + 20]), default=math.inf)
        found[fault.kind].append(answered - fault.ended_at)
    return dict(found)


def fallback_share(asked: Sequence[Asked], faults: Sequence[Fault]) -> float:
    """The share of calls that the client answered, leaving out faults that kept it from every server.

    With them it says how the faults were chosen, not how good the product is; both are reported.
    """
    reachable = [event for event in asked if event.first and not _was_cut(event, faults)]
    return sum(event.source == "fallback" for event in reachable) / max(1, len(reachable))


def _was_cut(event: Asked, faults: Sequence[Fault]) -> bool:
    # A call that was under way when the fault began, or that came while connections were made again.
    fault = _fault_at(event.at, faults) or _fault_at(event.at + event.seconds, faults)
    fault = fault or _fault_at(event.at - RECOVERY_S, faults)
    return fault is not None and fault.cut


def ack_ms(ledger: Ledger, faults: Sequence[Fault]) -> tuple[Quantiles, Quantiles]:
    """From telling an outcome to its acknowledgement: told and acknowledged between faults, and all."""
    told = {event.unit: event.at for event in ledger.told if not event.copy}
    waits = [
        (event.at, event.at - told[event.unit])
        for event in ledger.acked
        if not event.copy and event.unit in told
    ]
    calm = [w for at, w in waits if not _touched(at - w, at, faults)]
    return quantiles(1000 * w for w in calm), quantiles(1000 * w for _, w in waits)


def _touched(begin: float, end: float, faults: Sequence[Fault]) -> bool:
    return any(fault.began_at <= end and fault.ended_at + RECOVERY_S >= begin for fault in faults)


def attempts(ledger: Ledger) -> float:
    """How often each outcome was sent, on average, by the clients."""
    recorded = sum(sums.recorded for sums in ledger.sums)
    return sum(sums.items for sums in ledger.sums) / max(1, recorded)


def split_p(rows: Rows) -> float:
    """P-value of the stored variants under the splits that were to serve: chi-squared over all allocations."""
    seen: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows.assignments:
        if row.allocation is not None and row.variant is not None:
            seen[row.allocation][row.variant] += 1
    statistic, freedom = 0.0, 0
    for allocation, counts in seen.items():
        n = sum(counts.values())
        expected = {key: n * bp / 10_000 for key, bp in rows.splits[allocation].items()}
        if any(counts[key] and not expected.get(key) for key in list(counts)):
            return 0.0  # a variant without a share got a call
        used = {key: e for key, e in expected.items() if e}
        if len(used) < 2 or min(used.values()) < _LEAST_EXPECTED:
            continue
        statistic += sum((counts[key] - e) ** 2 / e for key, e in used.items())
        freedom += len(used) - 1
    return float(chi2.sf(statistic, freedom)) if freedom else 1.0


def violated_timing(ledger: Ledger, rows: Rows, faults: Sequence[Fault]) -> dict[str, str]:
    """The bounds that do not hold, and by how much."""
    slowest = prompt_ms(ledger.asked).largest
    back = recoveries(ledger.asked, faults)
    late = {kind: max(took) for kind, took in back.items() if max(took) > RECOVERY_S}
    share, sent, p = fallback_share(ledger.asked, faults), attempts(ledger), split_p(rows)
    found = {
        "prompt in time": (slowest > PROMPT_MS, f"{slowest:.0f} ms, must be at most {PROMPT_MS:.0f}"),
        "recovery": (bool(late), ", ".join(f"{kind} {took:.2f} s" for kind, took in late.items())),
        "fallback share": (share >= FALLBACK_SHARE, f"{share:.1%}, must be below {FALLBACK_SHARE:.0%}"),
        "attempts": (sent > ATTEMPTS, f"{sent:.2f} an outcome, must be at most {ATTEMPTS:g}"),
        "split": (p <= SPLIT_P, f"p = {p:.2g}, must be above {SPLIT_P:g}"),
    }
    return {name: text for name, (is_violated, text) in found.items() if is_violated}
