"""The documented sockets: messages of one agent as they come, and who is there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from callboard.domain.event import Gap
from callboard.domain.message import REGISTERED, Role
from callboard.domain.names import check_name
from callboard.exceptions import CallboardError, EngineError, InvalidArgument
from callboard.http import errors
from callboard.http.documented.agents import shape_of as agent_shape
from callboard.http.documented.inbox import TTL_DEFAULT
from callboard.http.documented.message_shapes import (
    check_priority,
    check_type,
    shape_of,
)
from callboard.http.documented.shapes import (
    LIST_MAX,
    Done,
    Object,
    Refusal,
    answer,
    asked,
    documented,
    encode,
    is_object,
    iso,
    unusable,
)
from callboard.http.live.channel import Channel
from callboard.http.live.feeds import hub_of
from callboard.http.live.hub import Hub
from callboard.http.live.listeners import Entry
from callboard.http.live.wanted import Wanted
from callboard.http.route import Call, Reply, Route, deny
from callboard.services.events import POLL_SECONDS

SHOWN_MAX: Final = 1_000
"""Unread messages of an inbox that a socket looks at; those behind come as these are read."""

PAGE: Final = 32
"""Messages that are read at once: they may have 256 KiB each."""

PAUSE_SECONDS: Final = 1.0


class AskStream(msgspec.Struct, kw_only=True):
    """Whose messages."""

    agent_id: str


class Frame(msgspec.Struct, kw_only=True):
    """What a client sends; the answer to it has the same ``id``."""

    type: str
    payload: Object = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    id: str | int | None = None


class Topics(msgspec.Struct, kw_only=True):
    """The payload of ``subscribe`` and ``unsubscribe``."""

    topic: str


class Sending(msgspec.Struct, kw_only=True):
    """The payload of ``message``."""

    recipient: str
    content: Object
    message_type: str = "direct"
    priority: str = "normal"
    ttl: float | None = TTL_DEFAULT
    message_id: str | None = None


class Calling(msgspec.Struct, kw_only=True):
    """The payload of ``broadcast``."""

    content: Object
    message_type: str = "broadcast"
    priority: str = "normal"
    agent_type: str | None = None
    capabilities: list[str] | None = None


class Reading(msgspec.Struct, kw_only=True):
    """The payload of ``read``."""

    message_id: str


class Sockets(Done, frozen=True, kw_only=True):
    """Streams and sockets of this namespace that are open at this coordinator."""

    active_connections: int
    timestamp: str


def _told(type_: str, payload: Any, number: str | int | None = None) -> str:
    """One frame as a server sends it."""
    fields = {"type": type_, "payload": payload, "timestamp": errors.now()}
    if number is not None:
        fields["id"] = number
    return encode(fields).decode()


_frame = msgspec.json.Decoder(Frame)


class MessageStream(Channel):
    """One agent's messages: what lies unread in its inbox, and what comes.

    Nothing is taken: a message is read once ``read`` says so, here or over its route, and until
    then comes again on the next socket.
    """

    def __init__(self, call: Call, cb: Any, hub: Hub, agent: str) -> None:
        super().__init__(call, hub)
        self._cb = cb
        self._agent = agent
        self._feed: asyncio.Task[None] | None = None

    async def converse(self) -> None:
        """Greet, show what is unread, and heed frames until the client has gone."""
        greeting = {"agent_id": self._agent, "connection_id": secrets.token_hex(8)}
        await self.write(_told("connection_established", greeting))
        self._feed = asyncio.create_task(self._show())
        self._feed.add_done_callback(self._feed_ended)
        while True:
            message = await self.call.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("text") or message.get("bytes") or b""
            await self._heed(data)

    async def end_all(self) -> None:
        """Show nothing more."""
        if self._feed is not None:
            self._feed.cancel()
            await asyncio.gather(self._feed, return_exceptions=True)

    # What comes in

    async def _heed(self, data: str | bytes) -> None:
        number: str | int | None = None
        try:
            given = _frame.decode(data)
            number = given.id
            handle = self._handlers.get(given.type)
            if handle is None:
                known = ", ".join(self._handlers)
                raise InvalidArgument(f"There is no frame {given.type!r}; there are {known}.")
            spend = (self.call.scope.get("state") or {}).get("spend")
            if spend is not None:
                await spend()  # each frame counts against the key's rate, as a request does
            type_, payload = await handle(self, given.payload)
            await self.write(_told(type_, payload, number))
        except Refusal as refusal:
            told = msgspec.json.decode(refusal.reply.body)
            await self.write(_told("error", {"message": told["detail"], **_code(told)}, number))
        except CallboardError as error:
            told = {"message": error.message, "code": error.code}
            await self.write(_told("error", told, number))
        except msgspec.DecodeError as error:
            told = {"message": str(error), "code": "invalid_argument"}
            await self.write(_told("error", told, number))

    async def _subscribe(self, payload: msgspec.Raw) -> tuple[str, Any]:
        topic = _topics.decode(payload).topic
        await self._cb.messages.subscribe(self._agent, topic)
        return "subscription_confirmed", {"agent_id": self._agent, "topic": topic}

    async def _unsubscribe(self, payload: msgspec.Raw) -> tuple[str, Any]:
        topic = _topics.decode(payload).topic
        await self._cb.messages.unsubscribe(self._agent, topic)
        return "handler_acknowledgment", {"handler": "unsubscribe", "topic": topic}

    async def _message(self, payload: msgspec.Raw) -> tuple[str, Any]:
        given = _sending.decode(payload)
        _check_content(given.content)
        found = await self._cb.messages.send(
            given.recipient,
            given.content,
            type=check_type(given.message_type),
            priority=check_priority(given.priority),
            sender=self._agent,
            ttl=given.ttl,
            id=given.message_id or None,
        )
        told = {"message_id": found.id, "recipient": given.recipient, "sent_at": iso(found.sent_at)}
        return "handler_acknowledgment", {"handler": "message", **told}

    async def _broadcast(self, payload: msgspec.Raw) -> tuple[str, Any]:
        given = _calling.decode(payload)
        _check_content(given.content)
        to: Any = REGISTERED
        if given.agent_type or given.capabilities:
            abilities = tuple(given.capabilities or ())
            to = Role(agent_type=given.agent_type or "", capabilities=abilities)
        found = await self._cb.messages.send(
            to,
            given.content,
            type=check_type(given.message_type),
            priority=check_priority(given.priority),
            sender=self._agent,
            metadata={"protocol": "broadcast"},
        )
        told = {"message_id": found.id, "recipients": found.recipients, "count": found.count}
        return "handler_acknowledgment", {"handler": "broadcast", **told}

    async def _heartbeat(self, _: msgspec.Raw) -> tuple[str, Any]:
        heard = await self._cb.agents.heartbeat(self._agent)
        return "heartbeat_ack", {"agent_id": self._agent, "heartbeat_at": iso(heard.at)}

    async def _read(self, payload: msgspec.Raw) -> tuple[str, Any]:
        message_id = _reading.decode(payload).message_id
        for one in await self._cb.messages.mark_read(self._agent, message_id):
            one.check(inbox=self._agent)
        return "handler_acknowledgment", {"handler": "read", "message_id": message_id}

    _handlers: Final[
        dict[str, Callable[[MessageStream, msgspec.Raw], Awaitable[tuple[str, Any]]]]
    ] = {
        "subscribe": _subscribe,
        "unsubscribe": _unsubscribe,
        "message": _message,
        "broadcast": _broadcast,
        "heartbeat": _heartbeat,
        "read": _read,
    }

    # What goes out

    async def _show(self) -> None:
        """Show each unread message once on this socket, as they come."""
        bells, shown = self._cb.namespace.bells, set[str]()
        with await bells.listen(bells.inbox(self._agent)) as rung:
            while True:
                try:
                    shown = await self._show_new(shown)
                except EngineError:
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                await rung.get(POLL_SECONDS)

    async def _show_new(self, shown: set[str]) -> set[str]:
        """Show those that are not among *shown*; answers the unread ones."""
        unread: set[str] = set()
        for offset in range(0, SHOWN_MAX, PAGE):
            page = await self._cb.messages.inbox(self._agent, limit=PAGE, offset=offset)
            for message in page.messages:
                if message.id not in shown and message.id not in unread:
                    told = shape_of(message)
                    type_ = "broadcast" if told.protocol == "broadcast" else "message"
                    await self.write(_told(type_, told))
                unread.add(message.id)
            if len(page.messages) < PAGE:
                break
        return unread

    def _feed_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failed(task.exception())


class PresenceStream(Channel):
    """Who is there: all agents at first, then each change."""

    def __init__(self, call: Call, cb: Any, hub: Hub) -> None:
        super().__init__(call, hub)
        self._cb = cb
        self._feed: asyncio.Task[None] | None = None

    async def converse(self) -> None:
        """Greet, list the agents, and tell of changes until the client has gone."""
        await self.write(_told("connection_established", {"connection_id": secrets.token_hex(8)}))
        self._feed = asyncio.create_task(self._tell())
        self._feed.add_done_callback(self._feed_ended)
        while (await self.call.receive())["type"] != "websocket.disconnect":
            await self.write(_told("heartbeat_ack", {}))

    async def end_all(self) -> None:
        """Tell nothing more."""
        if self._feed is not None:
            self._feed.cancel()
            await asyncio.gather(self._feed, return_exceptions=True)

    async def _tell(self) -> None:
        cursor = await self._cb.events.cursor()
        async with self.hub.listen(_AGENTS, _presence, cursor) as listener:
            found = [agent_shape(one) for one in await self._cb.agents.list(limit=LIST_MAX)]
            await self.write(_told("agents_list", {"agents": found, "count": len(found)}))
            while True:
                for text in await listener.take():
                    await self.write(text)

    def _feed_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failed(task.exception())


_AGENTS: Final = Wanted.of(types=("agent:*",))


def _presence(entries: Sequence[Entry]) -> tuple[str, ...]:
    """A frame for each agent that something happened to; a gap says that some are missing."""
    told = []
    for entry in entries:
        event = entry.event
        if isinstance(event, Gap):
            told.append(_told("presence_update", {"gap": True}))
            continue
        for fact in event.facts:
            what = {"agent_id": fact.id, "status": fact.state, "event": event.type}
            told.append(_told("presence_update", what))
    return tuple(told)


def _code(told: dict[str, Any]) -> dict[str, Any]:
    return {"code": told.get("code", "invalid_argument")}


def _check_content(content: msgspec.Raw) -> None:
    if not is_object(content):
        raise unusable("content", "Input should be an object")


_topics = msgspec.json.Decoder(Topics)
_sending = msgspec.json.Decoder(Sending)
_calling = msgspec.json.Decoder(Calling)
_reading = msgspec.json.Decoder(Reading)


async def messages(call: Call) -> Reply | None:
    """Serve one agent's messages."""
    try:
        agent = check_name("agent_id", asked(call, AskStream).agent_id)
        if call.caller is not None:
            call.caller.check_agent(agent)
        cb, hub = await call.board(), await hub_of(call)
    except Exception as error:
        await _deny(call, error)
        return None
    await MessageStream(call, cb, hub, agent).run()
    return None


