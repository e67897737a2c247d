"""A worker: one process of an agent, which claims tasks and runs their handlers."""

from __future__ import annotations

import asyncio
import importlib
import logging
import math
import os
import random
import secrets
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from callboard.app import Callboard
from callboard.domain import task as tasks
from callboard.domain.agent import InstanceSpec
from callboard.domain.names import check_name
from callboard.domain.retry import Failure
from callboard.domain.task import Claimed
from callboard.exceptions import (
    AgentNotFound,
    CallboardError,
    ConfigError,
    EngineError,
    InvalidArgument,
    NotFound,
    Refused,
)
from callboard.observer import Observers
from callboard.sdk.context import EndOfClaim, TaskContext
from callboard.sdk.handlers import Handler, make_handler
from callboard.services.claims import (
    Claims,
    Completion,
    FailedAttempt,
    Step,
    as_encoded,
    fitting,
)

F = TypeVar("F", bound=Callable[..., Any])

PREFETCH_MAX: Final = 100
PREFETCH_SECONDS: Final = 0.05
"""A worker claims ahead what its slots finish in this time: 100 no-ops, 1 long task."""

STEPS_IN_FLIGHT: Final = 2
STEP_RESULTS: Final = 50
"""Results that are worth a second call while the first is under way."""

RESULTS_MAX: Final = 500
POLL_SECONDS: Final = 1.0
"""The backstop of an idle worker: a doorbell is only a hint and may be missed."""

ABANDON_SECONDS: Final = 2.0
"""What handlers get to end in where ``run`` is cancelled."""

WAIT_SECONDS: Final = 5.0
"""How long the engine counts an idle worker as waiting after it last asked."""

log = logging.getLogger("callboard.worker")


class _Running:
    """One task in this process, from its claim to the acceptance of its outcome."""

    __slots__ = ("claimed", "context", "is_begun", "is_reported", "job", "started_at", "timer")

    def __init__(self, claimed: Claimed) -> None:
        self.claimed = claimed
        self.context: TaskContext | None = None
        self.job: asyncio.Task[Any] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.started_at = 0.0
        self.is_begun = False
        self.is_reported = not claimed.is_ahead


class Worker:
    """Claims tasks of one board for an agent and runs their handlers.

        worker = Worker(cb, agent="mira", concurrency=10)

        @worker.handles("greet")
        async def greet(payload: Greeting) -> str:
            return f"Hello {payload.name}"

        await worker.run()

    Args:
        cb: An open connection; may be given to ``run`` instead.
        agent: The logical agent; many processes may share it. The host's name where not given.
        capabilities, services, labels, agent_type: What it offers; tasks ask for these.
        concurrency: Handlers that run at once, 1 to 1,000.
        board: Whose tasks it does.
        lease: Seconds without a sign of life after which its tasks are given to others.
        prefetch: Tasks claimed ahead of a free slot; by measured duration where not given.
        drain: Seconds that running handlers get to finish when the worker stops.
    """

    def __init__(
        self,
        cb: Callboard | None = None,
        *,
        agent: str | None = None,
        capabilities: Iterable[str] = (),
        services: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        agent_type: str = "worker",
        concurrency: int = 10,
        board: str = "default",
        lease: float = tasks.LEASE_DEFAULT,
        prefetch: int | None = None,
        drain: float = 30.0,
    ) -> None:
        self.agent = check_name("agent", agent if agent is not None else _host_name())
        self.instance = f"{os.getpid():x}-{secrets.token_hex(4)}"
        self.capabilities = tuple(capabilities)
        self.services = tuple(services)
        self.labels = dict(labels or {})
        self.agent_type = agent_type
        self.concurrency = _whole("concurrency", concurrency, 1, 1_000)
        self.board = check_name("board", board)
        self.lease = lease
        tasks.check_seconds("lease", lease, tasks.LEASE_MIN, tasks.LEASE_MAX)
        self.prefetch = (
            None if prefetch is None else _whole("prefetch", prefetch, 0, tasks.BATCH_MAX)
        )
        self.drain = drain
        self.observers = Observers()
        self.handlers: dict[str, Handler] = {}
        self._cb = cb
        self._is_running = False

    def handles(self, kind: str, *, timeout: float | None = None) -> Callable[[F], F]:
        """Run tasks of *kind* with the decorated function, async or not.

        It may take the payload, decoded to its annotated type (what msgspec knows, or a
        pydantic model), and a ``TaskContext`` named ``ctx``. What it returns, any JSON value,
        is the result. Raise ``Fatal`` where no retry can help.
        """

        def register(function: F) -> F:
            if kind in self.handlers:
                raise ConfigError(f"Two handlers for kind {kind!r}: a worker has one a kind.")
            self.handlers[kind] = make_handler(kind, function, timeout)
            return function

        return register

    async def run(self, cb: Callboard | None = None, *, handle_signals: bool = True) -> None:
        """Work until ``stop``, SIGTERM or SIGINT; then drain.

        Nothing more is claimed, running handlers finish, what was not started is given back.
        A second signal cancels the handlers, and so does cancelling this call.

        Raises:
            ConfigError: No handler is registered, or no connection was given.
        """
        cb = cb or self._cb
        if cb is None:
            raise ConfigError("The worker has no connection: Worker(cb, …) or worker.run(cb).")
        if not self.handlers:
            raise ConfigError(
                "The worker has no handlers: decorate some with @worker.handles(kind)."
            )
        if self._is_running:
            raise ConfigError("The worker runs already.")
        self._is_running = True
        self._shift = _Shift(self, cb)
        restore = _catch_signals(self._shift) if handle_signals else (lambda: None)
        try:
            await self._shift.work()
        finally:
            restore()
            self._is_running = False

    def stop(self) -> None:
        """Begin to drain; ``run`` returns when it is done. Harmless where nothing runs."""
        if self._is_running:
            self._shift.stop()

    @property
    def is_idle(self) -> bool:
        """Nothing is running, claimed, or waiting to be handed in."""
        return not self._is_running or self._shift.is_idle

    def __repr__(self) -> str:
        return f"<Worker {self.agent}/{self.instance} for {', '.join(self.handlers) or 'no kinds'}>"


