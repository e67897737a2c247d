"""Workers in tests: made, run beside the test, and waited for; and faults on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from callboard import Callboard, Event
from callboard.exceptions import CallboardError, EngineUnavailable
from callboard.sdk.shift import Shift
from callboard.sdk.worker import Worker

SECONDS = 10.0
"""More than any wait here takes; a wait that meets it fails the test."""


def worker_of(agent: str = "mira", /, *, handlers: dict[str, Any], **fields: Any) -> Worker:
    worker = Worker(agent=agent, **fields)
    for kind, function in handlers.items():
        worker.handles(kind)(function)
    return worker


@asynccontextmanager
async def working(cb: Callboard, worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """Runs a worker in the background for as long as a block lasts, then drains it."""
    running = asyncio.create_task(worker.run(cb, handle_signals=False))
    try:
        yield running
    finally:
        worker.stop()
        async with asyncio.timeout(SECONDS):
            await running


@asynccontextmanager
async def shift_of(cb: Callboard, worker: Worker) -> AsyncIterator[Shift]:
    """A shift without its pump: each thing happens where the test says so."""
    shift = Shift(worker, cb)
    await shift.register()
    try:
        yield shift
    finally:
        await shift.keeping.stop()
        runners = [job.runner for job in shift.jobs.values() if job.runner is not None]
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)


async def event(cb: Callboard, kind: str, task: str, cursor: str | None = None) -> Event:
    """The first event of this type on this task, from the start of the stream."""
    if cursor is None:
        cursor = (await cb.events.read(limit=1))[1].split(":")[0] + ":0"
    async with asyncio.timeout(SECONDS):
        async for one in cb.events.follow(cursor, types=[kind]):
            if isinstance(one, Event) and any(fact.id == task for fact in one.facts):
                return one
    raise AssertionError("unreachable")


async def within(awaitable: Awaitable[Any]) -> Any:
    async with asyncio.timeout(SECONDS):
        return await awaitable


class Fault:
    """Calls of one operation that fail before they reach the engine, the first *times*.

    Attributes:
        left: How many are still to fail.
        is_over: Set by the last that failed.
    """

    def __init__(self, times: int) -> None:
        self.left = times
        self.is_over = asyncio.Event()

    def strike(self, error: CallboardError) -> None:
        if self.left:
            self.left -= 1
            if not self.left:
                self.is_over.set()
            raise error


@contextmanager
def fault(
    cb: Callboard,
    name: str,
    *,
    times: int = 1,
    error: CallboardError | None = None,
    where: Callable[[tuple[Any, ...]], bool] = lambda arguments: True,
) -> Iterator[Fault]:
    """While a block lasts, let calls of an operation fail as where the engine is away."""
    functions = cb.namespace.functions
    found = functions.call
    struck = Fault(times)

    async def call(called: str, *arguments: Any, **options: Any) -> list[Any]:
        if called == name and where(arguments):
            struck.strike(error or EngineUnavailable("The engine is away, says the test."))
        return await found(called, *arguments, **options)

    functions.call = call  # type: ignore[method-assign, assignment]
    try:
        yield struck
    finally:
        functions.call = found  # type: ignore[method-assign]