async def presence(call: Call) -> Reply | None:
    """Tell who is there."""
    try:
        cb, hub = await call.board(), await hub_of(call)
    except Exception as error:
        await _deny(call, error)
        return None
    await PresenceStream(call, cb, hub).run()
    return None


async def _deny(call: Call, error: Exception) -> None:
    reply = error.reply if isinstance(error, Refusal) else errors.reply_of(error)
    await deny(call.scope, call.receive, call.send, reply)


async def sockets(call: Call) -> Reply:
    """How many streams and sockets are open here."""
    hub = await hub_of(call)
    return answer(Sockets(active_connections=len(hub.outlets), timestamp=errors.now()))


def routes() -> list[Route]:
    """The documented sockets, and how many are open."""
    tag = "messages"
    return [
        Route(
            verb="WEBSOCKET",
            path="/api/v1/agent/messages/stream",
            handle=messages,
            role="work",
            summary="One agent's messages as they come.",
            tag=tag,
            is_documented=True,
            is_streaming=True,
        ),
        Route(
            verb="WEBSOCKET",
            path="/api/v1/agent/presence/stream",
            handle=presence,
            role="read",
            summary="Who is there, and each change of it.",
            tag=tag,
            is_documented=True,
            is_streaming=True,
        ),
        documented(
            *("GET", "/api/v1/agent/ws/status", sockets, Sockets),
            role="read",
            summary="How many streams and sockets are open at this coordinator.",
            tag=tag,
        ),
    ]
