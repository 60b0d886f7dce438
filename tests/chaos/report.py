"""What a run says: one table of figures, then the properties that do not hold."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.ledger import SETTLED
from tests.chaos.run import Outcome
from tests.chaos.safety import SAFETY, clock_refused, late_answers, moved
from tests.chaos.timing import (
    ack_ms,
    attempts,
    fallback_share,
    inside,
    prompt_ms,
    quantiles,
    recoveries,
    split_p,
)

ROOT = Path(__file__).resolve().parents[2]
SHOWN = 3  # offenders of a property


def commit() -> str:
    """The revision of the working tree; empty outside of one."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def figures(run: Outcome) -> dict[str, str]:
    """Name and value of everything that is reported."""
    ledger, rows = run.ledger, run.rows
    acked = {event.unit for event in ledger.acked if event.status in SETTLED}
    calm, overall = ack_ms(ledger, run.faults)
    reasons = Counter(
        "fallback" if event.source == "fallback" else event.reason or "none"
        for event in ledger.asked
        if event.first
    )
    calls = max(1, sum(reasons.values()))
    broken = {name: len(check(ledger, rows)) for name, check in SAFETY.items()}
    took = {kind: max(seconds) for kind, seconds in recoveries(ledger.asked, run.faults).items()}
    return {
        "commit": commit(),
        "load average": " ".join(f"{value:.1f}" for value in run.load),
        "harness late, p99": f"{run.lag_p99_ms:.1f} ms",
        "faults": f"{len(run.faults)} of {len({fault.kind for fault in run.faults})} kinds",
        "calls": f"{calls}, asked again {len(ledger.asked) - calls}",
        "outcomes acknowledged": f"{len(acked)} of {len({event.unit for event in ledger.told})} told",
        **{name: str(number) for name, number in broken.items()},
        "refused for the clock": str(len(set(clock_refused(ledger)))),
        "asked again after the split moved": str(len(moved(ledger, rows))),
        "refused, the answer came too late": str(len(late_answers(ledger, rows))),
        "prompt, p50 / p99 / max": _three(prompt_ms(ledger.asked)),
        "prompt inside faults": _three(prompt_ms(inside(ledger.asked, run.faults))),
        "answers": ", ".join(f"{reason} {n / calls:.1%}" for reason, n in sorted(reasons.items())),
        "fallback while a server can be reached": f"{fallback_share(ledger.asked, run.faults):.2%}",
        "acknowledged between faults": _three(calm),
        "acknowledged overall": _three(overall),
        "attempts per outcome": f"{attempts(ledger):.2f}",
        "split, p-value": f"{split_p(rows):.3g}",
        "recovery, largest": f"{max(took.values(), default=0.0):.2f} s",
    }


def _three(values: object) -> str:
    p50, p99, largest = values  # type: ignore[misc]
    return f"{p50:.1f} / {p99:.1f} / {largest:.1f} ms"


def lines(run: Outcome) -> Iterator[str]:
    """The table, recovery by kind, and what does not hold."""
    table = figures(run)
    width = max(map(len, table))
    yield from (f"{name:<{width}}  {value}" for name, value in table.items())
    yield ""
    yield f"{'kind':<{width}}  faults  lasted    durable again after, median / max"
    for kind, seconds in sorted(recoveries(run.ledger.asked, run.faults).items()):
        lasted = max(fault.ended_at - fault.began_at for fault in run.faults if fault.kind == kind)
        p50, _, largest = quantiles(seconds)
        yield f"{kind:<{width}}  {len(seconds):>6}  {lasted:>5.1f} s   {p50:.2f} / {largest:.2f} s"
    yield ""
    for name, offenders in run.unsafe.items():
        yield f"VIOLATED {name}: {len(offenders)}, such as {'; '.join(offenders[:SHOWN])}"
    for name, text in run.late.items():
        yield f"VIOLATED {name}: {text}"
