"""How messages look to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from callboard.cli.render import Column, age, clock, fields, heading, one_line, status, table, when
from callboard.domain.message import InboxCounts, Link, Message, MessagePage, Subscription

_COLUMNS: Final = (
    Column("ID"),
    Column("STATUS"),
    Column("FROM", drop=1, shrinks=True),
    Column("TO", drop=2, shrinks=True),
    Column("TYPE", drop=4, shrinks=True),
    Column("AGE", drop=3, right=True),
    Column("PAYLOAD", shrinks=True),
)
_INBOXES: Final = (
    Column("AGENT"),
    Column("WAITING", right=True),
    Column("DELAYED", drop=2, right=True),
    Column("TAKEN", right=True),
    Column("DEAD", right=True),
    Column("FINISHED", drop=1, right=True),
)
_DEAD: Final = (
    Column("ID"),
    Column("AGENT"),
    Column("FROM", drop=2, shrinks=True),
    Column("TIMES", drop=1, right=True),
    Column("WHY", shrinks=True),
)


def _rows(messages: Sequence[Message], width: int) -> Iterator[str | Text]:
    rows = (
        (
            message.id,
            "broadcast" if message.is_broadcast else status(message.status.value),
            message.sender,
            message.agent or message.to,
            message.type,
            age(message.sent_at),
            _payload(message),
        )
        for message in messages
    )
    yield from table(_COLUMNS, rows, width)


def _payload(message: Message) -> str:
    return one_line(bytes(message.payload)[:400].decode("utf-8", "replace"))


def inbox(page: MessagePage, counts: InboxCounts, state: str, width: int) -> Iterator[str | Text]:
    """What lies in one inbox."""
    agent = counts.agent
    if not page.messages:
        yield f"Nothing {state} in the inbox of {agent}."
        yield Text(
            f"Send it something: callboard messages send {agent} '{{\"n\": 1}}'", style="dim"
        )
    else:
        yield from _rows(page.messages, width)
    told = [
        f"{count:,} {name}"
        for name, count in (
            ("waiting", counts.waiting),
            ("delayed", counts.delayed),
            ("taken", counts.taken),
            ("dead", counts.dead),
            ("finished", counts.finished),
            ("broadcasts unread", counts.broadcasts),
        )
        if count
    ]
    if told:
        yield Text(", ".join(told), style="dim")


def inboxes(found: Sequence[InboxCounts], width: int) -> Iterator[str | Text]:
    """Inboxes, a line each."""
    if not found:
        yield "No inboxes yet: one comes into being with its first message."
        yield Text("Send one: callboard messages send noor '{\"n\": 1}'", style="dim")
        return
    rows = (
        (one.agent, one.waiting, one.delayed, one.taken, one.dead, one.finished) for one in found
    )
    yield from table(_INBOXES, rows, width)


def history(page: MessagePage, width: int) -> Iterator[str | Text]:
    """Messages, newest first."""
    if not page.messages:
        yield "No messages are kept that fit. Read ones are kept for a day."
        return
    yield from _rows(page.messages, width)
    shown = page.offset + len({message.id for message in page.messages})
    if shown < page.total:
        yield Text(f"{page.total:,} in all; more: --offset {shown}", style="dim")


def dead(found: Sequence[Message], width: int) -> Iterator[str | Text]:
    """Dead letters, a line each."""
    if not found:
        yield "No dead letters."
        return
    rows = (
        (one.id, one.agent, one.sender, one.deliveries, one_line(one.error or "its leases ran out"))
        for one in found
    )
    yield from table(_DEAD, rows, width)
    yield Text("Put one back: callboard messages requeue AGENT ID", style="dim")


def taken(agent: str, found: Sequence[Message]) -> Iterator[str | Text]:
    """What was taken, with how to acknowledge it."""
    if not found:
        yield f"Nothing waits in the inbox of {agent}."
        return
    for message in found:
        yield from lines(message)
        yield Text(
            f"  until {clock(message.until)}: callboard messages ack {agent} "
            f"{message.id}:{message.fence}",
            style="dim",
        )


def lines(message: Message) -> Iterator[str | Text]:
    """One message as it comes."""
    about = [message.type, *([f"thread {message.thread}"] if message.thread else [])]
    if message.is_request:
        about.append(f"asks, until {clock(message.expires_at)}")
    if message.deliveries > 1:
        about.append(f"delivery {message.deliveries}")
    sender = message.sender or "nobody in particular"
    yield f"{clock(message.sent_at)} {message.id} from {sender} ({', '.join(about)})"
    yield f"  {_payload(message)}"


def whole(copies: Sequence[Message]) -> Iterator[str | Text]:
    """All that is known of a message."""
    message = copies[0]
    yield from fields(
        [
            ("message", message.id),
            ("from", message.sender),
            ("to", message.to),
            ("type", message.type),
            ("protocol", message.protocol),
            ("priority", message.priority or ""),
            ("thread", message.thread),
            ("in reply to", message.in_reply_to),
            ("sent", when(message.sent_at)),
            ("expires", when(message.expires_at)),
            ("answered by", message.reply),
            ("number", message.number or ""),
            ("payload", _payload(message)),
        ]
    )
    if message.is_broadcast:
        return
    yield heading("Inboxes")
    for copy in copies:
        facts = [copy.status.value]
        if copy.until is not None:
            facts.append(f"until {clock(copy.until)}")
        if copy.taker:
            facts.append(f"by {copy.taker}")
        facts.append(f"given out {copy.deliveries} of {copy.max_deliveries} times")
        if copy.error:
            facts.append(one_line(copy.error))
        yield from fields([(f"  {copy.agent or 'who asked'}", ", ".join(facts))])


def subscriptions(found: Sequence[Subscription], width: int) -> Iterator[str | Text]:
    """Subscriptions, a line each."""
    if not found:
        yield "No subscriptions. Make one: callboard messages subscribe AGENT TOPIC"
        return
    rows = ((s.agent, s.topic, ", ".join(s.types) or "all", age(s.since)) for s in found)
    columns = (Column("AGENT"), Column("TOPIC"), Column("TYPES", shrinks=True), Column("SINCE"))
    yield from table(columns, rows, width)


def links(found: Sequence[Link], what: str, width: int) -> Iterator[str | Text]:
    """Peers or subordinates, a line each."""
    if not found:
        verb = "add-peer" if what == "PEER" else "set-hierarchy"
        yield f"Nobody is linked. Make a link: callboard messages {verb} AGENT OTHER"
        return
    columns = (Column("AGENT"), Column(what), Column("SINCE"))
    yield from table(columns, ((one.agent, one.name, age(one.since)) for one in found), width)
