"""``callboard messages``: sent, looked at, taken, answered; dead letters and history."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard.cli import failures, options, parse
from callboard.cli.answers import tell
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.domain import message as messages
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard

app = group(
    "messages", "Send messages, look into inboxes, take, answer, and put back dead letters."
)

Agent = Annotated[str, typer.Argument(metavar="AGENT", help="Whose inbox.", show_default=False)]
Id = Annotated[str, typer.Argument(metavar="ID", help="The message.", show_default=False)]
Ids = Annotated[
    list[str], typer.Argument(metavar="ID...", help="The messages.", show_default=False)
]
Payload = Annotated[
    str | None,
    typer.Argument(
        metavar="[PAYLOAD]", help="JSON, @file, or - for standard input.", show_default=False
    ),
]
Sender = Annotated[
    str, typer.Option("--from", "-f", metavar="AGENT", help="Who sends it.", show_default=False)
]
Type = Annotated[str, typer.Option("--type", "-t", metavar="NAME", help="What it is about.")]
Priority = Annotated[
    str,
    typer.Option("--priority", "-p", metavar="P", help="low to urgent, or -1000 to 1000."),
]
Thread = Annotated[str, typer.Option("--thread", metavar="NAME", help="What it belongs to.")]
GivenId = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="Known again: sent twice it is one.")
]
Lease = Annotated[
    str, typer.Option("--lease", metavar="TIME", help="For how long nobody else is given them.")
]


@dataclass(frozen=True, slots=True)
class AddressOptions:
    """To whom, where that is not by name."""

    role: Annotated[
        str, typer.Option("--role", metavar="TYPE", help="To all agents of this type.")
    ] = ""
    capability: Annotated[
        list[str] | None,
        typer.Option("--capability", "-c", metavar="NAME", help="To all that have it."),
    ] = None
    service: Annotated[
        list[str] | None, typer.Option("--service", metavar="NAME", help="To all that offer it.")
    ] = None
    topic: Annotated[
        str, typer.Option("--topic", metavar="NAME", help="To all that are subscribed.")
    ] = ""
    registered: Annotated[
        bool, typer.Option("--registered", help="To all that are registered now.")
    ] = False

    def of(self, agents: list[str]) -> Any:
        """The address that they and the names of *agents* say.

        Raises:
            InvalidArgument: It is none, or several.
        """
        is_role = bool(self.role or self.capability or self.service)
        if sum((bool(agents), is_role, bool(self.topic), self.registered)) != 1:
            raise InvalidArgument(
                "Say to whom: agents by name, or --role, --capability, --service, or --topic, or "
                "--registered; the last word is the payload.",
                field="to",
            )
        if self.registered:
            return messages.REGISTERED
        if self.topic:
            return messages.Topic(self.topic)
        if is_role:
            return messages.Role(
                agent_type=self.role,
                capabilities=parse.names(self.capability),
                services=parse.names(self.service),
            )
        return agents[0] if len(agents) == 1 else agents


@command(
    app,
    "send",
    example="""
        callboard messages send noor '{"see": "t_41"}' -f mira
        callboard messages send --role critic '"review"' -p high
    """,
)
async def send(
    cb: "Callboard",
    out: Output,
    to: Annotated[
        list[str],
        typer.Argument(
            metavar="[AGENT...] PAYLOAD",
            help="To whom, and at the end what: JSON, @file, or -.",
            show_default=False,
        ),
    ],
    sender: Sender = "",
    *,
    address: AddressOptions,
    kind: Type = "direct",
    priority: Priority = "normal",
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="TIME", help="Then it expires.")
    ] = None,
    thread: Thread = "",
    in_reply_to: Annotated[
        str, typer.Option("--in-reply-to", metavar="ID", help="What it answers.")
    ] = "",
    protocol: Annotated[
        str,
        typer.Option("--protocol", metavar="NAME", help="direct, peer_to_peer or hierarchical."),
    ] = "direct",
    given_id: GivenId = None,
) -> None:
    """Put a message into the inboxes of those that it is for.

    Receivers need not be there yet: it waits for them.
    """
    *agents, payload = to
    sent = await cb.messages.send(
        address.of(agents),
        parse.json_value("payload", payload),
        sender=sender,
        type=kind,
        priority=parse.priority(priority),
        ttl=parse.seconds("ttl", ttl),
        thread=thread,
        in_reply_to=in_reply_to,
        protocol=protocol,
        id=given_id,
    )
    out.emit({**_shape(sent), "count": sent.count}, _sent_lines, sent)


def _shape(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def _sent_lines(sent: messages.SentMessage) -> list[str]:
    to = ", ".join(sent.recipients) or "nobody: no agent fits now"
    lines = [f"{'Sent before' if sent.status == 'replayed' else 'Sent'} {sent.id} to {to}."]
    if sent.full:
        lines.append(f"Passed over, since their inboxes are full: {', '.join(sent.full)}.")
    return lines


@command(app, "broadcast", example="callboard messages broadcast '\"stop at noon\"' --from ann")
async def broadcast(
    cb: "Callboard",
    out: Output,
    payload: Payload = None,
    sender: Sender = "",
    kind: Type = "broadcast",
    thread: Thread = "",
    given_id: GivenId = None,
) -> None:
    """Put a message where every agent reads it once, in its own time."""
    sent = await cb.messages.broadcast(
        parse.json_value("payload", payload), sender=sender, type=kind, thread=thread, id=given_id
    )
    out.emit(
        sent, lambda: [f"Broadcast {sent.id}, number {sent.number}; {sent.count} agents are here."]
    )


@command(app, "request", example="callboard messages request noor '\"ready?\"' --timeout 30s")
async def request(
    cb: "Callboard",
    out: Output,
    to: Agent,
    payload: Payload = None,
    sender: Sender = "",
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="For how long to wait.")
    ] = "10s",
    kind: Type = "direct",
    priority: Priority = "normal",
    given_id: GivenId = None,
) -> None:
    """Ask an agent, wait for its answer, and print it as JSON.

    With --id the answer can be asked for again, by the same command, after a crash.
    """
    reply = await cb.messages.request(
        to,
        parse.json_value("payload", payload),
        sender=sender,
        timeout=parse.seconds("timeout", timeout) or messages.REQUEST_TIMEOUT,
        type=kind,
        priority=parse.priority(priority),
        id=given_id,
    )
    out.emit(reply, lambda: [bytes(reply.payload).decode()])


@command(app, "reply", example="callboard messages reply noor 3a2b '\"yes\"' --fence 17")
async def reply(
    cb: "Callboard",
    out: Output,
    agent: Agent,
    message: Id,
    payload: Payload = None,
    fence: Annotated[
        int, typer.Option("--fence", metavar="N", help="Of the taken request; 0 where untaken.")
    ] = 0,
) -> None:
    """Answer a request, once, and acknowledge it."""
    value = parse.json_value("payload", payload)
    reply_id = await cb.messages.reply_to(agent, message, value, fence=fence)
    out.emit({"request": message, "reply": reply_id}, lambda: [f"Answered {message}: {reply_id}."])


# Looking


@command(app, "inboxes", example="callboard messages inboxes")
async def inboxes(cb: "Callboard", out: Output, limit: options.Limit = 100) -> None:
    """List the inboxes there are, with what they hold."""
    from callboard.cli import render_messages

    found = await cb.messages.inboxes(limit=limit)
    out.emit({"inboxes": found}, render_messages.inboxes, found, out.width)


@command(app, "inbox", example="callboard messages inbox noor --state dead")
async def inbox(
    cb: "Callboard",
    out: Output,
    agent: Agent,
    state: Annotated[
        str,
        typer.Option("--state", metavar="S", help="unread waiting delayed taken dead finished."),
    ] = "unread",
    limit: options.Limit = 50,
) -> None:
    """Look into an inbox without taking anything."""
    from callboard.cli import render_messages

    page = await cb.messages.inbox(agent, state=state, limit=limit)
    counts = await cb.messages.counts(agent)
    value = {"messages": page.messages, "total": page.total, "counts": counts}
    out.emit(value, render_messages.inbox, page, counts, state, out.width)


@command(app, "show", example="callboard messages show 019f3a2b")
async def show(cb: "Callboard", out: Output, message: Id) -> None:
    """Show a message, and where it stands in each inbox that has it."""
    from callboard.cli import render_messages

    copies = await cb.messages.copies(message)
    out.emit({"id": message, "copies": copies}, render_messages.whole, copies)


@command(app, "why", example="callboard messages why 019f3a2b --agent noor")
async def why(
    cb: "Callboard",
    out: Output,
    message: Id,
    agent: Annotated[
        str, typer.Option("--agent", "-a", metavar="NAME", help="In this one's inbox.")
    ] = "",
) -> None:
    """Say why a message is where it is."""
    found = await cb.messages.why(message, agent=agent)
    out.emit(found, lambda: [found.text])


@command(app, "history", example="callboard messages history --thread plan-7")
async def history(
    cb: "Callboard",
    out: Output,
    sender: Annotated[str, typer.Option("--sender", metavar="AGENT", help="From it.")] = "",
    receiver: Annotated[str, typer.Option("--receiver", metavar="AGENT", help="To it.")] = "",
    thread: Annotated[str, typer.Option("--thread", metavar="NAME", help="In it.")] = "",
    since: options.From = None,
    limit: options.Limit = 50,
    offset: Annotated[int, typer.Option("--offset", metavar="N", help="Pass over so many.")] = 0,
) -> None:
    """List the messages that are kept, newest first: read ones for a day, dead ones for 30."""
    from callboard.cli import render_messages

    page = await cb.messages.history(
        sender=sender,
        receiver=receiver,
        thread=thread,
        since=parse.moment("since", since, past=True),
        limit=limit,
        offset=offset,
    )
    out.emit(page, render_messages.history, page, out.width)


# Taking


@command(app, "take", example="callboard messages take noor --limit 5 --lease 5m")
async def take(
    cb: "Callboard", out: Output, agent: Agent, limit: options.Limit = 1, lease: Lease = "5m"
) -> None:
    """Take the first messages of an inbox; acknowledge each by its id and fence."""
    from callboard.cli import render_messages

    taken = await cb.messages.take(agent, limit, lease=parse.seconds("lease", lease) or 300.0)
    out.emit({"messages": taken}, render_messages.taken, agent, taken)


@command(app, "ack", example="callboard messages ack noor 019f3a2b:17")
async def ack(
    cb: "Callboard",
    out: Output,
    agent: Agent,
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID[:FENCE]...", help="With the fence of one that was taken."),
    ],
) -> int:
    """End messages as read: taken ones by their fence, others as only looked at."""
    given = [_fenced(text) for text in ids]
    looked_at = [name for name, fence in given if not fence]
    answers = {one.id: one for one in await cb.messages.mark_read(agent, looked_at)}
    fenced = [(name, fence) for name, fence in given if fence]
    for one in await cb.messages.acknowledge_ids(agent, fenced):
        answers[one.id] = one
    words = {"ok": "Acknowledged {id}.", "replayed": "Acknowledged before: {id}."}
    return tell(out, [answers[name] for name, _ in given], words, board="")


def _fenced(text: str) -> tuple[str, int]:
    name, _, fence = text.partition(":")
    if fence and not fence.isdecimal():
        raise InvalidArgument(f"{text!r} is not ID or ID:FENCE.", field="id")
    return name, int(fence or 0)


@command(
    app,
    "listen",
    example="""
        callboard messages listen noor --json | jq .payload
        callboard messages listen noor --limit 1
    """,
)
async def listen(
    cb: "Callboard",
    out: Output,
    agent: Agent,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", help="Stop after so many.")
    ] = None,
    no_broadcasts: Annotated[
        bool, typer.Option("--no-broadcasts", help="Only what lies in the inbox.")
    ] = False,
) -> None:
    """Print an agent's messages as they come, acknowledging each, until Ctrl-C."""
    import asyncio

    from callboard.cli import render_messages

    source = cb.messages.listen(agent, batch=1, broadcasts=not no_broadcasts, limit=limit)
    janitor = cb.janitor()
    janitor.start()
    try:
        async for message in source:
            if out.as_json:
                out.item(message)
            else:
                out.say(*render_messages.lines(message))
                out.flush()
    finally:
        await asyncio.shield(janitor.stop())


