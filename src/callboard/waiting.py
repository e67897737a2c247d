"""Waiting for tasks to end: one follower of the events for all who wait in this process."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from callboard.domain.event import Gap
from callboard.exceptions import EngineError, EngineUnavailable
from callboard.services.events import Events

RECHECK_SECONDS: Final = 10.0
"""The backstop of one who waits: events may have been lost with the engine's last second."""

_ENDINGS: Final = ("task:completed", "task:failed", "task:cancelled")
_log = logging.getLogger("callboard")

Key = tuple[str, str]


class EndWatch:
    """Tells who waits when a task has ended; started by the first, stopped by ``close``."""

    def __init__(self, events: Events, has_ended: Callable[[str, str], Awaitable[bool]]) -> None:
        self._events = events
        self._has_ended = has_ended
        self._waiting: dict[Key, set[asyncio.Event]] = {}
        self._follower: asyncio.Task[None] | None = None
        self._is_following = asyncio.Event()
        self._is_closed = False

    async def wait(self, board: str, task: str) -> None:
        """Return once the task has ended; TaskNotFound where there is none.

        Raises EngineUnavailable where the connection is closed meanwhile.
        """
        self._check_open(task)
        if self._follower is None:
            self._follower = asyncio.create_task(self._follow(), name="callboard-end-watch")
        bell = asyncio.Event()
        waiting = self._waiting.setdefault((board, task), set())
        waiting.add(bell)
        try:
            await self._is_following.wait()
            self._check_open(task)
            while not await self._has_ended(board, task):
                try:
                    async with asyncio.timeout(RECHECK_SECONDS * (1 + random.random() / 4)):
                        await bell.wait()
                except TimeoutError:
                    continue
                self._check_open(task)
                bell.clear()
        finally:
            waiting.discard(bell)
            if not waiting:
                self._waiting.pop((board, task), None)

    async def close(self) -> None:
        """Stop following, and end every wait."""
        self._is_closed = True
        self._is_following.set()
        self._ring_all()
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)

    def _check_open(self, task: str) -> None:
        if self._is_closed:
            raise EngineUnavailable(
                f"The connection was closed while the end of task {task} was waited for. "
                "The task itself goes on."
            )

    async def _follow(self) -> None:
        cursor: str | None = None
        while True:
            try:
                cursor = cursor or await self._events.cursor()
                self._is_following.set()
                async for event in self._events.follow(cursor, types=_ENDINGS):
                    cursor = event.cursor
                    if isinstance(event, Gap):
                        self._ring_all()
                    else:
                        for fact in event.facts:
                            self._ring((event.board, fact.id))
            except EngineError as error:
                _log.info("Waiting for events of the engine: %s", error)
                await asyncio.sleep(0.5)

    def _ring(self, key: Key) -> None:
        for bell in self._waiting.get(key, ()):
            bell.set()

    def _ring_all(self) -> None:
        for bells in self._waiting.values():
            for bell in bells:
                bell.set()
