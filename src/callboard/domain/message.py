"""Messages between agents: what is sent, to whom, where it stands. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from callboard.domain.agent import labels_of, names_of
from callboard.domain.bounds import check_text, check_whole
from callboard.domain.names import check_name
from callboard.domain.task import at_ms, check_priority, check_seconds
from callboard.exceptions import InvalidArgument, TooLarge

PAYLOAD_MAX: Final = 262_144
BATCH_MAX: Final = 1_000
BATCH_BYTES_MAX: Final = 8 * 1_048_576
RECIPIENTS_MAX: Final = 1_000
INBOX_LIMIT: Final = 10_000
"""Unfinished messages that an inbox holds where nothing else was set."""

DELIVERIES_DEFAULT: Final = 5
LEASE_DEFAULT: Final = 30.0
REQUEST_TIMEOUT: Final = 10.0
TTL_MAX: Final = 31_536_000.0

PROTOCOLS: Final = ("direct", "broadcast", "peer_to_peer", "hierarchical")
TYPES: Final = (
    "coordination",
    "task_assignment",
    "status_update",
    "discovery",
    "heartbeat",
    "consensus",
    "broadcast",
    "direct",
    "peer_to_peer",
    "hierarchical",
)
"""The documented types; any other name may be a type too."""


class MessageStatus(StrEnum):
    """Where a message stands in one inbox."""

    PENDING = "pending"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    READ = "read"
    EXPIRED = "expired"
    DEAD = "dead"


LETTERS: Final[Mapping[str, MessageStatus]] = {
    "p": MessageStatus.PENDING,
    "w": MessageStatus.DELAYED,
    "d": MessageStatus.DELIVERED,
    "r": MessageStatus.READ,
    "x": MessageStatus.EXPIRED,
    "f": MessageStatus.DEAD,
}

MOVES: Final[Mapping[MessageStatus, frozenset[MessageStatus]]] = {
    MessageStatus.PENDING: frozenset(
        {MessageStatus.DELIVERED, MessageStatus.READ, MessageStatus.EXPIRED}
    ),
    MessageStatus.DELAYED: frozenset(
        {MessageStatus.PENDING, MessageStatus.READ, MessageStatus.EXPIRED}
    ),
    MessageStatus.DELIVERED: frozenset(
        {
            MessageStatus.READ,
            MessageStatus.PENDING,
            MessageStatus.DELAYED,
            MessageStatus.EXPIRED,
            MessageStatus.DEAD,
        }
    ),
    MessageStatus.READ: frozenset(),
    MessageStatus.EXPIRED: frozenset(),
    MessageStatus.DEAD: frozenset({MessageStatus.PENDING}),
}
"""The legal moves; the page of messages and the tests agree with it."""


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """To all agents that are registered when it is sent and have all of this.

    Attributes:
        agent_type: Exactly this type; empty for any.
        capabilities: All of these.
        services: All of these.
        labels: All of these, key and value.
    """

    agent_type: str = ""
    capabilities: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class Topic(msgspec.Struct, frozen=True):
    """To all agents that are subscribed to it when it is sent."""

    name: str


class Group(StrEnum):
    """To those that the sender is linked with when it is sent, or to all that are registered."""

    PEERS = "peers"
    SUBORDINATES = "subordinates"
    REGISTERED = "registered"


PEERS: Final = Group.PEERS
SUBORDINATES: Final = Group.SUBORDINATES
REGISTERED: Final = Group.REGISTERED

Address = str | Role | Topic | Group | Iterable[str]


class MessageSpec(msgspec.Struct, kw_only=True):
    """A message to send.

    Attributes:
        to: An agent, a list of up to 1,000, a ``Role``, a ``Topic``, ``PEERS``,
            ``SUBORDINATES`` or ``REGISTERED``.
        payload: Any JSON value, stored verbatim; at most 256 KiB. ``msgspec.Raw`` is taken as
            JSON already encoded.
        type: A documented type, or any other name.
        sender: The agent that sends it; empty for nobody in particular.
        id: Known again while the message is kept; one is made where none is given.
        priority: ``low normal high critical urgent``, or -1000 to 1000; higher is taken first.
        ttl: Seconds after which it expires unless it was taken; None for never.
        thread: What it belongs to; else that of the message it answers.
        in_reply_to: The id of the message that it answers.
        protocol: ``direct``; ``peer_to_peer`` only reaches peers of the sender, and
            ``hierarchical`` its subordinates and those that it is a subordinate of.
        max_deliveries: How often it is given out before it is a dead letter, 1 to 1,000.
        metadata: An object of the sender's, up to 16 KiB.
        trace_context: A W3C ``traceparent``.
    """

    to: Any
    payload: Any = None
    type: str = "direct"
    sender: str = ""
    id: str | None = None
    priority: int | str = "normal"
    ttl: float | None = None
    thread: str = ""
    in_reply_to: str = ""
    protocol: str = "direct"
    max_deliveries: int = DELIVERIES_DEFAULT
    metadata: Mapping[str, Any] | None = None
    trace_context: str = ""


class Body(msgspec.Struct, omit_defaults=True):
    """What never changes of a message: the JSON in field ``body`` of its hash."""

    sender: str = ""
    to: str = ""
    type: str = "direct"
    payload: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    priority: int = 0
    protocol: str = "direct"
    in_reply_to: str = ""
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    trace_context: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it lies in one inbox, or lay there.

    Attributes:
        agent: Whose inbox it is; empty for a broadcast, and for a reply to nobody's request.
        to: The address as it was given: an agent, agents with commas, ``#topic``,
            ``?type;capabilities;services;labels``, ``@peers``, ``*`` for a broadcast.
        payload: As it was sent; ``value`` decodes it.
        status: Where it stands.
        deliveries: How often it was taken.
        fence: Of the last time it was taken; acknowledge, release and renew present it.
        taker: What took it, as ``take`` was told.
        until: Until when it is taken, or delayed.
        error: Why its last delivery failed, where the receiver said so.
        reply: Of a request: the id of the reply.
        is_request: Somebody may wait for a reply, until ``expires_at``.
        number: Of a broadcast: its number, which is its fence too.
    """

    id: str
    agent: str
    sender: str
    to: str
    type: str
    payload: msgspec.Raw
    priority: int
    protocol: str
    status: MessageStatus
    sent_at: datetime
    thread: str = ""
    in_reply_to: str = ""
    expires_at: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    deliveries: int = 0
    max_deliveries: int = DELIVERIES_DEFAULT
    fence: int = 0
    taker: str = ""
    error: str = ""
    reply: str = ""
    is_request: bool = False
    number: int = 0
    metadata: dict[str, Any] | None = None
    trace_context: str = ""

    @property
    def value(self) -> Any:
        """The payload, decoded."""
        return msgspec.json.decode(self.payload)

    @property
    def is_broadcast(self) -> bool:
        """It was sent to everybody, and is acknowledged by its number."""
        return self.number > 0

    def decode(self, kind: Any) -> Any:
        """The payload as *kind*; msgspec.ValidationError where it is no such value."""
        return msgspec.json.decode(self.payload, type=kind)


class SentMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message that was sent.

    Attributes:
        status: ``ok``; ``replayed`` where it had been sent before; else why it was refused:
            ``id_conflict inbox_full not_a_peer not_in_hierarchy too_many_recipients``.
        recipients: Into whose inboxes it was put.
        full: Whose inboxes were passed over since they are full; of a refused message, who
            refused it.
    """

    id: str
    status: str
    sent_at: datetime
    recipients: tuple[str, ...] = ()
    full: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Into how many inboxes it was put."""
        return len(self.recipients)

    @property
    def is_ok(self) -> bool:
        """Sent, now or by an earlier call."""
        return self.status in ("ok", "replayed")


class BroadcastSent(msgspec.Struct, frozen=True, kw_only=True):
    """A broadcast: its number, and how many other agents are registered."""

    id: str
    number: int
    count: int
    replayed: bool = False


class Hearing(msgspec.Struct, frozen=True, kw_only=True):
    """Broadcasts that an agent has yet to acknowledge.

    Attributes:
        fence: ``heard`` presents it.
        upto: The number up to which these go; those of the agent's own are passed over.
        gap: First and last number of broadcasts that are not kept any more; None for no gap.
        until: Until when nobody else of this agent is given them.
    """

    messages: tuple[Message, ...]
    fence: int
    upto: int
    gap: tuple[int, int] | None = None
    until: datetime | None = None


