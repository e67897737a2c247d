"""Workers and the keys of tasks: an idle one asks again in time, a slot is not slept on."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise
from statistics import median

import callboard
from callboard import TaskSpec, testing
from callboard.domain.event import Event
from tests.sdk.workers import SECONDS, worker_of, working


async def claimed_at(cb: callboard.Callboard) -> list[float]:
    """When each claim was granted, by the engine's clock."""
    entries, _ = await cb.events.read(limit=1_000)
    return [
        entry.at.timestamp()
        for entry in entries
        if isinstance(entry, Event) and entry.type == "task:claimed"
        for _ in entry.facts
    ]


async def nothing() -> None:
    """A handler that takes no time."""


async def test_idle_workers_come_back_when_their_rate_lets_one_through() -> None:
    async with testing.board() as board:
        cb = board.cb
        await cb.flow.limit("r", rate=10, per=1)
        handles = await cb.tasks.submit_many(TaskSpec(kind="x", rate_key="r") for _ in range(15))
        async with AsyncExitStack() as stack:
            for name in ("mira", "noor"):
                worker = worker_of(name, handlers={"x": nothing})
                _ = await stack.enter_async_context(working(cb, worker))
            async with asyncio.timeout(3 * SECONDS):
                await asyncio.gather(*(handle.result() for handle in handles))

        gaps = [after - before for before, after in pairwise(await claimed_at(cb))]
        assert min(gaps) >= 0.099
        assert median(gaps) < 0.5  # the poll of idle workers alone would be every 1.25 s


async def test_a_freed_slot_wakes_the_worker_that_waits_for_it() -> None:
    async with testing.board() as board:
        cb = board.cb
        await cb.flow.limit("k", concurrency=1)
        handles = await cb.tasks.submit_many(
            TaskSpec(kind=f"x{i % 2}", concurrency_key="k") for i in range(20)
        )
        async with AsyncExitStack() as stack:
            for i in range(2):
                worker = worker_of(f"w{i}", handlers={f"x{i}": nothing})
                _ = await stack.enter_async_context(working(cb, worker))
            async with asyncio.timeout(3 * SECONDS):
                await asyncio.gather(*(handle.result() for handle in handles))

        gaps = [after - before for before, after in pairwise(await claimed_at(cb))]
        assert median(gaps) < 0.5


async def test_the_janitor_of_a_worker_fires_what_recurs() -> None:
    done = asyncio.Event()

    async def ring() -> None:
        done.set()

    async with testing.board() as board:
        await board.cb.recurring.create("bell", "ring", every=1)
        async with working(board.cb, worker_of(handlers={"ring": ring})):
            async with asyncio.timeout(3 * SECONDS):
                await done.wait()
