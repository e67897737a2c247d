"""``callboard dlq``: failed tasks that no retry will cure; look, requeue, purge."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard.cli import failures, options, parse
from callboard.cli.answers import tell
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.cli.selection import confirmed
from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.task import PAYLOAD_BYTES_MAX
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard

app = group("dlq", "Look at dead letters, put them back, or remove them.")

Why = Annotated[
    str | None,
    typer.Option("--why", metavar="TYPE", help="Only of this error type, as poison or ValueError."),
]
Every = Annotated[bool, typer.Option("--all", help="All dead letters of the board.")]
MANY = 1_000_000


@command(app, "list", example="callboard dlq list --kind fetch")
async def list_letters(
    cb: "Callboard",
    out: Output,
    board: options.Board = DEFAULT_BOARD,
    kind: options.Kind = None,
    why: Why = None,
    limit: options.Limit = 50,
) -> None:
    """List dead letters, newest first."""
    from callboard.cli import render_dead_letters

    letters = cb.board(board).dead_letters
    found = await letters.list(kind=kind, why=why, limit=limit)
    total = await letters.count()
    value = {"dead_letters": found, "total": total}
    out.emit(value, render_dead_letters.listing, found, total, board, out.width)


@command(app, "show", example="callboard dlq show 019f3a2b")
async def show(
    cb: "Callboard", out: Output, task: options.TaskId, board: options.Board = DEFAULT_BOARD
) -> None:
    """Show a dead letter: its payload, and every attempt."""
    from callboard.cli import render_dead_letters, render_tasks

    found, attempts = await cb.board(board).dead_letters.get(task)
    value = {**render_tasks.shape(found), "attempts": attempts}
    out.emit(value, render_dead_letters.whole, found, attempts)


@command(
    app,
    "requeue",
    example="""
        callboard dlq requeue 019f3a2b --payload '{"page": 2}'
        callboard dlq requeue --kind fetch --dry-run
    """,
)
async def requeue(
    cb: "Callboard",
    out: Output,
    task: options.SomeTaskIds = None,
    board: options.Board = DEFAULT_BOARD,
    kind: options.Kind = None,
    why: Why = None,
    everything: Every = False,
    payload: options.NewPayload = None,
    edit: Annotated[
        bool, typer.Option("--edit", help="Change the payload in $EDITOR first, for one task.")
    ] = False,
    dry_run: options.DryRun = False,
) -> int:
    """Put dead letters back with fresh budgets, and what failed for their sake."""
    letters = cb.board(board).dead_letters
    ids = await _chosen(cb, board, task, kind, why, everything)
    if (payload is not None or edit) and len(ids) != 1:
        raise InvalidArgument("--payload and --edit go with one task.", field="payload")
    if dry_run or not ids:
        confirmed(out, "requeue", ids, dry_run=dry_run, yes=True)
        return failures.OK
    if edit:
        payload = _edited((await letters.get(ids[0]))[0].payload)
    if payload is None and len(ids) > 1:
        answers = await letters.requeue_many(ids, by=parse.operator())
    else:
        value: Any = ... if payload is None else parse.json_value("payload", payload)
        answers = [await letters.requeue(ids[0], payload=value, by=parse.operator())]
    words = {
        "ok": "Task {id} is back on the board.",
        "blocked": "Task {id} is back, and waits for its dependencies.",
    }
    return tell(out, answers, words, board=board)


def _edited(payload: Any) -> str:
    from callboard.cli.editor import edited
    from callboard.cli.render import json_text

    return edited(json_text(payload, most=PAYLOAD_BYTES_MAX), suffix=".json")


@command(app, "purge", example="callboard dlq purge --why poison --dry-run")
async def purge(
    cb: "Callboard",
    out: Output,
    task: options.SomeTaskIds = None,
    board: options.Board = DEFAULT_BOARD,
    kind: options.Kind = None,
    why: Why = None,
    everything: Every = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
) -> int:
    """Remove dead letters for good."""
    ids = await _chosen(cb, board, task, kind, why, everything)
    # Who names the tasks knows what goes; a filter may match more than was thought.
    is_named = bool(task) and not dry_run
    if not is_named and not confirmed(out, "purge", ids, dry_run=dry_run, yes=yes):
        return failures.OK
    answers = await cb.board(board).dead_letters.purge(ids, by=parse.operator())
    return tell(out, answers, {"ok": "Task {id} removed."}, board=board)


async def _chosen(
    cb: "Callboard",
    board: str,
    tasks: list[str] | None,
    kind: str | None,
    why: str | None,
    everything: bool,
) -> list[str]:
    """The ids given, else those of the dead letters that the filter lets pass, oldest first."""
    is_filter = everything or kind is not None or why is not None
    if bool(tasks) == is_filter:
        raise InvalidArgument(
            "Give ids of tasks, or choose by --kind and --why, or say --all.", field="task"
        )
    if tasks:
        return tasks
    found = await cb.board(board).dead_letters.list(kind=kind, why=why, limit=MANY)
    return [letter.id for letter in reversed(found)]
