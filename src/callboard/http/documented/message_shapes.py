"""Messages as the documented routes show them, and the names that they take."""

from __future__ import annotations

from typing import Final

import msgspec

from callboard.domain.message import TYPES, Message, MessagePage
from callboard.domain.task import PRIORITIES
from callboard.http.documented.shapes import bad_request, is_object, iso, unusable

SENDER: Final = "agent-coordinator"
"""Who sends what names no sender."""

PROTOCOLS: Final = ("hierarchical", "peer_to_peer", "broadcast")
PRIORITY_NAMES: Final = ("low", "normal", "high", "critical")

PAGE: Final = 100
PAGE_MOST: Final = 1_000

_NAMES: Final = {value: name for name, value in PRIORITIES.items()}


class MessageShape(msgspec.Struct, frozen=True, kw_only=True):
    """A message with the documented names.

    Attributes:
        id: The same as ``message_id``.
        receiver_id: Whose inbox it lies in; None for a broadcast.
        ttl: Seconds from when it was sent until it expires; None for never.
        correlation_id: The thread that it belongs to.
        reply_to: The message that it answers.
        status: ``pending``, ``delivered`` (taken), ``read``, ``expired``, ``delayed``, ``dead``.
    """

    id: str
    message_id: str
    sender_id: str
    receiver_id: str | None
    message_type: str
    priority: str
    protocol: str
    payload: msgspec.Raw
    timestamp: str
    status: str
    ttl: float | None = None
    correlation_id: str | None = None
    reply_to: str | None = None


def shape_of(message: Message) -> MessageShape:
    """A message with the documented names."""
    protocol = (message.metadata or {}).get("protocol")
    ttl = None
    if message.expires_at is not None:
        ttl = (message.expires_at - message.sent_at).total_seconds()
    return MessageShape(
        id=message.id,
        message_id=message.id,
        sender_id=message.sender,
        receiver_id=message.agent or None,
        message_type=message.type,
        priority=_NAMES.get(message.priority, str(message.priority)),
        protocol=protocol if isinstance(protocol, str) else message.protocol,
        payload=message.payload,
        timestamp=iso(message.sent_at),
        status=str(message.status),
        ttl=ttl,
        correlation_id=message.thread or None,
        reply_to=message.in_reply_to or None,
    )


def shapes_of(page: MessagePage) -> list[MessageShape]:
    """The messages of a page with the documented names."""
    return [shape_of(message) for message in page.messages]


def check_type(name: str) -> str:
    """The type, where it is a documented one; else a refusal with 400."""
    if name not in TYPES:
        raise bad_request(f"Invalid message type: {name}")
    return name


def check_priority(name: str) -> str:
    """The priority in lower case, where it is a documented one; else a refusal with 400."""
    if name.lower() not in PRIORITY_NAMES:
        raise bad_request(f"Invalid priority: {name}")
    return name.lower()


def check_protocol(name: str) -> str:
    """The protocol, where it is a documented one; else a refusal with 400."""
    if name not in PROTOCOLS:
        raise bad_request(f"Invalid protocol: {name}")
    return name


def check_payload(name: str, payload: msgspec.Raw) -> None:
    """Refuse a payload that is no object, told as the field *name*."""
    if not is_object(payload):
        raise unusable(name, "Input should be an object")
