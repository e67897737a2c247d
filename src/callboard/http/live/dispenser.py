"""Work for one agent over one stream or socket: claimed as it has room, handed on as it comes."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from callboard.app import Callboard
from callboard.domain.event import Event
from callboard.domain.task import BATCH_MAX, Status
from callboard.engine.outage import Witness
from callboard.engine.pubsub import Subscription
from callboard.exceptions import (
    AgentDraining,
    AgentNotFound,
    CallboardError,
    EngineError,
    Refused,
)
from callboard.http.live.hub import Hub
from callboard.operations.tasks import ClaimedTask, claimed_task
from callboard.services.claims import Claims

POLL_SECONDS: Final = 2.0
"""The backstop of one who waits for work: a doorbell is only a hint and may be missed."""

WAIT_SECONDS: Final = 5.0
"""How long the engine counts the agent as waiting after it was last asked."""

PAUSE_SECONDS: Final = 0.5
EXIT_SECONDS: Final = 2.0
"""How long the engine gets to take back what nobody is there for."""

_HELD: Final = frozenset({"claimed", "in_progress"})

_log = logging.getLogger("callboard.live")


class Held:
    """A task that was handed on and has not ended.

    Attributes:
        is_begun: The agent said that it began: its loss is a crash from then on.
        until: The end of its lease when it was last heard of.
    """

    __slots__ = ("fence", "forget", "is_begun", "until")

    def __init__(self, fence: int, until: datetime, forget: Callable[[], None]) -> None:
        self.fence = fence
        self.until = until
        self.forget = forget
        self.is_begun = False


class Dispenser:
    """Claims for an agent and keeps count of what it has, until cancelled.

    Tasks are claimed ahead: until the agent says that it began one, its loss is no crash, and
    one that never was begun goes back unharmed.

    Args:
        limit: Tasks that may be handed on and unfinished.
        lease: Seconds of each claim.
        keeps: Renew the leases too, for as long as this runs.
        returns: Give back what was not begun, a grace after this ended.
        deliver: Hands a claimed task on.
        cancel: Tells that the cancellation of a task was asked for: its id and fence.
        enter: Registers the agent again after the engine lost it; None where that ends this.
    """

    def __init__(
        self,
        cb: Callboard,
        hub: Hub,
        *,
        board: str,
        agent: str,
        instance: str,
        limit: int,
        lease: float,
        keeps: bool,
        returns: bool,
        deliver: Callable[[ClaimedTask], Awaitable[None]],
        cancel: Callable[[str, int], Awaitable[None]],
        enter: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._cb = cb
        self._hub = hub
        self._outage = Witness(f"Work for {agent}")
        self._tasks = cb.board(board).tasks
        self._board = board
        self._agent = agent
        self._instance = instance
        self._limit = limit
        self._lease = lease
        self._keeps = keeps
        self._returns = returns
        self._deliver = deliver
        self._cancel = cancel
        self._enter = enter
        self._held: dict[str, Held] = {}
        self._wake = asyncio.Event()
        self._doubted = False
        self._asked: list[tuple[str, int]] = []
        self._watch: Callable[..., Callable[[], None]] | None = None

    @property
    def held(self) -> int:
        """How many tasks were handed on and have not ended."""
        return len(self._held)

    async def run(self, *, resumes: bool = False) -> None:
        """Hand on work until cancelled. Raises AgentNotFound where nobody registers the agent.

        With *resumes* what the agent holds already is handed on again first.
        """
        names = self._cb.namespace.bells
        if resumes:
            for came_back in self._hub.leaving.pop(self._key, ()):
                came_back.set()
        async with self._hub.watch() as watch:
            self._watch = watch
            bells = await names.listen(names.agent(self._agent, self._instance))
            beside = [asyncio.create_task(self._listen(bells))]
            if self._keeps:
                beside.append(asyncio.create_task(self._keep()))
            try:
                if resumes:
                    await self._resume()
                while True:
                    await self._turn()
            finally:
                bells.close()
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
                self._leave()

    async def _turn(self) -> None:
        """Fill the room there is, then wait for a reason to look again."""
        self._wake.clear()
        again: float | None = POLL_SECONDS * (0.75 + random.random() / 2)
        try:
            if self._doubted:
                await self._look_at_all()
            await self._tell_cancelled()
            pause = await self._fill()
            again = min(again or 0, pause) if pause is not None else again
            self._outage.answered()
        except EngineError as error:
            self._outage.failed(error)
            again = PAUSE_SECONDS
        try:
            async with asyncio.timeout(again):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _fill(self) -> float | None:
        """Claim as many as there is room for; in how many seconds to look again, if known."""
        free = self._limit - len(self._held)
        try:
            if free <= 0:
                await self._cb.agents.heartbeat(self._agent, self._instance)
                return None
            claims = await self._claim(free)
            await self._hand_on(claims)
            rest = self._limit - len(self._held)
            if not rest or claims.again is not None:
                return claims.again
            more = await self._claim(rest, waits=True)
            await self._hand_on(more)
            if more.tasks:  # it waits for more than it has room for now
                await self._await(self._limit - len(self._held))
        except AgentNotFound:
            if self._enter is None:
                raise
            await self._enter()
            return PAUSE_SECONDS / 5
        except (AgentDraining, Refused) as refusal:
            _log.debug("No work for %s now: %s", self._agent, refusal)
        return None

    async def _claim(self, limit: int, *, waits: bool = False) -> Claims:
        """Claim ahead, again under the same request id where the answer was lost.

        With *waits* be counted as waiting too, in the same write, so that nothing comes
        between: what was not there for the claim rings the bell.
        """
        call = asyncio.ensure_future(self._claim_surely(limit))
        waiting = asyncio.ensure_future(self._await(limit)) if waits else None
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            self._hub.begin(self._give_back_claimed(call))
            raise
        finally:
            if waiting is not None:  # where it failed the poll comes
                await asyncio.gather(waiting, return_exceptions=True)

    async def _claim_surely(self, limit: int) -> Claims:
        request = secrets.token_hex(8)
        while True:
            try:
                return await self._tasks.claim(
                    self._agent,
                    instance=self._instance,
                    limit=min(limit, BATCH_MAX),
                    started=0,
                    lease=self._lease,
                    request_id=request,
                )
            except EngineError as error:
                self._outage.failed(error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _await(self, wants: int) -> None:
        """Be counted as waiting for so many tasks, so that what comes is kept for the agent."""
        await self._tasks.accept(
            (), self._agent, self._instance, wants=min(wants, BATCH_MAX), wait=WAIT_SECONDS
        )

    async def _hand_on(self, claims: Claims) -> None:
        for claimed in claims.tasks:
            self._take(claimed.id, claimed.fence, claimed.until)
        for claimed in claims.tasks:
            await self._deliver(claimed_task(claimed))

    def _take(self, task_id: str, fence: int, until: datetime) -> Held:
        before = self._held.pop(task_id, None)
        if before is not None:
            before.forget()
        assert self._watch is not None
        forget = self._watch(self._board, task_id, lambda event: self._heed(task_id, event))
        held = self._held[task_id] = Held(fence, until, forget)
        return held

    # What happens to what was handed on

    def ended(self, task_ids: Iterable[str]) -> None:
        """These are done with, as the answers to the agent's own calls say: there is room."""
        for task_id in task_ids:
            self._drop(task_id)

    def _heed(self, task_id: str, event: Event | None) -> None:
        held = self._held.get(task_id)
        if event is None:
            self._doubted = True
            self._wake.set()
        elif held is not None:
            for fact in event.facts:
                if fact.id == task_id:
                    self._heed_fact(task_id, held, event.type, fact.state, fact.fence)

    def _heed_fact(self, task_id: str, held: Held, kind: str, state: str, fence: int) -> None:
        if fence < held.fence:
            return  # what happened before the claim, which is only told now
        if kind == "task:cancel_requested":
            self._asked.append((task_id, held.fence))
            self._wake.set()
        if fence == held.fence and state in _HELD:
            held.is_begun = held.is_begun or state == "in_progress"
            return
        self._drop(task_id)

    def _drop(self, task_id: str) -> None:
        held = self._held.pop(task_id, None)
        if held is not None:
            held.forget()
            self._wake.set()

    async def _look_at_all(self) -> None:
        """Read what was handed on, since events of it may have been missed."""
        ids = list(self._held)
        for start in range(0, len(ids), BATCH_MAX):
            part = ids[start : start + BATCH_MAX]
            for task_id, found in zip(part, await self._tasks.get_many(part), strict=True):
                held = self._held.get(task_id)
                if held is None:
                    continue
                if found is None or not found.status.is_held or found.fence != held.fence:
                    self._drop(task_id)
                    continue
                held.is_begun = held.is_begun or found.status is Status.IN_PROGRESS
                if found.cancel_requested:
                    self._asked.append((task_id, held.fence))
        self._doubted = False

    async def _tell_cancelled(self) -> None:
        asked, self._asked = self._asked, []
        for task_id, fence in asked:
            await self._cancel(task_id, fence)

    async def _listen(self, bells: Subscription) -> None:
        async for _ in bells:
            self._wake.set()

    async def _keep(self) -> None:
        """Renew at a third of the lease what was handed on."""
        while True:
            await asyncio.sleep(self._lease / 3 * (0.9 + random.random() / 10))
            claims = [(task_id, held.fence) for task_id, held in self._held.items()]
            try:
                answers = await self._tasks.renew_many(
                    claims, lease=self._lease, agent=self._agent, instance=self._instance
                )
            except EngineError as error:
                self._outage.failed(error)
                continue
            except CallboardError as error:
                _log.info("A renewal for %s waits: %s", self._agent, error)
                continue
            for (task_id, fence), answer in zip(claims, answers, strict=True):
                held = self._held.get(task_id)
                if not answer.is_ok and held is not None and held.fence == fence:
                    self._drop(task_id)

    # Coming and going

    async def _resume(self) -> None:
        """Hand on again what the agent holds, by its own process where it has one."""
        while True:
            try:
                own = await self._own()
                claims = [(one.id, one.fence) for one in own]
                # Pushed forward, so that another coordinator sees that they are kept.
                await self._tasks.renew_many(claims, lease=self._lease)
                for found in own:
                    fields = {n: getattr(found, n) for n in _OF_TASK}
                    held = self._take(found.id, found.fence, found.until or found.since)
                    held.is_begun = found.status is Status.IN_PROGRESS
                    await self._deliver(
                        ClaimedTask(
                            **fields,
                            until=held.until,
                            is_ahead=not held.is_begun,
                        )
                    )
                return
            except EngineError as error:
                self._outage.failed(error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _own(self) -> list[Any]:
        ids = [
            one.id for one in await self._cb.agents.tasks(self._agent) if one.board == self._board
        ]
        read = await self._tasks.get_many(ids) if ids else []
        return [
            one
            for one in read
            if one is not None
            and one.status.is_held
            and (one.agent, one.instance) == (self._agent, self._instance)
        ]

    @property
    def _key(self) -> tuple[str, str, str]:
        return self._board, self._agent, self._instance

    def _leave(self) -> None:
        """What was not begun goes back, unless the agent comes again soon."""
        left = {
            task_id: (held.fence, held.until)
            for task_id, held in self._held.items()
            if not held.is_begun
        }
        for held in self._held.values():
            held.forget()
        self._held.clear()
        self._hub.begin(self._wait_no_more())
        if left and self._returns:
            came_back = asyncio.Event()
            self._hub.leaving.setdefault(self._key, []).append(came_back)
            self._hub.begin(self._give_back(left, came_back))

    async def _wait_no_more(self) -> None:
        """Else what comes is kept for an agent that is not there, for a while."""
        with suppress(CallboardError, TimeoutError):
            async with asyncio.timeout(EXIT_SECONDS):
                await self._await(0)

    async def _give_back(
        self, left: dict[str, tuple[int, datetime]], came_back: asyncio.Event
    ) -> None:
        """Give back after a grace; at once where this process ends.

        Left alone is what was begun meanwhile, and what somebody renews, as another
        coordinator may that the agent went to.
        """
        try:
            async with asyncio.timeout(self._hub.settings.grace):
                left = await self._as_now(left)
                await came_back.wait()
            return
        except (TimeoutError, asyncio.CancelledError):
            pass
        finally:
            waiting = self._hub.leaving.get(self._key, [])
            if came_back in waiting:
                waiting.remove(came_back)
            if not waiting:
                self._hub.leaving.pop(self._key, None)
        await self._release(left)

    async def _as_now(
        self, left: dict[str, tuple[int, datetime]]
    ) -> dict[str, tuple[int, datetime]]:
        """With the ends of the leases as they are: what is renewed from here on is kept."""
        with suppress(CallboardError):
            read = await self._tasks.get_many(list(left))
            return {
                one.id: (one.fence, one.until)
                for one in read
                if one is not None and one.until is not None and one.fence == left[one.id][0]
            }
        return left

    async def _release(self, left: dict[str, tuple[int, datetime]]) -> None:
        try:
            async with asyncio.timeout(EXIT_SECONDS):
                read = await self._tasks.get_many(list(left))
                claims = [
                    (task_id, fence)
                    for (task_id, (fence, until)), found in zip(left.items(), read, strict=True)
                    if found is not None
                    and found.status is Status.CLAIMED
                    and found.fence == fence
                    and found.until is not None
                    and found.until <= until
                ]
                await self._tasks.release_many(claims)
        except (CallboardError, TimeoutError) as error:
            _log.info("Tasks of %s go back when their leases end: %s", self._agent, error)

    async def _give_back_claimed(self, call: asyncio.Future[Claims]) -> None:
        """Nobody is there any more for what a claim under way brings."""
        with suppress(asyncio.CancelledError, TimeoutError, CallboardError):
            async with asyncio.timeout(EXIT_SECONDS):
                claims = await call
                await self._release({one.id: (one.fence, one.until) for one in claims.tasks})


_OF_TASK: Final = (
    *("id", "board", "kind", "fence", "attempt", "payload", "agent", "instance"),
    *("failures", "crashes", "timeout", "lease", "trace_context"),
)
