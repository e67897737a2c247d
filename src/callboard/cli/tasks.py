"""``callboard tasks``: add and look; ``steering`` and ``claims`` have the other commands."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard.cli import failures, options, parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.cli.task_options import (
    KeyOptions,
    RequirementOptions,
    TaskOptions,
    TimeOptions,
    spec_of,
)
from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.task import Status, Task
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.services.tasks import TaskHandle

app = group("tasks", "Add tasks, look at them, steer them, and hold them by hand.")
LOOK = "Add and look"


@command(
    app,
    "add",
    panel=LOOK,
    example="""
        callboard tasks add greet '{"name": "Ada"}' --wait
        callboard tasks add --from tasks.jsonl
    """,
)
async def add(
    cb: "Callboard",
    out: Output,
    *,
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help="Which handler runs it.", show_default=False),
    ] = None,
    payload: Annotated[
        str | None,
        typer.Argument(metavar="PAYLOAD", help="JSON, @FILE, or - for standard input."),
    ] = None,
    board: options.Board = DEFAULT_BOARD,
    task: TaskOptions,
    requires: RequirementOptions,
    times: TimeOptions,
    keys: KeyOptions,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE", help="Many tasks: a JSON object a line; - for standard input."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait until it has ended, and say how.")
    ] = False,
) -> int | None:
    """Add a task, or many from a file.

    A thousand tasks of a file are added all or none.
    With an id, adding the same task again changes nothing.
    """
    if source is not None:
        if kind is not None or wait:
            raise InvalidArgument(
                "--from takes kind and payload from its lines; leave out KIND, PAYLOAD and --wait."
            )
        await _add_many(cb, out, board, source)
        return None
    if kind is None:
        raise InvalidArgument("Give the KIND of the task, or --from FILE for many.", field="kind")
    spec = spec_of(kind, payload, task, requires, times, keys)
    (handle,) = await cb.board(board).tasks.submit_many([spec], created_by=parse.operator())
    if wait:
        out.remark(f"Waiting for task {handle.id}. It goes on if you interrupt this.")
        return await _wait(cb, out, board, handle.id, None)
    word = "was there already, the same" if handle.existed else "added"
    out.emit(_added(handle, board), lambda: [f"Task {handle.id} {word}, on board {board!r}."])
    return None


def _added(handle: "TaskHandle", board: str) -> dict[str, Any]:
    return {"id": handle.id, "board": board, "existed": handle.existed}


async def _add_many(cb: "Callboard", out: Output, board: str, source: str) -> None:
    from callboard.cli.bulk import read_specs, submit

    specs = read_specs(source)
    handles = await submit(cb.board(board).tasks, specs, created_by=parse.operator())
    existed = sum(handle.existed for handle in handles)
    value = {
        "board": board,
        "submitted": len(handles) - existed,
        "existed": existed,
        "ids": [handle.id for handle in handles],
    }
    there = f" {existed:,} were there already." if existed else ""
    out.emit(
        value,
        lambda: [
            f"Added {failures.counted(len(handles) - existed, 'task')} to board {board!r}.{there}"
        ],
    )


@command(app, "list", panel=LOOK, example="callboard tasks list --status pending --kind greet")
async def list_tasks(
    cb: "Callboard",
    out: Output,
    board: options.Board = DEFAULT_BOARD,
    status: Annotated[
        list[Status] | None,
        typer.Option("--status", "-s", help="Only these. May be repeated.", metavar="STATUS"),
    ] = None,
    kind: options.Kind = None,
    limit: options.Limit = 50,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="CURSOR", help="Where a page before ended.")
    ] = None,
) -> None:
    """List tasks of a board, a page at a time.

    One of blocked, assigned, input_required, done, failed and cancelled alone comes in the
    order of time, else there is no order.
    """
    from callboard.cli import render_tasks

    page = await cb.board(board).tasks.list(status=status, kind=kind, limit=limit, cursor=cursor)
    is_filtered = bool(status or kind or cursor)
    out.emit(page, render_tasks.page, page, board, out.width, is_filtered)


@command(app, "show", panel=LOOK, example="callboard tasks show 019f3a2b")
async def show(
    cb: "Callboard", out: Output, task: options.TaskId, board: options.Board = DEFAULT_BOARD
) -> None:
    """Show all that is known of a task: fields, payload, result, attempts, notes."""
    from callboard.cli import render_tasks

    tasks = cb.board(board).tasks
    found = await tasks.get(task)
    attempts, notes = await tasks.attempts(task), await tasks.notes(task)
    value = {**render_tasks.shape(found), "attempts": attempts, "notes": notes}
    out.emit(value, render_tasks.whole, found, attempts, notes)


@command(app, "why", panel=LOOK, example="callboard tasks why 019f3a2b")
async def why(
    cb: "Callboard", out: Output, task: options.TaskId, board: options.Board = DEFAULT_BOARD
) -> None:
    """Say why a task stands where it stands, and what would move it."""
    from callboard.cli import render_tasks

    found = await cb.board(board).tasks.why(task)
    out.emit(found, render_tasks.why, found)


@command(
    app,
    "graph",
    panel=LOOK,
    example="""
        callboard tasks graph --board run-42
        callboard tasks graph --dot | dot -Tsvg > tasks.svg
    """,
)
async def graph(
    cb: "Callboard",
    out: Output,
    board: options.Board = DEFAULT_BOARD,
    dot: options.Dot = False,
    limit: options.TreeLines = 60,
) -> None:
    """Show what waits for what: a tree, the critical path, what unblocks most."""
    await show_graph(cb, out, board, dot=dot, limit=limit)


async def show_graph(cb: "Callboard", out: Output, board: str, *, dot: bool, limit: int) -> None:
    """Show the graph of a board, in the form that is wanted."""
    from callboard.cli import render_graph

    found = await cb.board(board).tasks.graph()
    if dot:
        out.raw(found.to_dot(name=board))
    elif out.as_json:
        out.document(found.to_data())
    else:
        out.say(*render_graph.summary(found, board, out.width, limit))


@command(app, "wait", panel=LOOK, example="callboard tasks wait 019f3a2b --timeout 10m")
async def wait(
    cb: "Callboard",
    out: Output,
    task: options.TaskId,
    board: options.Board = DEFAULT_BOARD,
    timeout: options.Timeout = None,
) -> int:
    """Wait until a task has ended, and print its result.

    The exit code is 0 for done, 1 for failed, cancelled or a time-out.
    """
    return await _wait(cb, out, board, task, parse.seconds("timeout", timeout))


async def _wait(
    cb: "Callboard", out: Output, board: str, task_id: str, timeout: float | None
) -> int:
    from callboard.cli import render_tasks

    # Nobody else may be there to act on deadlines and lost leases while this waits.
    janitor = cb.janitor()
    janitor.start()
    try:
        task = await cb.board(board).tasks.wait(task_id, timeout=timeout)
    except TimeoutError:
        message = f"Task {task_id} has not ended within {timeout:g} s; it goes on."
        failures.write("timeout", message, {"task": task_id}, as_json=out.as_json)
        return failures.REFUSED
    finally:
        await janitor.stop()
    return _ended(out, task, render_tasks.shape(task))


def _ended(out: Output, task: Task, value: dict[str, Any]) -> int:
    from callboard.cli.render import json_text

    is_done = task.status is Status.DONE
    if out.as_json:
        out.document(value)
    elif is_done:
        out.say(json_text(task.result))
    else:
        error = task.error or {}
        told = f"{error.get('type')}: {error.get('message')}" if error else task.reason
        message = f"Task {task.id} {task.status}: {told or 'no reason was kept'}"
        failures.write(f"task_{task.status}", message, {}, as_json=False)
    return failures.OK if is_done else failures.REFUSED
