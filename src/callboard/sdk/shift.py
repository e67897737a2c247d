"""A shift: one run of a worker, from its registration to the end of its drain."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from callboard.app import Callboard
from callboard.domain.agent import InstanceSpec
from callboard.domain.prefetch import PREFETCH_MAX
from callboard.domain.record import Claimed
from callboard.engine.answers import Answer
from callboard.exceptions import CallboardError, EngineError, NotAuthenticated, NotPermitted
from callboard.sdk.exchange import Exchange
from callboard.sdk.job import Job
from callboard.sdk.keeping import Keeping
from callboard.sdk.slots import Slots

if TYPE_CHECKING:
    from callboard.sdk.worker import Worker

T = TypeVar("T")

ABANDON_SECONDS: Final = 2.0
"""What handlers get to end in where ``run`` is cancelled."""

REFUSED_SECONDS: Final = 1.0
"""Pause after a call that the board refuses as such: repeating it at once cures nothing."""

log = logging.getLogger("callboard.worker")


class Shift:
    """What a worker holds while it runs, and the pump that keeps its slots filled.

    Attributes:
        jobs: The tasks in this process, by id: running, or claimed ahead.
        queue: Those claimed ahead, in the order of their claim.
        slots: Where handlers run.
        exchange: Hands in outcomes and claims.
        keeping: Renewals, bells and the poll.
        wake: Set where the pump has something to look at.
        is_cut_off: The engine did not answer what was asked once the drain was over.
    """

    def __init__(self, worker: Worker, cb: Callboard) -> None:
        self.worker = worker
        self.observers = worker.observers
        self.cb = cb
        self.tasks = cb.board(worker.board).tasks
        self.loop = asyncio.get_running_loop()
        self.wake = asyncio.Event()
        self.jobs: dict[str, Job] = {}
        self.queue: deque[Job] = deque()
        self.slots = Slots(worker, self.look_again)
        self.exchange = Exchange(self)
        self.keeping = Keeping(self)
        self.is_stopping = False
        self.is_cut_off = False
        self._is_out_of_time = False
        self._ending: CallboardError | None = None
        self._limits: set[asyncio.Timeout] = set()
        self._pool: ThreadPoolExecutor | None = None

    @property
    def is_idle(self) -> bool:
        """Nothing is running, claimed, or waiting to be handed in."""
        return not self.jobs and self.exchange.is_idle

    async def work(self) -> None:
        """Register, work, drain, leave."""
        worker = self.worker
        await self.register()
        listener = self.cb.namespace.bells
        bells = await listener.listen(listener.agent(worker.agent, worker.instance))
        janitor = self.cb.janitor()
        janitor.start()
        self.keeping.start(bells)
        self.observers.tell("worker.started", agent=worker.agent, instance=worker.instance)
        try:
            await self._pump()
        finally:
            await self.keeping.stop()
            await self._abandon()
            bells.close()
            await janitor.stop()
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            if not self.is_cut_off:
                with suppress(CallboardError):
                    await self.cb.agents.leave(worker.agent, worker.instance)
            self.observers.tell("worker.stopped", agent=worker.agent, instance=worker.instance)

    def stop(self) -> None:
        """Begin to drain."""
        if not self.is_stopping:
            self.is_stopping = True
            self.loop.call_later(self.worker.drain, self.cancel_all)
            self.loop.call_later(self.worker.drain + ABANDON_SECONDS, self._lose_patience)
            self.wake.set()

    def end(self, error: CallboardError) -> None:
        """End at once, with this error: nothing that is asked from here on will be done."""
        if self._ending is None:
            self._ending = error
            self.wake.set()

    def cancel_all(self) -> None:
        """Cancel the handlers that still run; their tasks are given back."""
        for job in list(self.jobs.values()):
            job.cancel("stopping")

    async def register(self) -> None:
        """Enter the agent and this process; again after the engine has lost them."""
        worker = self.worker
        await self.cb.agents.register(
            worker.agent,
            agent_type=worker.agent_type,
            capabilities=worker.capabilities,
            services=worker.services,
            labels=worker.labels,
            kinds=tuple(worker.handlers),
            weight=worker.weight,
            priority=worker.priority,
            heartbeat_interval=max(0.1, worker.lease / 3),
            instance=InstanceSpec(
                id=worker.instance,
                max_concurrent=worker.concurrency,
                prefetch=PREFETCH_MAX if worker.prefetch is None else worker.prefetch,
                host=host_name(),
                pid=os.getpid(),
            ),
        )

    def look_again(self) -> None:
        """There may be work on the board: ask, if there is room."""
        self.exchange.is_hungry = True
        self.wake.set()

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Repeat a call that is safe to repeat until the engine answers; None on giving up.

        A coordinator that refuses the key ends the shift, and so does a connection that is
        closed: no repetition cures that.
        """
        delay = 0.05
        while True:
            limit = asyncio.timeout(ABANDON_SECONDS if self._is_out_of_time else None)
            try:
                async with limit:
                    self._limits.add(limit)
                    answer = await call()
                self.is_cut_off = False
                return answer
            except TimeoutError:
                if not limit.expired():
                    raise
                self.is_cut_off = True
                return None
            except EngineError as error:
                if self.cb.namespace.bells.is_closed:
                    self.end(error)
                    return None
                if self._is_out_of_time:
                    self.is_cut_off = True
                    return None
                if self.is_stopping and delay > 2:
                    log.warning("Giving up on the engine while draining: %s", error)
                    return None
                log.info("The engine did not answer; trying again: %s", error)
                await asyncio.sleep(delay * (0.5 + random.random()))
                delay = min(delay * 2, 5.0)
            except (NotAuthenticated, NotPermitted) as error:
                self.end(error)
                return None
            except CallboardError:
                log.exception("The engine refused a worker's call.")
                await asyncio.sleep(REFUSED_SECONDS * (0.5 + random.random()))
                return None
            finally:
                self._limits.discard(limit)

    # What the board says of the jobs

    def accept(self, claims: Iterable[Claimed]) -> None:
        """Take claims into the queue."""
        jobs, queue, lease = self.jobs, self.queue, self.worker.lease
        for claimed in claims:
            if claimed.id in jobs:
                if jobs[claimed.id].claimed.fence == claimed.fence:
                    continue
                # Claimed anew, so the board had taken the earlier claim away.
                self.lost(*jobs[claimed.id].claim)
            job = jobs[claimed.id] = Job(self, claimed)
            queue.append(job)
            own = claimed.lease
            if own is not None and own < lease:
                self.keeping.mind_short_lease()

    def unreported(self, most: int) -> list[Job]:
        """Jobs claimed ahead that run by now: from here on their loss is a crash."""
        begun: list[Job] = []
        for job in self.jobs.values():
            if len(begun) >= most:
                break
            if job.runner is not None and not job.is_reported:
                job.is_reported = True
                begun.append(job)
        return begun

    def report_again(self, begun: Iterable[Job]) -> None:
        """Their report may not have arrived; by its fence a second one does no harm."""
        for job in begun:
            job.is_reported = False

    def heed_starts(self, begun: Iterable[Job], answers: Sequence[Answer]) -> None:
        """Stop those whose start the board refused."""
        for job, answer in zip(begun, answers, strict=True):
            if not answer.is_ok:
                self.lost(*job.claim)

    def lost(self, task_id: str, fence: int) -> None:
        """The board gave the task to someone else, or back: stop work on it."""
        job = self._held(task_id, fence)
        if job is None:
            return
        log.warning("The lease of task %s was lost; its handler is cancelled.", task_id)
        self.observers.tell("worker.lease_lost", task=task_id)
        if job.is_begun:
            job.cancel("lease_lost")
        else:
            self._drop(job)

    def cancel_requested(self, task_id: str, fence: int) -> None:
        """Somebody asked for the task's cancellation: stop work on it, and say so."""
        job = self._held(task_id, fence)
        if job is None:
            return
        if job.is_begun:
            job.cancel("cancelled")
        else:
            self._drop(job)
            self.exchange.spawn(job.confirm_cancel())

    async def give_back_queue(self) -> None:
        """Release what was claimed and not started."""
        if not self.queue:
            return
        claims = [job.claim for job in self.queue]
        self.queue.clear()
        for task_id, _ in claims:
            self.jobs.pop(task_id, None)
        await self.insist(lambda: self.tasks.release_many(claims))

    def pool(self) -> ThreadPoolExecutor:
        """The threads of blocking handlers, one a slot, made when the first is needed."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.worker.concurrency, thread_name_prefix="callboard")
        return self._pool

    def _held(self, task_id: str, fence: int) -> Job | None:
        """The job of this claim; None where it has ended, or the task was claimed anew."""
        job = self.jobs.get(task_id)
        return job if job is not None and job.claimed.fence == fence else None

    def _drop(self, job: Job) -> None:
        with suppress(ValueError):
            self.queue.remove(job)
        del self.jobs[job.claimed.id]
        self.wake.set()

    # The pump

    async def _pump(self) -> None:
        while True:
            self.wake.clear()
            if self._ending is not None:
                raise self._ending
            if self.is_stopping:
                await self.give_back_queue()
                if self.is_idle:
                    return
                if self.is_cut_off and not self.jobs:
                    log.warning("The drain is over and the engine does not answer: left to leases.")
                    return
            self._fill_slots()
            self.exchange.call_if_due()
            await self.wake.wait()

    def _fill_slots(self) -> None:
        slots, queue = self.slots, self.queue
        slots.readmit()
        # Counted once: this runs for each task, and jobs do not start before it returns.
        count = min(len(queue), slots.free)
        slots.busy += count
        for _ in range(count):
            queue.popleft().begin()

    def _lose_patience(self) -> None:
        """The drain is over: what still waits for an answer waits no more."""
        self._is_out_of_time = True
        for limit in self._limits:
            limit.reschedule(self.loop.time())
        self.wake.set()

    async def _abandon(self) -> None:
        """Where ``run`` itself is cancelled, end the handlers too; their tasks are given back."""
        self.is_stopping = True
        self.cancel_all()
        left: set[asyncio.Task[Any]] = {
            job.runner for job in self.jobs.values() if job.runner is not None
        }
        left |= self.exchange.steps
        if left:
            await asyncio.wait(left, timeout=ABANDON_SECONDS)
            for task in left:
                task.cancel()


def host_name() -> str:
    """This machine's name, as far as it makes a name for an agent."""
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in socket.gethostname())
    return name[:128] or "worker"
