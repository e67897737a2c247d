"""``callboard boards``: what stands where, settings, pause and resume."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from callboard.cli import parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.cli.paging import all_of
from callboard.domain.board import DEFAULT_BOARD, BoardSettings
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard

app = group("boards", "See what stands where; set, pause and resume boards.")

Name = Annotated[str, typer.Argument(metavar="BOARD", help="Name of the board.")]
SomeName = Annotated[
    str | None,
    typer.Argument(metavar="BOARD", help="Name of the board.", show_default=False),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", "-k", metavar="NAME", help="Only this kind. May be repeated."),
]
All = Annotated[bool, typer.Option("--all", help="The whole namespace, boards to come too.")]


@command(app, "list", example="callboard boards list")
async def list_boards(cb: "Callboard", out: Output) -> None:
    """List all boards with their counts, oldest first."""
    from callboard.cli import render_boards

    found = await all_of(cb.boards.list)
    out.emit({"boards": found}, render_boards.listing, found, out.width)


@command(app, "show", example="callboard boards show run-42")
async def show(cb: "Callboard", out: Output, board: Name = DEFAULT_BOARD) -> None:
    """Show a board: how many tasks stand where, and its settings."""
    from callboard.cli import render_boards

    found = await cb.boards.get(board)
    out.emit(found, render_boards.whole, found, out.width)


@command(app, "queues", example="callboard boards queues run-42")
async def queues(cb: "Callboard", out: Output, board: Name = DEFAULT_BOARD) -> None:
    """Show how many tasks wait to be claimed, by priority."""
    from callboard.cli import render_boards

    found = await cb.board(board).tasks.queues()
    out.emit({"board": board, "queues": found}, render_boards.queues, board, found)


@command(app, "clear", example="callboard boards clear --priority low")
async def clear(
    cb: "Callboard",
    out: Output,
    board: Name = DEFAULT_BOARD,
    priority: Annotated[
        str,
        typer.Option("--priority", metavar="NAME", help="low, normal, high, critical or urgent."),
    ] = "",
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Kept with each of them.")
    ] = "cleared",
) -> None:
    """Cancel the tasks of one priority that wait to be claimed; what agents have stays.

    They can be put back: callboard retry.
    """
    count = await cb.board(board).tasks.clear(priority, reason=reason, by=parse.operator())
    value = {"board": board, "priority": priority, "cleared": count}
    out.emit(value, lambda: [f"Cancelled {count:,} waiting tasks of {board}, {priority}."])


@command(app, "pause", example="callboard boards pause run-42 --kind deploy")
async def pause(
    cb: "Callboard",
    out: Output,
    board: SomeName = None,
    kind: Kinds = None,
    everything: All = False,
) -> None:
    """Let nothing more be claimed from a board; what is held goes on."""
    name = _one_target(board, kind, everything)
    if name is None:
        await cb.boards.pause_all(by=parse.operator())
    else:
        await cb.boards.pause(name, kinds=parse.names(kind), by=parse.operator())
    value = {"board": name, "kinds": parse.names(kind), "paused": True}
    out.emit(value, lambda: [f"Paused {_target(name, kind)}. Held tasks go on."])


@command(app, "resume", example="callboard boards resume run-42")
async def resume(
    cb: "Callboard",
    out: Output,
    board: SomeName = None,
    kind: Kinds = None,
    everything: All = False,
) -> None:
    """Undo a pause, of a board with all its kinds, or of some kinds."""
    name = _one_target(board, kind, everything)
    if name is None:
        await cb.boards.resume_all(by=parse.operator())
    else:
        await cb.boards.resume(name, kinds=parse.names(kind), by=parse.operator())
    value = {"board": name, "kinds": parse.names(kind), "paused": False}
    out.emit(value, lambda: [f"Resumed {_target(name, kind)}."])


def _one_target(board: str | None, kinds: list[str] | None, everything: bool) -> str | None:
    if everything == (board is not None) or (everything and kinds):
        raise InvalidArgument(
            "Name one board, or say --all for the whole namespace.", field="board"
        )
    return board


def _target(board: str | None, kinds: list[str] | None) -> str:
    where = "all boards" if board is None else f"board {board!r}"
    return f"kind {', '.join(parse.names(kinds))} on {where}" if kinds else where


@dataclass(frozen=True, slots=True)
class SettingOptions:
    """What is set for a board."""

    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="Unfinished tasks it may hold.")
    ] = None
    step: Annotated[
        str | None,
        typer.Option(
            "--step",
            metavar="TIME",
            help="Waiting that a point of priority is worth; only for a new board.",
        ),
    ] = None
    finished_for: Annotated[
        str | None,
        typer.Option("--finished-for", metavar="TIME", help="How long finished tasks are kept."),
    ] = None
    finished_most: Annotated[
        int | None,
        typer.Option("--finished-most", metavar="N", help="Finished tasks kept, per outcome."),
    ] = None
    dead_for: Annotated[
        str | None,
        typer.Option("--dead-for", metavar="TIME", help="How long dead letters are kept."),
    ] = None
    unresolved_after: Annotated[
        str | None,
        typer.Option(
            "--unresolved-after",
            metavar="TIME",
            help="A dependency not submitted within this fails what waits for it.",
        ),
    ] = None
    poison: Annotated[
        int | None,
        typer.Option("--poison", metavar="N", help="Crashed processes that bury a task."),
    ] = None
    crashes: Annotated[
        int | None, typer.Option("--crashes", metavar="N", help="Crashes in all that bury a task.")
    ] = None
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", metavar="N", help="Tasks held at once.")
    ] = None
    claims_most: Annotated[
        int | None, typer.Option("--claims-most", metavar="N", help="Claims given out in all.")
    ] = None
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy", metavar="NAME", help="Which agent a ready task goes to, as best_idle."
        ),
    ] = None
    steal_most: Annotated[
        int | None,
        typer.Option(
            "--steal-most", metavar="N", help="Others' reservations that a claim may take over."
        ),
    ] = None
    steal_threshold: Annotated[
        int | None,
        typer.Option(
            "--steal-threshold", metavar="N", help="Only from agents with so many reserved."
        ),
    ] = None

    def values(self) -> BoardSettings:
        """What they say."""
        return BoardSettings(
            step=parse.seconds("step", self.step),
            limit=self.limit,
            unresolved_after=parse.seconds("unresolved-after", self.unresolved_after),
            finished_for=parse.seconds("finished-for", self.finished_for),
            finished_most=self.finished_most,
            dead_for=parse.seconds("dead-for", self.dead_for),
            poison=self.poison,
            crashes=self.crashes,
            concurrency=self.concurrency,
            claims_most=self.claims_most,
            strategy=self.strategy,
            steal_most=self.steal_most,
            steal_threshold=self.steal_threshold,
        )


@command(app, "set", example="callboard boards set run-42 --finished-for 7d")
async def configure(
    cb: "Callboard",
    out: Output,
    board: Name,
    settings: SettingOptions,
) -> None:
    """Set what is given, and leave the rest; a missing board is made."""
    from callboard.cli import render_boards

    changes = settings.values()
    if changes == BoardSettings():
        raise InvalidArgument("Nothing to set. Give a setting, as --limit 50000.")
    found = await cb.boards.configure(board, changes, by=parse.operator())
    out.emit(found, render_boards.whole, found, out.width)
