"""A job: one claimed task in this process, from its claim to its outcome."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from callboard.domain.breaker import deferral
from callboard.domain.record import Claimed
from callboard.domain.retry import Failure
from callboard.engine.handed_in import Completion, FailedAttempt, as_encoded
from callboard.exceptions import CircuitOpen, NotFound, Refused
from callboard.sdk.context import EndOfClaim, TaskContext

if TYPE_CHECKING:
    from callboard.sdk.handlers import Handler
    from callboard.sdk.shift import Shift

UNHANDLED_SECONDS: Final = 1.0
"""How long a task of a kind without a handler here is left to others."""

log = logging.getLogger("callboard.worker")


class Job:
    """Runs the handler of one task, and ends it: by its outcome, its limit, a cancellation.

    Attributes:
        is_reported: The board counts its loss as a crash, or is being told to.
        is_ending: Its handler has ended, cancelled; the board is being told, without hindrance.
        is_told: Observers were told that it started, and will be told that it ended.
        started_at: When its handler was looked up, by the loop's clock; 0 before.
    """

    __slots__ = (
        "claimed",
        "context",
        "is_ending",
        "is_reported",
        "is_told",
        "runner",
        "shift",
        "started_at",
        "timer",
    )

    def __init__(self, shift: Shift, claimed: Claimed) -> None:
        self.shift = shift
        self.claimed = claimed
        self.context: TaskContext | None = None
        self.runner: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.started_at = 0.0
        self.is_reported = not claimed.is_ahead
        self.is_ending = False
        self.is_told = False

    @property
    def claim(self) -> tuple[str, int]:
        """The task's id and the fence of its claim."""
        return self.claimed.id, self.claimed.fence

    @property
    def is_begun(self) -> bool:
        """It has a slot."""
        return self.runner is not None

    def begin(self) -> None:
        """Run the handler, in a slot that the caller has taken for it."""
        self.runner = self.shift.loop.create_task(self._run())

    def cancel(self, reason: str) -> None:
        """Cancel the handler; the first reason stands, and repeating it changes nothing.

        Only ``stopping`` is pressed each time: it is the last word of a drain.
        """
        context = self.context = self.context or self._new_context()
        if not context.is_cancelled:
            context.is_cancelled, context.cancel_reason = True, reason
        elif reason == context.cancel_reason and reason != "stopping":
            return  # Bells and renewals repeat a request; the handler's own clean-up goes on.
        # A job that has not run yet looks at its context first; cancelled, it would never begin.
        if self.started_at and not self.is_ending and self.runner and not self.runner.done():
            self.runner.cancel()

    async def confirm_cancel(self) -> None:
        """Tell the board that work has stopped as it was asked to, until the board answers."""
        await self.shift.insist(self._confirm)

    async def _run(self) -> None:
        shift, claimed = self.shift, self.claimed
        handler = shift.worker.handlers.get(claimed.kind)
        if handler is None:
            await self._give_back_unhandled()
            return
        self.started_at = started_at = shift.loop.time()
        outcome: Completion | FailedAttempt | None = None
        try:
            context = self.context = self.context or self._new_context()
            if context.is_cancelled:
                raise asyncio.CancelledError
            if claimed.is_ahead and claimed.was_lost:
                await self._report_start()
            if shift.observers.anyone:
                self.is_told = True
                shift.observers.tell("worker.task_started", task=claimed.id, kind=claimed.kind)
            limit = claimed.timeout or handler.timeout
            if limit is not None:
                self.timer = shift.loop.call_later(limit, self.cancel, "timeout")
            if handler.is_async:
                result = await handler.invoke(claimed, context)
            else:
                result = await self._in_thread(handler, context)
            outcome = self._outcome_of(result)
        except EndOfClaim:
            pass
        except asyncio.CancelledError:
            outcome = await self._cancelled()
        except CircuitOpen as error:
            await self._defer(error)
        except (Exception, SystemExit) as error:
            # A handler that calls sys.exit ends its own attempt, not the worker.
            failure = Failure.from_exception(error)
            log.info("Task %s failed: %s", claimed.id, error, exc_info=True)
            outcome = FailedAttempt(claimed.id, claimed.fence, failure, failure.delay)
        finally:
            self._finish(outcome, shift.loop.time() - started_at)

    def _new_context(self) -> TaskContext:
        shift = self.shift
        return TaskContext(
            shift.tasks,
            self.claimed,
            lease=shift.worker.lease,
            without_slot=shift.slots.without,
            loop=shift.loop,
            locks=shift.cb.locks,
            messages=shift.cb.messages,
        )

    async def _report_start(self) -> None:
        """Before a task that was lost unstarted runs: if it kills this process, it counts."""
        self.is_reported = True
        answers = await self.shift.insist(lambda: self.shift.tasks.start_many([self.claim]))
        if not answers:
            raise EndOfClaim  # Nobody heard it, so it must not run; its lease will run out.
        if not answers[0].is_ok:
            self.is_ending = True  # It ends itself, by the exception.
            self.shift.lost(*self.claim)
            raise asyncio.CancelledError

    async def _in_thread(self, handler: Handler, context: TaskContext) -> Any:
        """Run a blocking handler; it keeps its slot until the thread is really done."""
        shift = self.shift
        future = shift.loop.run_in_executor(shift.pool(), handler.invoke, self.claimed, context)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            if not future.cancelled():
                future.exception()
            raise

    def _outcome_of(self, result: Any) -> Completion | FailedAttempt:
        """What to hand in for a result; one that is no JSON, or too big, is a failure."""
        claimed = self.claimed
        if result is None:
            return Completion(claimed.id, claimed.fence)
        try:
            encoded = as_encoded(result)
        except Exception as error:  # A model's own serialiser may raise anything.
            failure = Failure.from_exception(error, retryable=False)
            return FailedAttempt(claimed.id, claimed.fence, failure)
        return Completion(claimed.id, claimed.fence, encoded)

    async def _cancelled(self) -> FailedAttempt | None:
        """What to hand in for a handler that was cancelled, by the reason."""
        self.is_ending = True
        claimed = self.claimed
        reason = self.context.cancel_reason if self.context else None
        if reason is None:
            failure = Failure("CancelledError", "The handler was cancelled from within.", True)
            return FailedAttempt(claimed.id, claimed.fence, failure)
        if reason == "timeout":
            limit = claimed.timeout or self.shift.worker.handlers[claimed.kind].timeout or 0.0
            failure = Failure("timeout", f"Ran longer than its limit of {limit:g} s.", True)
            return FailedAttempt(claimed.id, claimed.fence, failure)
        if reason == "lease_lost":
            return None
        if self.runner is not None:
            self.runner.uncancel()
        if reason == "cancelled":
            await self.confirm_cancel()
        else:
            await self.shift.insist(lambda: self.shift.tasks.release_many([self.claim]))
        return None

    async def _confirm(self) -> None:
        with suppress(Refused, NotFound):
            await self.shift.tasks.confirm_cancel(self.claimed.id, fence=self.claimed.fence)

    async def _defer(self, error: CircuitOpen) -> None:
        """Give a task back whose handler may not call what it needs: no failure is spent."""
        self.is_ending = True
        delay = deferral(error.details.get("retry_after"), random.random())
        log.info("Task %s waits %.1f s: %s", self.claimed.id, delay, error)
        await self.shift.insist(lambda: self.shift.tasks.release_many([self.claim], delay=delay))

    async def _give_back_unhandled(self) -> None:
        claimed = self.claimed
        log.warning(
            "No handler for kind %r of task %s; it is given back.", claimed.kind, claimed.id
        )
        await self.shift.insist(
            lambda: self.shift.tasks.release_many([self.claim], delay=UNHANDLED_SECONDS)
        )
        self._finish(None, 0.0)

    def _finish(self, outcome: Completion | FailedAttempt | None, seconds: float) -> None:
        """Free the slot, and leave the outcome for the next call to the board."""
        shift, jobs, task_id = self.shift, self.shift.jobs, self.claimed.id
        if self.timer is not None:
            self.timer.cancel()
        shift.slots.busy -= 1
        if jobs.get(task_id) is self:
            del jobs[task_id]
        reason = self.context.cancel_reason if self.context is not None else None
        if reason == "lease_lost":
            outcome = None  # It would be refused.
        shift.exchange.keep(outcome, seconds)
        shift.wake.set()
        if self.is_told:
            self._tell_end(outcome, reason, seconds)

    def _tell_end(
        self, outcome: Completion | FailedAttempt | None, reason: str | None, seconds: float
    ) -> None:
        if type(outcome) is Completion:
            ending = "completed"
        else:
            ending = reason or ("set_aside" if outcome is None else "failed")
        self.shift.observers.tell(
            "worker.task_ended",
            task=self.claimed.id,
            kind=self.claimed.kind,
            ending=ending,
            seconds=seconds,
            board=self.claimed.board,
            agent=self.claimed.agent,
            attempt=self.claimed.attempt,
            trace_context=self.claimed.trace_context,
        )
