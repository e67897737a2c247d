"""What a socket may be sent without asking each time: events, work, messages, bells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from callboard.app import Callboard
from callboard.domain import message as messages
from callboard.domain import task as tasks
from callboard.domain.bounds import check_whole
from callboard.domain.event import Cursor
from callboard.domain.message import Message
from callboard.domain.names import check_name
from callboard.exceptions import CallboardError, InvalidArgument, LeaseLost
from callboard.http.live.dispenser import Dispenser
from callboard.http.live.frames import encode, frame
from callboard.http.live.hub import Hub
from callboard.http.live.listeners import as_frame
from callboard.http.live.wanted import Wanted
from callboard.listener import Listener
from callboard.operations.tasks import ClaimedTask

POLL_SECONDS: Final = 5.0


class Pipe(Protocol):
    """Where frames go, and whose socket it is."""

    agent: str
    instance: str

    async def write(self, text: str) -> None:
        """Send a frame; waits for a client that reads slowly."""

    async def enter(self) -> object:
        """Register the agent again after the engine lost it."""


class EventsWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events, and behind which cursor; from now on where there is none."""

    types: list[str] = []
    board: list[str] = []
    task: list[str] = []
    agent: list[str] = []
    cursor: str = ""


class WorkWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which board, how many tasks at once, for how long.

    Attributes:
        renew: Leases are renewed for as long as the socket is open.
        resume: Send first what the agent's process holds already; None: where it came back.
    """

    board: str = "default"
    limit: int = 1
    lease: float = 60.0
    renew: bool = True
    resume: bool | None = None


class InboxWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many messages may be sent and not acknowledged, for how long; broadcasts too or not."""

    limit: int = 16
    lease: float = messages.LEASE_DEFAULT
    broadcasts: bool = True


class Inbox:
    """Hands an agent's messages on; each is acknowledged by name."""

    def __init__(self, cb: Callboard, pipe: Pipe, wish: InboxWish) -> None:
        self._pipe = pipe
        self._post = cb.messages
        self._room = asyncio.Semaphore(check_whole("limit", wish.limit, 1, messages.BATCH_MAX))
        self._open: dict[str, Message] = {}
        self._listener = Listener(
            cb.messages,
            cb.namespace.bells,
            pipe.agent,
            batch=wish.limit,
            lease=tasks.check_seconds("lease", wish.lease, tasks.LEASE_MIN, 3_600) / 1000,
            taker=pipe.instance,
            broadcasts=wish.broadcasts,
            lost=self._drop,
        )

    async def run(self) -> None:
        """Hand messages on until cancelled; then those that are open go back, unharmed."""
        async with self._listener:
            try:
                while True:
                    await self._room.acquire()
                    message = await self._listener.next()
                    if message.id in self._open:  # it comes again, and has its place already
                        self._room.release()
                    self._open[message.id] = message
                    await self._pipe.write(frame("message", message=message))
            finally:
                self._open.clear()

    def acknowledge(self, named: Sequence[str]) -> list[asyncio.Future[CallboardError | None]]:
        """They were read. Each ends once the engine knows, or with why it can not be so.

        Raises:
            InvalidArgument: One is no id, or there are more than can be open. None was read.
        """
        if len(named) > messages.BATCH_MAX:
            raise InvalidArgument(
                f"At most {messages.BATCH_MAX:,} messages can be open, not {len(named):,}.",
                field="message",
            )
        names = [check_name("message id", one) for one in named]
        return [self._acknowledge(message_id) for message_id in names]

    def ended(self, taken: Iterable[tuple[str, int]]) -> None:
        """These, by id and fence, were acknowledged or given back by a call."""
        for message_id, fence in taken:
            message = self._open.get(message_id)
            if message is not None and not message.is_broadcast and message.fence == fence:
                self._listener.forget(message)
                self._drop(message)

    def _drop(self, message: Message) -> None:
        """It is not held any more, so that it takes no place."""
        if self._open.get(message.id) is message:
            self._closed(message.id)

    def _acknowledge(self, message_id: str) -> asyncio.Future[CallboardError | None]:
        if message_id in self._open:
            return self._listener.settle(self._closed(message_id))
        refused: asyncio.Future[CallboardError | None] = asyncio.get_running_loop().create_future()
        refused.set_result(_not_open(message_id))
        return refused

    async def refuse(self, message_id: str, reason: str, delay: float) -> None:
        """It could not be handled, and may come again after *delay* seconds."""
        messages.check_reason(reason)
        tasks.check_seconds("delay", delay, 0, messages.TTL_MAX)
        await self._listener.failed(self._closed(message_id), reason, delay)

    async def reply(self, message_id: str, payload: Any) -> str:
        """Answer a request, which acknowledges it."""
        message = self._open.get(check_name("message id", message_id))
        if message is None:
            raise _not_open(message_id)
        reply_id = await self._post.reply(message, payload)
        if self._open.get(message_id) is message:  # else it was lost meanwhile, and is no more
            self._closed(message_id)
        await self._listener.done(message)
        return reply_id

    def _closed(self, message_id: str) -> Message:
        message = self._open.pop(check_name("message id", message_id), None)
        if message is None:
            raise _not_open(message_id)
        self._room.release()
        return message


def _not_open(message_id: str) -> LeaseLost:
    return LeaseLost(
        f"Message {message_id} is not open on this socket: it was acknowledged, or it went back "
        "when an earlier socket closed, and comes again.",
        message_id=message_id,
    )


async def send_events(
    cb: Callboard, hub: Hub, pipe: Pipe, wish: EventsWish, ready: Callable[[str], None]
) -> None:
    """Send events; *ready* is told from where once nothing more is missed."""
    wanted = Wanted.of(wish.types, wish.board, wish.task, wish.agent)
    cursor = wish.cursor or await cb.events.cursor()
    Cursor.parse(cursor)
    async with hub.listen(wanted, as_frame, cursor) as listener:
        ready(cursor)
        while True:
            await pipe.write(await listener.take())


async def send_bells(cb: Callboard, pipe: Pipe, ready: Callable[[str], None]) -> None:
    """Send the bells of the agent's process."""
    bells = cb.namespace.bells
    with await bells.listen(bells.agent(pipe.agent, pipe.instance)) as rung:
        ready("")
        while True:
            heard = await rung.get(POLL_SECONDS)
            if heard is not None:
                await pipe.write(frame("bell", data=heard[1].decode()))


def work_of(cb: Callboard, hub: Hub, pipe: Pipe, wish: WorkWish) -> Dispenser:
    """Work for the agent's process. Raises InvalidArgument."""

    async def deliver(task: ClaimedTask) -> None:
        await pipe.write('{"type":"task","task":' + encode(task).decode() + "}")

    async def cancel(task_id: str, fence: int) -> None:
        await pipe.write(frame("cancel", task={"id": task_id, "fence": fence}))

    tasks.check_seconds("lease", wish.lease, tasks.LEASE_MIN, tasks.LEASE_MAX)
    return Dispenser(
        cb,
        hub,
        board=check_name("board", wish.board),
        agent=pipe.agent,
        instance=pipe.instance,
        limit=check_whole("limit", wish.limit, 1, hub.settings.outstanding_max),
        lease=wish.lease,
        keeps=wish.renew,
        returns=False,
        deliver=deliver,
        cancel=cancel,
        enter=pipe.enter,
    )


def needs_agent(pipe: Pipe) -> None:
    """Raises InvalidArgument where the socket has not said whose it is."""
    if not pipe.agent:
        raise InvalidArgument(
            "This socket is nobody's yet: send a frame register, or resume, first.", field="agent"
        )
