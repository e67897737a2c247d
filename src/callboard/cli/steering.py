"""The part of ``callboard tasks`` that changes their course: cancel, retry, answer, purge."""

from typing import TYPE_CHECKING, Annotated

import typer

from callboard.cli import failures, options, parse
from callboard.cli.answers import tell
from callboard.cli.command import command
from callboard.cli.output import Output
from callboard.cli.selection import confirmed
from callboard.cli.tasks import app as app
from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.task import Status
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard

STEER = "Steer"


@command(app, "cancel", panel=STEER, example="callboard tasks cancel 019f3a2b --reason outdated")
async def cancel(
    cb: "Callboard",
    out: Output,
    task: options.TaskIds,
    board: options.Board = DEFAULT_BOARD,
    reason: options.Reason = "requested",
) -> int:
    """Cancel tasks; one that is held is cancelled when its holder hears of it."""
    answers = await cb.board(board).tasks.cancel_many(task, reason=reason, by=parse.operator())
    words = {"ok": "Task {id} cancelled.", "requested": "Task {id}: its holder was asked to stop."}
    return tell(out, answers, words, board=board)


@command(app, "retry", panel=STEER, example="callboard tasks retry 019f3a2b")
async def retry(
    cb: "Callboard",
    out: Output,
    task: options.TaskIds,
    board: options.Board = DEFAULT_BOARD,
    payload: options.NewPayload = None,
) -> int:
    """Put failed or cancelled tasks back, with fresh budgets, and what failed for their sake."""
    tasks = cb.board(board).tasks
    if payload is None:
        answers = await tasks.retry_many(task, by=parse.operator())
    else:
        if len(task) > 1:
            raise InvalidArgument("--payload goes with one task.", field="payload")
        value = parse.json_value("payload", payload)
        answers = [await tasks.retry(task[0], payload=value, by=parse.operator())]
    words = {
        "ok": "Task {id} is back on the board.",
        "blocked": "Task {id} is back, and waits for its dependencies.",
    }
    return tell(out, answers, words, board=board)


@command(app, "answer", panel=STEER, example="callboard tasks answer 019f3a2b '\"yes\"'")
async def answer(
    cb: "Callboard",
    out: Output,
    task: options.TaskId,
    value: Annotated[str, typer.Argument(metavar="ANSWER", help="JSON, @FILE, or -.")],
    board: options.Board = DEFAULT_BOARD,
) -> int:
    """Answer the question of a task that waits for input."""
    given = parse.json_value("answer", value)
    told = await cb.board(board).tasks.answer(task, given, by=parse.operator())
    return tell(out, [told], {"ok": "Task {id} has its answer and goes on."}, board=board)


@command(app, "note", panel=STEER, example='callboard tasks note 019f3a2b "Ask Ada first."')
async def note(
    cb: "Callboard",
    out: Output,
    task: options.TaskId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The remark.")],
    board: options.Board = DEFAULT_BOARD,
    author: Annotated[
        str | None, typer.Option("--author", metavar="NAME", help="Who says so; else you.")
    ] = None,
) -> None:
    """Append a remark to a task, for whoever looks at it."""
    await cb.board(board).tasks.note(task, text, author=author or parse.operator())
    out.emit({"id": task, "status": "ok"}, lambda: [f"Noted on task {task}."])


@command(app, "priority", panel=STEER, example="callboard tasks priority 019f3a2b urgent")
async def priority(
    cb: "Callboard",
    out: Output,
    task: options.TaskId,
    value: Annotated[str, typer.Argument(metavar="N", help="-1000 to 1000, or a word as high.")],
    board: options.Board = DEFAULT_BOARD,
) -> int:
    """Change the priority of an unfinished task, which moves it in its queue.

    Write a negative number after two hyphens: callboard tasks priority TASK -- -5
    """
    tasks = cb.board(board).tasks
    told = await tasks.reprioritise(task, parse.priority(value), by=parse.operator())
    return tell(out, [told], {"ok": f"Task {{id}} has priority {value}."}, board=board)


@command(app, "purge", panel=STEER, example="callboard tasks purge --status done --dry-run")
async def purge(
    cb: "Callboard",
    out: Output,
    task: options.SomeTaskIds = None,
    board: options.Board = DEFAULT_BOARD,
    status: Annotated[
        list[Status] | None,
        typer.Option("--status", "-s", metavar="STATUS", help="All of done, failed or cancelled."),
    ] = None,
    kind: options.Kind = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
) -> int:
    """Remove finished tasks; their ids and outcomes are kept for a week."""
    tasks = cb.board(board).tasks
    if bool(task) == bool(status):
        raise InvalidArgument("Give ids of tasks, or choose by --status done.", field="task")
    ids = list(task or ())
    if status:
        ids = [found.id async for found in tasks.iterate(status=status, kind=kind)]
    # Who names the tasks knows what goes; a filter may match more than was thought.
    is_named = bool(task) and not dry_run
    if not is_named and not confirmed(out, "purge", ids, dry_run=dry_run, yes=yes):
        return failures.OK
    answers = await tasks.purge(ids, by=parse.operator())
    return tell(out, answers, {"ok": "Task {id} removed."}, board=board)
