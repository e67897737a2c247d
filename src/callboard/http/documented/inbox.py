"""Inboxes over the documented routes of the source's later release."""

from __future__ import annotations

from typing import Final

import msgspec

from callboard.http import errors
from callboard.http.documented.agents import AgentShape, Discover, find
from callboard.http.documented.message_shapes import (
    PAGE,
    PAGE_MOST,
    MessageShape,
    check_payload,
    check_priority,
    check_type,
    shapes_of,
)
from callboard.http.documented.messages import OneMessage, get
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

BASE: Final = "/api/v1/agent/messages"
TTL_DEFAULT: Final = 300.0


class SendDirect(msgspec.Struct, kw_only=True):
    """A message from one agent to another.

    Attributes:
        message_type: One of the documented types.
        encrypt: Taken and not done: nothing is encrypted here, and the answer says so.
        ttl: Seconds after which it expires unless it was taken.
        message_id: Makes sending it again do nothing.
    """

    sender: str
    recipient: str
    content: Object
    message_type: str = "direct"
    encrypt: bool = True
    priority: str = "normal"
    ttl: float | None = TTL_DEFAULT
    message_id: str | None = None


class SentDirect(Done, frozen=True, kw_only=True):
    """The message lies in the inbox.

    Attributes:
        encrypted: Always false: use TLS on the way, and encrypt the content yourself.
        ws_delivered: Always false: a socket is rung, and takes the message from the inbox.
    """

    message_id: str
    sender: str
    recipient: str
    encrypted: bool
    ws_delivered: bool
    message_status: str
    sent_at: str


class AskInbox(msgspec.Struct, kw_only=True):
    """Whose inbox."""

    agent_id: str
    limit: int = PAGE
    unread_only: bool = False


class AskAlias(msgspec.Struct, kw_only=True):
    """How much of the inbox."""

    limit: int = PAGE
    unread_only: bool = False


class Inbox(Done, frozen=True, kw_only=True):
    """What lies in an inbox: unread messages in the order they are taken in, else the newest."""

    agent_id: str
    messages: list[MessageShape]
    count: int
    timestamp: str


class MarkedRead(Done, frozen=True, kw_only=True):
    """The message is read."""

    message_id: str
    message_status: str
    timestamp: str


class Reachable(Done, frozen=True, kw_only=True):
    """The agents that can be written to: those that are active."""

    agents: list[AgentShape]
    count: int
    timestamp: str


_send = msgspec.json.Decoder(SendDirect)


async def send(call: Call) -> Reply:
    """Put a message from one agent into the inbox of another; the same id again does nothing."""
    given = await sent(call, _send)
    kind, priority = check_type(given.message_type), check_priority(given.priority)
    check_payload("content", given.content)
    act_as(call, given.sender)
    messages = (await call.board()).messages
    found = await messages.send(
        given.recipient,
        given.content,
        type=kind,
        priority=priority,
        sender=given.sender,
        ttl=given.ttl,
        id=given.message_id or None,
    )
    status = "pending"
    if found.status == "replayed":
        status = str((await messages.get(found.id, agent=given.recipient)).status)
    return answer(
        SentDirect(
            message_id=found.id,
            sender=given.sender,
            recipient=given.recipient,
            encrypted=False,
            ws_delivered=False,
            message_status=status,
            sent_at=iso(found.sent_at),
        )
    )


async def inbox(call: Call) -> Reply:
    """Look into an inbox without taking anything."""
    given = asked(call, AskInbox)
    return await _inbox(call, given.agent_id, given.limit, given.unread_only)


async def inbox_alias(call: Call) -> Reply:
    """Look into an inbox without taking anything."""
    given = asked(call, AskAlias)
    return await _inbox(call, call.path["agent_id"], given.limit, given.unread_only)


async def mark_read(call: Call) -> Reply:
    """End a message as read; again does nothing."""
    messages = (await call.board()).messages
    found = await messages.get(call.path["message_id"])
    act_as(call, found.agent)
    for one in await messages.mark_read(found.agent, found.id):
        one.check(inbox=found.agent)
    return answer(MarkedRead(message_id=found.id, message_status="read", timestamp=errors.now()))


async def discover(call: Call) -> Reply:
    """The agents that can be written to."""
    agents = await find(call, Discover(status="active"))
    return answer(Reachable(agents=agents, count=len(agents), timestamp=errors.now()))


async def _inbox(call: Call, agent_id: str, limit: int, is_unread: bool) -> Reply:
    messages = (await call.board()).messages
    most = min(limit, PAGE_MOST)
    if is_unread:
        page = await messages.inbox(agent_id, limit=most, bytes_max=PAGE_BYTES_MAX)
    else:
        page = await messages.history(receiver=agent_id, limit=most, bytes_max=PAGE_BYTES_MAX)
    found = shapes_of(page)
    return answer(
        Inbox(agent_id=agent_id, messages=found, count=len(found), timestamp=errors.now())
    )


def routes() -> list[Route]:
    """The documented routes of inboxes."""
    tag = "messages"
    refused = {**BAD_NAME, 409: errors.ErrorBody}
    return [
        documented(
            *("POST", f"{BASE}/send", send, SentDirect),
            role="work",
            summary="Put a message from one agent into the inbox of another.",
            tag=tag,
            body=SendDirect,
            others=refused,
        ),
        documented(
            *("GET", f"{BASE}/inbox", inbox, Inbox),
            role="read",
            summary="Look into an inbox without taking anything.",
            tag=tag,
            query=AskInbox,
        ),
        documented(
            *("GET", f"{BASE}/id/{{message_id}}", get, OneMessage),
            role="read",
            summary="Read one message of an inbox.",
            tag=tag,
        ),
        documented(
            *("POST", f"{BASE}/id/{{message_id}}/read", mark_read, MarkedRead),
            role="work",
            summary="End a message as read; again does nothing.",
            tag=tag,
            others={409: errors.ErrorBody},
        ),
        documented(
            *("GET", f"{BASE}/discover", discover, Reachable),
            role="read",
            summary="The agents that can be written to.",
            tag=tag,
        ),
        documented(
            *("GET", f"{BASE}/{{agent_id}}", inbox_alias, Inbox),
            role="read",
            summary="Look into an inbox, by the agent's name alone.",
            tag=tag,
            query=AskAlias,
        ),
    ]