# What an operator does


@command(app, "dead", example="callboard messages dead noor")
async def dead(
    cb: "Callboard",
    out: Output,
    agent: Annotated[
        str | None,
        typer.Argument(metavar="AGENT", help="Of this inbox alone.", show_default=False),
    ] = None,
    limit: options.Limit = 50,
) -> None:
    """List messages that were given out as often as they may be, and never acknowledged."""
    from callboard.cli import render_messages

    names = [agent] if agent else [one.agent for one in await cb.messages.inboxes() if one.dead]
    found: list[messages.Message] = []
    for name in names:
        if len(found) < limit:
            page = await cb.messages.inbox(name, state="dead", limit=limit - len(found))
            found += page.messages
    out.emit({"dead": found}, render_messages.dead, found, out.width)


@command(app, "requeue", example="callboard messages requeue noor 019f3a2b")
async def requeue(cb: "Callboard", out: Output, agent: Agent, ids: Ids) -> int:
    """Put dead letters back into their inbox, with all their deliveries before them."""
    answers = await cb.messages.requeue(agent, ids, by=parse.operator())
    return tell(out, answers, {"ok": f"{{id}} is back in the inbox of {agent}."}, board="")


@command(app, "purge", example="callboard messages purge noor 019f3a2b")
async def purge(cb: "Callboard", out: Output, agent: Agent, ids: Ids) -> int:
    """Remove messages from an inbox, whatever their state, but for taken ones."""
    answers = await cb.messages.purge(agent, ids, by=parse.operator())
    return tell(out, answers, {"ok": "Removed {id}."}, board="")


@command(app, "limit", example="callboard messages limit noor 50000")
async def limit_(
    cb: "Callboard",
    out: Output,
    agent: Agent,
    most: Annotated[int, typer.Argument(metavar="N", help="Unfinished messages.")],
) -> int:
    """Set how many unfinished messages an inbox holds before it refuses more."""
    await cb.messages.set_limit(agent, most, by=parse.operator())
    line = f"The inbox of {agent} holds up to {most:,} messages."
    out.emit({"agent": agent, "limit": most}, lambda: [line])
    return failures.OK
