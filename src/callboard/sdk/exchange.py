"""A worker's exchange with the board: outcomes handed in and tasks claimed, in one call."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

from callboard.domain.prefetch import worth_ahead
from callboard.domain.task import BATCH_MAX
from callboard.engine.handed_in import Completion, FailedAttempt, fitting
from callboard.sdk.job import Job
from callboard.services.claims import Claims, Step

if TYPE_CHECKING:
    from callboard.sdk.shift import Shift

STEPS_IN_FLIGHT: Final = 2
STEP_RESULTS: Final = 50
"""Results that are worth a second call while the first is under way."""

RESULTS_MAX: Final = 500

WAIT_SECONDS: Final = 5.0
"""How long the engine counts an idle worker as waiting after it last asked."""

log = logging.getLogger("callboard.worker")


class Exchange:
    """Keeps outcomes until they are handed in, and asks for what there is room for.

    Attributes:
        is_hungry: There may be work on the board that no call has asked for yet.
        steps: The calls under way.
    """

    def __init__(self, shift: Shift) -> None:
        self.is_hungry = True
        self.steps: set[asyncio.Task[None]] = set()
        self._shift = shift
        self._results: list[Completion] = []
        self._failures: list[FailedAttempt] = []
        self._asked = 0
        self._duration = 0.0
        self._measured = 0
        self._return: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """All outcomes are with the board, and no call is under way."""
        return not (self._results or self._failures or self.steps)

    def keep(self, outcome: Completion | FailedAttempt | None, seconds: float) -> None:
        """Keep an outcome for the next call, and learn how long a task takes."""
        if type(outcome) is Completion:
            self._results.append(outcome)
        elif type(outcome) is FailedAttempt:
            self._failures.append(outcome)
        else:
            self.is_hungry = True  # What a split or a release made ready may be for us.
        self._measured += 1
        weight = max(0.05, 1 / self._measured)
        self._duration += weight * (seconds - self._duration)

    def call_if_due(self) -> None:
        """Start the calls that are worth one now: two at once, the second if it carries much."""
        if self._failures and len(self.steps) < STEPS_IN_FLIGHT:
            failures, self._failures = self._failures, []
            self.spawn(self._hand_in_failures(failures))
        while len(self.steps) < STEPS_IN_FLIGHT:
            room = self._room()
            wants = room > 0 and self.is_hungry
            if not self._is_due(wants):
                return
            limit = min(room, RESULTS_MAX)
            count = min(fitting(self._results), RESULTS_MAX)
            results, self._results = self._results[:count], self._results[count:]
            begun = self._shift.unreported(BATCH_MAX - len(results))
            self._asked += limit
            # A bell that rings from here on may be about work that this call does not see.
            self.is_hungry = self.is_hungry and not limit
            self.spawn(self._step(results, begun, limit))

    def take_up(self, bell: str) -> None:
        """Take up what a bell says is reserved: ``board|id,id``. Without room, look again later."""
        shift = self._shift
        board, _, names = bell.partition("|")
        ids = names.split(",")
        if shift.is_stopping or board != shift.worker.board or len(ids) > shift.slots.free:
            shift.look_again()
            return
        self._asked += len(ids)
        self.spawn(self._accept(ids))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Make a call in the background; the shift does not end before it has."""
        step = self._shift.loop.create_task(work)
        self.steps.add(step)
        step.add_done_callback(self._step_done)

    def _room(self) -> int:
        """How many more tasks to ask for: free slots, and what is worth having ahead."""
        shift = self._shift
        if shift.is_stopping:
            return 0
        held = len(shift.jobs) - shift.slots.parked + self._asked
        return max(0, shift.worker.concurrency + self._ahead() - held)

    def _ahead(self) -> int:
        worker = self._shift.worker
        if worker.prefetch is not None:
            return worker.prefetch
        return worth_ahead(self._measured, self._duration, worker.concurrency)

    def _is_due(self, wants: bool) -> bool:
        if not self._results and not wants:
            return False
        if not self.steps:
            return True
        runs_dry = wants and len(self._shift.queue) * 2 < self._ahead()
        if len(self._results) < STEP_RESULTS and not runs_dry:
            return False
        return bool(self._results) or not self._asked

    def _step_done(self, step: asyncio.Task[None]) -> None:
        self.steps.discard(step)
        if not step.cancelled() and step.exception() is not None:
            log.error("A worker's step failed.", exc_info=step.exception())
        self._shift.wake.set()

    async def _step(self, results: list[Completion], begun: list[Job], limit: int) -> None:
        """One ``complete_and_claim``, repeated under the same request id until it is answered."""
        shift, worker = self._shift, self._shift.worker
        request = secrets.token_hex(8)
        starts = [job.claim for job in begun]
        free = min(limit, shift.slots.free)
        try:
            step = await shift.insist(
                lambda: shift.tasks.complete_and_claim(
                    worker.agent,
                    worker.instance,
                    results=results,
                    begun=starts,
                    limit=limit,
                    started=free,
                    lease=worker.lease,
                    wait=WAIT_SECONDS if free else 0.0,
                    request_id=request,
                )
            )
        finally:
            self._asked -= limit
        if step is None:
            self._results[:0] = results
            shift.report_again(begun)
            return
        self._heed_answers(step, begun)
        if limit:
            await self._take(step.claims, limit)
            if step.claims.again is not None:
                self._come_back(step.claims.again)

    def _come_back(self, seconds: float) -> None:
        """Ask again when a rate lets the next task through; the poll would be too late."""
        if self._return is not None:
            self._return.cancel()
        delay = seconds * (1 + random.random() / 20)
        self._return = self._shift.loop.call_later(delay, self._shift.look_again)

    async def _accept(self, ids: list[str]) -> None:
        shift, worker = self._shift, self._shift.worker
        wants = max(0, shift.slots.free - self._asked)
        try:
            claims = await shift.insist(
                lambda: shift.tasks.accept(
                    ids,
                    worker.agent,
                    worker.instance,
                    lease=worker.lease,
                    wants=wants,
                    wait=WAIT_SECONDS if wants else 0.0,
                )
            )
        finally:
            self._asked -= len(ids)
        taken = claims.tasks if claims is not None else ()
        shift.accept(taken)
        if len(taken) < len(ids):
            self.is_hungry = True
        if shift.is_stopping:
            await shift.give_back_queue()

    def _heed_answers(self, step: Step, begun: Sequence[Job]) -> None:
        for answer in step.completed:
            if answer.status != "ok" and answer.status != "replayed":
                log.warning("The result of task %s was not taken: %s.", answer.id, answer.status)
                self._shift.observers.tell(
                    "worker.result_refused", task=answer.id, status=answer.status
                )
        self._shift.heed_starts(begun, step.begun)

    async def _take(self, claims: Claims, limit: int) -> None:
        shift = self._shift
        shift.accept(claims.tasks)
        if len(claims.tasks) >= limit or claims.lost:
            self.is_hungry = True
        if claims.status in ("agent_not_found", "instance_unknown"):
            await shift.insist(shift.register)
            self.is_hungry = True
        elif claims.status == "agent_draining":
            # Asked to drain, or swept as lost while this process was stopped: a heartbeat tells.
            await shift.insist(shift.keeping.beat)
        elif claims.status not in ("ok", "empty", "replayed", "agent_full"):
            log.debug("Nothing claimed: %s.", claims.status)
        if shift.is_stopping:
            await shift.give_back_queue()

    async def _hand_in_failures(self, failures: list[FailedAttempt]) -> None:
        answers = await self._shift.insist(lambda: self._shift.tasks.fail_many(failures))
        for answer in answers or ():
            if not answer.is_ok:
                log.warning("The failure of task %s was not taken: %s.", answer.id, answer.status)
        self.is_hungry = True  # A retry may be due at once.
