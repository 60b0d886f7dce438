"""How many calls each stratum gives to a sample."""

from collections.abc import Mapping


def quotas[K: tuple[str, str]](
    available: Mapping[K, int], *, size: int, floor: int, max_share: float
) -> dict[K, int]:
    """Seats in proportion to what is available, at least the floor, at most the cap, never more than there are.

    Seats are given one by one to the stratum that is furthest below its proportion; ties go by key.

    Examples
    --------
    >>> quotas({("refund", "a"): 900, ("size", "a"): 90, ("hours", "a"): 10}, size=50, floor=2, max_share=0.4)
    {('hours', 'a'): 10, ('refund', 'a'): 20, ('size', 'a'): 20}
    """
    bound = cap(len(available), size=size, max_share=max_share)
    total = sum(available.values())
    limit = {kind: min(there, bound) for kind, there in available.items()}
    seats = {kind: min(floor, limit[kind]) for kind in sorted(available)}
    while sum(seats.values()) < size:
        open_kinds = [kind for kind in seats if seats[kind] < limit[kind]]
        if not open_kinds:
            break
        behind = max(open_kinds, key=lambda kind: available[kind] * size / total - seats[kind])
        seats[behind] += 1
    return seats


def cap(strata: int, *, size: int, max_share: float) -> int:
    """The most seats of one stratum: a share of the size; an equal share where that is more.

    With one stratum or two a cap of 40 % would only make the sample smaller.

    >>> [cap(strata, size=50, max_share=0.4) for strata in (1, 2, 3, 10)]
    [50, 25, 20, 20]
    """
    return max(int(max_share * size), -(-size // strata) if strata else 0, 1)
