"""Messages over the documented routes: sent, broadcast, looked up."""

from __future__ import annotations

from typing import Any

import msgspec

from callboard.domain.message import REGISTERED, Role
from callboard.http import errors
from callboard.http.documented.message_shapes import (
    PAGE,
    PAGE_MOST,
    SENDER,
    MessageShape,
    check_payload,
    check_priority,
    check_protocol,
    check_type,
    shape_of,
    shapes_of,
)
from callboard.http.documented.shapes import (
    BAD_NAME,
    Done,
    Object,
    act_as,
    answer,
    asked,
    documented,
    iso,
    sent,
)
from callboard.http.route import Call, Reply, Route
from callboard.services.mailboxes import PAGE_BYTES_MAX


class SendMessage(msgspec.Struct, kw_only=True):
    """A message to one agent.

    Attributes:
        message_type: One of the documented types.
        priority: ``low normal high critical``.
        protocol: ``hierarchical``, ``peer_to_peer`` or ``broadcast``. From the coordinator,
            which is above all agents, each reaches everybody; where ``sender_id`` is given
            too, the first two only reach those that it may write to by them.
        sender_id: Who sends it; the coordinator where it is left out.
        ttl: Seconds after which it expires unless it was taken.
    """

    receiver_id: str
    message_type: str
    payload: Object
    priority: str = "normal"
    protocol: str | None = None
    sender_id: str | None = None
    ttl: float | None = None
    correlation_id: str | None = None
    reply_to: str | None = None


class Sent(Done, frozen=True, kw_only=True):
    """The message lies in the receiver's inbox."""

    message: str
    message_id: str
    receiver_id: str
    protocol: str
    sent_at: str


class Broadcast(msgspec.Struct, kw_only=True):
    """A message to all agents that are registered, or to those that have all of what is named."""

    message_type: str
    payload: Object
    priority: str = "normal"
    agent_type: str | None = None
    capabilities: list[str] | None = None
    sender_id: str | None = None


class BroadcastTo(Done, frozen=True, kw_only=True):
    """Into whose inboxes it was put."""

    message: str
    message_id: str
    recipients: tuple[str, ...]
    count: int
    broadcast_at: str


class AskHistory(msgspec.Struct, kw_only=True):
    """Whose messages; of a sender and a receiver together the sender counts."""

    sender_id: str | None = None
    receiver_id: str | None = None
    limit: int = PAGE
    offset: int = 0


class History(Done, frozen=True, kw_only=True):
    """Messages, the newest first; ``total`` is how many there are."""

    messages: list[MessageShape]
    count: int
    total: int
    limit: int
    offset: int
    timestamp: str


class OneMessage(Done, frozen=True, kw_only=True):
    """One message."""

    message: MessageShape
    timestamp: str


_send = msgspec.json.Decoder(SendMessage)
_broadcast = msgspec.json.Decoder(Broadcast)


async def send(call: Call) -> Reply:
    """Put a message into an agent's inbox, where it waits for it."""
    given = await sent(call, _send)
    kind, priority = check_type(given.message_type), check_priority(given.priority)
    protocol = check_protocol(given.protocol or "hierarchical")
    check_payload("payload", given.payload)
    sender = _sender(call, given.sender_id)
    is_bound = given.sender_id is not None and given.protocol in ("peer_to_peer", "hierarchical")
    found = await (await call.board()).messages.send(
        given.receiver_id,
        given.payload,
        type=kind,
        priority=priority,
        sender=sender,
        protocol=protocol if is_bound else "direct",
        metadata={"protocol": protocol},
        ttl=given.ttl,
        thread=given.correlation_id or "",
        in_reply_to=given.reply_to or "",
    )
    return answer(
        Sent(
            message="Message sent successfully",
            message_id=found.id,
            receiver_id=given.receiver_id,
            protocol=protocol,
            sent_at=iso(found.sent_at),
        )
    )


async def broadcast(call: Call) -> Reply:
    """Put a message into the inboxes of all agents that have what is asked for."""
    given = await sent(call, _broadcast)
    kind, priority = check_type(given.message_type), check_priority(given.priority)
    check_payload("payload", given.payload)
    to: Any = REGISTERED
    if given.agent_type or given.capabilities:
        to = Role(agent_type=given.agent_type or "", capabilities=tuple(given.capabilities or ()))
    found = await (await call.board()).messages.send(
        to,
        given.payload,
        type=kind,
        priority=priority,
        sender=_sender(call, given.sender_id),
        metadata={"protocol": "broadcast"},
    )
    return answer(
        BroadcastTo(
            message=f"Message broadcast to {found.count} agents",
            message_id=found.id,
            recipients=found.recipients,
            count=found.count,
            broadcast_at=iso(found.sent_at),
        )
    )


async def history(call: Call) -> Reply:
    """The messages that are kept of a sender or receiver, or all, the newest first."""
    given = asked(call, AskHistory)
    page = await (await call.board()).messages.history(
        sender=given.sender_id or "",
        receiver="" if given.sender_id else given.receiver_id or "",
        limit=min(given.limit, PAGE_MOST),
        offset=given.offset,
        bytes_max=PAGE_BYTES_MAX,
    )
    return answer(
        History(
            messages=shapes_of(page),
            count=len(page.messages),
            total=page.total,
            limit=page.limit,
            offset=page.offset,
            timestamp=errors.now(),
        )
    )


async def get(call: Call) -> Reply:
    """Read one message."""
    found = await (await call.board()).messages.get(call.path["message_id"])
    return answer(OneMessage(message=shape_of(found), timestamp=errors.now()))


def _sender(call: Call, given: str | None) -> str:
    """Who sends; a key that is for one agent sends as that one."""
    bound = call.caller.agent if call.caller is not None else None
    if given is None:
        return bound or SENDER
    act_as(call, given)
    return given


def routes() -> list[Route]:
    """The documented routes of messages."""
    tag = "messages"
    refused = {**BAD_NAME, 409: errors.ErrorBody}
    return [
        documented(
            *("POST", "/messages/send", send, Sent),
            role="work",
            summary="Put a message into an agent's inbox.",
            tag=tag,
            body=SendMessage,
            others=refused,
        ),
        documented(
            *("POST", "/messages/broadcast", broadcast, BroadcastTo),
            role="work",
            summary="Put a message into the inboxes of all agents that have what is asked for.",
            tag=tag,
            body=Broadcast,
            others=refused,
        ),
        documented(
            *("GET", "/messages/history", history, History),
            role="read",
            summary="The messages of a sender or receiver, or all, the newest first.",
            tag=tag,
            query=AskHistory,
        ),
        documented(
            *("GET", "/messages/{message_id}", get, OneMessage),
            role="read",
            summary="Read one message.",
            tag=tag,
        ),
    ]
