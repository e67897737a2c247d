"""Namespaces that nobody asks about just now, and whose work goes on all the same.

What runs for a namespace begins with the first who asks for it. A task that is to start in an
hour, a retry, a recurring task or a push must not wait for somebody to ask again after a
restart: so coordinators note on the engine which namespaces they serve, and each opens those
that have something to do.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Final

from callboard.app import Callboard
from callboard.engine.outage import Witness
from callboard.exceptions import CallboardError, EngineError, NamespaceNotFound

if TYPE_CHECKING:
    from callboard.http.app import Coordinator, Served

ROUND_SECONDS: Final = 60.0
NOTED_SECONDS: Final = 86_400.0
"""How often a namespace is noted again, which is kept for thirty days."""

REST_SECONDS: Final = 600.0
"""How long one that had nothing to do is left alone."""

_log = logging.getLogger("callboard.http")


async def has_work(cb: Callboard) -> bool:
    """Whether something in the namespace waits for its time, for an agent, or for its end."""
    if await cb.namespace.connection.call("ZCARD", cb.namespace.keys.recurring):
        return True
    return any(board.counts.unfinished for board in await cb.boards.list())


class Recalling:
    """Notes which namespaces a coordinator serves, and opens those that have something to do."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._noted: dict[str, float] = {}
        self._resting: dict[str, float] = {}
        self._unnoted = asyncio.Event()
        self._outage = Witness("Looking for namespaces with work")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look now, and from then on every minute, until ``stop``."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="callboard-recalling")

    async def stop(self) -> None:
        """Stop and wait until it has."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._outage.leave()

    def opened(self) -> None:
        """A namespace was opened: note it soon, not only in the next round."""
        self._unnoted.set()

    async def round(self) -> None:
        """Note what is open, and open what has something to do, as far as there is room."""
        now = time.monotonic()
        coordinator = self._coordinator
        own = coordinator.settings.namespace
        home = await coordinator.board(own)
        names = [one.name for one in coordinator.open_now() if await self._is_due(one, now)]
        remembered = await home.access._serve([name for name in names if name != own])
        self._noted |= dict.fromkeys(names, now)
        self._noted = {
            name: noted_at
            for name, noted_at in self._noted.items()
            if now - noted_at < NOTED_SECONDS or coordinator.is_open(name)
        }
        self._resting = {name: until for name, until in self._resting.items() if until > now}
        gone: list[str] = []
        for name in remembered:
            if coordinator.is_full:
                break
            if name == own or name in self._resting or coordinator.is_open(name):
                continue
            try:
                await self._recall(name)
            except NamespaceNotFound:
                gone.append(name)
            except EngineError:
                raise
            except CallboardError as error:
                _log.warning("Namespace %s is served once it is asked for: %s", name, error)
                self._resting[name] = now + REST_SECONDS
        if gone:
            await home.access._serve([], gone)

    async def _is_due(self, served: Served, now: float) -> bool:
        """Whether it is to be noted: it is new, or in use, or has work, and that is long ago."""
        noted_at = self._noted.get(served.name)
        if noted_at is None:
            return True
        if now - noted_at < NOTED_SECONDS:
            return False
        return served.used_at > noted_at or await has_work(served.cb)

    async def _recall(self, name: str) -> None:
        coordinator = self._coordinator
        served = await coordinator.served(name, creates=False)
        used_at = served.used_at
        if not await has_work(served.cb) and served.used_at == used_at:
            self._resting[name] = time.monotonic() + REST_SECONDS
            await coordinator.close(name)

    async def _run(self) -> None:
        while True:
            pause = ROUND_SECONDS * (0.75 + random.random() / 2)
            self._unnoted.clear()
            try:
                await self.round()
                self._outage.answered()
            except EngineError as error:
                self._outage.failed(error)
                pause = min(pause, 2.0)
            except CallboardError as error:
                _log.warning("Looking for namespaces with work was refused: %s", error)
            except Exception:
                _log.exception("Looking for namespaces with work failed; the next round goes on.")
            try:
                async with asyncio.timeout(pause):
                    await self._unnoted.wait()
            except TimeoutError:
                continue
