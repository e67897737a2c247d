"""The sweeps that keep a namespace honest, run wherever a worker or coordinator runs.

Any number may run at once: the engine tells one of them per interval that it is due, and
every sweep is a bounded function whose effect does not depend on who calls it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from callboard.engine.answers import checked
from callboard.engine.namespace import Namespace
from callboard.exceptions import CallboardError, EngineError, EngineFull
from callboard.services.agents import Agents

Sweep = Callable[[], Awaitable[object]]
"""One bounded round of some housekeeping; what it answers is true where more is left."""

INTERVAL_SECONDS: Final = 1.0
SWEEP_LIMIT: Final = 200
TIDY_SECONDS: Final = 3_600.0
"""How often function libraries that nobody uses are looked for."""

ROUNDS_MAX: Final = 50
"""Rounds each sweep gets in one interval; what is left comes in the next."""

_log = logging.getLogger("callboard.janitor")


class Janitor:
    """Sweeps agents, boards, cascades, and whatever else it was given.

    Args:
        sweeps: Run in this order in each round, behind the boards.

    Attributes:
        ran_at: When its last round went well, by this machine's clock; None before the first.
    """

    def __init__(
        self,
        namespace: Namespace,
        agents: Agents,
        sweeps: Sequence[Sweep] = (),
        *,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._namespace = namespace
        self._functions = namespace.functions
        self._agents = agents
        self._sweeps = tuple(sweeps)
        self._interval = interval
        self._task: asyncio.Task[None] | None = None
        self._tidied_at = -TIDY_SECONDS
        self.ran_at: datetime | None = None

    def start(self) -> None:
        """Run in the background until ``stop``; starting twice does nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="callboard-janitor")

    async def stop(self) -> None:
        """Stop and wait until it has."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def sweep(self, *, force: bool = False) -> bool:
        """One round over the boards and agents that are due; False where another did it.

        Args:
            force: Sweep all boards, whether or not they are due.
        """
        reply = await self._functions.call("namespace_tick", round(self._interval * 1000), 0)
        if checked(reply, "due", "not_due") == "not_due" and not force:
            return False
        boards = await self._boards() if force else reply[1:]
        await _rounds(self._agents.sweep)
        for board in boards:
            await self._sweep_board(board)
        await self._continue_cascades()
        for sweep in self._sweeps:
            await _rounds(sweep)
        await self._tidy()
        return True

    async def _boards(self) -> list[bytes]:
        found: list[bytes] = await self._namespace.connection.call(
            "ZRANGE", self._namespace.keys.boards, 0, -1
        )
        return found

    async def _sweep_board(self, board: bytes) -> None:
        for _ in range(ROUNDS_MAX):
            reply = await self._functions.call("board_sweep", board, SWEEP_LIMIT)
            checked(reply, "ok")
            if not reply[1]:
                return

    async def _continue_cascades(self) -> None:
        for _ in range(ROUNDS_MAX):
            reply = await self._functions.call("task_cascade", 10)
            checked(reply, "ok")
            if not reply[1]:
                return

    async def _tidy(self) -> None:
        at = asyncio.get_running_loop().time()
        if at - self._tidied_at >= TIDY_SECONDS:
            self._tidied_at = at
            await self._functions.tidy()

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
                self.ran_at = datetime.now(UTC)
            except EngineError as error:
                _log.info("A sweep waits for the engine: %s", error)
            except CallboardError as error:
                _log.warning("A sweep was refused: %s", error)
            except Exception:
                _log.exception("A sweep failed; the next goes on.")
            await asyncio.sleep(self._interval * (0.9 + random.random() / 5))


async def _rounds(sweep: Sweep) -> None:
    """Up to ROUNDS_MAX rounds; one that fails keeps no other sweep from its turn."""
    try:
        for _ in range(ROUNDS_MAX):
            if not await sweep():
                return
    except EngineFull as error:
        _log.warning("A sweep was refused, the others go on: %s", error)
    except EngineError:
        raise
    except Exception:
        _log.exception("A sweep failed; the others go on.")
