"""Listening to one inbox: taking ahead, keeping the leases, acknowledging, giving back."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from callboard.domain.message import BATCH_MAX, Hearing, Message
from callboard.engine.bells import Bells
from callboard.engine.message_answers import MessageAnswer
from callboard.engine.outage import Witness
from callboard.engine.pubsub import Subscription
from callboard.exceptions import CallboardError, EngineError, EngineUnavailable, LeaseLost
from callboard.services.messages import Post

POLL_SECONDS: Final = 1.0
"""The backstop of a listener: a doorbell is only a hint and may be missed."""

EXIT_SECONDS: Final = 5.0
"""How long a listener that ends waits for what it asked the engine for."""

PAUSE_SECONDS: Final = 0.5
"""How long to wait for an engine that cannot be reached."""

_log = logging.getLogger("callboard.messages")


class Listener:
    """Takes an agent's messages and broadcasts, one at a time; used in ``async with``.

    Each that ``next`` gave is handed to one of ``done``, ``failed`` and ``give_back``.
    *lost* is told of each message that turns out not to be held any more.
    """

    def __init__(
        self,
        post: Post,
        bells: Bells,
        agent: str,
        *,
        batch: int,
        lease: float,
        taker: str,
        broadcasts: bool,
        lost: Callable[[Message], None] | None = None,
    ) -> None:
        self._post = post
        self._bells_of = bells
        self._agent = agent
        self._inbox_bell = bells.inbox(agent)
        self._broadcast_bell = bells.broadcasts()
        self._batch = batch
        self._lease = lease
        self._taker = taker
        self._hears = broadcasts
        self._lost = lost
        self._looks_at_inbox = True
        self._looks_at_broadcasts = broadcasts
        self._ready: deque[Message] = deque()
        self._held: dict[str, Message] = {}
        self._hearing: Hearing | None = None
        self._unheard: set[int] = set()
        self._turn = asyncio.Lock()
        self._bells: Subscription | None = None
        self._done: list[Message] = []
        self._awaited: dict[str, asyncio.Future[CallboardError | None]] = {}
        self._awaited_broadcasts: list[asyncio.Future[CallboardError | None]] = []
        self._is_anything_done = asyncio.Event()
        self._outage = Witness(f"The inbox of {agent}")
        self._tasks: list[asyncio.Task[None]] = []
        self._fetching: asyncio.Task[None] | None = None
        self._under_way: set[int] = set()
        self._handled: set[int] = set()

    async def __aenter__(self) -> Self:
        wanted = [self._inbox_bell]
        if self._hears:
            wanted.append(self._broadcast_bell)
        self._bells = await self._bells_of.listen(*wanted)
        self._tasks = [
            asyncio.create_task(self._keep(), name="callboard-listener-keep"),
            asyncio.create_task(self._acknowledge(), name="callboard-listener-acknowledge"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._bells is not None:
            self._bells.close()
        await self._fetched()
        why: CallboardError = EngineUnavailable(f"{self._agent} does not listen any more.")
        try:
            await self._hand_in()
            if self._held:
                await self._post.release_many(self._held.values(), unharmed=True)
            await self._heard(0.0)
        except CallboardError as error:
            _log.info("%s: its messages come back when their leases end: %s", self._agent, error)
            why = error
        for awaited in [*self._awaited.values(), *self._awaited_broadcasts]:
            _end(awaited, why)
        self._outage.leave()

    async def next(self) -> Message:
        """The next message, as soon as there is one; EngineUnavailable once it is closed here."""
        async with self._turn:
            while not self._ready:
                try:
                    await self._fetch_whole()
                    self._outage.answered()
                except EngineError as error:
                    if self._bells_of.is_closed:
                        raise EngineUnavailable(
                            f"The connection was closed while {self._agent} listened."
                        ) from error
                    self._outage.failed(error)
                    await asyncio.sleep(PAUSE_SECONDS * (1 + random.random()))
                    self._looks_at_inbox, self._looks_at_broadcasts = True, self._hears
                    continue
                if not (self._ready or self._looks_at_inbox or self._can_hear):
                    await self._wait()
            message = self._ready.popleft()
            if message.is_broadcast:
                self._under_way.add(message.number)
            return message

    async def done(self, message: Message) -> None:
        """Have it acknowledged, with others that are done meanwhile."""
        if not message.is_broadcast:
            self._done.append(message)
        else:
            self._handle(message)
            if not self._unheard:
                await self._heard(self._lease)
                return
        self._is_anything_done.set()

    def forget(self, message: Message) -> None:
        """It was acknowledged or given back elsewhere, and is not kept any more."""
        if self._held.get(message.id) is message:
            del self._held[message.id]

    def settle(self, message: Message) -> asyncio.Future[CallboardError | None]:
        """Have it acknowledged as ``done`` does; ends once the engine knows, or with why not.

        Broadcasts are acknowledged up to one: where an earlier one is under way, this one is
        with it, and is not waited for. LeaseLost says that it may come again, an EngineError
        that the engine could not be told, or that the listener ended before it was.
        """
        answered: asyncio.Future[CallboardError | None]
        answered = asyncio.get_running_loop().create_future()
        if not message.is_broadcast:
            self._awaited[message.id] = answered
            self._done.append(message)
        else:
            self._handle(message)
            if self._unheard and min(self._unheard) < message.number:
                answered.set_result(None)
                return answered
            if self._hearing is None:
                answered.set_result(self._not_heard(message))
                return answered
            self._awaited_broadcasts.append(answered)
        self._is_anything_done.set()
        return answered

    def _not_heard(self, broadcast: Message) -> LeaseLost:
        return LeaseLost(
            f"Broadcast {broadcast.id} is held for {self._agent} no more, and may come again.",
            message_id=broadcast.id,
        )

    def _handle(self, broadcast: Message) -> None:
        self._under_way.discard(broadcast.number)
        self._handled.add(broadcast.number)
        self._unheard.discard(broadcast.number)
        if self._hearing is None:
            self._hear_again()

    async def failed(self, message: Message, reason: str, delay: float = 0.0) -> None:
        """Give it back, its delivery spent."""
        reason = reason.encode("utf-8", "backslashreplace").decode()
        try:
            if message.is_broadcast:
                self._under_way.discard(message.number)
                await self._forget_broadcasts(delay)
            else:
                self._held.pop(message.id, None)
                await self._post.release_many([message], delay=delay, reason=reason)
                if delay:
                    asyncio.get_running_loop().call_later(delay + 0.005, self._look_again)
        except CallboardError as error:
            _log.info("Message %s comes back when its lease ends: %s", message.id, error)

    async def give_back(self, message: Message) -> None:
        """Give it back as if it had not been taken."""
        if message.is_broadcast:  # those go back as a whole, at the end
            self._under_way.discard(message.number)
        else:
            self._held.pop(message.id, None)
            try:
                await self._post.release_many([message], unharmed=True)
            except CallboardError as error:
                _log.info("Message %s comes back when its lease ends: %s", message.id, error)

    def _look_again(self) -> None:
        if self._bells is not None:
            self._bells.ring(self._inbox_bell, b"on")

    def _hear_again(self) -> None:
        if self._bells is not None:
            self._bells.ring(self._broadcast_bell, b"on")

    @property
    def _can_hear(self) -> bool:
        """Those given are handled or given back, so that none would be given twice."""
        return self._looks_at_broadcasts and self._hearing is None and not self._under_way

    async def _fetch_whole(self) -> None:
        """Fetch, and know what was taken even where who asked is cancelled meanwhile."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch(), name="callboard-listener-fetch")
        await asyncio.shield(self._fetching)

    async def _fetched(self) -> None:
        """Wait for a fetch that nobody waits for any more, as long as an answer may take."""
        if self._fetching is None or self._fetching.done():
            return
        done, _ = await asyncio.wait([self._fetching], timeout=EXIT_SECONDS)
        if not done:
            self._fetching.cancel()
        await asyncio.gather(self._fetching, return_exceptions=True)

    async def _fetch(self) -> None:
        if self._looks_at_inbox:
            taken = await self._post.take(
                self._agent, self._batch, lease=self._lease, taker=self._taker
            )
            # Looked at again once these are done: more may have come meanwhile.
            self._looks_at_inbox = len(taken) > 0
            self._held.update((message.id, message) for message in taken)
            self._ready.extend(taken)
        if self._can_hear:
            await self._fetch_broadcasts()

    async def _fetch_broadcasts(self) -> None:
        hearing = await self._post.hear(self._agent, self._batch, lease=self._lease)
        self._looks_at_broadcasts = hearing is not None and hearing.upto > 0
        if hearing is None or not hearing.upto:
            return
        if hearing.gap is not None:
            _log.warning(
                "%s missed the broadcasts %d to %d: they are not kept any more",
                self._agent,
                *hearing.gap,
            )
        if not hearing.fence:
            return
        self._hearing = hearing
        # Neighbours of one that failed come again with it, though they were handled.
        fresh = [one for one in hearing.messages if one.number not in self._handled]
        self._unheard = {message.number for message in fresh}
        if not self._unheard:
            await self._heard(self._lease)
        self._ready.extend(fresh)

    async def _heard(self, hold: float) -> None:
        """Acknowledge all broadcasts before the first that is still under way."""
        hearing = self._hearing
        if hearing is None:
            return
        upto = min(self._unheard) - 1 if self._unheard else hearing.upto
        if not self._unheard or not hold:
            self._hearing = None
            if hold:  # who waits may read the next ones
                self._hear_again()
        await self._tell_heard(hearing, upto, hold)

    async def _tell_heard(self, hearing: Hearing, upto: int, hold: float) -> None:
        """Tell the engine, and those who wait for it how that went."""
        self._handled = {number for number in self._handled if number > upto}
        awaited, why = list(self._awaited_broadcasts), None
        try:
            await self._post.heard(self._agent, hearing, upto=upto, hold=hold)
        except CallboardError as error:
            why = error
            if self._hearing is hearing:
                # It is lost, so that who came meanwhile waits in vain too.
                self._hearing, awaited = None, self._awaited_broadcasts
            _log.info("%s: broadcasts may come again: %s", self._agent, error)
        for one in awaited:
            _end(one, why)
        self._awaited_broadcasts = [one for one in self._awaited_broadcasts if not one.done()]

    async def _forget_broadcasts(self, delay: float) -> None:
        self._ready = deque(message for message in self._ready if not message.is_broadcast)
        # Gone before the call: what is done meanwhile would hold them for a whole lease.
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            await self._tell_heard(hearing, min(self._unheard) - 1, max(delay, 0.1))
        asyncio.get_running_loop().call_later(max(delay, 0.1) + 0.005, self._hear_again)

    async def _wait(self) -> None:
        assert self._bells is not None
        bell = await self._bells.get(POLL_SECONDS * (1 + random.random() / 4))
        inbox = self._inbox_bell
        if bell is None or (not bell[1] and bell[0] != inbox):
            self._looks_at_inbox, self._looks_at_broadcasts = True, self._hears
        elif bell[0] == inbox:
            self._looks_at_inbox = True
        else:
            self._looks_at_broadcasts = True

    async def _acknowledge(self) -> None:
        """Hand in what is done, one call at a time; what comes meanwhile goes with the next."""
        while True:
            await self._is_anything_done.wait()
            self._is_anything_done.clear()
            try:
                await self._hand_in()
                await self._heard(self._lease)
            except CallboardError as error:
                _log.info("%s cannot acknowledge yet: %s", self._agent, error)
                await asyncio.sleep(PAUSE_SECONDS * (1 + random.random()))
                self._is_anything_done.set()

    async def _hand_in(self) -> None:
        while self._done:
            batch = self._done[:BATCH_MAX]
            for answer in await self._post.acknowledge_many(batch):
                self._held.pop(answer.id, None)
                awaited = self._awaited.pop(answer.id, None)
                if awaited is not None:
                    _end(awaited, self._refusal(answer))
                elif not answer.is_ok:
                    _log.warning("Message %s is handled, but: %s", answer.id, answer.status)
            del self._done[: len(batch)]

    def _refusal(self, answer: MessageAnswer) -> CallboardError | None:
        try:
            answer.check(inbox=self._agent)
        except CallboardError as error:
            return error
        return None

    async def _keep(self) -> None:
        """Renew what is held at a third of the lease."""
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                held = dict(self._held)
                if held:
                    for answer in await self._post.renew(held.values(), lease=self._lease):
                        if not answer.is_ok:
                            self._lose(held[answer.id])
                await self._heard(self._lease)
            except CallboardError as error:
                _log.info("%s cannot renew its messages: %s", self._agent, error)

    def _lose(self, message: Message) -> None:
        """It is another's, or was ended; unless it was taken anew, it is nobody's here."""
        self.forget(message)
        self._ready = deque(one for one in self._ready if one is not message)
        if self._lost is not None:
            self._lost(message)


def _end(awaited: asyncio.Future[CallboardError | None], why: CallboardError | None) -> None:
    if not awaited.done():  # else who waited has gone
        awaited.set_result(why)
