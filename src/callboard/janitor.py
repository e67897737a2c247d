"""The sweeps that keep a namespace honest, run wherever a worker or coordinator runs.

Any number may run at once: the engine tells one of them per interval that it is due, and
which sweeps have something to do; in a namespace where nothing is due that is the one call.
Every sweep is a bounded function whose effect does not depend on who calls it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final

from callboard.engine.answers import checked
from callboard.engine.namespace import Namespace
from callboard.engine.outage import REPEAT_SECONDS, Witness
from callboard.exceptions import (
    CallboardError,
    EngineError,
    EngineUnavailable,
    OutcomeUnknown,
)
from callboard.services.agents import Agents

Sweep = Callable[[], Awaitable[object]]
"""One bounded round of some housekeeping; what it answers is true where more is left."""

INTERVAL_SECONDS: Final = 1.0
SWEEP_LIMIT: Final = 200
TIDY_SECONDS: Final = 3_600.0
"""How often function libraries that nobody uses are looked for."""

ROUNDS_MAX: Final = 50
"""Rounds each sweep gets in one interval; what is left comes in the next."""

_FEEDING: Final = frozenset({"agents", "cascades"})
"""Sweeps that, as those of boards, may give others something to do."""

_log = logging.getLogger("callboard.janitor")


class Janitor:
    """Sweeps agents, boards, cascades, and whatever else it was given.

    A sweep that fails, as each board's, keeps no other from its turn, unless the engine is away.
    It is logged by its name, at most once in half a minute.

    Args:
        sweeps: By the names that the engine has for them; run in this order, behind the boards.

    Attributes:
        ran_at: When it last came to the end of a round, by this machine's clock, though some of
            its sweeps may have failed; None before the first.
    """

    def __init__(
        self,
        namespace: Namespace,
        agents: Agents,
        sweeps: Mapping[str, Sweep],
        *,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._namespace = namespace
        self._functions = namespace.functions
        self._agents = agents
        self._sweeps = dict(sweeps)
        self._interval = interval
        self._task: asyncio.Task[None] | None = None
        self._tidied_at = -TIDY_SECONDS
        self._outage = Witness("A sweep")
        self._told: dict[str, float] = {}
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
        self._outage.leave()

    async def sweep(self, *, force: bool = False) -> bool:
        """One round over what is due; False where another did it.

        Args:
            force: Sweep all boards and all else, whether or not they are due.
        """
        reply = await self._functions.call("namespace_tick", round(self._interval * 1000), 0)
        if checked(reply, "due", "not_due") == "not_due" and not force:
            return False
        due, boards = (self._all, await self._boards()) if force else (_names(reply), reply[2:])
        if "agents" in due:
            await self._rounds("of agents", self._agents.sweep)
        for board in boards:
            await self._rounds(
                f"of board {board.decode(errors='replace')}", partial(self._sweep_board, board)
            )
        if boards or due & _FEEDING:
            await self._rounds("of cascades", self._continue_cascade)
            reply = await self._functions.call("namespace_due")
            checked(reply, "ok")
            due |= _names(reply)
        for name, sweep in self._sweeps.items():
            if name in due:
                await self._rounds(f"of {name}", sweep)
        await self._rounds("of function libraries", self._tidy)
        return True

    @property
    def _all(self) -> frozenset[str]:
        return _FEEDING | self._sweeps.keys()

    async def _boards(self) -> list[bytes]:
        found: list[bytes] = await self._namespace.connection.call(
            "ZRANGE", self._namespace.keys.boards, 0, -1
        )
        return found

    async def _rounds(self, name: str, sweep: Sweep) -> None:
        """Up to ROUNDS_MAX rounds; one that fails keeps no other sweep from its turn."""
        try:
            for _ in range(ROUNDS_MAX):
                if not await sweep():
                    return
        except (EngineUnavailable, OutcomeUnknown):
            raise
        except Exception as error:
            self._tell(name, error)

    def _tell(self, name: str, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        self._told = {one: at for one, at in self._told.items() if now - at < REPEAT_SECONDS}
        if name not in self._told:
            self._told[name] = now
            trace = None if isinstance(error, CallboardError) else error
            _log.warning("The sweep %s failed, the others go on: %s", name, error, exc_info=trace)

    async def _sweep_board(self, board: bytes) -> bool:
        reply = await self._functions.call("board_sweep", board, SWEEP_LIMIT)
        checked(reply, "ok")
        return bool(reply[1])

    async def _continue_cascade(self) -> bool:
        reply = await self._functions.call("task_cascade", 10)
        checked(reply, "ok")
        return bool(reply[1])

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
                self._outage.answered()
            except EngineError as error:
                self._outage.failed(error)
            except CallboardError as error:
                _log.warning("A sweep was refused: %s", error)
            except Exception:
                _log.exception("A sweep failed; the next goes on.")
            # Not before the interval is over: the engine would say that nothing is due yet.
            await asyncio.sleep(self._interval * (1 + random.random() / 10))


def _names(reply: list[bytes]) -> frozenset[str]:
    """The sweeps that the engine says are due."""
    return frozenset(reply[1].decode().split(","))
