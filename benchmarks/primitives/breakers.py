"""W13: what guarding a call costs: admit and record around a call that does nothing.

Four rows: a component without a breaker, a closed breaker, a closed one that counts a rate,
and an open one, which answers with a refusal. Beside them the bare call, and one round trip
to the engine for scale. Callers are one or 100 at once; their calls then share round trips.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count

import callboard
from benchmarks.engine import EngineOptions, running_engine
from benchmarks.report import spread, table
from benchmarks.results import Metric, Results, Summary
from callboard import BreakerPolicy
from callboard.exceptions import CircuitOpen

OURS = "callboard"
FIGURES = {"p50": "p50, µs", "p99": "p99, µs", "rate": "calls/s"}
CASES = ("bare-call", "round-trip", "no-breaker", "closed", "closed-by-rate", "open")
CALLERS = (1, 100)


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add the figures of every case to *results*."""
    calls = 500 if quick else 10_000
    for _ in range(runs):
        with running_engine(options) as engine:
            asyncio.run(_measure(engine.url, calls, results))


def render(results: Results) -> str:
    """The table: rows by case and callers."""
    rows: dict[tuple[str, str], dict[str, Summary | None]] = {}
    for key in results.values:
        if key.startswith("breaker/"):
            _, case, callers, what = key.split("/")
            rows.setdefault((case, callers), {})[what] = results.summary(key, OURS)
    if not rows:
        return ""
    body = [
        [f"{case}, {callers} at once", *(spread(found.get(what), 1) for what in FIGURES)]
        for (case, callers), found in rows.items()
    ]
    head = ["a guarded call", *FIGURES.values()]
    return "## W13: Guarding a call, Callboard\n\n" + table(head, body)


async def _measure(url: str, calls: int, results: Results) -> None:
    async with callboard.connect(url) as cb:
        await cb.breakers.configure("closed")
        await cb.breakers.configure(
            "closed-by-rate", BreakerPolicy(failure_threshold=None, failure_rate=0.5)
        )
        await cb.breakers.configure("open", BreakerPolicy(open_for=3_600))
        await cb.breakers.force("open", "open")
        for callers in CALLERS:
            for case in CASES:
                await _case(_call(cb, case), case, callers, calls, results)


def _call(cb: callboard.Callboard, case: str) -> Callable[[], Awaitable[None]]:
    async def guarded() -> None:
        with suppress(CircuitOpen):
            async with cb.breakers.guard(case):
                await _nothing()

    async def ping() -> None:
        await cb.namespace.connection.call("PING")

    return {"bare-call": _nothing, "round-trip": ping}.get(case, guarded)


async def _nothing() -> None:
    """The call that is guarded."""


async def _case(
    call: Callable[[], Awaitable[None]], case: str, callers: int, calls: int, results: Results
) -> None:
    times: list[float] = []
    numbers = count()

    async def caller() -> None:
        while next(numbers) < calls:
            began = time.perf_counter()
            await call()
            times.append(time.perf_counter() - began)

    await call()  # Warms caches and connection.
    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    wall = time.perf_counter() - began
    times.sort()
    figures = {
        "p50": times[len(times) // 2] * 1e6,
        "p99": times[len(times) * 99 // 100] * 1e6,
        "rate": len(times) / wall,
    }
    for what, value in figures.items():
        better = None if what != "rate" else True
        metric = Metric(f"breaker/{case}/{callers}/{what}", what, better, 1)
        results.add(metric, OURS, value)
