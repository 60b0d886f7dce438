"""What must hold whatever the machine's speed: each a pure function of ledger and rows, naming the offenders."""

import math
from collections import defaultdict
from collections.abc import Callable

from tests.chaos.ledger import SETTLED, Asked, Ledger
from tests.chaos.stored import CountKey, Rows, StoredAssignment, Sum

Property = Callable[[Ledger, Rows], list[str]]

# Sums of the same numbers in another order differ by rounding, 1e-16 a step; a lost outcome by far more.
TOLERANCE = 1e-9
CLOCK_REASON = "check the agent's clock", "check unit_id and clock"


def _values(rows: Rows) -> dict[str, dict[str, float]]:
    """Stored values by unit and metric."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows.outcomes:
        found[row.unit][row.metric] = row.value
    return found


def _told(ledger: Ledger) -> dict[str, dict[str, float]]:
    """Told values by unit and metric."""
    return {event.unit: event.metrics for event in ledger.told}


def _acked(ledger: Ledger) -> set[str]:
    return {event.unit for event in ledger.acked if event.status in SETTLED}


def lost(ledger: Ledger, rows: Rows) -> list[str]:
    """Acknowledged values that are not stored."""
    stored, told = _values(rows), _told(ledger)
    return [
        f"{unit} {metric}"
        for unit in sorted(_acked(ledger))
        for metric in told.get(unit, {})
        if metric not in stored.get(unit, {})
    ]


def twice(ledger: Ledger, rows: Rows) -> list[str]:
    """Counted more often than stored, or stored more than once."""
    del ledger
    keys = [(row.unit, row.metric) for row in rows.outcomes]
    units = [row.unit for row in rows.assignments]
    recomputed = recompute(rows)
    double = [
        f"{len(found) - len(set(found))} double rows"
        for found in (keys, units)
        if len(set(found)) < len(found)
    ]
    return double + [
        f"{key}: {have.n} counted, {recomputed.get(key, Sum(0, 0, 0)).n} stored"
        for key, have in sorted(rows.counts.items())
        if have.n > recomputed.get(key, Sum(0, 0, 0)).n
    ]


def drift(ledger: Ledger, rows: Rows) -> list[str]:
    """Rows of `counts` that are not what assignments and outcomes add up to, either way."""
    del ledger
    recomputed = recompute(rows)
    nothing = Sum(0, 0.0, 0.0)
    pairs = {
        key: (rows.counts.get(key, nothing), recomputed.get(key, nothing))
        for key in sorted(rows.counts.keys() | recomputed.keys())
    }
    return [
        f"{key}: {have} instead of {want}" for key, (have, want) in pairs.items() if not _same(have, want)
    ]


def _same(have: Sum, want: Sum) -> bool:
    return have.n == want.n and all(
        math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        for a, b in zip(have[1:], want[1:], strict=True)
    )


def recompute(rows: Rows) -> dict[CountKey, Sum]:
    """The table `counts` from the other two."""
    values: dict[CountKey, list[float]] = defaultdict(list)
    places = {
        row.unit: (row.allocation, row.variant, row.segment)
        for row in rows.assignments
        if row.allocation is not None and row.variant is not None
    }
    for place in places.values():
        values[*place, "assigned"].append(0.0)
    for outcome in rows.outcomes:
        if outcome.unit in places:
            values[*places[outcome.unit], outcome.metric].append(outcome.value)
    return {key: Sum(len(v), math.fsum(v), math.fsum(x * x for x in v)) for key, v in values.items()}


def phantom(ledger: Ledger, rows: Rows) -> list[str]:
    """Stored, but nobody asked or told it."""
    asked, told = {event.unit for event in ledger.asked}, _told(ledger)
    return [f"assignment {row.unit}" for row in rows.assignments if row.unit not in asked] + [
        f"outcome {row.unit} {row.metric}"
        for row in rows.outcomes
        if row.metric not in told.get(row.unit, {})
    ]


def wrong(ledger: Ledger, rows: Rows) -> list[str]:
    """Stored with another value than the one that was told, or replaced although it was told once."""
    told = _told(ledger)
    return [
        f"{row.unit} {row.metric}: {row.value} (revision {row.revision}) instead of {told[row.unit][row.metric]}"
        for row in rows.outcomes
        if row.metric in told.get(row.unit, {}) and (row.value != told[row.unit][row.metric] or row.revision)
    ]


def undelivered(ledger: Ledger, rows: Rows) -> list[str]:
    """Told, and after the calm at the end still without an answer; or given up by the client."""
    del rows
    answered = {(event.unit, event.copy) for event in ledger.acked}
    silent = [event.unit for event in ledger.told if (event.unit, event.copy) not in answered]
    dropped = sum(sums.dropped for sums in ledger.sums)
    return silent + ([f"{dropped} dropped by the clients"] if dropped else [])


def refused(ledger: Ledger, rows: Rows) -> list[str]:
    """Rejected, or taken for a correction, although a unit is told the same values always.

    Not those that `clock_refused`, `moved` and `late_answers` hold.
    """
    known = {*clock_refused(ledger), *moved(ledger, rows), *late_answers(ledger, rows)}
    why = {event.unit: event.why for event in ledger.refused}
    return [
        f"{event.unit} {event.status}: {why.get(event.unit, '')}"
        for event in ledger.acked
        if event.status not in ("accepted", "unchanged", "parked") and event.unit not in known
    ]


def clock_refused(ledger: Ledger) -> list[str]:
    """Refused because the server's clock and the agent's differ by more than the five minutes that it allows.

    These are told so and not acknowledged; they come while a server's clock is wrong, and afterwards for the
    calls that were assigned meanwhile.
    """
    return [event.unit for event in ledger.refused if event.why.endswith(CLOCK_REASON)]


def unsticky(ledger: Ledger, rows: Rows) -> list[str]:
    """Units that got two different prompts, or whose row is not what they got.

    An answer of the client's own (fallback) is no answer of the server's, which cannot repeat it: see
    `late_answers`. An answer from memory (STALE) under another split than the recorded one: see `moved`.
    """
    by_unit, spoken = _answers(ledger), _spoken(ledger)
    stored = {row.unit: row for row in rows.assignments}
    own = {event.unit for event in ledger.asked if event.first and event.source == "fallback"}
    as_spoken = {unit for unit in own & stored.keys() if stored[unit].content_hash == spoken[unit]}
    return [
        unit
        for unit, answers in by_unit.items()
        if unit not in as_spoken
        and (
            any(_differ(answers[0], other) for other in answers[1:])
            or any(_contradicts(answer, stored.get(unit)) for answer in answers)
        )
    ]


def moved(ledger: Ledger, rows: Rows) -> list[str]:
    """Units asked from memory while the database was away, under another split than the one recorded.

    Two servers that cannot talk to each other, and a split that moved in between: nobody could know better.
    """
    stored = {row.unit: row.allocation for row in rows.assignments}
    found = []
    for unit, answers in _answers(ledger).items():
        allocations = {answer.allocation for answer in answers} | (
            {stored[unit]} if unit in stored else set()
        )
        if len(allocations) > 1 and any(answer.reason in ("STALE", "DEFAULT") for answer in answers):
            found.append(unit)
    return found


def _answers(ledger: Ledger) -> dict[str, list[Asked]]:
    found: dict[str, list[Asked]] = defaultdict(list)
    for event in ledger.asked:
        if event.source == "server":
            found[event.unit].append(event)
    return found


def _from_memory(answer: Asked) -> bool:
    return answer.reason in ("STALE", "DEFAULT")


def _differ(one: Asked, other: Asked) -> bool:
    if (_from_memory(one) or _from_memory(other)) and one.allocation != other.allocation:
        return False
    return (one.variant, one.content_hash) != (other.variant, other.content_hash)


def _contradicts(answer: Asked, row: StoredAssignment | None) -> bool:
    if row is None:
        return answer.reason == "SPLIT"  # said to be recorded
    if _from_memory(answer) and answer.allocation != row.allocation:
        return False
    return (answer.variant, answer.content_hash) != (row.variant, row.content_hash)


def _spoken(ledger: Ledger) -> dict[str, str]:
    """What each call was spoken to with: the hash of its first answer, whoever gave it."""
    return {event.unit: event.content_hash for event in ledger.asked if event.first}


def late_answers(ledger: Ledger, rows: Rows) -> list[str]:
    """Units that spoke with the client's own prompt and are recorded with the server's, which came too late.

    Their outcomes have to be refused: they say nothing about the recorded text.
    """
    own = {
        event.unit: event.content_hash for event in ledger.asked if event.first and event.source == "fallback"
    }
    return [row.unit for row in rows.assignments if row.unit in own and row.content_hash != own[row.unit]]


def other_text(ledger: Ledger, rows: Rows) -> list[str]:
    """Outcomes that count for a variant whose text their call was not spoken to with."""
    spoken, told = _spoken(ledger), {outcome.unit for outcome in rows.outcomes}
    return [
        row.unit
        for row in rows.assignments
        if row.variant is not None and row.unit in told and row.content_hash != spoken.get(row.unit)
    ]


def unanswered(ledger: Ledger, rows: Rows) -> list[str]:
    """Calls that got no prompt at all."""
    del rows
    return [f"{event.unit}: {event.problem}" for event in ledger.asked if event.problem]


SAFETY: dict[str, Property] = {
    "lost": lost,
    "counted twice": twice,
    "drift": drift,
    "phantom": phantom,
    "wrong value": wrong,
    "undelivered": undelivered,
    "refused": refused,
    "unsticky": unsticky,
    "counted for another text": other_text,
    "without a prompt": unanswered,
}


def violated_safety(ledger: Ledger, rows: Rows) -> dict[str, list[str]]:
    """The properties that do not hold, with their offenders."""
    found = {name: check(ledger, rows) for name, check in SAFETY.items()}
    return {name: offenders for name, offenders in found.items() if offenders}
