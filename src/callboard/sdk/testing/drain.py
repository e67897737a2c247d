"""Running handlers inline: one task at a time, until nothing more can be claimed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from callboard.app import BoardTasks
from callboard.domain.agent import InstanceSpec
from callboard.domain.board import Counts
from callboard.domain.breaker import deferral
from callboard.domain.record import Claimed
from callboard.domain.retry import Failure
from callboard.domain.task import Status
from callboard.engine.handed_in import Completion, FailedAttempt, as_encoded
from callboard.exceptions import (
    AgentDraining,
    AgentNotFound,
    BoardNotFound,
    BoardPaused,
    CallboardError,
    CircuitOpen,
    ConfigError,
    InvalidArgument,
    TaskNotFound,
)
from callboard.sdk.context import EndOfClaim, TaskContext
from callboard.sdk.handlers import Handler
from callboard.sdk.worker import Worker
from callboard.services.tasks import TaskHandle

if TYPE_CHECKING:
    from callboard.sdk.testing.board import ThrowawayBoard

SLOTS: Final = 1_000
"""Handlers that wait for other tasks hold theirs, so the drain needs more than one."""

LOOK_AGAIN_SECONDS: Final = 0.05
"""How often a drain in which all handlers wait looks for work that came from elsewhere."""

ENDS: Final = ("completed", "retried", "dead_letters", "cancelled", "set_aside", "refused")


class TimedOut(TimeoutError):
    """An attempt ran longer than its limit."""


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """What a drain did, as task ids in the order in which it happened.

    Attributes:
        completed: Their results were accepted.
        failures: Every attempt that failed, the retried ones too.
        retried: Failed, and to be tried again; a task is here once for each such attempt.
        dead_letters: Failed for good.
        cancelled: Stopped as they were asked to.
        set_aside: Their handlers ended the claim: split, input, handoff, release.
        refused: Their outcome came too late and was not taken.
        left: How the boards' tasks stand now.
    """

    completed: tuple[str, ...]
    failures: tuple[FailedAttempt, ...]
    retried: tuple[str, ...]
    dead_letters: tuple[str, ...]
    cancelled: tuple[str, ...]
    set_aside: tuple[str, ...]
    refused: tuple[str, ...]
    left: Counts

    @property
    def failed(self) -> tuple[str, ...]:
        """The tasks of which an attempt failed, once for each."""
        return tuple(failure.id for failure in self.failures)

    @property
    def ran(self) -> int:
        """How many attempts were made."""
        return (
            len(self.completed)
            + len(self.failures)
            + len(self.cancelled)
            + len(self.set_aside)
            + len(self.refused)
        )


class _Job:
    """A task whose handler runs, or waits for another task."""

    def __init__(self, worker: Worker, claimed: Claimed) -> None:
        self.worker = worker
        self.claimed = claimed
        self.waits_for: str | None = None
        self.waits_on: BoardTasks | None = None  # where that task is, if on another board
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None]

    def __str__(self) -> str:
        doing = f"waits for task {self.waits_for}" if self.waits_for else "runs"
        return f"{self.claimed.kind} {self.claimed.id} {doing}"


class _Context(TaskContext):
    """Tells the drain when its handler begins and ends waiting for another task."""

    job: _Job

    async def wait(
        self,
        task: TaskHandle | str,
        timeout: float | None = None,
        *,
        tasks: BoardTasks | None = None,
    ) -> Any:
        self.job.waits_for = task if isinstance(task, str) else task.id
        self.job.waits_on = tasks
        self.job.changed.set()
        try:
            return await super().wait(task, timeout, tasks=tasks)
        finally:
            self.job.waits_for = None
            self.job.changed.set()


class Drain:
    """One call of ``ThrowawayBoard.drain``."""

    def __init__(
        self, board: ThrowawayBoard, workers: Sequence[Worker], with_retries: bool
    ) -> None:
        if not workers or not all(worker.handlers for worker in workers):
            raise ConfigError("Nothing to drain with: give workers that have handlers.")
        self._board = board
        self._workers = workers
        self._with_retries = with_retries
        self._instance = f"drain-{secrets.token_hex(4)}"
        self._jobs: list[_Job] = []
        self._ends: dict[str, list[str]] = {name: [] for name in ENDS}
        self._failures: list[FailedAttempt] = []

    async def run(self, timeout: float) -> Drained:
        """Claim and run until nothing is left, or raise TimeoutError."""
        try:
            async with asyncio.timeout(timeout) as limit:
                for worker in self._workers:
                    await self._register(worker)
                await self._work()
        except TimeoutError:
            if not limit.expired():
                raise
            jobs = "; ".join(map(str, self._jobs)) or "nothing, but more work kept coming"
            raise TimeoutError(f"The drain was not over within {timeout:g} s: {jobs}.") from None
        finally:
            await self._leave()
        return Drained(
            failures=tuple(self._failures),
            left=await self._left(),
            **{name: tuple(ids) for name, ids in self._ends.items()},
        )

    async def _work(self) -> None:
        while True:
            has_run = False
            for worker in self._workers:
                claimed = await self._claim(worker)
                if claimed is not None:
                    has_run = True
                    await self._start(worker, claimed)
                await self._settle_all()
            if has_run or (self._with_retries and await self._pass_next_wait()):
                continue
            if not self._jobs:
                return
            await self._any_change()
            await self._settle_all()

    async def _claim(self, worker: Worker) -> Claimed | None:
        tasks = self._tasks(worker)
        for _ in range(2):
            try:
                claims = await tasks.claim(
                    worker.agent, instance=self._instance, limit=1, lease=worker.lease
                )
            except AgentNotFound:
                await self._register(worker)
            except (BoardPaused, CircuitOpen):
                return None
            except AgentDraining as error:
                # Lost where a handler moved the clock; set aside where somebody said so.
                if error.details.get("status") != "lost":
                    return None
                await self._register(worker)
            else:
                return claims.tasks[0] if claims.tasks else None
        return None

    async def _start(self, worker: Worker, claimed: Claimed) -> None:
        job = _Job(worker, claimed)
        self._jobs.append(job)
        job.task = asyncio.create_task(self._run(job), name=f"drain {claimed.id}")
        job.task.add_done_callback(lambda _: job.changed.set())
        await self._settle(job)

    async def _settle_all(self) -> None:
        for job in list(self._jobs):
            await self._settle(job)

    async def _settle(self, job: _Job) -> None:
        """Return once the handler has ended, or waits for a task that has not."""
        while not job.task.done():
            job.changed.clear()
            if job.waits_for is not None and not await self._has_ended(job, job.waits_for):
                return
            await job.changed.wait()
        if job in self._jobs:
            self._jobs.remove(job)
            job.task.result()

    async def _has_ended(self, job: _Job, task_id: str) -> bool:
        try:
            tasks = job.waits_on or self._tasks(job.worker)
            return (await tasks.outcome(task_id)).is_finished
        except TaskNotFound:
            return True

    async def _any_change(self) -> None:
        watches = [asyncio.create_task(job.changed.wait()) for job in self._jobs]
        try:
            await asyncio.wait(
                watches, timeout=LOOK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for watch in watches:
                watch.cancel()

    async def _run(self, job: _Job) -> None:
        """Run one handler and hand in what came of it, as a worker would."""
        claimed, tasks = job.claimed, self._tasks(job.worker)
        handler = job.worker.handlers[claimed.kind]
        context = _Context(
            tasks,
            claimed,
            lease=job.worker.lease,
            without_slot=_without_slot,
            loop=asyncio.get_running_loop(),
            locks=self._board.cb.locks,
            messages=self._board.cb.messages,
        )
        context.job = job
        try:
            result = await result_of(handler, claimed, context)
        except EndOfClaim:
            self._ends["set_aside"].append(claimed.id)
        except asyncio.CancelledError:
            if context.cancel_reason != "cancelled":
                raise
            await tasks.confirm_cancel(claimed.id, fence=claimed.fence)
            self._ends["cancelled"].append(claimed.id)
        except CircuitOpen as error:
            delay = deferral(error.details.get("retry_after"), 0.0)
            await tasks.release_many([(claimed.id, claimed.fence)], delay=delay)
            self._ends["set_aside"].append(claimed.id)
        except TimedOut as error:
            await self._fail(tasks, claimed, Failure("timeout", str(error), True))
        except Exception as error:
            await self._fail(tasks, claimed, Failure.from_exception(error))
        else:
            await self._complete(tasks, claimed, result)

    async def _complete(self, tasks: BoardTasks, claimed: Claimed, result: Any) -> None:
        try:
            encoded = as_encoded(result)
        except InvalidArgument as error:
            await self._fail(tasks, claimed, Failure.from_exception(error, retryable=False))
            return
        answers = await tasks.complete_many([Completion(claimed.id, claimed.fence, encoded)])
        self._ends["completed" if answers[0].is_ok else "refused"].append(claimed.id)

    async def _fail(self, tasks: BoardTasks, claimed: Claimed, failure: Failure) -> None:
        attempt = FailedAttempt(claimed.id, claimed.fence, failure, failure.delay)
        answer = (await tasks.fail_many([attempt]))[0]
        if not answer.is_ok:
            self._ends["refused"].append(attempt.id)
            return
        self._failures.append(attempt)
        ends = {"retry_scheduled": "retried", "failed": "dead_letters", "cancelled": "cancelled"}
        self._ends[ends[answer.status]].append(attempt.id)

    async def _pass_next_wait(self) -> bool:
        """Move the clock to the next attempt of a task that failed; False where none waits."""
        dues = []
        for tasks in self._boards():
            ids = [one.id async for one in tasks.iterate(status=Status.SCHEDULED) if one.failures]
            found = await tasks.get_many(ids)
            dues += [task.until for task in found if task is not None and task.until is not None]
        if not dues:
            return False
        wait = (min(dues) - self._board.clock.now()).total_seconds()
        await self._board.pass_time(max(wait, 0.0) + 0.001)
        return True

    async def _register(self, worker: Worker) -> None:
        await self._board.cb.agents.register(
            worker.agent,
            agent_type=worker.agent_type,
            capabilities=worker.capabilities,
            services=worker.services,
            labels=worker.labels,
            kinds=tuple(worker.handlers),
            instance=InstanceSpec(id=self._instance, max_concurrent=SLOTS),
        )

    async def _leave(self) -> None:
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.task.cancel()
        await asyncio.gather(*(job.task for job in jobs), return_exceptions=True)
        for worker in self._workers:
            with suppress(CallboardError):
                await self._board.cb.agents.leave(worker.agent, self._instance)

    async def _left(self) -> Counts:
        totals: dict[str, int] = dict.fromkeys(Counts.__struct_fields__, 0)
        for name in {worker.board for worker in self._workers}:
            with suppress(BoardNotFound):
                counts = (await self._board.cb.boards.get(name)).counts
                for field, number in msgspec.structs.asdict(counts).items():
                    totals[field] += number
        return Counts(**totals)

    def _boards(self) -> list[BoardTasks]:
        names = sorted({worker.board for worker in self._workers})
        return [self._board.cb.board(name).tasks for name in names]

    def _tasks(self, worker: Worker) -> BoardTasks:
        return self._board.cb.board(worker.board).tasks


@asynccontextmanager
async def _without_slot() -> AsyncIterator[None]:
    yield


async def result_of(handler: Handler, claimed: Claimed, context: TaskContext) -> Any:
    """What the handler returns, within its time; a blocking one runs in a thread."""
    seconds = claimed.timeout or handler.timeout
    try:
        async with asyncio.timeout(seconds) as limit:
            if handler.is_async:
                return await handler.invoke(claimed, context)
            return await asyncio.to_thread(handler.invoke, claimed, context)
    except TimeoutError:
        if not limit.expired():
            raise
        raise TimedOut(f"Ran longer than its limit of {seconds:g} s.") from None
