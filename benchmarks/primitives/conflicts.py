"""W14: how long the resolution of a conflict takes, enforced on the lock that it is about.

Three parties want one lock, and one of them holds it: it is reported and resolved by
priority for another one, so the holder loses it in the same call. And by vote: the vote that
decides among five members.
"""

from __future__ import annotations

import asyncio
import time

import callboard
from benchmarks.engine import EngineOptions, running_engine
from benchmarks.primitives.samples import Samples
from benchmarks.report import figure, rows
from benchmarks.results import Results

KEY = "W14"
PRIORITIES = {"ada": 10, "mira": 5, "noor": 1}
MEMBERS = ("ada", "mira", "noor", "kai", "ines")


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add the figures of both."""
    times = 50 if quick else 1_000
    for _ in range(runs):
        for name, measured in (("by priority", _by_priority), ("the deciding vote", _by_vote)):
            with running_engine(options) as engine:
                taken = asyncio.run(measured(engine.url, times))
            figure(results, KEY, name, "p50, ms", taken.ms(50), 2)
            figure(results, KEY, name, "p99, ms", taken.ms(99), 2)


def render(results: Results) -> str:
    """The table."""
    return rows(results, KEY, "A conflict over a lock, decided and enforced")


async def _by_priority(url: str, times: int) -> Samples:
    taken = Samples()
    async with callboard.connect(url, adopt=True) as cb:
        for n in range(times):
            conflict = await contested(cb, n)
            started = time.perf_counter()
            resolution = await cb.conflicts.resolve(
                conflict.id, "priority", inputs={"priorities": PRIORITIES}
            )
            taken.add(time.perf_counter() - started)
            _must_be(resolution.winner, "ada")
    return taken


async def _by_vote(url: str, times: int) -> Samples:
    taken = Samples()
    async with callboard.connect(url, adopt=True) as cb:
        for n in range(times):
            conflict = await contested(cb, n)
            await cb.conflicts.open_vote(conflict.id, members=MEMBERS)
            for voter in MEMBERS[:2]:
                await cb.conflicts.vote(conflict.id, voter, "ada")
            started = time.perf_counter()
            await cb.conflicts.vote(conflict.id, MEMBERS[2], "ada")
            taken.add(time.perf_counter() - started)
            decided = await cb.conflicts.get(conflict.id)
            _must_be(decided.resolution.winner if decided.resolution else None, "ada")
    return taken


async def contested(cb: callboard.Callboard, n: int) -> callboard.Conflict:
    """A lock that *noor* holds and two others want."""
    await cb.locks.acquire(f"file-{n}", owner=f"noor-{n}", agent="noor", wait=0)
    return await cb.conflicts.report("resource", f"file-{n}", list(PRIORITIES))


def _must_be(winner: str | None, expected: str) -> None:
    if winner != expected:
        raise RuntimeError(f"{winner!r} won, not {expected!r}")