class _Shift:
    """One run of a worker."""

    def __init__(self, worker: Worker, cb: Callboard) -> None:
        self.worker = worker
        self.cb = cb
        self.tasks = cb.board(worker.board).tasks
        self.loop = asyncio.get_running_loop()
        self.running: dict[str, _Running] = {}
        self.queue: deque[_Running] = deque()
        self.returning: deque[asyncio.Future[None]] = deque()
        self.results: list[Completion] = []
        self.failures: list[FailedAttempt] = []
        self.busy = 0
        self.parked = 0
        self.asked = 0
        self.duration = 0.0
        self.measured = 0
        self.is_stopping = False
        self.is_hungry = True
        self.wake = asyncio.Event()
        self.steps: set[asyncio.Task[None]] = set()
        self.threads: ThreadPoolExecutor | None = None
        self.backoff = 0.0
        self.has_short_lease = asyncio.Event()

    @property
    def is_idle(self) -> bool:
        return not (self.running or self.results or self.failures or self.steps)

    # The shift

    async def work(self) -> None:
        """Register, work, drain, leave."""
        worker = self.worker
        await self._register()
        keys, connection = self.cb.namespace.keys, self.cb.namespace.connection
        bells = await connection.subscribe(keys.agent_bell(worker.agent, worker.instance))
        janitor = self.cb.janitor()
        janitor.start()
        helpers = [
            asyncio.create_task(self._listen(bells), name="callboard-bells"),
            asyncio.create_task(self._renew(), name="callboard-renewals"),
            asyncio.create_task(self._poll(), name="callboard-poll"),
        ]
        worker.observers.tell("worker.started", agent=worker.agent, instance=worker.instance)
        try:
            await self._pump()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self._abandon()
            bells.close()
            await janitor.stop()
            if self.threads is not None:
                self.threads.shutdown(wait=False, cancel_futures=True)
            with suppress(CallboardError):
                await self.cb.agents.leave(worker.agent, worker.instance)
            worker.observers.tell("worker.stopped", agent=worker.agent, instance=worker.instance)

    def stop(self) -> None:
        """Begin to drain."""
        if not self.is_stopping:
            self.is_stopping = True
            self.loop.call_later(self.worker.drain, self.cancel_all)
            self.wake.set()

    def cancel_all(self) -> None:
        """Cancel the handlers that still run; their tasks are given back."""
        for running in list(self.running.values()):
            self._cancel(running, "stopping")

    async def _abandon(self) -> None:
        """Where ``run`` itself is cancelled, end the handlers too; their tasks are given back."""
        self.is_stopping = True
        self.cancel_all()
        left: set[asyncio.Task[Any]] = {
            running.job for running in self.running.values() if running.job is not None
        }
        left |= self.steps
        if left:
            await asyncio.wait(left, timeout=ABANDON_SECONDS)
            for task in left:
                task.cancel()

    async def _register(self) -> None:
        worker = self.worker
        await self.cb.agents.register(
            worker.agent,
            agent_type=worker.agent_type,
            capabilities=worker.capabilities,
            services=worker.services,
            labels=worker.labels,
            kinds=tuple(worker.handlers),
            heartbeat_interval=max(0.1, worker.lease / 3),
            instance=InstanceSpec(
                id=worker.instance,
                max_concurrent=worker.concurrency,
                prefetch=PREFETCH_MAX if worker.prefetch is None else worker.prefetch,
                host=_host_name(),
                pid=os.getpid(),
            ),
        )

    async def _pump(self) -> None:
        while True:
            self.wake.clear()
            if self.is_stopping:
                await self._give_back_queue()
                if not self.running and not self.results and not self.failures and not self.steps:
                    return
            self._fill_slots()
            self._step_if_due()
            await self.wake.wait()

    # Claiming and handing in

    def _room(self) -> int:
        """How many more tasks to ask for: free slots, and what is worth having ahead."""
        if self.is_stopping:
            return 0
        held = len(self.running) - self.parked + self.asked
        return max(0, self.worker.concurrency + self._ahead() - held)

    def _ahead(self) -> int:
        if self.worker.prefetch is not None:
            return self.worker.prefetch
        if self.measured < 5:
            return min(10, self.worker.concurrency)
        worth = PREFETCH_SECONDS * self.worker.concurrency / max(self.duration, 1e-6)
        return min(PREFETCH_MAX, max(1, math.ceil(worth)))

    def _step_if_due(self) -> None:
        if self.failures and len(self.steps) < STEPS_IN_FLIGHT:
            failures, self.failures = self.failures, []
            self._spawn(self._hand_in_failures(failures))
        while len(self.steps) < STEPS_IN_FLIGHT:
            room = self._room()
            wants = room > 0 and self.is_hungry
            is_second = bool(self.steps)
            if (
                is_second
                and len(self.results) < STEP_RESULTS
                and not (wants and len(self.queue) * 2 < self._ahead())
            ):
                return
            if not self.results and not wants:
                return
            if is_second and wants and not self.results and self.asked:
                return
            limit = min(room, RESULTS_MAX)
            count = min(fitting(self.results), RESULTS_MAX)
            results, self.results = self.results[:count], self.results[count:]
            begun = self._unreported()
            self.asked += limit
            # A bell that rings from here on may be about work that this call does not see.
            self.is_hungry = self.is_hungry and not limit
            self._spawn(self._step(results, begun, limit))

    def _unreported(self) -> list[tuple[str, int]]:
        """Tasks claimed ahead that run by now: from here on their loss is a crash."""
        begun = []
        for running in self.running.values():
            if running.is_begun and not running.is_reported and running.job is not None:
                running.is_reported = True
                begun.append((running.claimed.id, running.claimed.fence))
        return begun

    def _spawn(self, work: Any) -> None:
        step = self.loop.create_task(work)
        self.steps.add(step)
        step.add_done_callback(self._step_done)

    def _step_done(self, step: asyncio.Task[None]) -> None:
        self.steps.discard(step)
        if not step.cancelled() and step.exception() is not None:
            log.error("A worker's step failed.", exc_info=step.exception())
        self.wake.set()

    async def _step(
        self, results: list[Completion], begun: list[tuple[str, int]], limit: int
    ) -> None:
        """One ``complete_and_claim``, repeated under the same request id until it is answered."""
        worker = self.worker
        request = secrets.token_hex(8)
        free = min(limit, max(0, worker.concurrency - self.busy))
        try:
            step = await self._insist(
                lambda: self.tasks.complete_and_claim(
                    worker.agent,
                    worker.instance,
                    results=results,
                    begun=begun,
                    limit=limit,
                    started=free,
                    lease=worker.lease,
                    wait=WAIT_SECONDS if free else 0.0,
                    request_id=request,
                )
            )
        finally:
            self.asked -= limit
        if step is None:
            return
        self._heed_answers(step, begun)
        if limit:
            await self._take(step.claims, limit)

    async def _insist(self, call: Callable[[], Any]) -> Any:
        """Repeat a call that is safe to repeat until the engine answers; None on giving up."""
        delay = 0.05
        while True:
            try:
                return await call()
            except EngineError as error:
                if self.is_stopping and delay > 2:
                    log.warning("Giving up on the engine while draining: %s", error)
                    return None
                log.info("The engine did not answer; trying again: %s", error)
                await asyncio.sleep(delay * (0.5 + random.random()))
                delay = min(delay * 2, 5.0)
            except CallboardError:
                log.exception("The engine refused a worker's call.")
                await asyncio.sleep(POLL_SECONDS * (0.5 + random.random()))
                return None

    def _heed_answers(self, step: Step, begun: list[tuple[str, int]]) -> None:
        for answer in step.completed:
            if answer.status != "ok" and answer.status != "replayed":
                log.warning("The result of task %s was not taken: %s.", answer.id, answer.status)
                self.worker.observers.tell(
                    "worker.result_refused", task=answer.id, status=answer.status
                )
        for (task_id, fence), answer in zip(begun, step.begun, strict=True):
            if not answer.is_ok:
                self._lost(task_id, fence)

    async def _take(self, claims: Claims, limit: int) -> None:
        for claimed in claims.tasks:
            running = _Running(claimed)
            self.running[claimed.id] = running
            self.queue.append(running)
            if claimed.lease is not None and claimed.lease < self.worker.lease:
                self.has_short_lease.set()
        if len(claims.tasks) >= limit or claims.lost:
            self.is_hungry = True
        if claims.status in ("agent_not_found", "instance_unknown"):
            await self._insist(self._register)
            self.is_hungry = True
        elif claims.status == "agent_draining":
            # Asked to drain, or swept as lost while this process was stopped: a heartbeat tells.
            await self._insist(self._beat)
        elif claims.status not in ("ok", "empty", "replayed", "agent_full"):
            log.debug("Nothing claimed: %s.", claims.status)
        if self.is_stopping:
            await self._give_back_queue()

    async def _hand_in_failures(self, failures: list[FailedAttempt]) -> None:
        answers = await self._insist(lambda: self.tasks.fail_many(failures))
        for answer in answers or ():
            if not answer.is_ok:
                log.warning("The failure of task %s was not taken: %s.", answer.id, answer.status)
        self.is_hungry = True  # A retry may be due at once.

    async def _give_back_queue(self) -> None:
        """Release what was claimed and not started."""
        if not self.queue:
            return
        waiting = [running for running in self.queue if not running.is_begun]
        self.queue.clear()
        for running in waiting:
            self.running.pop(running.claimed.id, None)
        claims = [(running.claimed.id, running.claimed.fence) for running in waiting]
        await self._insist(lambda: self.tasks.release_many(claims))

    # Running

    def _fill_slots(self) -> None:
        while self.returning and self.busy < self.worker.concurrency:
            slot = self.returning.popleft()
            if not slot.done():
                self.busy += 1
                slot.set_result(None)
        while self.queue and self.busy < self.worker.concurrency:
            running = self.queue.popleft()
            running.is_begun = True
            self.busy += 1
            running.job = self.loop.create_task(self._run(running))

    async def _run(self, running: _Running) -> None:
        claimed = running.claimed
        handler = self.worker.handlers.get(claimed.kind)
        if handler is None:
            await self._unhandled(running)
            return
        running.started_at = started_at = self.loop.time()
        outcome: Completion | FailedAttempt | None = None
        try:
            context = running.context = running.context or self._context(running)
            if context.is_cancelled:
                raise asyncio.CancelledError
            if claimed.is_ahead and claimed.was_lost:
                await self._report_start(running)
            limit = claimed.timeout or handler.timeout
            if limit is not None:
                running.timer = self.loop.call_later(limit, self._cancel, running, "timeout")
            if handler.is_async:
                result = await handler.invoke(claimed, context)
            else:
                result = await self._in_thread(handler, running)
            outcome = Completion(claimed.id, claimed.fence, result)
        except EndOfClaim:
            pass
        except asyncio.CancelledError:
            outcome = await self._cancelled(running)
        except Exception as error:
            failure = Failure.from_exception(error)
            log.info("Task %s failed: %s", claimed.id, error, exc_info=True)
            outcome = FailedAttempt(claimed.id, claimed.fence, failure, failure.delay)
        finally:
            self._finished(running, outcome, self.loop.time() - started_at)

    def _finished(
        self, running: _Running, outcome: Completion | FailedAttempt | None, seconds: float
    ) -> None:
        if running.timer is not None:
            running.timer.cancel()
        self.busy -= 1
        if self.running.get(running.claimed.id) is running:
            del self.running[running.claimed.id]
        if running.context is None or running.context.cancel_reason != "lease_lost":
            if isinstance(outcome, Completion):
                self._accept(outcome)
            elif outcome is not None:
                self.failures.append(outcome)
            else:
                self.is_hungry = True  # What a split or a release made ready may be for us.
        self.measured += 1
        weight = max(0.05, 1 / self.measured)
        self.duration += weight * (seconds - self.duration)
        self.wake.set()

    def _accept(self, outcome: Completion) -> None:
        """Keep a result for the next step; one that is no JSON, or too big, is a failure."""
        if outcome.result is not None:
            try:
                encoded = as_encoded(outcome.result)
            except Exception as error:  # A model's own serialiser may raise anything.
                failure = Failure.from_exception(error, retryable=False)
                self.failures.append(FailedAttempt(outcome.id, outcome.fence, failure))
                return
            outcome = Completion(outcome.id, outcome.fence, encoded)
        self.results.append(outcome)

    def _context(self, running: _Running) -> TaskContext:
        return TaskContext(
            self.tasks,
            running.claimed,
            lease=self.worker.lease,
            without_slot=self._without_slot,
            loop=self.loop,
        )

    async def _in_thread(self, handler: Handler, running: _Running) -> Any:
        """Run a blocking handler; it keeps its slot until the thread is really done."""
        if self.threads is None:
            self.threads = ThreadPoolExecutor(
                self.worker.concurrency, thread_name_prefix="callboard"
            )
        context = running.context
        assert context is not None
        future = self.loop.run_in_executor(self.threads, handler.invoke, running.claimed, context)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            if not future.cancelled():
                future.exception()
            raise

    async def _report_start(self, running: _Running) -> None:
        """Before a task that was lost unstarted runs: if it kills this process, it counts."""
        running.is_reported = True
        await self.tasks.start(running.claimed.id, fence=running.claimed.fence)

    async def _unhandled(self, running: _Running) -> None:
        claimed = running.claimed
        log.warning(
            "No handler for kind %r of task %s; it is given back.", claimed.kind, claimed.id
        )
        await self._insist(
            lambda: self.tasks.release_many([(claimed.id, claimed.fence)], delay=POLL_SECONDS)
        )
        self._finished(running, None, 0.0)

    async def _cancelled(self, running: _Running) -> FailedAttempt | None:
        """What to tell the board of a handler that was cancelled, by the reason."""
        claimed = running.claimed
        reason = running.context.cancel_reason if running.context else None
        if reason is None:
            failure = Failure("CancelledError", "The handler was cancelled from within.", True)
            return FailedAttempt(claimed.id, claimed.fence, failure)
        if reason == "timeout":
            failure = Failure(
                "timeout", f"Ran longer than its {claimed.timeout or 'handler'} limit.", True
            )
            return FailedAttempt(claimed.id, claimed.fence, failure)
        if reason == "lease_lost":
            return None
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        if reason == "cancelled":
            await self._insist(lambda: self._confirm(claimed))
        else:
            await self._insist(lambda: self.tasks.release_many([(claimed.id, claimed.fence)]))
        return None

    async def _confirm(self, claimed: Claimed) -> None:
        with suppress(Refused, NotFound):
            await self.tasks.confirm_cancel(claimed.id, fence=claimed.fence)

    def _cancel(self, running: _Running, reason: str) -> None:
        context = running.context = running.context or self._context(running)
        if not context.is_cancelled:
            context.is_cancelled, context.cancel_reason = True, reason
        # A job that has not run yet looks at its context first; cancelled, it would never begin.
        if running.started_at and running.job is not None and not running.job.done():
            running.job.cancel()

    def _lost(self, task_id: str, fence: int) -> None:
        """The board gave the task to someone else, or back: stop work on it."""
        running = self.running.get(task_id)
        if running is None or running.claimed.fence != fence:
            return  # Ended, or claimed anew, while the answer was under way.
        log.warning("The lease of task %s was lost; its handler is cancelled.", task_id)
        self.worker.observers.tell("worker.lease_lost", task=task_id)
        if running.is_begun:
            self._cancel(running, "lease_lost")
        else:
            with suppress(ValueError):
                self.queue.remove(running)
            del self.running[task_id]
            self.wake.set()

    @asynccontextmanager
    async def _without_slot(self) -> AsyncIterator[None]:
        """While a handler waits for another task, its slot runs others; then it waits for one."""
        self.busy -= 1
        self.parked += 1
        self.is_hungry = True
        self.wake.set()
        try:
            yield
        finally:
            self.parked -= 1
            if self.busy < self.worker.concurrency:
                self.busy += 1
            else:
                await self._slot()

    async def _slot(self) -> None:
        slot = self.loop.create_future()
        self.returning.append(slot)
        try:
            await slot
        except asyncio.CancelledError:
            if slot.cancelled():
                self.busy += 1  # A handler that ends gives back what it has by then.
            raise

    # In the background

    async def _listen(self, bells: Any) -> None:
        async for _, payload in bells:
            if payload == b"cancel":
                await self._renew_safely()
            else:
                self.is_hungry = True
                self.wake.set()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS * (0.75 + random.random() / 2))
            self.is_hungry = True
            self.wake.set()

    async def _renew(self) -> None:
        """Renew at a third of the lease, as long as this loop turns; survives every error."""
        while True:
            own = [one.claimed.lease for one in self.running.values()]
            shortest = min([self.worker.lease, *(lease for lease in own if lease)])
            self.has_short_lease.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(shortest / 3 * (0.9 + random.random() / 10)):
                    # A shorter lease came in: it cannot wait for the end of a longer sleep.
                    await self.has_short_lease.wait()
                    continue
            await self._renew_safely()

    async def _renew_safely(self) -> None:
        try:
            await self._renew_once()
        except EngineError as error:
            log.info("A renewal waits for the engine: %s", error)
        except Exception:
            log.exception("A renewal failed; the next goes on.")

    async def _renew_once(self) -> None:
        worker = self.worker
        begun = self._unreported()
        if begun:
            for (task_id, fence), answer in zip(
                begun, await self.tasks.start_many(begun), strict=True
            ):
                if not answer.is_ok:
                    self._lost(task_id, fence)
        claims = [(running.claimed.id, running.claimed.fence) for running in self.running.values()]
        await self._beat()
        answers = await self.tasks.renew_many(
            claims, lease=worker.lease, agent=worker.agent, instance=worker.instance
        )
        for (task_id, fence), answer in zip(claims, answers, strict=True):
            if answer.status == "cancel":
                self._cancel_requested(task_id)
            elif not answer.is_ok:
                self._lost(task_id, fence)

    async def _beat(self) -> None:
        """Say that this process lives, and hear whether its agent is to take no new work."""
        try:
            heard = await self.cb.agents.heartbeat(self.worker.agent, self.worker.instance)
        except AgentNotFound:
            await self._register()
            self.is_hungry = True
            return
        if heard.should_drain:
            self.stop()

    def _cancel_requested(self, task_id: str) -> None:
        running = self.running.get(task_id)
        if running is None:
            return
        if running.is_begun:
            self._cancel(running, "cancelled")
            return
        with suppress(ValueError):
            self.queue.remove(running)
        del self.running[task_id]
        self._spawn(self._confirm(running.claimed))


