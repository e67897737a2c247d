"""Slots: the places in which a worker's handlers run, so many at once and no more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callboard.sdk.worker import Worker


class Slots:
    """How many handlers run, and how many wait for another task without a slot.

    Attributes:
        busy: Slots in use, at most the worker's concurrency.
        parked: Handlers that gave theirs up while they wait.
    """

    def __init__(self, worker: Worker, changed: Callable[[], None]) -> None:
        self.busy = 0
        self.parked = 0
        self._worker = worker
        self._changed = changed
        self._returning: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        """How many more handlers may run."""
        return max(0, self._worker.concurrency - self.busy)

    def readmit(self) -> None:
        """Give free slots to handlers that have waited; they go before new tasks."""
        while self._returning and self.free:
            slot = self._returning.popleft()
            if not slot.done():
                self.busy += 1
                slot.set_result(None)

    @asynccontextmanager
    async def without(self) -> AsyncIterator[None]:
        """While a handler waits for another task, its slot runs others; then it waits for one."""
        self.busy -= 1
        self.parked += 1
        self._changed()
        try:
            yield
        finally:
            self.parked -= 1
            if self.free:
                self.busy += 1
            else:
                await self._slot()

    async def _slot(self) -> None:
        slot = asyncio.get_running_loop().create_future()
        self._returning.append(slot)
        try:
            await slot
        except asyncio.CancelledError:
            if slot.cancelled():
                self.busy += 1  # A handler that ends gives back what it has by then.
            raise
