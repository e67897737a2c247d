"""``callboard agents``: who is there, how they do, and who shall take no more work."""

from typing import TYPE_CHECKING, Annotated

import typer

from callboard.cli import options, parse
from callboard.cli.command import command, group
from callboard.cli.failures import counted
from callboard.cli.output import Output
from callboard.domain.agent import HEARTBEAT_DEFAULT

if TYPE_CHECKING:
    from callboard.app import Callboard

app = group("agents", "See who is there and how they do; drain, activate, deregister.")


@command(app, "list", example="callboard agents list --capability python")
async def list_agents(
    cb: "Callboard",
    out: Output,
    agent_type: Annotated[
        str, typer.Option("--type", metavar="NAME", help="Only of this type.")
    ] = "",
    status: Annotated[
        str, typer.Option("--status", "-s", metavar="STATUS", help="Only under this status.")
    ] = "",
    capability: options.Capabilities = None,
    service: Annotated[
        list[str] | None,
        typer.Option("--service", metavar="NAME", help="Offers it. May be repeated."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="Has it. May be repeated."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Has it. May be repeated.")
    ] = None,
    health: Annotated[
        float, typer.Option("--health", metavar="0…1", help="At least this healthy.")
    ] = 0.0,
    limit: options.Limit = 100,
) -> None:
    """List the agents that have all of what is asked for, healthiest first."""
    from callboard.cli import render_agents

    found = await cb.agents.discover(
        agent_type=agent_type,
        status=status,
        capabilities=parse.names(capability),
        services=parse.names(service),
        labels=parse.labels(label),
        tags=parse.names(tag),
        min_health=health,
        limit=limit,
    )
    is_filtered = bool(agent_type or status or capability or service or label or tag or health)
    out.emit({"agents": found}, render_agents.listing, found, out.width, is_filtered)


@command(app, "show", example="callboard agents show mira")
async def show(cb: "Callboard", out: Output, agent: options.AgentId) -> None:
    """Show an agent: its state and why, what it can serve, its processes."""
    from callboard.cli import render_agents

    found = await cb.agents.get(agent)
    out.emit(found, render_agents.whole, found, out.width)


@command(app, "tasks", example="callboard agents tasks mira")
async def tasks(
    cb: "Callboard", out: Output, agent: options.AgentId, limit: options.Limit = 100
) -> None:
    """List the tasks that an agent holds now, on all boards, as it claimed them."""
    from callboard.cli import render_agents

    found = await cb.agents.tasks(agent, limit=limit)
    out.emit({"tasks": found}, render_agents.held, agent, found, out.width)


@command(
    app,
    "register",
    example="callboard agents register mira --capability python",
)
async def register(
    cb: "Callboard",
    out: Output,
    agent: options.AgentId,
    agent_type: Annotated[str, typer.Option("--type", metavar="NAME", help="Its type.")] = "worker",
    capability: options.Capabilities = None,
    service: Annotated[
        list[str] | None,
        typer.Option("--service", metavar="NAME", help="What it offers. May be repeated."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="May be repeated."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="NAME", help="Handles only these. May be repeated."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="May be repeated.")
    ] = None,
    max_concurrent: Annotated[
        int, typer.Option("--max-concurrent", metavar="N", help="Tasks it may hold.")
    ] = 100,
    weight: Annotated[
        float,
        typer.Option("--weight", metavar="X", help="Its share, where a strategy goes by weight."),
    ] = 1.0,
    priority: Annotated[
        int,
        typer.Option("--priority", metavar="N", help="Of equal agents the higher comes first."),
    ] = 0,
    interval: Annotated[
        str,
        typer.Option("--interval", metavar="TIME", help="After three without a sign it is lost."),
    ] = f"{HEARTBEAT_DEFAULT:g}s",
) -> None:
    """Enter an agent that has no worker of Callboard's; again is an update."""
    done = await cb.agents.register(
        agent,
        agent_type=agent_type,
        capabilities=parse.names(capability),
        services=parse.names(service),
        labels=parse.labels(label),
        kinds=parse.names(kind),
        tags=parse.names(tag),
        max_concurrent=max_concurrent,
        weight=weight,
        priority=priority,
        heartbeat_interval=parse.seconds("interval", interval) or 0.0,
    )
    word = "registered" if done.is_new else "updated"
    out.emit(done, lambda: [f"Agent {agent} {word}; it is {done.status}."])


@command(app, "heartbeat", example="callboard agents heartbeat mira")
async def heartbeat(cb: "Callboard", out: Output, agent: options.AgentId) -> None:
    """Say that an agent without a worker of Callboard's is alive."""
    heard = await cb.agents.heartbeat(agent)
    told = "heard; it is asked to take no new work" if heard.should_drain else "heard"
    out.emit(heard, lambda: [f"Agent {agent} {told}."])


@command(app, "drain", example="callboard agents drain mira")
async def drain(cb: "Callboard", out: Output, agent: options.AgentId) -> None:
    """Let an agent finish what it holds and take no new work."""
    before = await cb.agents.drain(agent, by=parse.operator())
    value = {"agent": agent, "status": "draining", "before": before}
    again = f"Agent {agent} drains. Undo it: callboard agents activate {agent}"
    out.emit(value, lambda: [again])


@command(app, "activate", example="callboard agents activate mira")
async def activate(cb: "Callboard", out: Output, agent: options.AgentId) -> None:
    """Let an agent take work again."""
    before = await cb.agents.set_status(agent, "active", by=parse.operator())
    value = {"agent": agent, "status": "active", "before": before}
    out.emit(value, lambda: [f"Agent {agent} is active; it was {before}."])


@command(app, "deregister", example="callboard agents deregister mira")
async def deregister(cb: "Callboard", out: Output, agent: options.AgentId) -> None:
    """Take an agent off the roster; what it held goes back to the board, unharmed."""
    given_back = await cb.agents.deregister(agent, by=parse.operator())
    value = {"agent": agent, "given_back": given_back}
    out.emit(
        value,
        lambda: [f"Agent {agent} is off the roster; {counted(given_back, 'task')} went back."],
    )
