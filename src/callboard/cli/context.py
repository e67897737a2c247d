"""``callboard context``: what agents share, and what each says it is doing."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from callboard.cli import options, parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.domain.context import Change

app = group("context", "Share fields of projects between agents, and say what agents are doing.")

Project = Annotated[
    str, typer.Argument(metavar="PROJECT", help="The context's name.", show_default=False)
]
IfRev = Annotated[
    int | None,
    typer.Option("--if-rev", metavar="N", help="Only at this revision; 0: only a new one."),
]


@command(app, "list", example="callboard context list")
async def list_contexts(
    cb: "Callboard",
    out: Output,
    limit: options.Limit = 100,
) -> None:
    """List contexts, the last changed first."""
    from callboard.cli import render_context

    found = await cb.context.list(limit=limit)
    out.emit({"contexts": found}, render_context.listing, found, out.width)


@command(app, "show", example="callboard context show proj-1")
async def show(
    cb: "Callboard",
    out: Output,
    project: Project,
    field: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FIELD]", help="Only these fields.", show_default=False),
    ] = None,
) -> None:
    """Show a context's fields and its revision."""
    from callboard.cli import render_context

    context = await cb.context.get(project, field or ())
    out.emit(context, render_context.whole, context)


@command(
    app,
    "set",
    example="""
        callboard context set proj-1 status=training size=125000
        callboard context set proj-1 --add n=1 --remove draft
    """,
)
async def set_fields(
    cb: "Callboard",
    out: Output,
    project: Project,
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]",
            help="JSON where it reads as such, else text; '\"5\"' for the text 5.",
            show_default=False,
        ),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="NAME", help="Remove this field. May be repeated."),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", metavar="NAME=N", help="Add to a number. May be repeated."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Remove all other fields.")] = False,
    if_rev: IfRev = None,
    ttl: Annotated[
        str | None,
        typer.Option("--ttl", metavar="TIME", help="Keep the context so long, or `forever`."),
    ] = None,
    sliding: Annotated[
        bool, typer.Option("--sliding", help="Each later write begins the time anew.")
    ] = False,
) -> None:
    """Write, remove and increment fields in one step: all of it, or nothing."""
    kept: Any = ...
    if ttl is not None:
        kept = None if ttl == "forever" else parse.seconds("ttl", ttl)
    written = await cb.context.set(
        project,
        {name: _value(text) for name, text in _pairs(pairs).items()},
        remove=parse.names(remove),
        increment={name: _number(name, text) for name, text in _pairs(add).items()},
        replace=replace,
        if_rev=if_rev,
        ttl=kept,
        sliding=sliding,
        by=parse.operator(),
    )
    sums = "".join(f" {name} is {value} now." for name, value in written.sums.items())
    out.emit(written, lambda: [f"Wrote context {project}, revision {written.rev}.{sums}"])


@command(app, "delete", example="callboard context delete proj-1")
async def delete(cb: "Callboard", out: Output, project: Project, if_rev: IfRev = None) -> None:
    """Remove a context with all its fields."""
    await cb.context.delete(project, if_rev=if_rev, by=parse.operator())
    out.emit({"deleted": project}, lambda: [f"Deleted context {project}."])


@command(
    app,
    "watch",
    example="""
        callboard context watch proj-1
        callboard context watch --json | jq .context.fields
    """,
)
async def watch(
    cb: "Callboard",
    out: Output,
    project: Annotated[
        str | None,
        typer.Argument(metavar="[PROJECT]", help="Only this one.", show_default=False),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option("--since", metavar="N", help="What changed since this revision, first."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", help="Stop after so many changes.")
    ] = None,
) -> None:
    """Print changes as they come, until Ctrl-C."""
    from callboard.cli import render_context

    left = limit
    out.remark("Watching. Ctrl-C ends it.")
    async for change in cb.context.watch(project, since=since):
        _tell(out, change, render_context.change_line)
        if left is not None:
            left -= 1
            if left <= 0:
                return


def _tell(out: Output, change: "Change", line: Any) -> None:
    if out.as_json:
        out.item(change)
    else:
        out.say(line(change))
        out.flush()


@command(
    app,
    "state",
    example="""
        callboard context state mira busy --task t_41
        callboard context state mira idle
    """,
)
async def state(
    cb: "Callboard",
    out: Output,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent.", show_default=False)],
    status: Annotated[
        str, typer.Argument(metavar="STATUS", help="idle, busy or failed.", show_default=False)
    ],
    task: Annotated[
        str | None, typer.Option("--task", metavar="TASK", help="What it is busy with.")
    ] = None,
) -> None:
    """Say what an agent is doing, beside what others of its type say."""
    said = await cb.context.set_state(agent, status, current_task=task)
    doing = f"{said.status.value}{f' with {task}' if task else ''}"
    out.emit(said, lambda: [f"Agent {agent}, a {said.agent_type}, is {doing}."])


@command(app, "states", example="callboard context states worker")
async def states(
    cb: "Callboard",
    out: Output,
    agent_type: Annotated[
        str, typer.Argument(metavar="TYPE", help="Type of the agents.", show_default=False)
    ],
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="Only idle, busy or failed.")
    ] = None,
) -> None:
    """List what the agents of a type say they are doing."""
    from callboard.cli import render_context

    found = await cb.context.states(agent_type, status=status)
    out.emit({"states": found}, render_context.states, found, agent_type, out.width)


def _pairs(given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"{pair!r} is not of the form NAME=VALUE.", field="fields")
        found[name] = value
    return found


def _value(text: str) -> Any:
    """JSON where it reads as such, else the text."""
    try:
        return msgspec.json.decode(text, type=Any)
    except msgspec.DecodeError:
        return text


def _number(name: str, text: str) -> Any:
    value = _value(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgument(f"--add {name}={text} adds no number.", field="increment")
    return value