class InboxCounts(msgspec.Struct, frozen=True):
    """How many messages of an inbox are in each state.

    Attributes:
        agent: Whose inbox it is.
        finished: Read and expired ones, which are kept for a day.
        limit: How many unfinished ones it takes.
        broadcasts: Broadcasts behind the agent's cursor, its own among them; of a list of
            inboxes it is not read, and 0.
    """

    agent: str
    waiting: int
    delayed: int
    taken: int
    dead: int
    finished: int
    limit: int
    broadcasts: int = 0

    @property
    def unread(self) -> int:
        """Neither acknowledged nor over."""
        return self.waiting + self.delayed + self.taken


class MessagePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of messages, and how many there are in all.

    Attributes:
        limit: As was asked; or how many it looked at, where it ended by its bytes before. The
            next page begins at ``offset + limit``.
    """

    messages: tuple[Message, ...]
    total: int
    limit: int
    offset: int


class MessageWhy(msgspec.Struct, frozen=True, kw_only=True):
    """Why a message is where it is, in words and data.

    Attributes:
        before: How many are taken before it; None where it does not wait.
        taken: How many of the inbox are taken just now.
        agent_status: Of the registered agent; empty where nobody of the name is registered.
    """

    id: str
    agent: str
    status: MessageStatus
    text: str
    before: int | None = None
    taken: int = 0
    agent_status: str = ""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """That an agent is subscribed to a topic; of these types alone where there are any."""

    agent: str
    topic: str
    types: tuple[str, ...]
    since: datetime


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """That an agent has a peer, or a subordinate."""

    agent: str
    name: str
    since: datetime


def address_of(to: Any) -> str:
    """The address as one text: see ``Message.to``.

    Raises:
        InvalidArgument: It is none.
        TooLarge: There are more than 1,000 agents.
    """
    if to is REGISTERED:
        return "?;;;"
    if isinstance(to, Group):
        return f"@{to.value}"
    if isinstance(to, str):
        return check_name("to", to)
    if isinstance(to, Topic):
        return f"#{check_name('topic', to.name)}"
    if isinstance(to, Role):
        return _role(to)
    if not isinstance(to, Iterable) or isinstance(to, bytes | Mapping):
        raise InvalidArgument(
            f"to is {to!r}; give an agent, a list of agents, a Role, a Topic, PEERS, "
            "SUBORDINATES or REGISTERED.",
            field="to",
        )
    names = list(dict.fromkeys(check_name("to", name) for name in to))
    if not names:
        raise InvalidArgument("to names no agent.", field="to")
    if len(names) > RECIPIENTS_MAX:
        raise TooLarge(
            f"A message goes to at most {RECIPIENTS_MAX:,} agents, not {len(names):,}. "
            "Use a topic or a broadcast.",
            field="to",
        )
    return ",".join(names)


def _role(role: Role) -> str:
    parts = (
        role.agent_type and check_name("agent_type", role.agent_type),
        names_of("capabilities", role.capabilities),
        names_of("services", role.services),
        labels_of(role.labels),
    )
    if not any(parts):
        raise InvalidArgument(
            "The role asks for nothing. Name a type, capabilities, services or labels, or "
            "broadcast.",
            field="to",
        )
    return "?" + ";".join(parts)


def spec_line(spec: MessageSpec, *, marks: str = "", owner: str = "") -> str:
    """The checked values of a message that the engine knows; see ``message_send.lua``."""
    if spec.protocol not in PROTOCOLS:
        raise InvalidArgument(
            f"Protocol {spec.protocol!r} is none of {', '.join(PROTOCOLS)}.", field="protocol"
        )
    if spec.protocol == "broadcast":
        raise InvalidArgument(
            "A broadcast has no address: use cb.messages.broadcast.", field="protocol"
        )
    if spec.protocol != "direct" and not spec.sender:
        raise InvalidArgument(
            f"Protocol {spec.protocol} needs a sender: it decides whom it may write to.",
            field="sender",
        )
    sender = spec.sender and check_name("sender", spec.sender)
    kind = check_name("type", type_of(spec))
    ttl = "" if spec.ttl is None else check_seconds("ttl", spec.ttl, 0.001, TTL_MAX)
    most = check_whole("max_deliveries", spec.max_deliveries, 1, 1_000)
    thread = spec.thread and check_name("thread", spec.thread)
    parent = spec.in_reply_to and check_name("in_reply_to", spec.in_reply_to)
    priority = check_priority(spec.priority)
    return (
        f"{sender}|{kind}|{priority}|{ttl}|{most}|{spec.protocol}|{thread}|{parent}|{marks}|{owner}"
    )


def type_of(spec: MessageSpec) -> str:
    """The type: a hierarchical message is of that type, whatever it was called."""
    return "hierarchical" if spec.protocol == "hierarchical" else spec.type


def check_reason(reason: Any) -> str:
    """Why a message is given back, cut to 1,000 characters."""
    return check_text("reason", reason)[:1_000]


def moment(ms: str) -> datetime | None:
    """A time of the engine in ms as text; None for the empty text."""
    return at_ms(float(ms)) if ms else None


def explain(message: Message, *, before: int, taken: int, agent_status: str) -> MessageWhy:
    """Say why a message is where it is; *before* is below zero where it does not wait."""
    times = f"given out {message.deliveries} of {message.max_deliveries} times"
    end = f" It expires at {_clock(message.expires_at)}." if message.expires_at else ""
    match message.status:
        case MessageStatus.PENDING:
            receiver = f"{message.agent} is {agent_status}"
            if not agent_status:
                receiver = f"nobody called {message.agent} is registered, so it is kept for a day"
            text = (
                f"It waits in the inbox of {message.agent}, behind {before} others; {taken} are "
                f"taken, and {receiver}. It was {times}.{end}"
            )
        case MessageStatus.DELAYED:
            text = f"It was given back, and waits until {_clock(message.until)}; {times}.{end}"
        case MessageStatus.DELIVERED:
            taker = f" {message.taker}" if message.taker else ""
            text = (
                f"{message.agent}{taker} has taken it, and has to acknowledge it by "
                f"{_clock(message.until)}; {times}."
            )
        case MessageStatus.READ:
            text = f"{message.agent} acknowledged it at {_clock(message.since)}."
            if message.is_request:
                text += f" Its reply is {message.reply}." if message.reply else " It has no reply."
        case MessageStatus.EXPIRED:
            text = f"Its time was over at {_clock(message.since)} before anybody was done with it."
        case MessageStatus.DEAD:
            why = message.error or "each time its lease ran out, or it was given back"
            text = (
                f"It is a dead letter: {times}, and never acknowledged: {why}. Put it back: "
                f"callboard messages requeue {message.agent} {message.id}."
            )
    return MessageWhy(
        id=message.id,
        agent=message.agent,
        status=message.status,
        text=text,
        before=before if before >= 0 else None,
        taken=taken,
        agent_status=agent_status,
    )


def explain_unboxed(message: Message, *, agent: str, upto: int) -> MessageWhy:
    """Say where a broadcast or a reply is; *upto* is what *agent* has acknowledged, or -1."""
    status = message.status
    if not message.is_broadcast:
        text = (
            f"It is the reply to {message.in_reply_to}, lies in no inbox, and is kept as long as "
            "the request: who waits for it gets it, whenever it asks."
        )
    else:
        text = (
            f"It is broadcast {message.number}, sent at {_clock(message.sent_at)}: one copy, kept "
            "for 7 days, which every agent reads in its own time."
        )
        if upto >= message.number:
            status = MessageStatus.READ
            text += f" {agent} has acknowledged it, or began behind it."
        elif agent:
            text += f" {agent} has not acknowledged it: it has all up to {upto}."
        else:
            text += " Give an agent to see whether it has."
    return MessageWhy(id=message.id, agent=agent, status=status, text=text)


def _clock(at: datetime | None) -> str:
    return f"{at:%H:%M:%S} UTC" if at else "some time"
