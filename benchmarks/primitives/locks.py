"""W8: what a lock costs, free and contended, beside redis-py's ``Lock`` on the same engine.

Contended, ten agents with a connection each want one lock, and hold it for five milliseconds:
what is measured is from just before the release until another one has it. redis-py's
waiters poll; they are measured at its default of 0.1 s and at one millisecond.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from redis.asyncio import Redis

import callboard
from benchmarks.engine import EngineOptions, running_engine
from benchmarks.primitives.samples import Samples
from benchmarks.report import figure, rows
from benchmarks.results import Results

KEY = "W8"
AGENTS = 10
HELD_SECONDS = 0.005
PEERS = {"redis-py Lock, polling each 0.1 s": 0.1, "redis-py Lock, polling each 1 ms": 0.001}

Locked = Callable[[int], Awaitable[Callable[[], Awaitable[None]]]]
"""Takes the lock for one of the agents, and answers what releases it."""


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add the figures of Callboard's locks and of the peer's."""
    times, turns = (200, 50) if quick else (2_000, 500)
    for _ in range(runs):
        with running_engine(options) as engine:
            asyncio.run(_callboard(engine.url, times, turns, results))
        for name, poll in PEERS.items():
            with running_engine(options) as engine:
                asyncio.run(_redis(engine.url, name, poll, times, turns, results))


def render(results: Results) -> str:
    """The table."""
    return rows(results, KEY, f"A lock: free, and handed on among {AGENTS} agents")


async def _callboard(url: str, times: int, turns: int, results: Results) -> None:
    async with AsyncExitStack() as stack:
        boards = [
            await stack.enter_async_context(callboard.connect(url, adopt=True))
            for _ in range(AGENTS)
        ]

        async def locked(agent: int) -> Callable[[], Awaitable[None]]:
            lock = await boards[agent].locks.acquire("file:a", owner=f"agent-{agent}", wait=60)

            async def release() -> None:
                await boards[agent].locks.release(lock)

            return release

        await _measure("callboard", locked, times, turns, results)


async def _redis(
    url: str, name: str, poll: float, times: int, turns: int, results: Results
) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Redis.from_url(url)) for _ in range(AGENTS)]
        locks = [client.lock("file:a", timeout=30, sleep=poll) for client in clients]

        async def locked(agent: int) -> Callable[[], Awaitable[None]]:
            await locks[agent].acquire()
            return locks[agent].release

        await _measure(name, locked, times, min(turns, 50 if poll > 0.01 else turns), results)


async def _measure(name: str, locked: Locked, times: int, turns: int, results: Results) -> None:
    free = Samples()
    for _ in range(times):
        started = time.perf_counter()
        release = await locked(0)
        await release()
        free.add(time.perf_counter() - started)
    figure(results, KEY, name, "take and release p50, ms", free.ms(50), 3)
    figure(results, KEY, name, "p99, ms", free.ms(99), 3)
    contest = _Contest(turns)
    await asyncio.gather(*(contest.play(agent, locked) for agent in range(AGENTS)))
    figure(results, KEY, name, "hand-off p50, ms", contest.handed.ms(50), 3)
    figure(results, KEY, name, "hand-off p99, ms", contest.handed.ms(99), 3)


class _Contest:
    """Ten agents after one lock, until it was handed on *turns* times.

    Who had it comes back once another one has it: what is measured is always a hand-over.
    """

    def __init__(self, turns: int) -> None:
        self.handed = Samples()
        self._turns = turns
        self._released_at = 0.0
        self._taken = asyncio.Event()

    async def play(self, agent: int, locked: Locked) -> None:
        while self.handed.count < self._turns:
            release = await locked(agent)
            if self._released_at:
                self.handed.add(time.perf_counter() - self._released_at)
            self._taken.set()
            self._taken = taken = asyncio.Event()
            if self.handed.count >= self._turns:
                taken.set()
            await asyncio.sleep(HELD_SECONDS)
            self._released_at = time.perf_counter()
            await release()
            await taken.wait()
