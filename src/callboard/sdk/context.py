"""What a handler can do with the task it runs, while it runs it."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

import msgspec

from callboard.app import BoardTasks
from callboard.domain.lock import LEASE_DEFAULT, WAIT_DEFAULT, LockMode
from callboard.domain.message import REQUEST_TIMEOUT, Address, Message, SentMessage
from callboard.domain.record import Claimed
from callboard.domain.task import DependencyPolicy, Task, TaskSpec
from callboard.exceptions import DeadlockVictim, EngineError, LeaseLost
from callboard.locking import Hold, Locks, Watch
from callboard.messaging import Messages
from callboard.services.claims import Told
from callboard.services.tasks import TaskHandle

T = TypeVar("T")

SAID_AT_ONCE: Final = 2_000
"""Characters told in one event: whatever they are, their JSON stays within the bound."""


class EndOfClaim(BaseException):
    """Ends a handler whose claim was ended on its behalf: split, ask, handoff, release.

    Not an ``Exception``, so that a handler's own ``except Exception`` lets it pass.
    """


class TaskContext:
    """The running task, its fence, and what its holder may do.

    Attributes:
        task: The claim: id, kind, attempt, fence, payload.
        tasks: The board's tasks, to submit more or look at others.
        locks: The namespace's locks; ``hold`` takes some for this claim.
        messages: The namespace's messages; ``send`` and ``request`` write as this agent.
        is_cancelled: Somebody asked for the task's cancellation, or the lease was lost. An
            async handler is cancelled besides; a handler in a thread has to look.
        cancel_reason: ``cancelled``, ``lease_lost``, ``timeout`` or ``stopping``.
    """

    def __init__(
        self,
        tasks: BoardTasks,
        task: Claimed,
        *,
        lease: float,
        without_slot: Callable[[], AbstractAsyncContextManager[None]],
        loop: asyncio.AbstractEventLoop,
        locks: Locks | None = None,
        messages: Messages | None = None,
    ) -> None:
        self.tasks = tasks
        self.locks = locks
        self.messages = messages
        self.task = task
        self.is_cancelled = False
        self.cancel_reason: str | None = None
        self._lease = lease
        self._without_slot = without_slot
        self._loop = loop
        self._asked = 0
        self._splits = 0
        self._extra: Task | None = None

    @property
    def id(self) -> str:
        """The task's id: the idempotency key for what the handler does outside."""
        return self.task.id

    @property
    def fence(self) -> int:
        """The fencing token of this claim: what an outside system compares."""
        return self.task.fence

    @property
    def attempt(self) -> int:
        """1 for the first claim of the task."""
        return self.task.attempt

    async def heartbeat(self) -> None:
        """Renew the lease now; the worker does it by itself while its loop turns.

        Raises:
            LeaseLost: Stop work.
            CancelledError: The task's cancellation was asked for.
        """
        answer = await self.tasks.renew(
            self.id,
            fence=self.fence,
            lease=self._lease,
            agent=self.task.agent,
            instance=self.task.instance,
        )
        self._heed(answer.status)

    async def progress(self, value: Any) -> None:
        """Keep how far it is (any JSON); the last value wins. Raises LeaseLost."""
        self._heed((await self.tasks.progress(self.id, fence=self.fence, value=value)).status)

    async def partial(self, value: Any) -> None:
        """Keep a partial result that a later attempt can read. Raises LeaseLost."""
        self._heed((await self.tasks.partial(self.id, fence=self.fence, value=value)).status)

    async def earlier_partial(self) -> Any:
        """The partial result an earlier attempt kept; None where there is none."""
        task = await self._read()
        return task.partial if task else None

    async def note(self, content: str) -> None:
        """Append a note to the task."""
        await self.tasks.note(self.id, content, author=self.task.agent)

    async def say(self, text: str) -> None:
        """Tell who follows the run a piece of the answer, as it comes. Raises LeaseLost."""
        for start in range(0, len(text), SAID_AT_ONCE):
            await self._tell("token", text[start : start + SAID_AT_ONCE])

    async def used_tool(self, name: str) -> None:
        """Tell who follows the run that a tool was used. Raises LeaseLost."""
        await self._tell("tool", name)

    async def dependency_results(self) -> dict[str, Any]:
        """Results of the tasks this one depends on, by id; None for those without one."""
        task = await self.tasks.get(self.id)
        found = await self.tasks.get_many(task.depends_on)
        return {one.id: one.result for one in found if one is not None}

    async def split(
        self, children: Iterable[TaskSpec], *, on_failure: DependencyPolicy = "run"
    ) -> list[Task]:
        """Become these tasks: the first time, the claim ends here and the handler with it.

        When all children have ended the task is claimed again, the handler starts from its
        top, and this call returns the children in order.
        """
        batches = await self._children()
        number = self._splits
        self._splits += 1
        if number < len(batches):
            found = await self.tasks.get_many(batches[number])
            return [child for child in found if child is not None]
        await self.tasks.split(self.id, children, fence=self.fence, on_failure=on_failure)
        raise EndOfClaim

    async def input(self, question: Any) -> Any:
        """Ask a person or another agent: the first time, the claim ends here.

        Once answered, the task is claimed again, the handler starts from its top, and this
        call returns the answer.
        """
        answers = await self._answers()
        number = self._asked
        self._asked += 1
        if number < len(answers):
            return answers[number]
        await self.tasks.ask(self.id, fence=self.fence, question=question)
        raise EndOfClaim

    async def wait(
        self,
        task: TaskHandle | str,
        timeout: float | None = None,
        *,
        tasks: BoardTasks | None = None,
    ) -> Any:
        """Wait for another task's result with this worker's slot free and the lease kept.

        Args:
            task: Its id, or the handle that submitting it gave.
            timeout: Seconds; without it as long as it takes.
            tasks: Those of the other board, where the task is not on this one.

        Raises:
            TaskFailed, TaskCancelled: The other task ended so.
            TimeoutError: It has not ended in time.
            DeadlockVictim: The other task waits, over locks or tasks, for this one.
        """
        task_id = task if isinstance(task, str) else task.id
        others = tasks or self.tasks
        async with self._parked(task_id, others) as watch, self._without_slot():
            result = others.result(task_id, timeout=timeout)
            return await (watch.race(result) if watch else result)

    def hold(
        self,
        *resources: str,
        mode: LockMode = "exclusive",
        limit: int | None = None,
        wait: float = WAIT_DEFAULT,
        lease: float = LEASE_DEFAULT,
        priority: int | str = 0,
    ) -> Hold:
        """``async with ctx.hold("file:a"):`` locks owned by this claim, as ``cb.locks.hold``.

        They go back in the very call that ends the claim, whatever ends it.

        Raises:
            LockTimeout, DeadlockVictim, LockLost: As ``cb.locks.hold``.
        """
        if self.locks is None:
            raise EngineError("This context was made without locks: it belongs to no connection.")
        return self.locks.hold(
            *resources,
            owner=self.task,
            mode=mode,
            limit=limit,
            wait=wait,
            lease=lease,
            priority=priority,
            agent=self.task.agent,
        )

    async def send(self, to: Address, payload: Any = None, **fields: Any) -> SentMessage:
        """Send a message as this task's agent; see ``cb.messages.send``."""
        return await self._post().send(to, payload, **{"sender": self.task.agent, **fields})

    async def request(
        self, to: str, payload: Any = None, *, timeout: float = REQUEST_TIMEOUT, **fields: Any
    ) -> Message:
        """Ask an agent and wait for its reply; see ``cb.messages.request``.

        The claim is what waits: where the one who is asked waits, over locks, for this
        claim, one of the two gets DeadlockVictim.
        """
        return await self._post().request(
            to, payload, timeout=timeout, owner=self.task, **{"sender": self.task.agent, **fields}
        )

    def _post(self) -> Messages:
        if self.messages is None:
            raise EngineError("This context was made without messages: it has no connection.")
        return self.messages

    async def handoff(self, to: str) -> None:
        """Give the task to a named agent; the claim and the handler end here."""
        await self.tasks.handoff(self.id, fence=self.fence, to=to)
        raise EndOfClaim

    async def release(self, delay: float = 0.0) -> None:
        """Give the task back unharmed; the claim and the handler end here."""
        await self.tasks.release(self.id, fence=self.fence, delay=delay)
        raise EndOfClaim

    def run(self, awaitable: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """From a handler in a thread: run one of these coroutines on the worker's loop.

        ``ctx.run(ctx.progress(0.5))``
        """
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(
            awaitable, self._loop
        )
        return future.result(timeout)

    @asynccontextmanager
    async def _parked(self, task_id: str, others: BoardTasks) -> AsyncIterator[Watch | None]:
        """Parked for another task, the wait known to the detection of deadlocks."""
        async with AsyncExitStack() as stack:
            watch: Watch | None = None
            bell = ""
            if self.locks is not None:
                watch = await stack.enter_async_context(Watch(self.locks.keeper, self.task))
                bell = watch.bell
            try:
                await self.tasks.park(
                    self.id,
                    fence=self.fence,
                    waits_for=task_id,
                    on_board=others.board,
                    bell=bell,
                )
            except DeadlockVictim as victim:
                if watch is None:
                    raise
                raise await watch.victim(victim.details["incident"]) from None
            try:
                yield watch
            finally:
                await self.tasks.unpark(self.id, fence=self.fence)

    async def _tell(self, what: Told, value: Any) -> None:
        answer = await self.tasks.tell(self.id, fence=self.fence, what=what, value=value)
        self._heed(answer.status)

    def _heed(self, status: str) -> None:
        if status == "cancel":
            self.is_cancelled, self.cancel_reason = True, "cancelled"
            raise asyncio.CancelledError
        if status == "lease_lost":
            raise LeaseLost(f"Task {self.id} is no longer held under this fence. Stop work on it.")

    async def _read(self) -> Task | None:
        if self._extra is None and self.task.has_extra:
            self._extra = await self.tasks.get(self.id)
        return self._extra

    async def _children(self) -> list[list[str]]:
        task = await self._read()
        return [list(batch) for batch in task.children] if task else []

    async def _answers(self) -> list[Any]:
        task = await self._read()
        return [msgspec.json.decode(raw) for raw in task.answers] if task else []
