"""``/ws``: one socket for an agent. It registers, is heard, gets work, messages and events.

Nothing of a session is in this process alone: a process of the agent that lost its socket
opens another, here or at another coordinator, says ``resume``, and finds what it held.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import msgspec

from callboard.domain.agent import AgentSpec, InstanceSpec
from callboard.domain.names import check_name
from callboard.engine.outage import Witness
from callboard.exceptions import (
    AgentNotFound,
    CallboardError,
    EngineError,
    InvalidArgument,
    RateLimited,
    TooLarge,
)
from callboard.http import errors
from callboard.http.binding import ANSWER_BYTES_MAX
from callboard.http.live.calls import SHORT, Asked, Fields, fields_of, text_of, value_of
from callboard.http.live.channel import Channel, Gone
from callboard.http.live.dispenser import Dispenser
from callboard.http.live.feeds import hub_of
from callboard.http.live.frames import encode, frame
from callboard.http.live.hub import Hub
from callboard.http.live.stream import problem_of
from callboard.http.live.subscriptions import (
    EventsWish,
    Inbox,
    InboxWish,
    WorkWish,
    needs_agent,
    send_bells,
    send_events,
    work_of,
)
from callboard.http.route import Call, Reply, deny

ELSEWHERE: Final = 4409
ROOM_SECONDS: Final = 5.0
"""How long a frame waits for one of many calls to end; much longer, and pings go unanswered."""

AT_ONCE: Final = 16
AT_ONCE_MAX: Final = 128
SMALL_BYTES: Final = 64 << 10
"""Calls of a socket that are performed, or answered, at the same time, but for those that wait:
so many answers, and no more, lie in memory for one that does not read. More may be where the
answers before were small, and were taken."""

FEEDS: Final = ("events", "bells", "inbox", "work")

_log = logging.getLogger("callboard.live")


class Session(Channel):
    """One socket, and whose it is.

    Attributes:
        agent: The agent that it speaks for; empty before ``register`` or ``resume``.
        instance: The process of it: the same over all sockets that it resumes on.
    """

    def __init__(self, call: Call, cb: Any, hub: Hub) -> None:
        super().__init__(call, hub)
        self._cb = cb
        self._outage = Witness("The heartbeat of a socket")
        self._calls: dict[asyncio.Task[None], int] = {}
        self._bytes = 0
        self._places = asyncio.Semaphore(AT_ONCE)
        self._width = AT_ONCE
        self._large = asyncio.Lock()
        self._unsent = 0
        self._feeds: dict[str, asyncio.Task[None]] = {}
        self._beat: asyncio.Task[None] | None = None
        self._inbox: Inbox | None = None
        self._dispenser: Dispenser | None = None
        self._spec: tuple[AgentSpec, InstanceSpec] | None = None
        self._interval = hub.settings.socket_timeout / 3
        self._is_resumed = False
        self._cursor = ""
        self.agent = ""
        self.instance = ""

    # What comes in

    async def converse(self) -> None:
        """Greet, then heed frames until the client has gone."""
        instance = secrets.token_hex(8)
        settings = self.hub.settings
        self.instance = instance
        await self.write(
            frame(
                "welcome",
                session=instance,
                resume_within=settings.socket_timeout,
                frame_bytes=settings.frame_bytes,
            )
        )
        while True:
            message = await self.call.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("text")
            await self._heed(data if data is not None else message.get("bytes") or b"")
            if self.closing is not None:
                return

    async def _heed(self, data: str | bytes) -> None:
        number: msgspec.Raw | None = None
        try:
            if len(data) > self.hub.settings.frame_bytes:
                raise TooLarge(
                    f"A frame may have {self.hub.settings.frame_bytes:,} bytes.", field="frame"
                )
            fields = fields_of(data)
            number = fields.pop("id", None)
            await self._heed_frame(number, fields, len(data))
        except Gone:
            raise
        except Exception as error:
            await self._refuse(number, error)

    async def _heed_frame(
        self, number: msgspec.Raw | None, fields: dict[str, msgspec.Raw], size: int
    ) -> None:
        kind = text_of(fields, "type")
        fields.pop("type", None)
        spend = (self.call.scope.get("state") or {}).get("spend")
        if spend is not None and kind != "ping":
            await spend()
        own = self._own.get(kind)
        if own is not None:
            await self._answer(number, encode(await own(self, fields)))
            return
        if kind == "ack":
            await self._heed_ack(number, fields, size)
            return
        name = SHORT.get(kind)
        arguments: Fields = fields
        if kind == "call":
            name = text_of(fields, "operation")
            given = fields.get("arguments", msgspec.Raw(b"{}"))
            arguments = value_of(given, dict[str, msgspec.Raw], "arguments")
        if name is None:
            known = ", ".join(sorted([*self._own, *SHORT, "ack", "call"]))
            raise InvalidArgument(f"There is no frame {kind!r}; there are {known}.", field="type")
        await self._ask(number, Asked(name, arguments, self.agent, self.instance), size)

    async def _ask(self, number: msgspec.Raw | None, asked: Asked, size: int) -> None:
        """Perform a call beside others. Their number and their bytes are bounded."""
        await self._make_room(size)
        self._begin(self._perform(number, asked), size)

    async def _heed_ack(self, number: msgspec.Raw | None, fields: Fields, size: int) -> None:
        """Acknowledge, and answer beside others where the engine has to be waited for."""
        await self._make_room(size)
        done = self._acknowledge(fields)
        if all(one.done() for one in done):
            await self._answer_acknowledged(number, done)
        else:
            self._begin(self._answer_acknowledged(number, done), size)

    async def _make_room(self, size: int) -> None:
        """Wait for one of many calls to end; no frame is read meanwhile. Raises RateLimited."""
        if self._has_room(size):
            return
        done, _ = await asyncio.wait(
            self._calls, timeout=ROOM_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if not done or not self._has_room(size):
            raise RateLimited(
                f"{len(self._calls)} calls are under way on this socket. Wait for an answer.",
                retry_after=0.1,
            )

    def _begin(self, call: Coroutine[Any, Any, None], size: int) -> None:
        task = asyncio.create_task(call)
        self._calls[task] = size
        self._bytes += size
        task.add_done_callback(self._performed)

    def _has_room(self, size: int) -> bool:
        settings = self.hub.settings
        if len(self._calls) >= settings.calls_max:
            return False
        return not self._calls or self._bytes + size <= 2 * settings.frame_bytes

    def _performed(self, task: asyncio.Task[None]) -> None:
        self._bytes -= self._calls.pop(task, 0)
        if not task.cancelled() and task.exception() is not None:
            self.failed(task.exception())

    async def _perform(self, number: msgspec.Raw | None, asked: Asked) -> None:
        """Perform a call and send its answer; few have an answer that was not sent yet."""
        if asked.is_waiting:
            await self._perform_now(number, asked)
        elif asked.may_be_large:
            async with self._large:
                await self._perform_in_turn(number, asked)
        else:
            await self._perform_in_turn(number, asked)

    async def _perform_in_turn(self, number: msgspec.Raw | None, asked: Asked) -> None:
        await self._places.acquire()
        size = await self._perform_now(number, asked)
        if size > SMALL_BYTES and self._width > AT_ONCE:
            self._width -= 1  # This place is there no more.
            return
        if size <= SMALL_BYTES and self._width < AT_ONCE_MAX:
            self._width += 1
            self._places.release()
        self._places.release()

    async def _perform_now(self, number: msgspec.Raw | None, asked: Asked) -> int:
        """Perform a call and send its answer; how many bytes that had."""
        try:
            answer = await asked.perform(self.call, self._cb)
            self._count_in(asked, len(answer))
        except Exception as error:
            await self._refuse(number, error)
            return 0
        try:
            self._make_places(asked)
            await self._answer(number, answer)
        finally:
            self._unsent -= len(answer)
        return len(answer)

    def _make_places(self, asked: Asked) -> None:
        """What its agent has done with makes room for more of what was subscribed to."""
        if self._dispenser is not None and asked.ended:
            self._dispenser.ended(asked.ended)
        if self._inbox is not None and asked.inbox == self.agent:
            self._inbox.ended(asked.messages_ended)

    def _count_in(self, asked: Asked, size: int) -> None:
        """Count an answer that is to be sent; one that can be asked for again has a bound.

        Any number of waits may end at once, and their client may not read.
        """
        is_full = self._unsent > 0 and self._unsent + size > ANSWER_BYTES_MAX
        if is_full and asked.operation.role == "read":
            raise RateLimited(
                "Answers to earlier calls on this socket were not read yet. Read them, and ask "
                "again.",
                retry_after=0.1,
            )
        self._unsent += size

    async def _answer(self, number: msgspec.Raw | None, result: bytes) -> None:
        named = b'"id":' + bytes(number) + b"," if number is not None else b""
        await self.write((b"{" + named + b'"type":"result","result":' + result + b"}").decode())

    async def _refuse(self, number: msgspec.Raw | None, error: Exception) -> None:
        fields = problem_of(error)
        await self.write(
            encode({"id": number or msgspec.Raw(b"null"), "type": "error", **fields}).decode()
        )

    # Frames about the socket itself

    async def _register(self, fields: Fields) -> Any:
        given = dict(fields)
        agent = check_name("agent", text_of(given, "agent"))
        process = given.pop("instance", None)
        given["id"] = given.pop("agent")
        given.setdefault("heartbeat_interval", msgspec.Raw(encode(self._interval)))
        encoded = msgspec.Raw(encode(given))
        spec: AgentSpec = value_of(encoded, AgentSpec, "register")
        instance = InstanceSpec(id=self.instance, max_concurrent=spec.max_concurrent)
        if process is not None:
            instance = value_of(process, InstanceSpec, "instance")
        self._check(agent)
        answer = await self._cb.agents.register(spec, instance=instance)
        # In this order: until they have ended, feeds are those of the agent that it was before.
        await self._bind(agent, instance.id)
        self._spec = spec, instance
        self._interval = spec.heartbeat_interval
        return answer

    async def _resume(self, fields: Fields) -> Any:
        agent = check_name("agent", text_of(fields, "agent"))
        instance = check_name("session", text_of(fields, "session"))
        self._check(agent)
        heard = await self._cb.agents.heartbeat(agent, instance)
        self._cursor = text_of(fields, "cursor")
        is_same = (agent, instance) == (self.agent, self.instance)
        await self._bind(agent, instance)
        if not is_same:
            self._spec = None
        self._is_resumed = True
        held = list(await self._cb.agents.tasks(agent))
        return {"agent": agent, "session": instance, "status": heard.status, "held": held}

    async def _leave(self, _: Fields) -> Any:
        needs_agent(self)
        for name in ("work", "inbox", "bells"):
            await self._stop(name)
        if self._beat is not None:
            self._beat.cancel()
        given_back = await self._cb.agents.leave(self.agent, self.instance)
        self._unbind()
        return {"given_back": given_back}

    async def _subscribe(self, fields: Fields) -> Any:
        _only(fields, FEEDS)
        answer: dict[str, Any] = {}
        if len(fields) > int("events" in fields):
            needs_agent(self)
        if "events" in fields:
            wish = _wish(fields, "events", EventsWish)
            wish = msgspec.structs.replace(wish, cursor=wish.cursor or self._cursor)
            begin = self._beginning(
                lambda ready: send_events(self._cb, self.hub, self, wish, ready)
            )
            answer["events"] = {"cursor": await begin("events")}
        if "bells" in fields:
            await self._beginning(lambda ready: send_bells(self._cb, self, ready))("bells")
            answer["bells"] = True
        if "inbox" in fields:
            await self._stop("inbox")
            self._inbox = Inbox(self._cb, self, _wish(fields, "inbox", InboxWish))
            self._start("inbox", self._inbox.run())
            answer["inbox"] = True
        if "work" in fields:
            asked = _wish(fields, "work", WorkWish)
            await self._stop("work")
            self._dispenser = work_of(self._cb, self.hub, self, asked)
            resumes = self._is_resumed if asked.resume is None else asked.resume
            self._start("work", self._dispenser.run(resumes=resumes))
            answer["work"] = True
        return answer

    async def _unsubscribe(self, fields: Fields) -> Any:
        _only(fields, FEEDS)
        for name in fields:
            await self._stop(name)
        return dict.fromkeys(fields, False)

    def _acknowledge(self, fields: Fields) -> list[asyncio.Future[CallboardError | None]]:
        raw = fields.get("message", msgspec.Raw(b"null"))
        named = value_of(raw, str | list[str], "message")
        return self._open_inbox().acknowledge([named] if isinstance(named, str) else named)

    async def _answer_acknowledged(
        self, number: msgspec.Raw | None, done: list[asyncio.Future[CallboardError | None]]
    ) -> None:
        """Answer once all are done; frames that come meanwhile are heeded."""
        errors = [error for one in done if (error := await one) is not None]
        if errors:
            await self._refuse(number, errors[0])
        else:
            await self._answer(number, b"true")

    async def _nack(self, fields: Fields) -> Any:
        delay = value_of(fields.get("delay", msgspec.Raw(b"0")), float, "delay")
        await self._open_inbox().refuse(
            text_of(fields, "message"), text_of(fields, "reason"), delay
        )
        return True

    async def _reply(self, fields: Fields) -> Any:
        payload = fields.get("payload", msgspec.Raw(b"null"))
        return {"id": await self._open_inbox().reply(text_of(fields, "message"), payload)}

    async def _pong(self, _: Fields) -> Any:
        await self.write(frame("pong"))
        return True

    _own: Final[dict[str, Callable[[Session, Fields], Awaitable[Any]]]] = {
        "register": _register,
        "resume": _resume,
        "leave": _leave,
        "subscribe": _subscribe,
        "unsubscribe": _unsubscribe,
        "nack": _nack,
        "reply": _reply,
        "ping": _pong,
    }

    # Whose socket it is

    async def enter(self) -> object:
        """Register the agent's process again after the engine lost it. Raises AgentNotFound."""
        if self._spec is None:
            raise AgentNotFound(
                f"Agent {self.agent} is not registered, or its process was given up. "
                "Register again.",
                agent=self.agent,
            )
        spec, instance = self._spec
        return await self._cb.agents.register(spec, instance=instance)

    def _check(self, agent: str) -> None:
        """Raises NotPermitted where the caller may not act for the agent."""
        caller = self.call.caller
        if caller is not None:
            caller.check("work")
            caller.check_agent(agent)

    async def _bind(self, agent: str, instance: str) -> None:
        if self.agent and (self.agent, self.instance) != (agent, instance):
            for name in ("work", "inbox", "bells"):
                await self._stop(name)
        self._unbind()
        self.agent, self.instance = agent, instance
        sockets = self.hub.sockets
        earlier = sockets.get((agent, instance))
        sockets[agent, instance] = self
        if isinstance(earlier, Session) and earlier is not self:
            earlier.close(ELSEWHERE, "resumed on another socket")
        if self._beat is not None:
            self._beat.cancel()
        self._beat = asyncio.create_task(self._keep_heard())

    def _unbind(self) -> None:
        if self.hub.sockets.get((self.agent, self.instance)) is self:
            del self.hub.sockets[self.agent, self.instance]
        self.agent = ""

    async def _keep_heard(self) -> None:
        """The socket is open, so the process lives: say so for it."""
        while True:
            await asyncio.sleep(self._interval / 3)
            try:
                await self._be_heard()
                self._outage.answered()
            except EngineError as error:
                self._outage.failed(error)
            except CallboardError as error:
                await self.write(frame("problem", **problem_of(error)))
                return

    async def _be_heard(self) -> None:
        try:
            await self._cb.agents.heartbeat(self.agent, self.instance)
        except AgentNotFound:
            await self.enter()

    # What is sent without asking

    def _beginning(
        self, feed: Callable[[Callable[[str], None]], Coroutine[Any, Any, None]]
    ) -> Callable[[str], Awaitable[str]]:
        """Starts a feed, and answers from where it goes once nothing more is missed."""

        async def begin(name: str) -> str:
            await self._stop(name)
            began: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            task = self._feeds[name] = asyncio.create_task(feed(began.set_result), name=name)
            either: set[asyncio.Future[Any]] = {task, began}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if began.done():
                # Of one that does not begin the answer tells, and nothing else.
                task.add_done_callback(self._feed_ended)
                return began.result()
            self._feeds.pop(name, None)
            task.result()
            return ""

        return begin

    def _start(self, name: str, feed: Coroutine[Any, Any, None]) -> None:
        task = self._feeds[name] = asyncio.create_task(feed, name=name)
        task.add_done_callback(self._feed_ended)

    async def _stop(self, name: str) -> None:
        task = self._feeds.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if name == "work":
            self._dispenser = None
        if name == "inbox":
            self._inbox = None

    def _feed_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, CallboardError):
            self._feeds.pop(task.get_name(), None)
            told = frame("problem", feed=task.get_name(), **problem_of(error))
            self.hub.begin(self._tell(told))
        elif error is not None:
            self.failed(error)

    async def _tell(self, text: str) -> None:
        with suppress(Gone):
            await self.write(text)

    def _open_inbox(self) -> Inbox:
        if self._inbox is None:
            raise InvalidArgument(
                "This socket gets no messages: send a frame subscribe with inbox first.",
                field="inbox",
            )
        return self._inbox

    async def end_all(self) -> None:
        """End feeds and calls; what the agent's process holds stays its own for a while."""
        if self.hub.sockets.get((self.agent, self.instance)) is self:
            del self.hub.sockets[self.agent, self.instance]
        tasks = [*self._feeds.values(), *self._calls]
        if self._beat is not None:
            tasks.append(self._beat)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def socket(call: Call) -> Reply | None:
    """Serve one socket."""
    try:
        cb, hub = await call.board(), await hub_of(call)
    except Exception as error:
        await deny(call.scope, call.receive, call.send, errors.reply_of(error))
        return None
    await Session(call, cb, hub).run()
    return None


def _only(fields: Fields, names: tuple[str, ...]) -> None:
    unknown = [name for name in fields if name not in names]
    if unknown or not fields:
        raise InvalidArgument(
            f"Name one or more of {', '.join(names)}, not {', '.join(unknown) or 'nothing'}.",
            field="type",
        )


def _wish(fields: Fields, name: str, type_: Any) -> Any:
    raw = fields[name]
    return type_() if bytes(raw) == b"true" else value_of(raw, type_, name)
