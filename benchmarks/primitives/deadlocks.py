"""W9: how long the call takes that closes a cycle, while 10,000 owners wait for 500 resources.

Each resource is held, by one owner or by twenty (shared, or all permits of a semaphore), and
the other owners stand in the queues. Of the holders as many wait for the next resource as
make a cycle of the given length but for one wait; the call that adds it is measured, from
this process. Its caller is the victim each time, so the same call can be repeated.

A shared lock is closed by one holder of each resource, nineteen others can still run. A
semaphore is a deadlock only once all twenty holders of each resource are stuck.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import callboard
from benchmarks.engine import EngineOptions, running_engine
from benchmarks.primitives.samples import Samples
from benchmarks.report import figure, rows
from benchmarks.results import Results

KEY = "W9"
WAITING, RESOURCES = 10_000, 500
LENGTHS = (2, 10, 500)
WAIT_MS = 3_600_000
AT_ONCE = 500


@dataclass(frozen=True)
class Kind:
    """How the resources are held and waited for: the engine's letters."""

    name: str
    held: str
    wanted: str
    holders: int
    limit: str = ""
    stuck: int = 1


KINDS = (
    Kind("exclusive", "x", "x", 1),
    Kind("shared by 20", "s", "x", 20),
    Kind("semaphore of 20", "p", "p", 20, limit="20", stuck=20),
)


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add the figures of each kind of lock and each length of cycle."""
    times = 20 if quick else 200
    for _ in range(runs):
        for kind in KINDS:
            for length in LENGTHS:
                with running_engine(options) as engine:
                    asyncio.run(_measure(engine.url, kind, length, times, results))
        with running_engine(options) as engine:
            asyncio.run(_free(engine.url, times * 5, results))


def render(results: Results) -> str:
    """The table."""
    return rows(
        results,
        KEY,
        f"The call that closes a cycle; {WAITING:,} owners wait for {RESOURCES} resources",
        "lock, resources in the cycle",
    )


async def _measure(url: str, kind: Kind, length: int, times: int, results: Results) -> None:
    async with callboard.connect(url, adopt=True) as cb:
        scene = _Scene(cb)
        await scene.hold(kind)
        closing = await scene.wait_almost(kind, length)
        await scene.crowd(kind)
        await scene.still_meant()
        taken, in_call = Samples(), 0
        for _ in range(times):
            started = time.perf_counter()
            reply = await scene.acquire(closing, kind.wanted, 0, limit=kind.limit)
            taken.add(time.perf_counter() - started)
            if reply[0] == b"deadlock_victim":
                in_call += 1
            else:
                break  # The bound was met: what is left is the sweep's.
            await scene.forgive(closing)
        row = f"{kind.name}, {length}"
        figure(results, KEY, row, "p50, ms", taken.ms(50), 2)
        figure(results, KEY, row, "p99, ms", taken.ms(99), 2)
        figure(results, KEY, row, "found in the call, %", 100 * in_call / max(1, taken.count), 0)
        if not in_call:
            figure(results, KEY, row, "by the sweep, ms", await scene.swept_after() * 1e3, 0)


async def _free(url: str, times: int, results: Results) -> None:
    """A wait that closes nothing: of an owner that holds nothing, and of one that holds."""
    async with callboard.connect(url, adopt=True) as cb:
        scene = _Scene(cb)
        kind = KINDS[0]
        await scene.hold(kind)
        for name, holds in (("a wait, holding nothing", False), ("a wait, holding one lock", True)):
            taken = Samples()
            for n in range(times):
                owner = f"{name[-8:].strip()}-{n}"
                if holds:
                    await scene.acquire(owner, "x", RESOURCES + 1 + n, wait_ms=0)
                started = time.perf_counter()
                await scene.acquire(owner, "x", n % RESOURCES)
                taken.add(time.perf_counter() - started)
            figure(results, KEY, name, "p50, ms", taken.ms(50), 2)
            figure(results, KEY, name, "p99, ms", taken.ms(99), 2)


class _Scene:
    """Holders and waiters, made by the engine's functions without a coroutine each."""

    def __init__(self, cb: callboard.Callboard) -> None:
        self._cb = cb
        self._operations = itertools.count()
        self._waiting: list[tuple[str, str]] = []

    async def acquire(
        self, owner: str, mode: str, resource: int, *, wait_ms: int = WAIT_MS, limit: str = ""
    ) -> list[bytes]:
        operation = f"op-{next(self._operations)}"
        reply = await self._cb.namespace.functions.call(
            "lock_acquire", owner, "", mode, limit, wait_ms, WAIT_MS, 0, "", operation, 1,
            _name(resource),
        )  # fmt: skip
        if reply[0] == b"waiting":
            self._waiting.append((owner, operation))
        return reply

    async def hold(self, kind: Kind) -> None:
        """Every resource by its holders."""
        calls = (
            self.acquire(_holder(resource, n), kind.held, resource, wait_ms=0, limit=kind.limit)
            for resource in range(RESOURCES)
            for n in range(kind.holders)
        )
        await _all(calls, b"ok")

    async def wait_almost(self, kind: Kind, length: int) -> str:
        """All waits of the cycle but the last; answers whose that is: it wants resource 0."""
        closing = _holder(length - 1, 0)
        calls = (
            self.acquire(
                _holder(resource, n), kind.wanted, (resource + 1) % length, limit=kind.limit
            )
            for resource in range(length)
            for n in range(kind.stuck)
            if _holder(resource, n) != closing
        )
        await _all(calls, b"waiting")
        return closing

    async def crowd(self, kind: Kind) -> None:
        """Others, who hold nothing, until 10,000 wait."""
        waiting = len(self._waiting)
        calls = (
            self.acquire(f"crowd-{n}", kind.wanted, n % RESOURCES, limit=kind.limit)
            for n in range(WAITING - waiting)
        )
        await _all(calls, b"waiting")

    async def swept_after(self) -> float:
        """Seconds until a sweep has found the cycle."""
        started = time.perf_counter()
        for _ in range(1_000):
            await self._cb.namespace.functions.call("lock_sweep", 100)
            if await self._engine("XLEN", "locks:incidents"):
                return time.perf_counter() - started
        raise RuntimeError("no sweep found the cycle")

    async def forgive(self, owner: str) -> None:
        """Forget that the owner was a victim, else the next time it would be another."""
        await self._engine("DEL", f"lockvictim:{owner}")

    async def still_meant(self) -> None:
        """Renew every wait, as its process would: who waits for long is not overtaken then."""
        rows = [part for row in self._waiting for part in row]
        for at in range(0, len(rows), 1_000):
            part = rows[at : at + 1_000]
            await self._cb.namespace.functions.call("lock_await", len(part) // 2, *part)

    async def _engine(self, command: str, key: str) -> Any:
        connection = self._cb.namespace.connection
        return await connection.call(command, self._cb.namespace.keys.prefix + key)


def _name(resource: int) -> str:
    return f"resource-{resource:05}"


def _holder(resource: int, n: int) -> str:
    return f"holder-{resource}-{n}"


async def _all(calls: Iterable[Awaitable[list[bytes]]], status: bytes) -> None:
    """All calls, some hundred in flight; each has to answer so."""
    for batch in _batches(calls):
        for reply in await asyncio.gather(*batch):
            if reply[0] != status:
                raise RuntimeError(f"{reply!r} where {status!r} was expected")


def _batches(calls: Iterable[Awaitable[list[bytes]]]) -> Iterator[list[Awaitable[list[bytes]]]]:
    rest = iter(calls)
    while batch := list(itertools.islice(rest, AT_ONCE)):
        yield batch
