"""``callboard errors``: what went wrong, grouped by what it has in common."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from callboard.cli import options, parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.cli.selection import confirmed
from callboard.domain.board import DEFAULT_BOARD

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.domain.error import ErrorGroup, GroupState, Severity

app = group("errors", "Look at what went wrong, and say what was dealt with.")

Fingerprint = Annotated[
    str,
    typer.Argument(
        metavar="FINGERPRINT",
        help="The group's fingerprint, or its first digits as `errors groups` shows them.",
        show_default=False,
    ),
]
Since = options.Since
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why, for whoever reads it.")]


@command(app, "list", example="callboard errors list --severity high --since 1h")
async def list_errors(
    cb: "Callboard",
    out: Output,
    severity: Annotated[
        str | None,
        typer.Option("--severity", metavar="NAME", help="low, medium, high or critical."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Only errors of this name.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="TASK", help="Only of this task.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", "-a", metavar="NAME", help="Only of this agent.")
    ] = None,
    component: Annotated[
        str | None, typer.Option("--component", metavar="NAME", help="Only of this component.")
    ] = None,
    board: options.AnyBoard = None,
    training: Annotated[
        bool, typer.Option("--training", help="The log of the trainings of --board.")
    ] = False,
    since: Since = None,
    limit: options.Limit = 20,
) -> None:
    """List errors, the newest first."""
    from callboard.cli import render_errors

    found = await cb.errors.list(
        severity=cast("Severity | None", severity),
        name=name,
        task=task,
        agent=agent,
        component=component,
        project=board,
        training=training,
        since=parse.moment("since", since, past=True),
        limit=limit,
    )
    out.emit({"errors": found}, render_errors.listing, found, out.width)


@command(app, "groups", example="callboard errors groups --state open")
async def groups(
    cb: "Callboard",
    out: Output,
    state: Annotated[
        str | None, typer.Option("--state", metavar="NAME", help="open, resolved or ignored.")
    ] = None,
    since: Since = None,
    limit: options.Limit = 20,
) -> None:
    """List groups of errors that differ in ids and numbers only, those seen last first."""
    from callboard.cli import render_errors

    found = await cb.errors.groups(
        since=parse.moment("since", since, past=True),
        state=cast("GroupState | None", state),
        limit=limit,
    )
    out.emit({"groups": found}, render_errors.groups, found, out.width)


@command(app, "show", example="callboard errors show 3f9a01")
async def show(cb: "Callboard", out: Output, fingerprint: Fingerprint) -> None:
    """Show a group: how often and since when, by minute, and its newest errors."""
    from callboard.cli import render_errors

    found = await cb.errors.group(await _whole(cb, fingerprint))
    newest = await cb.errors.list(fingerprint=found.fingerprint, limit=5)
    out.emit({"group": found, "errors": newest}, render_errors.whole, found, newest, out.width)


@command(app, "counters", example="callboard errors counters")
async def counters(cb: "Callboard", out: Output) -> None:
    """Count errors by name, the most frequent first."""
    from callboard.cli import render_errors

    found = await cb.errors.counters()
    out.emit({"counters": found}, render_errors.counters, found, out.width)


@command(app, "cascades", example="callboard errors cascades")
async def cascades(cb: "Callboard", out: Output, limit: options.Limit = 20) -> None:
    """List when several types of errors came up within five minutes."""
    from callboard.cli import render_errors

    found = await cb.errors.correlations(limit=limit)
    out.emit({"cascades": found}, render_errors.cascades, found, out.width)


@command(app, "record", example='callboard errors record ApiError "no page" --task t_41')
async def record(
    cb: "Callboard",
    out: Output,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What kind of error.", show_default=False)
    ],
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="What it says.")] = "",
    task: Annotated[
        str, typer.Option("--task", metavar="TASK", help="The task that it came up in.")
    ] = "",
    board: options.Board = DEFAULT_BOARD,
    agent: Annotated[str, typer.Option("--agent", "-a", metavar="NAME", help="Who had it.")] = "",
    code: Annotated[str, typer.Option("--code", metavar="CODE", help="A stable code.")] = "",
    component: Annotated[
        str, typer.Option("--component", metavar="NAME", help="The part of the system.")
    ] = "",
    severity: Annotated[
        str | None,
        typer.Option("--severity", metavar="NAME", help="Else what the rules say of the name."),
    ] = None,
    training: Annotated[
        bool, typer.Option("--training", help="Into the log of the board's trainings.")
    ] = False,
) -> None:
    """Record an error; failed attempts of tasks are recorded by themselves."""
    from callboard.cli import render_errors

    answer = await cb.errors.record(
        name,
        message,
        task=task,
        project=board,
        agent=agent,
        code=code or None,
        component=component,
        severity=cast("Severity | None", severity),
        training=training,
        by=parse.operator(),
    )
    out.emit(answer, render_errors.recorded, answer)


@command(app, "resolve", example='callboard errors resolve 3f9a01 --note "fixed in 1.2"')
async def resolve(cb: "Callboard", out: Output, fingerprint: Fingerprint, note: Note = "") -> None:
    """Mark a group as dealt with; it is open again once such an error comes again."""
    found = await cb.errors.resolve(await _whole(cb, fingerprint), by=parse.operator(), note=note)
    _told(out, found)


@command(app, "ignore", example="callboard errors ignore 3f9a01")
async def ignore(cb: "Callboard", out: Output, fingerprint: Fingerprint, note: Note = "") -> None:
    """Go on counting a group, but publish it no more, nor let it be part of a cascade."""
    found = await cb.errors.ignore(await _whole(cb, fingerprint), by=parse.operator(), note=note)
    _told(out, found)


@command(app, "reopen", example="callboard errors reopen 3f9a01")
async def reopen(cb: "Callboard", out: Output, fingerprint: Fingerprint, note: Note = "") -> None:
    """Undo resolve or ignore."""
    found = await cb.errors.reopen(await _whole(cb, fingerprint), by=parse.operator(), note=note)
    _told(out, found)


@command(app, "clear", example="callboard errors clear --yes")
async def clear(
    cb: "Callboard",
    out: Output,
    training: Annotated[
        str | None,
        typer.Option("--training", metavar="BOARD", help="Only the log of these trainings."),
    ] = None,
    yes: options.Yes = False,
) -> None:
    """Forget the log, groups, counters and cascades."""
    noun = "log of errors" if training is None else "log of errors in trainings"
    if not confirmed(out, "forget", [training or "all"], dry_run=False, yes=yes, noun=noun):
        return
    await cb.errors.clear(project=training, by=parse.operator())
    out.emit({"cleared": True}, lambda: ["Forgotten."])


@command(app, "set", example="callboard errors set --cooldown 10m --no-track")
async def set_tracking(
    cb: "Callboard",
    out: Output,
    track: Annotated[
        bool | None,
        typer.Option("--track/--no-track", help="Record failed attempts of tasks by themselves."),
    ] = None,
    cooldown: Annotated[
        str | None,
        typer.Option("--cooldown", metavar="TIME", help="No second cascade is told within this."),
    ] = None,
    stacks: Annotated[
        bool | None,
        typer.Option("--stacks/--no-stacks", help="Publish stack traces with errors."),
    ] = None,
) -> None:
    """Set what holds for all clients of the namespace."""
    await cb.errors.configure(
        track_failures=track, cooldown=parse.seconds("cooldown", cooldown), stacks=stacks
    )
    out.emit({"set": True}, lambda: ["Set."])


def _told(out: Output, found: "ErrorGroup") -> None:
    out.emit(found, lambda: [f"Group {found.fingerprint[:12]} ({found.name}) is {found.state}."])


async def _whole(cb: "Callboard", digits: str) -> str:
    """The fingerprint that begins so, where it is the only one of those seen last."""
    if not 4 <= len(digits) < 32:
        return digits
    known = [found.fingerprint for found in await cb.errors.groups(limit=1_000)]
    fitting = [each for each in known if each.startswith(digits.lower())]
    return fitting[0] if len(fitting) == 1 else digits
