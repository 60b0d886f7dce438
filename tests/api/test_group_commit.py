"""The queue before the database: groups, lanes, bad items, deadlines, the end."""

import asyncio
from collections.abc import Sequence

import pytest

from api.group_commit import HELD_UP_S, GroupCommit, TooLate, TooMany
from api.problems import StorageAway

ENOUGH_S = 30.0


class Store:
    """Keeps the groups it was given; each waits for `gate`, and items named `bad` spoil their group."""

    def __init__(self, *, error: type[Exception] = ValueError) -> None:
        self.groups: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = 0
        self.most_under_way = 0
        self._error = error

    async def __call__(self, items: Sequence[str]) -> list[str]:
        self.groups.append(list(items))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            if any(item.startswith("bad") for item in items):
                raise self._error("spoilt")
            return [item.upper() for item in items]
        finally:
            self.under_way -= 1


def queue(store: Store, *, largest: int = 100, most_waiting: int = 1_000) -> GroupCommit[str, str]:
    return GroupCommit(store, largest=largest, most_waiting=most_waiting)


async def test_a_lone_item_waits_for_nobody():
    store = Store()
    assert await queue(store).add("a", within_s=ENOUGH_S) == "A"
    assert store.groups == [["a"]]


async def test_what_arrives_during_a_transaction_shares_the_next_one():
    store = Store()
    store.gate.clear()
    groups = queue(store)
    first = groups.add("first", within_s=ENOUGH_S)
    await asyncio.sleep(0)
    others = [groups.add(f"{n}", within_s=ENOUGH_S) for n in range(30)]
    store.gate.set()
    assert await asyncio.gather(first, *others) == ["FIRST", *(f"{n}" for n in range(30))]
    assert store.groups == [["first"], [f"{n}" for n in range(30)]]


async def test_a_group_weighs_what_was_allowed_and_a_heavier_item_goes_alone():
    store = Store()
    groups = queue(store, largest=10)
    answers = [groups.add(name, within_s=ENOUGH_S, weight=w) for name, w in (("a", 6), ("b", 4), ("c", 50))]
    await asyncio.gather(*answers)
    assert store.groups == [["a", "b"], ["c"]]


async def test_one_transaction_is_under_way_while_none_is_held_up():
    """An item that comes in the very moment in which the lane before it ends is not forgotten either."""
    store = Store()
    groups = queue(store, largest=3)
    for n in range(200):
        answer = groups.add(f"{n}", within_s=ENOUGH_S)
        if n % 7 == 0:
            assert await answer == f"{n}"
    assert await groups.add("last", within_s=ENOUGH_S) == "LAST"


async def test_a_transaction_that_is_held_up_is_passed_by_another_one():
    """A unit that somebody has locked must not stop all other calls."""
    release = asyncio.Event()

    async def store(items: Sequence[str]) -> list[str]:
        if "locked" in items:
            await release.wait()
        return list(items)

    groups = GroupCommit(store, largest=100, most_waiting=100)
    locked = groups.add("locked", within_s=ENOUGH_S)
    await asyncio.sleep(0)
    assert await groups.add("free", within_s=ENOUGH_S) == "free"
    assert not locked.done()
    release.set()
    assert await locked == "locked"


async def test_a_bad_item_spoils_nothing_but_itself():
    store = Store()
    groups = queue(store)
    items = ["a", "b", "bad", "c", "d", "bad too", "e"]
    answers = [groups.add(item, within_s=ENOUGH_S) for item in items]
    found = await asyncio.gather(*answers, return_exceptions=True)
    assert [f if isinstance(f, str) else type(f) for f in found] == [
        *("A", "B", ValueError, "C", "D", ValueError, "E")
    ]


@pytest.mark.parametrize("error", [StorageAway, OSError])
async def test_while_the_database_is_away_a_group_is_not_tried_again_in_parts(error: type[Exception]):
    store = Store(error=error)
    groups = queue(store)
    answers = [groups.add(item, within_s=ENOUGH_S) for item in ("a", "bad", "c")]
    found = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(f) for f in found] == [error] * 3
    assert len(store.groups) == 1


async def test_an_item_whose_turn_comes_too_late_is_not_begun():
    store = Store()
    store.gate.clear()
    groups = queue(store, largest=1)
    begun = [groups.add(f"begun {n}", within_s=ENOUGH_S) for n in range(2)]
    await asyncio.sleep(2 * HELD_UP_S)  # both lanes are taken
    late = groups.add("late", within_s=0.0)
    in_time = groups.add("in time", within_s=ENOUGH_S)
    await asyncio.sleep(0.01)
    store.gate.set()
    assert await asyncio.gather(*begun, in_time) == ["BEGUN 0", "BEGUN 1", "IN TIME"]
    with pytest.raises(TooLate):
        await late
    assert ["late"] not in store.groups


async def test_a_full_queue_says_so():
    store = Store()
    store.gate.clear()
    groups = queue(store, most_waiting=3)
    answers = [groups.add("under way", within_s=ENOUGH_S)]
    await asyncio.sleep(0)
    answers += [groups.add(f"{n}", within_s=ENOUGH_S) for n in range(3)]
    with pytest.raises(TooMany):
        groups.add("too many", within_s=ENOUGH_S)
    store.gate.set()
    assert len(await asyncio.gather(*answers)) == 4


async def test_no_more_than_two_transactions_are_under_way():
    store = Store()
    store.gate.clear()
    groups = queue(store, largest=1)
    answers = [groups.add(f"{n}", within_s=ENOUGH_S) for n in range(6)]
    await asyncio.sleep(4 * HELD_UP_S)
    assert store.under_way == store.most_under_way == 2
    store.gate.set()
    await asyncio.gather(*answers)


async def test_the_end_stores_what_waits():
    store = Store()
    groups = queue(store, largest=1)
    answers = [groups.add(f"{n}", within_s=ENOUGH_S) for n in range(5)]
    await groups.drain(within_s=ENOUGH_S)
    assert [answer.result() for answer in answers] == [f"{n}" for n in range(5)]


async def test_an_end_that_cannot_wait_leaves_nobody_waiting():
    store = Store()
    store.gate.clear()
    groups = queue(store, largest=1)
    answers = [groups.add(f"{n}", within_s=ENOUGH_S) for n in range(5)]
    await asyncio.sleep(0)
    await groups.drain(within_s=0.01)
    assert all(answer.cancelled() for answer in answers)
