"""W15: the promises of the documents that Callboard follows, each beside what was measured.

Everything at once, in one process on one engine: 200 agents, 2,000 tasks in queue, 1,000
resources, and 10,000 messages a minute, for as long as the samples take. Meanwhile tasks are
assigned one by one, locks are taken, free ones and ones that fifty others wait for, messages
are delivered, conflicts are resolved, and cycles are closed.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import callboard
from benchmarks.engine import EngineOptions, running_engine
from benchmarks.primitives.conflicts import PRIORITIES, contested
from benchmarks.primitives.samples import Samples
from benchmarks.report import figure, rows
from benchmarks.results import Results
from callboard import TaskSpec
from callboard.exceptions import DeadlockVictim

KEY = "W15"
AGENTS, TASKS, RESOURCES = 200, 2_000, 1_000
MESSAGES_A_MINUTE = 10_000
WAITERS = 50
HELD_SECONDS = 0.005


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add a row for each promise."""
    seconds = 3.0 if quick else 20.0
    for _ in range(runs):
        with running_engine(options) as engine:
            asyncio.run(_Scene(engine.url, seconds).measure(results))


def render(results: Results) -> str:
    """The table."""
    return rows(results, KEY, "What was promised, all at once", "promised")


class _Scene:
    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        self._until = 0.0
        self._times: dict[str, Samples] = {}
        self._delivered = 0
        self._n = itertools.count()

    async def measure(self, results: Results) -> None:
        async with (
            callboard.connect(self._url, adopt=True) as cb,
            callboard.connect(self._url, adopt=True) as other,
        ):
            await self._fill(cb)
            listening = asyncio.create_task(self._listen(other))
            started = time.perf_counter()
            self._until = started + self._seconds
            await asyncio.gather(
                self._send(cb),
                self._again("assignment, p99 < 10 ms", 0.02, lambda: self._assign(cb)),
                self._again("a free lock, p99 < 50 ms", 0.02, lambda: self._free_lock(cb)),
                self._again("a conflict, p99 < 100 ms", 0.05, lambda: self._conflict(cb)),
                self._again("a deadlock found, < 1 s", 0.1, lambda: self._deadlock(cb)),
                *(self._contend(cb, n) for n in range(WAITERS)),
            )
            minutes = (time.perf_counter() - started) / 60
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening
            await self._scale(cb, results, minutes)
        for promise, taken in self._times.items():
            figure(results, KEY, promise, "measured p50, ms", taken.ms(50), 2)
            figure(results, KEY, promise, "p99, ms", taken.ms(99), 2)

    async def _fill(self, cb: callboard.Callboard) -> None:
        for n in range(AGENTS):
            await cb.agents.register(f"agent-{n}", capabilities=["read"], max_concurrent=1_000)
        await cb.tasks.submit_many([TaskSpec(kind="read") for _ in range(TASKS)])
        for n in range(0, RESOURCES, 100):
            names = [f"held-{n + k}" for k in range(100)]
            await cb.locks.acquire(*names, owner=f"keeper-{n}", lease=600, wait=0)

    async def _scale(self, cb: callboard.Callboard, results: Results, minutes: float) -> None:
        agents = len(await cb.agents.discover(limit=1_000))
        board = await cb.boards.get("default")
        held = len(await cb.locks.list("held-", limit=1_000))
        for promise, count in (
            ("100+ agents", agents),
            ("1,000+ tasks in queue", board.counts.pending),
            ("500+ resources", held),
            ("10,000+ messages/minute", self._delivered / minutes),
        ):
            figure(results, KEY, promise, "here", count, 0)

    async def _again(self, name: str, gap: float, one: Callable[[], Awaitable[float]]) -> None:
        while time.perf_counter() < self._until:
            self._times.setdefault(name, Samples()).add(await one())
            await asyncio.sleep(gap)

    async def _assign(self, cb: callboard.Callboard) -> float:
        handle = await cb.tasks.submit("read", priority="urgent")
        started = time.perf_counter()
        await cb.scheduler.assign(handle.id, strategy="least_connections")
        return time.perf_counter() - started

    async def _free_lock(self, cb: callboard.Callboard) -> float:
        name = f"free-{next(self._n)}"
        started = time.perf_counter()
        lock = await cb.locks.acquire(name, owner=name)
        taken = time.perf_counter() - started
        await cb.locks.release(lock)
        return taken

    async def _contend(self, cb: callboard.Callboard, n: int) -> None:
        """Fifty after one lock: from the release until the next one has it."""
        times = self._times.setdefault("a contended lock handed on, p99 < 50 ms", Samples())
        while time.perf_counter() < self._until:
            lock = await cb.locks.acquire("wanted", owner=f"contender-{n}", wait=600)
            if self._released_at:
                times.add(time.perf_counter() - self._released_at)
            await asyncio.sleep(HELD_SECONDS)
            self._released_at = time.perf_counter()
            await cb.locks.release(lock)

    _released_at = 0.0

    async def _conflict(self, cb: callboard.Callboard) -> float:
        conflict = await contested(cb, next(self._n))
        started = time.perf_counter()
        await cb.conflicts.resolve(conflict.id, "priority", inputs={"priorities": PRIORITIES})
        return time.perf_counter() - started

    async def _deadlock(self, cb: callboard.Callboard) -> float:
        """Two owners each want what the other has; until one of them is told."""
        n = next(self._n)
        names, owners = (f"left-{n}", f"right-{n}"), (f"one-{n}", f"two-{n}")
        for name, owner in zip(names, owners, strict=True):
            await cb.locks.acquire(name, owner=owner, wait=0)
        first = asyncio.create_task(cb.locks.acquire(names[1], owner=owners[0], wait=30))
        await asyncio.sleep(HELD_SECONDS)  # The first waits, or is the one that closes it.
        started = time.perf_counter()
        second = asyncio.create_task(cb.locks.acquire(names[0], owner=owners[1], wait=30))
        done, _ = await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
        taken = time.perf_counter() - started
        if not any(isinstance(task.exception(), DeadlockVictim) for task in done):
            raise RuntimeError("no victim was told")
        for owner in owners:
            await cb.locks.release_all(owner)
        await asyncio.gather(first, second, return_exceptions=True)
        for owner in owners:
            await cb.locks.release_all(owner)
        return taken

    async def _send(self, cb: callboard.Callboard) -> None:
        gap = 60 / MESSAGES_A_MINUTE / 1.2
        begun = time.perf_counter()
        for n in itertools.count():
            now = time.perf_counter()
            if now >= self._until:
                return
            await asyncio.sleep(max(0.0, begun + n * gap - now))
            await cb.messages.send("agent-0", time.perf_counter(), sender="agent-1")

    async def _listen(self, cb: callboard.Callboard) -> None:
        times = self._times.setdefault("a message delivered, p99 < 5 ms", Samples())
        async for message in cb.messages.listen("agent-0"):
            times.add(time.perf_counter() - message.decode(float))
            self._delivered += 1
