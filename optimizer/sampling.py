"""Which calls are read: a frozen, seeded sample of the failing ones beside good ones of the same kind.

Everything is drawn by SHA-256 of (seed, id), so the sample depends on the set of calls and on nothing else:
no order, no clock, no generator's state.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta

from domain.fields import OTHER_SEGMENT, Probability, Record
from optimizer.quotas import quotas

Half = Literal["read", "gate"]
# A good call of another length is no contrast: failing calls of tau-bench are 1.7 times as long as good ones,
# and whoever compares them unmatched finds "length".
MAX_LENGTH_RATIO = 2.0


class SampleRules(Record, frozen=True, kw_only=True):
    """How many calls, and when there are enough of them."""

    failing_below: Probability = 0.5
    size: Annotated[int, Meta(ge=1)] = 50
    contrast: Annotated[int, Meta(ge=0)] = 25
    floor: Annotated[int, Meta(ge=1)] = 2
    max_stratum_share: Probability = 0.4
    min_failing: Annotated[int, Meta(ge=0)] = 30
    min_good: Annotated[int, Meta(ge=0)] = 10


class ScoredCall(Record, frozen=True, kw_only=True):
    """A call as far as sampling needs it; `caller` is a pseudonym, None where nobody knows who called."""

    unit_id: str
    variant: str
    segment: str
    quality: Probability
    characters: Annotated[int, Meta(ge=0)]
    caller: str | None = None


class SampledCall(Record, frozen=True, kw_only=True):
    """A failing call in the sample; `propensity` is the probability with which this call got in."""

    unit_id: str
    variant: str
    segment: str
    half: Half
    propensity: float


class MatchedCall(Record, frozen=True, kw_only=True):
    """A good call beside a failing one. It was matched, not drawn: there is no propensity, nothing to reweight."""

    unit_id: str
    matches: str
    half: Half


class Stratum(Record, frozen=True, kw_only=True):
    """Failing calls of one segment and variant: callers there were, and calls taken."""

    segment: str
    variant: str
    available: int
    taken: int


class Sample(Record, frozen=True, kw_only=True):
    """What a run reads, frozen: its half `gate` is never shown to a model."""

    seed: str
    rules: SampleRules
    failing: tuple[SampledCall, ...]
    good: tuple[MatchedCall, ...]
    strata: tuple[Stratum, ...]


class Trigger(Record, frozen=True, kw_only=True):
    """Whether a run is worth its money; failing and good calls are counted once a caller."""

    run: bool
    failing: int
    good: int
    reason: str


class _Kind(NamedTuple):
    segment: str
    variant: str


def trigger(
    calls: Iterable[ScoredCall], *, live: Collection[str], pending: bool, rules: SampleRules
) -> Trigger:
    """Whether there is enough to read.

    Parameters
    ----------
    calls : the scored calls since the last run that finished.
    live : variants that get calls; those of retired ones teach nothing about what is served.
    pending : a suggestion waits for its review, or a candidate has not met enough calls.
    """
    failing, good = (_one_per_caller(part, "") for part in _parted(calls, live, rules))
    n, m = len(failing), len(good)
    if pending:
        reason = "a suggestion is pending or a candidate has too few calls; decide about it first"
    elif n < rules.min_failing:
        reason = f"{n} callers with a failing call on live variants, {rules.min_failing} are needed"
    elif m < rules.min_good:
        reason = f"{m} callers with a good call on live variants, {rules.min_good} are needed"
    else:
        return Trigger(
            run=True, failing=n, good=m, reason=f"{n} callers with a failing call, {m} with a good one"
        )
    return Trigger(run=False, failing=n, good=m, reason=reason)


def sample(calls: Iterable[ScoredCall], *, live: Collection[str], seed: str, rules: SampleRules) -> Sample:
    """Draw the calls of a run.

    At most one call a caller, in both parts together. Failing calls are stratified by segment and variant:
    quotas proportional to the stratum, at least `floor`, at most `max_stratum_share` of the size. More strata
    than seats for their floor: the smallest share one stratum (`other`), so that no call has probability 0.

    Raises
    ------
    ValueError : two different calls have the same unit_id.
    """
    failing, good = _parted(calls, live, rules)
    frame = _one_per_caller(failing, seed)
    strata = _strata([call for call, _ in frame.values()], rules)
    seats = quotas(
        {kind: len(found) for kind, found in strata.items()},
        size=rules.size,
        floor=rules.floor,
        max_share=rules.max_stratum_share,
    )
    taken: list[SampledCall] = []
    for kind in sorted(strata):
        found = sorted(strata[kind], key=lambda call: _draw(seed, "stratum", call.unit_id))
        for call in found[: seats[kind]]:
            half: Half = "gate" if len(taken) % 2 else "read"
            propensity = frame[_caller(call)][1] * seats[kind] / len(found)
            taken.append(_sampled(call, half, propensity))
    return Sample(
        seed=seed,
        rules=rules,
        failing=tuple(taken),
        good=_matched(taken, failing, good, seed=seed, rules=rules),
        strata=tuple(
            Stratum(
                segment=kind.segment, variant=kind.variant, available=len(strata[kind]), taken=seats[kind]
            )
            for kind in sorted(strata)
        ),
    )


def _sampled(call: ScoredCall, half: Half, propensity: float) -> SampledCall:
    return SampledCall(
        unit_id=call.unit_id, variant=call.variant, segment=call.segment, half=half, propensity=propensity
    )


def _parted(
    calls: Iterable[ScoredCall], live: Collection[str], rules: SampleRules
) -> tuple[list[ScoredCall], list[ScoredCall]]:
    known: dict[str, ScoredCall] = {}
    for call in calls:
        if known.setdefault(call.unit_id, call) != call:
            raise ValueError(f"two different calls have unit_id {call.unit_id!r}; give each call once")
    here = [known[unit_id] for unit_id in sorted(known) if known[unit_id].variant in live]
    failing = [call for call in here if call.quality < rules.failing_below]
    return failing, [call for call in here if call.quality >= rules.failing_below]


def _one_per_caller(calls: Iterable[ScoredCall], seed: str) -> dict[str, tuple[ScoredCall, float]]:
    """One call of each caller, and the probability that it was this one."""
    by_caller: dict[str, list[ScoredCall]] = defaultdict(list)
    for call in calls:
        by_caller[_caller(call)].append(call)
    return {
        caller: (min(own, key=lambda call: _draw(seed, "caller", call.unit_id)), 1 / len(own))
        for caller, own in by_caller.items()
    }


def _caller(call: ScoredCall) -> str:
    return f"call {call.unit_id}" if call.caller is None else f"caller {call.caller}"


def _strata(calls: Sequence[ScoredCall], rules: SampleRules) -> Mapping[_Kind, list[ScoredCall]]:
    strata: dict[_Kind, list[ScoredCall]] = defaultdict(list)
    for call in calls:
        strata[_Kind(call.segment, call.variant)].append(call)
    seats = max(rules.size // rules.floor, 1)
    if len(strata) <= seats:
        return strata
    by_size = sorted(strata, key=lambda kind: (-len(strata[kind]), kind))
    rest = [call for kind in by_size[seats - 1 :] for call in strata[kind]]
    kept = {kind: strata[kind] for kind in by_size[: seats - 1]}
    other = _Kind(OTHER_SEGMENT, "")  # no variant is named so, so a segment `other` of one stays apart
    return kept | {other: rest}


def _matched(
    taken: Sequence[SampledCall],
    failing: Iterable[ScoredCall],
    good: Sequence[ScoredCall],
    *,
    seed: str,
    rules: SampleRules,
) -> tuple[MatchedCall, ...]:
    known = {call.unit_id: call for call in failing}
    used = {_caller(known[call.unit_id]) for call in taken}
    matched: list[MatchedCall] = []
    for call in _alternating(taken, seed):
        if len(matched) >= rules.contrast:
            break
        mate = _nearest(known[call.unit_id], [other for other in good if _caller(other) not in used], seed)
        if mate is not None:
            used.add(_caller(mate))
            matched.append(MatchedCall(unit_id=mate.unit_id, matches=call.unit_id, half=call.half))
    return tuple(matched)


def _alternating(taken: Sequence[SampledCall], seed: str) -> list[SampledCall]:
    """In drawn order, halves by turns, so that both get their contrast."""
    drawn = sorted(taken, key=lambda call: _draw(seed, "match", call.unit_id))
    places = {"read": 0, "gate": 1}
    order: list[tuple[int, SampledCall]] = []
    for call in drawn:
        order.append((places[call.half], call))
        places[call.half] += 2
    return [call for _, call in sorted(order, key=lambda item: item[0])]


def _nearest(call: ScoredCall, good: Iterable[ScoredCall], seed: str) -> ScoredCall | None:
    """The good call of the same segment and variant whose length is nearest, None beyond twice or half."""
    near = [
        (ratio, _draw(seed, "match", other.unit_id), other)
        for other in good
        if (other.segment, other.variant) == (call.segment, call.variant)
        and (ratio := _length_ratio(call, other)) <= MAX_LENGTH_RATIO
    ]
    return min(near, key=lambda item: item[:2])[2] if near else None


def _length_ratio(call: ScoredCall, other: ScoredCall) -> float:
    short, long = sorted((call.characters + 1, other.characters + 1))
    return long / short


def _draw(seed: str, purpose: str, unit_id: str) -> tuple[bytes, str]:
    return hashlib.sha256(f"{seed}/{purpose}/{unit_id}".encode()).digest(), unit_id
