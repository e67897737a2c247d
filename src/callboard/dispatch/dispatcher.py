"""Brings waiting tasks to agents that run without instances."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from callboard.dispatch.answers import Room
from callboard.dispatch.client import Client, HttpFailure
from callboard.dispatch.message import (
    Outcome,
    assignment_message,
    headers_of,
    outcome_of,
    undelivered,
)
from callboard.dispatch.outcomes import Ended, Outcomes
from callboard.dispatch.places import Places
from callboard.dispatch.settings import ALL_BOARDS, PUSH_PATH, DispatchSettings
from callboard.domain.record import Claimed
from callboard.domain.task import PAYLOAD_BYTES_MAX
from callboard.engine.outage import Witness
from callboard.exceptions import CallboardError, EngineError
from callboard.outgoing import AddressRules
from callboard.services.deliveries import Deliveries, Dispatched, Push

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.engine.pubsub import Subscription

SLACK_SECONDS: Final = 2.0
"""By how much a claim outlasts its push at least, so that the push's end can be handed in; as
long as the push may take, where that is more."""

SERVE_SECONDS: Final = 60.0
"""For how long boards ring whoever dispatches, after it last looked."""

LOOK_SECONDS: Final = 0.002
LOOK_REST_MOST: Final = 0.05
"""A look that found nothing and took this long is followed by a rest of thrice as long, at most
the second: what rings meanwhile is answered by one look, and the engine is there for others."""

QUIET_SECONDS: Final = 5.0
"""How often it looks, in the end, where there is nothing to give out: well within the time for
which boards ring."""

PAUSE_SECONDS: Final = 0.5
"""How long to wait for an engine that cannot be reached."""

BYTES_MAX: Final = 134_217_728
"""Of the payloads under way at once: no more is given out until some of it is over. For what
agents answer there is a room of its own, ``ANSWERS_BYTES``."""

ANSWERED_MAX: Final = 1_000
"""Of how many agents it is known that they answered of late."""

ANSWER_BYTES: Final = PAYLOAD_BYTES_MAX + 65_536
"""The longest answer of an agent: a result, and what is around it."""

_TOTALS: Final = (
    *("rounds", "reserved", "pushed", "accepted", "completed", "failed", "undelivered"),
    *("released", "push_seconds"),
)

_log = logging.getLogger("callboard.dispatch")


class DispatchState(msgspec.Struct, frozen=True, kw_only=True):
    """What one dispatcher does, and what it did since it was started.

    Attributes:
        is_running: It was started, and not stopped.
        looked_at: When it last looked for work and the engine answered.
        rounds: Times that it looked for work.
        reserved: Tasks reserved for agents without an address.
        pushed: Pushes made.
        accepted: Of them those that the agent took to work on.
        completed: Those answered with a result.
        failed: Those answered with a failure.
        undelivered: Those that did not reach the agent, or that it could not take now.
        released: Those given back as it was stopped.
        under_way: Pushes that are not over.
        push_seconds: How long they took, in all.
    """

    is_running: bool = False
    looked_at: datetime | None = None
    rounds: int = 0
    reserved: int = 0
    pushed: int = 0
    accepted: int = 0
    completed: int = 0
    failed: int = 0
    undelivered: int = 0
    released: int = 0
    under_way: int = 0
    push_seconds: float = 0.0

    def __add__(self, other: DispatchState) -> DispatchState:
        """What both do, and did."""
        looked_at = filter(None, (self.looked_at, other.looked_at))
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in self.__struct_fields__
            if name not in ("is_running", "looked_at")
        }
        return DispatchState(
            is_running=self.is_running or other.is_running,
            looked_at=max(looked_at, default=None),
            **sums,
        )


class Dispatcher:
    """Gives waiting tasks of some boards to agents, and brings them to those with an address.

    Any number may run, in any number of processes: who is given what is decided in the
    engine, and nothing is remembered here but what is under way. An agent that runs instances
    is left to pull.

    Args:
        cb: The namespace that it serves, opened.
        settings: As ``DispatchSettings`` says.
        client: Shared with other dispatchers; its own unless given.

    Raises:
        InvalidArgument: A setting is out of its bounds.
    """

    def __init__(
        self,
        cb: Callboard,
        settings: DispatchSettings | None = None,
        *,
        client: Client | None = None,
    ) -> None:
        self.settings = (settings or DispatchSettings()).checked()
        self._cb = cb
        self._by = f"dispatcher-{os.getpid()}"
        self._shared_client = client
        self._client = client
        self._places = Places(cb.namespace, self.settings)
        self._deliveries: dict[str, Deliveries] = {}
        self._outcomes: dict[str, Outcomes] = {}
        self._under_way: dict[str, int] = {}
        self._pushes: set[asyncio.Task[None]] = set()
        self._count = 0
        self._bytes = 0
        self._answers = Room()
        self._quiet = self.settings.poll
        self._answered: dict[str, None] = {}  # whose last push was answered; latest last
        self._room = asyncio.Event()
        self._bells: Subscription | None = None
        self._outage = Witness("Dispatching")
        self._is_any_full = False
        self._task: asyncio.Task[None] | None = None
        self._looked_at: datetime | None = None
        self._totals: dict[str, float] = dict.fromkeys(_TOTALS, 0)

    async def start(self) -> None:
        """Look for work from here on; starting twice does nothing."""
        if self._task is not None:
            return
        if self._client is None:
            rules = AddressRules(self.settings.allow)
            self._client = Client(rules=rules, per_host=self.settings.concurrency)
        self._task = asyncio.create_task(self._run(), name="callboard-dispatch")

    async def stop(self) -> None:
        """Give out nothing more, let what is under way end within its bound, give back the rest."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if self._pushes:
            await asyncio.wait(self._pushes, timeout=self.settings.stop_timeout)
        for push in list(self._pushes):
            push.cancel()
        if self._pushes:
            await asyncio.gather(*self._pushes, return_exceptions=True)
        await asyncio.gather(*(outcomes.stop() for outcomes in self._outcomes.values()))
        self._outcomes.clear()
        self._outage.leave()
        if self._shared_client is None and self._client is not None:
            await self._client.aclose()
            self._client = None

    @property
    def is_running(self) -> bool:
        """It was started, and not stopped."""
        return self._task is not None

    def state(self) -> DispatchState:
        """What it does, and what it did since it was started."""
        totals: dict[str, Any] = dict(self._totals)
        return DispatchState(
            is_running=self.is_running,
            looked_at=self._looked_at,
            under_way=self._count,
            **totals,
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # Looking for work

    async def _run(self) -> None:
        is_open: set[str] = set()
        while True:
            try:
                if self._bells is None:
                    bell = self._cb.namespace.keys.dispatch_bell
                    self._bells = await self._cb.namespace.connection.subscribe(bell)
                began, given = time.perf_counter(), self._given
                await self._look(is_open)
                if self._given == given:
                    await pause_after(time.perf_counter() - began)
                self._outage.answered()
                await self._wait(self._bells)
            except EngineError as error:
                self._outage.failed(error)
                await asyncio.sleep(PAUSE_SECONDS * (1 + random.random()))
            except CallboardError as error:
                _log.warning("Dispatching was refused: %s", error)
                await asyncio.sleep(self.settings.poll)
            except asyncio.CancelledError:
                if self._bells is not None:
                    self._bells.close()
                    self._bells = None
                raise
            except Exception:
                _log.exception("A round of dispatching failed; the next goes on.")
                await asyncio.sleep(self.settings.poll)

    @property
    def _given(self) -> float:
        return self._totals["pushed"] + self._totals["reserved"]

    async def _look(self, is_open: set[str]) -> None:
        """Give out what there is, on all boards, until nobody has room for more."""
        self._is_any_full = False
        waiting = [(name, self._served(name)) for name in await self._places.due()]
        while waiting:
            again = []
            for name, deliveries in waiting:
                if name not in is_open:
                    if self._places.is_named(name):
                        await deliveries.open()
                    is_open.add(name)
                found = await self._round(name, deliveries)
                if found is None:  # no room here: what ends looks again
                    return
                if found.status == "board_not_found":
                    is_open.discard(name)
                    if self._places.is_named(name):
                        again.append((name, deliveries))
                    else:
                        await self._leave(name)
                elif found.more:
                    again.append((name, deliveries))
            waiting = again

    def _served(self, name: str) -> Deliveries:
        if name not in self._deliveries:
            self._deliveries[name] = Deliveries(self._cb.namespace, name, self._by)
        return self._deliveries[name]

    def _outcomes_of(self, name: str) -> Outcomes:
        """Where the pushes of a board are handed in as they end; begun with its first one."""
        if name not in self._outcomes:
            tasks = self._cb.board(name).tasks
            outcomes = Outcomes(self._served(name), tasks, self.settings, self._handed_in)
            outcomes.start()
            self._outcomes[name] = outcomes
        return self._outcomes[name]

    async def _leave(self, name: str) -> None:
        """Forget a board that is gone; what is under way on it is handed in as it ends."""
        self._places.forget(name)
        outcomes = self._outcomes.get(name)
        if outcomes is None or not outcomes.under_way:
            self._deliveries.pop(name, None)
            if self._outcomes.pop(name, None) is not None and outcomes is not None:
                await outcomes.stop()

    async def _wait(self, bells: Subscription) -> None:
        """Until something rang, or a push ended where there was no room for more, or a while."""
        if self._count >= self.settings.concurrency or self._bytes >= BYTES_MAX:
            self._room.clear()
            await self._room.wait()
        else:
            await bells.get(await self._patience() * (0.75 + random.random() / 2))
        while await bells.get(0) is not None:
            pass  # one look is enough for all that rang

    async def _patience(self) -> float:
        """How long to wait for a bell: twice as long each time that there was nothing at all.

        What comes where nothing is rings, so that only what is there, and waits for its time
        or for an agent, is to be looked at. A board that comes later does not ring yet.
        """
        poll = self.settings.poll
        keys = [key for name in self._deliveries for key in self._cb.namespace.keys.waiting(name)]
        if (
            self._count
            or ALL_BOARDS in self.settings.boards
            or not keys
            or await self._cb.namespace.connection.call("EXISTS", *keys)
        ):
            self._quiet = poll
        else:
            self._quiet = max(poll, min(2 * self._quiet, QUIET_SECONDS))
        return self._quiet

    async def _round(self, name: str, deliveries: Deliveries) -> Dispatched | None:
        # In one step: what ends from here on looks again, and the number of places is the one
        # that their shares are made for.
        self._look_again_if_full()
        most = min(self.settings.batch, self._next_places())
        if most <= 0 or self._bytes >= BYTES_MAX:
            return None
        call = asyncio.ensure_future(self._dispatch(deliveries, most, *self._shares()))
        try:
            found = await asyncio.shield(call)
        except asyncio.CancelledError:  # stopped: what it brings goes back
            for one in await asyncio.gather(call, return_exceptions=True):
                if isinstance(one, Dispatched):
                    self._give_back(name, one)
            raise
        self._looked_at = datetime.now(UTC)
        self._totals["rounds"] += 1
        self._totals["reserved"] += found.reserved
        for push in found.pushes:
            for claimed in push.tasks:
                self._begin(name, push, claimed)
        self._look_again_if_full()
        return found

    def _look_again_if_full(self) -> None:
        """Where somebody has no room, more may wait for it: look again as soon as it has."""
        most = self.settings.per_agent
        if self._is_scarce or any(count >= most for count in self._under_way.values()):
            self._is_any_full = True

    @property
    def _is_scarce(self) -> bool:
        """No more than half of all places are free."""
        return self._count * 2 >= self.settings.concurrency

    def _next_places(self) -> int:
        """How many places one round may fill: none beyond which the shares are others."""
        places = self.settings.concurrency
        free = places - self._count
        kept = places // 2 if not self._is_scarce else places // 8
        return free - kept if free > kept else free

    def _shares(self) -> tuple[int, dict[str, int]]:
        """How many pushes more each agent may be given: those not named, and those named.

        Where places are scarce, one that answered its last push may have an eighth of those
        that are left, and any other a single one; the last eighth of all is for those that
        answered. So agents that hang leave room for others, however many they are.
        """
        each, places = self.settings.per_agent, self.settings.concurrency
        if not self._is_scarce:
            return each, {agent: max(0, each - n) for agent, n in self._under_way.items()}
        free = places - self._count
        share, other = max(1, free // 8), int(free * 8 > places)
        shares = dict.fromkeys(self._answered, min(each, share))
        for agent, n in self._under_way.items():
            is_known = agent in self._answered
            shares[agent] = max(0, min(each - n, share) if is_known else other - n)
        return other, shares

    async def _dispatch(
        self, deliveries: Deliveries, most: int, each: int, shares: dict[str, int]
    ) -> Dispatched:
        settings = self.settings
        slack = max(SLACK_SECONDS, settings.push_timeout)
        return await deliveries.dispatch(
            strategy=settings.strategy,
            most=most,
            each_most=each,
            reserve_most=settings.reserve_most,
            push_ms=round((settings.push_timeout + slack) * 1_000),
            take_up_ms=round(settings.take_up * 1_000),
            serve_ms=round(SERVE_SECONDS * 1_000),
            busy=shares,
        )

    # Pushing

    def _begin(self, board: str, push: Push, claimed: Claimed) -> None:
        ended = Ended(claimed, push.agent, push.had_failures)
        self._enter(ended)
        self._totals["pushed"] += 1
        outcomes = self._outcomes_of(board)
        outcomes.under_way += 1
        task = asyncio.create_task(self._push(outcomes, push.url, ended, claimed))
        self._pushes.add(task)
        task.add_done_callback(self._pushes.discard)

    def _give_back(self, board: str, found: Dispatched) -> None:
        for push in found.pushes:
            for claimed in push.tasks:
                ended = Ended(claimed, push.agent, push.had_failures)
                self._enter(ended)
                outcomes = self._outcomes_of(board)
                outcomes.under_way += 1
                outcomes.add(ended)

    def _enter(self, ended: Ended) -> None:
        self._count += 1
        self._bytes += ended.size
        self._under_way[ended.agent] = self._under_way.get(ended.agent, 0) + 1

    async def _push(self, outcomes: Outcomes, url: str, ended: Ended, claimed: Claimed) -> None:
        """Bring one task to its agent; however it ends, it is handed in."""
        began = time.perf_counter()
        try:
            headers = headers_of(claimed)
            body = assignment_message(claimed, ended.agent, self.settings.lease)
            del claimed  # the body holds its payload: once is enough
            ended.outcome = await self._ask(ended, url, headers, body)
        except asyncio.CancelledError:
            # Stopped: given back, and the agent's fence is void. Where nobody cancelled this
            # task, what it waited for was, and it would be given out again at once.
            if not _is_cancelled():
                ended.outcome = undelivered(f"Pushing to agent {ended.agent} was broken off.")
        except Exception as error:
            _log.exception("Pushing task %s to agent %s failed.", ended.task, ended.agent)
            text = f"Pushing to agent {ended.agent} failed: {type(error).__name__}."
            ended.outcome = undelivered(text)
        if ended.place is not None:
            result = ended.outcome.result
            ended.place.keep(0 if result is None else len(result.json))
        took = time.perf_counter() - began
        self._totals["push_seconds"] += took
        self._totals[ended.outcome.word] += 1
        self._note(ended)
        self._tell(outcomes.board, ended, took)
        outcomes.add(ended)

    async def _ask(self, ended: Ended, url: str, headers: dict[str, str], body: bytes) -> Outcome:
        assert self._client is not None
        agent = ended.agent
        ended.place = self._answers.place(agent)
        try:
            response = await self._client.request(
                "POST",
                _push_url(url),
                headers,
                body,
                timeout=self.settings.push_timeout,
                repeat=True,  # the fence makes it the same delivery
                body_bytes=ANSWER_BYTES,
                place=ended.place,
            )
        except HttpFailure as failure:
            text = f"Agent {agent} could not be asked: {str(failure).rstrip('.')}."
            if failure.word == "refused":
                text += " For a coordinator that is --push-allow."
            return undelivered(text, agent=agent, word=failure.word)
        return outcome_of(agent, response)

    def _note(self, ended: Ended) -> None:
        """Remember whether the agent answers."""
        self._answered.pop(ended.agent, None)
        if ended.outcome.is_heard:
            self._answered[ended.agent] = None
            if len(self._answered) > ANSWERED_MAX:
                del self._answered[next(iter(self._answered))]

    def _tell(self, board: str, ended: Ended, took: float) -> None:
        outcome = ended.outcome
        if outcome.word == "undelivered" and outcome.failure is not None:
            _log.info("Task %s was not delivered: %s", ended.task, outcome.failure.message)
        observers = self._cb.observers
        if observers.anyone:
            observers.tell(
                f"dispatch.{outcome.word}",
                board=board,
                task=ended.task,
                agent=ended.agent,
                fence=ended.fence,
                seconds=took,
            )

    def _handed_in(self, batch: Sequence[Ended]) -> None:
        """Their places are free again, once the engine knows how they ended."""
        for ended in batch:
            self._count -= 1
            self._bytes -= ended.size
            if ended.place is not None:
                ended.place.leave()
            left = self._under_way[ended.agent] - 1
            if left:
                self._under_way[ended.agent] = left
            else:
                del self._under_way[ended.agent]
        self._room.set()
        if self._is_any_full and self._bells is not None:
            self._is_any_full = False
            self._bells.ring("", b"")


def _is_cancelled() -> bool:
    """Whether the running task itself was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _push_url(endpoint: str) -> str:
    """Where a task is pushed to: below the endpoint's path, with its query."""
    base, mark, query = endpoint.partition("#")[0].partition("?")
    return base.rstrip("/") + PUSH_PATH + mark + query


async def pause_after(took: float) -> None:
    """Rest after a look that found nothing, where it was not a quick one."""
    if took >= LOOK_SECONDS:
        await asyncio.sleep(min(3 * took, LOOK_REST_MOST))
