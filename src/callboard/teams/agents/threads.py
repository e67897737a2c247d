"""Threads that agents work in: they never keep the process from ending."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

T = TypeVar("T")

_ENDINGS: Final = (StopIteration, KeyboardInterrupt, GeneratorExit)
"""A future refuses the first, and raised on the loop the others end more than the one call."""


def in_own_thread(name: str, function: Callable[[], T]) -> asyncio.Future[T]:
    """Run a function in a thread made for it; the future has what it returned or raised.

    Not an executor: the interpreter waits for an executor's threads when it ends, so that a
    stuck one would keep it alive for ever. Making a thread costs some 50 µs, which no task notices.
    Cancelling the future ends nothing; the thread runs on.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def work() -> None:
        tell: Callable[[], None]
        try:
            tell = partial(_succeed, future, context.run(function))
        except BaseException as error:  # Whatever it is, it belongs to who asked.
            tell = partial(_fail, future, error)
        with suppress(RuntimeError):  # The loop has been closed: nobody asks any more.
            loop.call_soon_threadsafe(tell)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future


async def ended(future: asyncio.Future[T], seconds: float | None = None) -> bool:
    """Wait until the thread has ended, at most so long, whoever is cancelled meanwhile.

    To be called where a cancellation is under way and will be raised afterwards.
    """
    loop = asyncio.get_running_loop()
    until = None if seconds is None else loop.time() + seconds
    while not future.done():
        left = None if until is None else until - loop.time()
        if left is not None and left <= 0:
            return False
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future], timeout=left)
    if not future.cancelled():
        future.exception()  # Looked at, so that nothing is logged about it.
    return True


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if isinstance(error, _ENDINGS):
        cause, error = error, RuntimeError(f"It raised {type(error).__name__}.")
        error.__cause__ = cause
    if not future.done():
        future.set_exception(error)
