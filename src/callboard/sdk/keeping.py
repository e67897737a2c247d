"""Keeping what a worker holds: renewals and heartbeats, the bells it hears, its poll."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from callboard.domain.task import BATCH_MAX
from callboard.engine.outage import Witness
from callboard.engine.pubsub import Subscription
from callboard.exceptions import (
    AgentNotFound,
    CallboardError,
    EngineError,
    NotAuthenticated,
    NotPermitted,
)

if TYPE_CHECKING:
    from callboard.sdk.shift import Shift

POLL_SECONDS: Final = 1.0
"""The backstop of an idle worker: a doorbell is only a hint and may be missed."""

log = logging.getLogger("callboard.worker")


class Keeping:
    """What goes on beside the handlers for as long as a shift lasts."""

    def __init__(self, shift: Shift) -> None:
        self._shift = shift
        self._outage = Witness("A renewal")
        self._has_short_lease = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    def start(self, bells: Subscription) -> None:
        """Listen, renew and poll in the background until ``stop``."""
        self._loops = [
            asyncio.create_task(self._listen(bells), name="callboard-bells"),
            asyncio.create_task(self._renew(), name="callboard-renewals"),
            asyncio.create_task(self._poll(), name="callboard-poll"),
        ]

    async def stop(self) -> None:
        """Stop, and wait until it has."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._outage.leave()

    def mind_short_lease(self) -> None:
        """Look anew at when to renew: a task came whose lease is shorter than the worker's."""
        self._has_short_lease.set()

    async def beat(self) -> None:
        """Say that this process lives, and hear whether its agent is to take no new work."""
        shift = self._shift
        try:
            heard = await shift.cb.agents.heartbeat(shift.worker.agent, shift.worker.instance)
        except AgentNotFound:
            await shift.register()
            shift.look_again()
            return
        if heard.should_drain:
            if not shift.is_stopping:
                agent = shift.worker.agent
                log.warning(
                    "Agent %s was asked to drain, so this worker stops. "
                    "To undo it: callboard agents activate %s",
                    agent,
                    agent,
                )
                shift.worker.was_drained = True
            shift.stop()

    async def _listen(self, bells: Subscription) -> None:
        async for _, payload in bells:
            if payload == b"cancel":
                await self._renew_safely()
            elif b"|" in payload:
                self._shift.exchange.take_up(payload.decode())
            else:
                self._shift.look_again()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS * (0.75 + random.random() / 2))
            self._shift.look_again()

    async def _renew(self) -> None:
        """Renew at a third of the shortest lease, as long as this loop turns."""
        loop = self._shift.loop
        renewed_at = loop.time()
        while True:
            own = [job.claimed.lease for job in self._shift.jobs.values()]
            shortest = min([self._shift.worker.lease, *(lease for lease in own if lease)])
            self._has_short_lease.clear()
            # From the last renewal on: short leases that keep coming must not put it off.
            due_at = renewed_at + shortest / 3 * (0.9 + random.random() / 10)
            try:
                async with asyncio.timeout_at(due_at):
                    await self._has_short_lease.wait()
            except TimeoutError:
                renewed_at = loop.time()
                await self._renew_safely()

    async def _renew_safely(self) -> None:
        """Renew once, and survive every error: the next goes on."""
        try:
            await self._report_begun()
            await self.beat()
            await self._renew_once()
            self._outage.answered()
        except EngineError as error:
            self._outage.failed(error)
        except (NotAuthenticated, NotPermitted) as error:
            self._shift.end(error)
        except Exception:
            log.exception("A renewal failed; the next goes on.")

    async def _report_begun(self) -> None:
        begun = self._shift.unreported(BATCH_MAX)
        if not begun:
            return
        try:
            answers = await self._shift.tasks.start_many([job.claim for job in begun])
        except CallboardError:
            self._shift.report_again(begun)
            raise
        self._shift.heed_starts(begun, answers)

    async def _renew_once(self) -> None:
        shift, worker = self._shift, self._shift.worker
        claims = [job.claim for job in shift.jobs.values()]
        answers = await shift.tasks.renew_many(
            claims, lease=worker.lease, agent=worker.agent, instance=worker.instance
        )
        for (task_id, fence), answer in zip(claims, answers, strict=True):
            if answer.status == "cancel":
                shift.cancel_requested(task_id, fence)
            elif not answer.is_ok:
                shift.lost(task_id, fence)
