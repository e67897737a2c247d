"""``callboard recurring``: tasks that are submitted by the clock."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard.cli import options, parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.cli.paging import all_of
from callboard.cli.task_options import KeyOptions
from callboard.domain.board import DEFAULT_BOARD

if TYPE_CHECKING:
    from callboard.app import Callboard

app = group("recurring", "Submit tasks by the clock: by a cron expression or at intervals.")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The recurring task.", show_default=False)
]


@dataclass(frozen=True, slots=True)
class ClockOptions:
    """When it recurs."""

    cron: Annotated[
        str | None,
        typer.Option("--cron", metavar="EXPRESSION", help="As '0 3 * * *', or @daily."),
    ] = None
    every: Annotated[
        str | None, typer.Option("--every", metavar="TIME", help="Instead: an interval, as 15m.")
    ] = None
    anchor: Annotated[
        str | None,
        typer.Option("--anchor", metavar="TIME", help="A tick that --every is counted from."),
    ] = None
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="ZONE", help="In which --cron is read.")
    ] = "UTC"
    catch_up: Annotated[
        str,
        typer.Option(
            "--catch-up", metavar="POLICY", help="Of missed ticks: skip, one (the newest) or all."
        ),
    ] = "one"
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap", metavar="POLICY", help="While the task before is unfinished: allow, skip."
        ),
    ] = "allow"
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="No tick before.")
    ] = None
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="No tick after.")] = None

    def values(self) -> dict[str, Any]:
        """What they say, by the fields of a recurring task."""
        return {
            "cron": self.cron,
            "every": parse.seconds("every", self.every),
            "anchor": parse.moment("anchor", self.anchor),
            "timezone": self.timezone,
            "catch_up": self.catch_up,
            "overlap": self.overlap,
            "start": parse.moment("start", self.start),
            "end": parse.moment("end", self.end),
        }


@command(app, "list", example="callboard recurring list")
async def list_recurring(cb: "Callboard", out: Output) -> None:
    """List recurring tasks with their next ticks."""
    from callboard.cli import render_recurring

    found = await all_of(cb.recurring.list)
    out.emit({"recurring": found}, render_recurring.listing, found, out.width)


@command(app, "show", example="callboard recurring show nightly")
async def show(cb: "Callboard", out: Output, name: Name) -> None:
    """Show when a task recurs, what is submitted, and what became of the last tick."""
    from callboard.cli import render_recurring

    found = await cb.recurring.get(name)
    out.emit(found, render_recurring.whole, found)


@command(app, "next", example="callboard recurring next nightly --count 10")
async def following(
    cb: "Callboard",
    out: Output,
    name: Name,
    count: Annotated[
        int, typer.Option("--count", "-n", metavar="N", help="How many, up to 1,000.")
    ] = 5,
) -> None:
    """Say when its next ticks are."""
    from callboard.cli import render_recurring

    definition = (await cb.recurring.get(name)).definition
    ticks = await cb.recurring.next(name, count)
    out.emit({"ticks": ticks}, render_recurring.ticks, ticks, definition.timezone)


@command(
    app,
    "create",
    example="""
        callboard recurring create news mail --cron "0 3 * * 1"
    """,
)
async def create(
    cb: "Callboard",
    out: Output,
    *,
    name: Name,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Which handler does it.")],
    payload: Annotated[
        str, typer.Argument(metavar="PAYLOAD", help="JSON, @FILE, or - for standard input.")
    ] = "null",
    clock: ClockOptions,
    board: Annotated[
        str, typer.Option("--board", "-b", metavar="NAME", help="Where the tasks go.")
    ] = DEFAULT_BOARD,
    title: options.Title = "",
    priority: Annotated[
        str, typer.Option("--priority", "-p", metavar="N", help="A number, or low to urgent.")
    ] = "normal",
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="How long an attempt may run.")
    ] = None,
    keys: KeyOptions,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of another definition.")
    ] = False,
) -> None:
    """Submit such a task at each tick from now on; the same definition again changes nothing."""
    from callboard.cli import render_recurring

    found = await cb.recurring.create(
        name,
        kind,
        parse.json_value("payload", payload),
        board=board,
        replace=replace,
        by=parse.operator(),
        title=title,
        priority=parse.priority(priority),
        timeout=parse.seconds("timeout", timeout),
        **clock.values(),
        **keys.values(),
    )
    out.emit(found, render_recurring.whole, found)


@command(app, "pause", example="callboard recurring pause nightly")
async def pause(cb: "Callboard", out: Output, name: Name) -> None:
    """Let it fire nothing; ticks meanwhile are left out."""
    found = await cb.recurring.pause(name, by=parse.operator())
    out.emit(found, lambda: [f"Paused {name}. Go on: callboard recurring resume {name}"])


@command(app, "resume", example="callboard recurring resume nightly")
async def resume(cb: "Callboard", out: Output, name: Name) -> None:
    """Let it go on with its next tick."""
    from callboard.cli import render_recurring

    found = await cb.recurring.resume(name, by=parse.operator())
    out.emit(found, render_recurring.whole, found)


@command(app, "trigger", example="callboard recurring trigger nightly")
async def trigger(cb: "Callboard", out: Output, name: Name) -> None:
    """Submit its task now, out of turn."""
    task = await cb.recurring.trigger(name, by=parse.operator())
    board = (await cb.recurring.get(name)).definition.board
    where = "" if board == DEFAULT_BOARD else f" --board {board}"
    out.emit(
        {"task": task, "board": board},
        lambda: [f"Submitted {task}. Look at it: callboard tasks show {task}{where}"],
    )


@command(app, "delete", example="callboard recurring delete nightly")
async def delete(cb: "Callboard", out: Output, name: Name) -> None:
    """Forget it; the tasks that it submitted stay."""
    await cb.recurring.delete(name, by=parse.operator())
    out.emit({"name": name, "deleted": True}, lambda: [f"Deleted {name}. Its tasks stay."])
