"""An event loop in a thread, and asynchronous methods as ordinary ones that run on it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import suppress
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from callboard.exceptions import EngineError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S_co = TypeVar("S_co", covariant=True)


class Portal:
    """An event loop in a thread, and the way to run coroutines on it from others."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._is_closed = False
        self._mutex = threading.Lock()
        self._thread = threading.Thread(target=self._turn, name="callboard-portal", daemon=True)
        self._thread.start()

    @property
    def is_foreign(self) -> bool:
        """It was made before a fork: this process has no thread that would turn its loop."""
        return self._owner != os.getpid()

    @property
    def is_closed(self) -> bool:
        """Nothing more can be run."""
        return self._is_closed

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run *work* on the loop and return what it returns, or raise what it raises.

        Raises:
            EngineError: The portal is closed, belongs to the process before a fork, or is
                asked from its own thread, where waiting would never end.
        """
        fault = self._fault()
        if fault:
            work.close()
            raise EngineError(fault)
        # Made before anything is under way: Ctrl-C may come between any two lines from here.
        future: concurrent.futures.Future[R] = concurrent.futures.Future()
        try:
            self._loop.call_soon_threadsafe(self._begin, work, future)
            return future.result()
        except concurrent.futures.CancelledError:
            raise EngineError("The connection was closed while this call was under way.") from None
        except BaseException:
            # Of the waiting thread, as Ctrl-C is; where the call itself raised, it is over.
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs, end the thread; again, or after a fork, it does nothing."""
        with self._mutex:
            if self._is_closed or self.is_foreign:
                return
            self._is_closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _fault(self) -> str:
        if self.is_foreign:
            return "This connection was opened before a fork. Open one in the child."
        if self._is_closed:
            return "This connection is closed. Open a new one: callboard.sync.connect()."
        if threading.get_ident() == self._thread.ident:
            return "A call of callboard.sync from its own event loop would wait for itself."
        return ""

    def _begin(self, work: Coroutine[Any, Any, R], future: concurrent.futures.Future[R]) -> None:
        """On the loop: run *work* as a task, which ends with *future*, and the other way round."""
        if self._is_closed:
            work.close()
            future.cancel()
            return
        task = self._loop.create_task(work)

        def ended(task: asyncio.Task[R]) -> None:
            with suppress(concurrent.futures.InvalidStateError):  # Cancelled meanwhile.
                if task.cancelled():
                    future.cancel()
                elif (error := task.exception()) is not None:
                    future.set_exception(error)
                else:
                    future.set_result(task.result())

        def given_up(future: concurrent.futures.Future[R]) -> None:
            if future.cancelled() and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(task.cancel)

        task.add_done_callback(ended)
        future.add_done_callback(given_up)

    def _turn(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()


class Facade(Generic[S_co]):
    """An asynchronous object, and the portal through which it is used."""

    def __init__(self, portal: Portal, inner: S_co) -> None:
        self._portal = portal
        self._inner = inner

    def __repr__(self) -> str:
        return f"<sync {self._inner!r}>"


def own_of(method: Callable[Concatenate[T, P], R], inner: T) -> Callable[P, R]:
    """The method of this name as *inner* has it: a connection over HTTP has others."""
    return cast("Callable[P, R]", getattr(inner, method.__name__))


def blocking(
    method: Callable[Concatenate[T, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Facade[T], P], R]:
    """The method without ``async``."""

    def call(self: Facade[T], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._portal.run(own_of(method, self._inner)(*args, **kwargs))

    return cast("Callable[Concatenate[Facade[T], P], R]", update_wrapper(call, method))


def iterating(
    method: Callable[Concatenate[T, P], AsyncIterator[R]],
) -> Callable[Concatenate[Facade[T], P], Generator[R, None, None]]:
    """The asynchronous generator as an ordinary one."""

    def call(self: Facade[T], /, *args: P.args, **kwargs: P.kwargs) -> Generator[R, None, None]:
        return _items(self._portal, own_of(method, self._inner)(*args, **kwargs))

    return cast(
        "Callable[Concatenate[Facade[T], P], Generator[R, None, None]]",
        update_wrapper(call, method),
    )


def _items(portal: Portal, source: AsyncIterator[R]) -> Generator[R, None, None]:
    try:
        while True:
            try:
                item = portal.run(_next(source))
            except StopAsyncIteration:
                return
            yield item
    finally:
        with suppress(EngineError):
            portal.run(_close(source))


async def _next(source: AsyncIterator[R]) -> R:
    return await anext(source)


async def _close(source: AsyncIterator[Any]) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
