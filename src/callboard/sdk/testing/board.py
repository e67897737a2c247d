"""A throw-away board on a real engine, with a clock that moves."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Final

from callboard.app import BoardTasks, Callboard, connect
from callboard.domain.agent import LOST_AFTER
from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.roster import Beat
from callboard.domain.task import HELD, Task
from callboard.exceptions import EngineError
from callboard.sdk.handlers import Function
from callboard.sdk.testing import checks
from callboard.sdk.testing.clock import Clock
from callboard.sdk.testing.drain import Drain, Drained
from callboard.sdk.testing.engine import shared_engine_url
from callboard.sdk.worker import Worker
from callboard.services.tasks import TaskHandle

NEVER_MS: Final = 315_360_000_000
"""Ten years between sweeps count as no gap, so a moved clock gives no lease a grace."""

REMOVED_AT_ONCE: Final = 1_000


class ThrowawayBoard:
    """A board of its own on a real engine: nobody else sees it, and it is gone afterwards.

    Attributes:
        cb: The connection, in a namespace of its own.
        tasks: The board's tasks.
        clock: The time, which the test can move.
        name: The board's name.
    """

    cb: Callboard
    tasks: BoardTasks

    def __init__(self, name: str, at: datetime | None) -> None:
        self.name = name
        self.clock = Clock(self._time_moved, at)

    async def drain(
        self,
        *workers: Worker | Mapping[str, Function],
        with_retries: bool = False,
        timeout: float = 10.0,
    ) -> Drained:
        """Run the workers' handlers, one task at a time, until nothing more can be claimed.

        Tasks are claimed in the board's order, by the workers in turn. A handler that waits
        for another task lets others run, as in a real worker. Tasks of kinds that no worker
        handles stay where they are.

        Args:
            workers: Workers with their handlers, or handlers by kind.
            with_retries: Move the clock over the waits between attempts, until each task is
                done or a dead letter.
            timeout: Real seconds that all of it may take.

        Raises:
            TimeoutError: It took longer; the message says what was running, or waited for.
        """
        return await Drain(self, [as_worker(one) for one in workers], with_retries).run(timeout)

    async def crash(self, agent: str | Worker) -> list[str]:
        """Lose what an agent holds, as if all its processes had been killed.

        Time moves until its leases have run out and it counts as lost; other agents are
        heard all the while, and keep what they hold.

        Returns:
            The ids of the tasks that it held. They can be claimed again, or are dead
            letters if they have crashed too often.

        Raises:
            AgentNotFound: No such agent.
        """
        name = agent.agent if isinstance(agent, Worker) else agent
        found = await self.cb.agents.get(name)
        held = [task for task in await self._held() if task.agent == name]
        ends = [task.until for task in held if task.until is not None]
        ends += [
            one.last_heartbeat + timedelta(seconds=LOST_AFTER * one.heartbeat_interval)
            for one in found.instances
        ]
        if found.last_heartbeat is not None:
            silence = timedelta(seconds=LOST_AFTER * found.heartbeat_interval)
            ends.append(found.last_heartbeat + silence)
        now = self.clock.now()
        await self.pass_time((max([now, *ends]) - now).total_seconds() + 0.001, silent=name)
        return [task.id for task in held]

    async def pass_time(self, seconds: float, *, silent: str = "") -> None:
        """Move time forward with every agent heard and every lease renewed, but for *silent*'s."""
        self.clock.skip(seconds)
        await self._tick()
        await self._keep_alive(silent)
        await self._sweep()

    async def assert_submitted(
        self, kind: str, *, payload: Any = ..., times: int | None = None, **fields: Any
    ) -> list[Task]:
        """Fail unless the board was given a task like this, whatever became of it.

        Args:
            kind: Its kind.
            payload: Its whole payload, compared as JSON; any where not given.
            times: Exactly so many; else at least one.
            fields: Other attributes of ``Task``, as ``priority=10``.

        Returns:
            The tasks that match, oldest first.
        """
        return await checks.assert_submitted(self.tasks, kind, payload, times, fields)

    async def assert_not_submitted(self, kind: str, *, payload: Any = ..., **fields: Any) -> None:
        """Fail if the board was given a task like this."""
        await checks.assert_submitted(self.tasks, kind, payload, 0, fields)

    async def assert_done(self, task: str | TaskHandle, *, result: Any = ...) -> Task:
        """Fail unless the task is done, with this result where given, compared as JSON."""
        return await checks.assert_done(self.tasks, _id(task), result)

    async def assert_failed(self, task: str | TaskHandle, *, error: str = "") -> Task:
        """Fail unless the task failed for good, its error's type or message containing *error*."""
        return await checks.assert_failed(self.tasks, _id(task), error)

    async def _time_moved(self) -> None:
        await self._tick()
        await self._sweep()

    async def _tick(self) -> None:
        await self.cb.namespace.functions.call("namespace_tick", NEVER_MS, 1)

    async def _sweep(self) -> None:
        await self.cb.janitor().sweep(force=True)

    async def _keep_alive(self, silent: str) -> None:
        beats: list[Beat] = []
        for agent in await self.cb.agents.list():
            if agent.id != silent and not agent.gone:
                instances = [one.id for one in agent.instances] or [""]
                beats += [Beat(agent.id, instance) for instance in instances]
        for start in range(0, len(beats), REMOVED_AT_ONCE):
            await self.cb.agents.heartbeat_many(beats[start : start + REMOVED_AT_ONCE])
        for task in await self._held():
            if task.agent != silent:
                await self.cb.board(task.board).tasks.renew_many([(task.id, task.fence)])

    async def _held(self) -> list[Task]:
        found: list[Task] = []
        for board in await self.cb.boards.list():
            tasks = self.cb.board(board.name).tasks
            ids = [one.id async for one in tasks.iterate(status=HELD)]
            found += [task for task in await tasks.get_many(ids) if task is not None]
        return found

    def __repr__(self) -> str:
        return f"<ThrowawayBoard {self.name} at {self.clock.now().isoformat()}>"


@asynccontextmanager
async def board(
    name: str = DEFAULT_BOARD, *, at: datetime | None = None, url: str | None = None
) -> AsyncIterator[ThrowawayBoard]:
    """A board for one test, in a namespace that is removed at the end.

    Args:
        name: Of the board.
        at: Time stands still at this moment; else it runs as it does outside.
        url: The engine to use; else a temporary one, started once a process and stopped
            with it.

    Raises:
        EngineStartFailed: The temporary engine did not start.
    """
    throwaway = ThrowawayBoard(name, at)
    namespace = f"test-{secrets.token_hex(8)}"
    engine = url or await shared_engine_url()
    async with connect(engine, namespace=namespace, adopt=True, clock=throwaway.clock) as cb:
        throwaway.cb = cb
        throwaway.tasks = cb.board(name).tasks
        await throwaway._tick()
        try:
            yield throwaway
        finally:
            with suppress(EngineError):
                await _remove(cb)


def as_worker(given: Worker | Mapping[str, Function]) -> Worker:
    """A worker as it is, or one for handlers given by kind."""
    if isinstance(given, Worker):
        return given
    worker = Worker(agent="testing")
    for kind, function in given.items():
        worker.handles(kind)(function)
    return worker


async def _remove(cb: Callboard) -> None:
    cursor = "0"
    while True:
        reply = await cb.namespace.functions.call("namespace_remove", cursor, REMOVED_AT_ONCE)
        cursor = reply[1].decode()
        if cursor == "0":
            return


def _id(task: str | TaskHandle) -> str:
    return task if isinstance(task, str) else task.id
