"""``callboard messages``, the rest: topics, peers, hierarchies."""

from typing import TYPE_CHECKING, Annotated

import typer

from callboard.cli import parse
from callboard.cli.command import command
from callboard.cli.messages import Agent, app
from callboard.cli.output import Output

if TYPE_CHECKING:
    from callboard.app import Callboard

__all__ = ["app"]

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic.", show_default=False)]
Peer = Annotated[str, typer.Argument(metavar="PEER", help="The other.", show_default=False)]
Others = Annotated[
    list[str], typer.Argument(metavar="AGENT...", help="The others.", show_default=False)
]
Some = Annotated[
    str,
    typer.Argument(metavar="[AGENT]", help="Of this one alone.", show_default=False),
]


@command(app, "subscribe", example="callboard messages subscribe noor builds")
async def subscribe(
    cb: "Callboard",
    out: Output,
    agent: Agent,
    topic: Topic,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", "-t", metavar="NAME", help="Only such messages. Repeatable."),
    ] = None,
) -> None:
    """Have an agent get what is published on a topic from now on."""
    changed = await cb.messages.subscribe(agent, topic, types=types or ())
    line = f"{agent} {'is subscribed' if changed else 'was subscribed already'} to {topic}."
    out.emit({"agent": agent, "topic": topic, "changed": changed}, lambda: [line])


@command(app, "unsubscribe", example="callboard messages unsubscribe noor builds")
async def unsubscribe(cb: "Callboard", out: Output, agent: Agent, topic: Topic) -> None:
    """End a subscription; what was sent stays in the inbox."""
    changed = await cb.messages.unsubscribe(agent, topic)
    line = f"{agent} {'is' if changed else 'was'} not subscribed to {topic}."
    out.emit({"agent": agent, "topic": topic, "changed": changed}, lambda: [line])


@command(app, "subscriptions", example="callboard messages subscriptions noor")
async def subscriptions(cb: "Callboard", out: Output, agent: Some = "") -> None:
    """List who is subscribed to what."""
    from callboard.cli import render_messages

    found = await cb.messages.subscriptions(agent)
    out.emit({"subscriptions": found}, render_messages.subscriptions, found, out.width)


@command(app, "peers", example="callboard messages peers mira")
async def peers(cb: "Callboard", out: Output, agent: Some = "") -> None:
    """List whom agents may write to by peer_to_peer."""
    from callboard.cli import render_messages

    found = await cb.messages.peers(agent)
    out.emit({"peers": found}, render_messages.links, found, "PEER", out.width)


@command(app, "add-peer", example="callboard messages add-peer mira noor")
async def add_peer(cb: "Callboard", out: Output, agent: Agent, peer: Peer) -> None:
    """Let an agent write to another by peer_to_peer; one way."""
    changed = await cb.messages.add_peer(agent, peer, by=parse.operator())
    line = f"{agent} may write to {peer}{'' if changed else ', as before'}."
    out.emit({"agent": agent, "peer": peer, "changed": changed}, lambda: [line])


@command(app, "remove-peer", example="callboard messages remove-peer mira noor")
async def remove_peer(cb: "Callboard", out: Output, agent: Agent, peer: Peer) -> None:
    """Undo add-peer."""
    changed = await cb.messages.remove_peer(agent, peer, by=parse.operator())
    line = f"{agent} may not write to {peer}{'' if changed else ', as before'}."
    out.emit({"agent": agent, "peer": peer, "changed": changed}, lambda: [line])


@command(app, "hierarchy", example="callboard messages hierarchy lead")
async def hierarchy(cb: "Callboard", out: Output, agent: Some = "") -> None:
    """List who is subordinate to whom, for messages by hierarchical."""
    from callboard.cli import render_messages

    found = await cb.messages.subordinates(agent)
    out.emit({"subordinates": found}, render_messages.links, found, "SUBORDINATE", out.width)


@command(app, "set-hierarchy", example="callboard messages set-hierarchy lead mira noor")
async def set_hierarchy(cb: "Callboard", out: Output, master: Agent, subordinates: Others) -> None:
    """Make these and no others the subordinates of an agent."""
    changed = await cb.messages.set_hierarchy(master, subordinates, by=parse.operator())
    line = f"{master} leads {', '.join(subordinates)}; {changed} changed."
    value = {"agent": master, "subordinates": subordinates, "changed": changed}
    out.emit(value, lambda: [line])
