"""Single items that are under way at once go together, and each gets the answer of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest

import callboard
from callboard import BoardSettings, Callboard
from callboard.engine.gathering import AT_ONCE, BYTES_MAX, ITEMS_MAX, Gathering
from callboard.exceptions import (
    BoardFull,
    EngineFull,
    EngineUnavailable,
    IdConflict,
    OutcomeUnknown,
    Refused,
)

TASKS = 40


class Engine:
    """Takes calls, and answers them when it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.bad: set[int] = set()
        self.down: Exception | None = None
        self.lets = asyncio.Event()

    async def send(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        await asyncio.sleep(0)
        await self.lets.wait()
        if self.down is not None:
            raise self.down
        bad = sorted(self.bad.intersection(items))
        if bad:
            raise Refused(f"{bad[0]} is bad")
        return [item * 10 for item in items]

    def gathering(self, size: int = 1) -> Gathering[int, int]:
        return Gathering(self.send, lambda _: size)


async def turns(count: int = 10) -> None:
    """Let whatever can run run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_item_alone_goes_at_once() -> None:
    engine = Engine()
    one = asyncio.ensure_future(engine.gathering().add(1))
    await asyncio.sleep(0)

    assert engine.calls == [[1]]
    engine.lets.set()
    assert await one == 10


async def test_what_comes_at_once_goes_together_behind_the_first() -> None:
    engine = Engine()
    gathering = engine.gathering()
    answers = asyncio.gather(*(gathering.add(n) for n in range(9)))
    await turns()

    assert engine.calls == [[0], list(range(1, 9))]
    engine.lets.set()
    assert await answers == [n * 10 for n in range(9)]


async def test_what_comes_while_calls_are_under_way_waits_for_one_to_end() -> None:
    engine = Engine()
    gathering = engine.gathering()
    first = [asyncio.ensure_future(gathering.add(n)) for n in range(3)]
    await turns()
    later = [asyncio.ensure_future(gathering.add(n)) for n in range(3, 7)]
    await turns()
    assert len(engine.calls) == AT_ONCE

    engine.lets.set()
    await asyncio.gather(*first, *later)
    assert engine.calls == [[0], [1, 2], [3, 4, 5, 6]]


async def test_nothing_overtakes_what_waits() -> None:
    engine = Engine()
    gathering = engine.gathering()

    async def one_and_then_another() -> None:
        await gathering.add(1)
        await gathering.add(4)

    jobs = [asyncio.ensure_future(gathering.add(0))]
    await turns()
    another = asyncio.ensure_future(one_and_then_another())
    jobs.append(asyncio.ensure_future(gathering.add(2)))
    await turns()
    jobs.append(asyncio.ensure_future(gathering.add(3)))
    await turns()
    engine.lets.set()
    await asyncio.gather(another, *jobs)

    assert [item for call in engine.calls for item in call] == list(range(5))


async def test_a_fault_on_the_way_is_told_to_all_who_wait() -> None:
    """Nobody waits for ever where what was sent answers what it may not."""

    async def send(items: Sequence[int]) -> list[int]:
        await asyncio.sleep(0)
        return [0]

    gathering = Gathering(send, lambda _: 1)
    answers = await asyncio.gather(*(gathering.add(n) for n in range(4)), return_exceptions=True)

    assert [type(one) for one in answers] == [int, int, ValueError, ValueError]


async def test_of_a_full_board_each_is_asked_for_once_more_and_not_more() -> None:
    calls: list[int] = []

    async def send(items: Sequence[int]) -> list[int]:
        calls.append(len(items))
        await asyncio.sleep(0)
        raise BoardFull("full")

    gathering = Gathering(send, lambda _: 1)
    answers = await asyncio.gather(*(gathering.add(n) for n in range(21)), return_exceptions=True)

    assert {type(one) for one in answers} == {BoardFull}
    assert calls == [1, 20, *[1] * 20]


async def test_behind_calls_that_are_stuck_it_goes_soon_all_the_same() -> None:
    engine = Engine()
    gathering = engine.gathering()
    under_way = [asyncio.ensure_future(gathering.add(n)) for n in range(3)]
    await turns()
    under_way.append(asyncio.ensure_future(gathering.add(3)))

    async with asyncio.timeout(20):
        while len(engine.calls) == AT_ONCE:
            await asyncio.sleep(0)
    engine.lets.set()
    assert await asyncio.gather(*under_way) == [0, 10, 20, 30]


@pytest.mark.parametrize("bad", [{3}, {1, 8}, set(range(1, 9))], ids=["one", "two", "all"])
async def test_a_refusal_is_of_the_one_that_is_refused(bad: set[int]) -> None:
    engine = Engine()
    engine.bad = bad
    engine.lets.set()
    gathering = engine.gathering()

    answers = await asyncio.gather(*(gathering.add(n) for n in range(9)), return_exceptions=True)

    assert [str(one) for one in answers] == [
        f"{n} is bad" if n in bad else str(n * 10) for n in range(9)
    ]


@pytest.mark.parametrize("error", [EngineUnavailable, OutcomeUnknown, EngineFull])
async def test_what_is_the_engines_own_is_told_to_all_and_tried_once(
    error: type[Exception],
) -> None:
    engine = Engine()
    engine.down = error("it is so")
    engine.lets.set()
    gathering = engine.gathering()

    answers = await asyncio.gather(*(gathering.add(n) for n in range(9)), return_exceptions=True)

    assert [(type(one), str(one)) for one in answers] == [(error, "it is so")] * 9
    assert len({id(one) for one in answers}) == 9
    assert len(engine.calls) == 2


async def test_who_gives_up_before_it_was_sent_takes_it_back() -> None:
    engine = Engine()
    gathering = engine.gathering()
    under_way = [asyncio.ensure_future(gathering.add(n)) for n in range(3)]
    await turns()
    waiting = [asyncio.ensure_future(gathering.add(n)) for n in range(3, 6)]
    await turns()
    waiting[1].cancel()
    await turns()
    engine.lets.set()

    assert await asyncio.gather(*under_way, waiting[0], waiting[2]) == [0, 10, 20, 30, 50]
    assert engine.calls[-1] == [3, 5]


async def test_who_gives_up_when_it_was_sent_takes_nothing_from_the_others() -> None:
    engine = Engine()
    gathering = engine.gathering()
    under_way = [asyncio.ensure_future(gathering.add(n)) for n in range(4)]
    await turns()
    under_way[2].cancel()
    await turns()
    engine.lets.set()

    assert [await under_way[n] for n in (0, 1, 3)] == [0, 10, 30]


async def test_a_call_has_a_bound_of_items_and_of_bytes() -> None:
    engine = Engine()
    engine.lets.set()
    small, large = engine.gathering(), engine.gathering(BYTES_MAX // 3)

    await asyncio.gather(*(small.add(n) for n in range(2 * ITEMS_MAX)))
    assert [len(call) for call in engine.calls] == [1, ITEMS_MAX, ITEMS_MAX - 1]
    engine.calls.clear()
    await asyncio.gather(*(large.add(n) for n in range(7)))
    assert [len(call) for call in engine.calls] == [1, 3, 3]


# Submits are gathered


async def test_a_conflict_leaves_the_submits_beside_it_alone(
    valkey_url: str, namespace: str
) -> None:
    async with callboard.connect(valkey_url, namespace=namespace) as cb:
        await cb.tasks.submit("work", "first", id="t-7")
        answers = await at_once(cb, "second")

        assert [type(one) for n, one in enumerate(answers) if n == 7] == [IdConflict]
        assert answers[7].details["task"] == "t-7"  # type: ignore[attr-defined]
        others = [one for n, one in enumerate(answers) if n != 7]
        assert not any(isinstance(one, Exception) for one in others)
        found = await cb.tasks.get_many([f"t-{n}" for n in range(TASKS)])
        assert [one and bytes(one.payload) for one in found] == [
            b'"first"' if n == 7 else b'"second"' for n in range(TASKS)
        ]


async def test_a_board_with_little_room_takes_as_many_as_it_has_room_for(
    valkey_url: str, namespace: str
) -> None:
    async with callboard.connect(valkey_url, namespace=namespace) as cb:
        await cb.boards.configure("default", BoardSettings(limit=5))
        answers = await at_once(cb, None)

        assert sum(isinstance(one, BoardFull) for one in answers) == TASKS - 5
        assert len((await cb.tasks.list()).tasks) == 5


async def test_of_the_same_id_submitted_at_once_one_is_new(valkey_url: str, namespace: str) -> None:
    async with callboard.connect(valkey_url, namespace=namespace) as cb:
        handles = await asyncio.gather(
            *(cb.tasks.submit("work", 1, id="same") for _ in range(TASKS))
        )

        assert [one.existed for one in handles].count(False) == 1


async def test_submits_of_one_tick_stand_in_the_lane_in_their_order(
    valkey_url: str, namespace: str
) -> None:
    async with callboard.connect(valkey_url, namespace=namespace) as cb:
        await at_once(cb, None)
        (lane,) = await cb.tasks.lanes()
        assert list(lane.next) == [f"t-{n}" for n in range(len(lane.next))]
        assert len(lane.next) > 1
        assert all(first < second for first, second in pairwise(lane.next))


async def at_once(cb: Callboard, payload: object) -> list[object]:
    return await asyncio.gather(
        *(cb.tasks.submit("work", payload, id=f"t-{n}") for n in range(TASKS)),
        return_exceptions=True,
    )