def load_worker(name: str) -> Worker:
    """Import ``module:attribute``; the current folder comes first on the path.

    Raises:
        ConfigError: No such module or attribute, or it is no Worker.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or module_name.startswith("."):
        raise ConfigError(f"{name!r} names no module. Give module:worker, as in handlers:worker.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.split(".", 1)[0] and error.name != module_name:
            raise
        raise ConfigError(
            f"No module {module_name!r} here or on the path. Give module:worker, as in "
            f"handlers:worker."
        ) from error
    found = [value for value in vars(module).values() if isinstance(value, Worker)]
    if attribute:
        worker = getattr(module, attribute, None)
    else:
        worker = found[0] if len(found) == 1 else None
    if not isinstance(worker, Worker):
        names = [key for key, value in vars(module).items() if isinstance(value, Worker)]
        there = f"It has: {', '.join(names)}." if names else "It has no Worker."
        raise ConfigError(
            f"Module {module_name!r} has no Worker named {attribute or '(none given)'!r}. {there}"
        )
    return worker


def _catch_signals(shift: _Shift) -> Callable[[], None]:
    """First SIGTERM or SIGINT drains, the second cancels; answers what undoes it."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    loop = asyncio.get_running_loop()

    def caught() -> None:
        if shift.is_stopping:
            shift.cancel_all()
        else:
            log.info("Stopping: running tasks finish, nothing new is claimed.")
            shift.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, caught)

    def restore() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    return restore


def _host_name() -> str:
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in socket.gethostname())
    return name[:128] or "worker"


def _whole(what: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidArgument(
            f"{what} is {value!r}; it must be a whole number from {low} to {high:,}."
        )
    return value
