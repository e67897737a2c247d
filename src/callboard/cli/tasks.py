"""``callboard tasks``: add and look; ``steering`` and ``claims`` have the other commands."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard.cli import failures, options, parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.retry import RetryPolicy
from callboard.domain.task import Requirements, Status, Task, TaskSpec
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.services.tasks import TaskHandle

app = group("tasks", "Add tasks, look at them, steer them, and hold them by hand.")
LOOK = "Add and look"
REQUIRES = "What an agent must have"
LATER = "When, how long, how often"
KEYS = "Keys, which callboard flow limits"


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
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help="Which handler runs it.", show_default=False),
    ] = None,
    payload: Annotated[
        str | None,
        typer.Argument(metavar="PAYLOAD", help="JSON, @FILE, or - for standard input."),
    ] = None,
    board: options.Board = DEFAULT_BOARD,
    task_id: Annotated[
        str | None,
        typer.Option("--id", metavar="NAME", help="Names it; adding it again changes nothing."),
    ] = None,
    unique: Annotated[
        str | None,
        typer.Option("--unique", metavar="KEY", help="At most one unfinished task has this key."),
    ] = None,
    title: options.Title = "",
    description: Annotated[
        str, typer.Option("--description", metavar="TEXT", help="For people.")
    ] = "",
    priority: Annotated[
        str,
        typer.Option(
            "--priority",
            "-p",
            metavar="N",
            help="-1000 to 1000, or low, normal, high, critical, urgent.",
        ),
    ] = "0",
    depends_on: Annotated[
        list[str] | None,
        typer.Option(
            "--depends-on", "-d", metavar="TASK", help="Must be done first. May be repeated."
        ),
    ] = None,
    on_dependency_failure: Annotated[
        str,
        typer.Option(
            "--on-failure", metavar="POLICY", help="If one of these fails: fail, skip or run."
        ),
    ] = "fail",
    suggest: Annotated[
        str | None, typer.Option("--suggest", metavar="AGENT", help="May have it first.")
    ] = None,
    metadata: Annotated[
        str | None, typer.Option("--metadata", metavar="JSON", help="An object kept with it.")
    ] = None,
    created_by: Annotated[
        str, typer.Option("--created-by", metavar="NAME", help="Who adds it.")
    ] = "",
    trace: Annotated[
        str, typer.Option("--trace", metavar="TRACE", help="W3C trace context to carry.")
    ] = "",
    require_type: Annotated[
        str,
        typer.Option("--require-type", metavar="NAME", help="Its type.", rich_help_panel=REQUIRES),
    ] = "",
    require_capability: Annotated[
        list[str] | None,
        typer.Option(
            "--require-capability",
            metavar="NAME",
            help="A capability. May be repeated.",
            rich_help_panel=REQUIRES,
        ),
    ] = None,
    require_service: Annotated[
        list[str] | None,
        typer.Option(
            "--require-service",
            metavar="NAME",
            help="A service. May be repeated.",
            rich_help_panel=REQUIRES,
        ),
    ] = None,
    require_label: Annotated[
        list[str] | None,
        typer.Option(
            "--require-label",
            metavar="KEY=VALUE",
            help="A label. May be repeated.",
            rich_help_panel=REQUIRES,
        ),
    ] = None,
    require_health: Annotated[
        float,
        typer.Option(
            "--require-health", metavar="0…1", help="Its health.", rich_help_panel=REQUIRES
        ),
    ] = 0.0,
    delay: Annotated[
        str | None,
        typer.Option(
            "--delay", metavar="TIME", help="Not before so long from now.", rich_help_panel=LATER
        ),
    ] = None,
    not_before: Annotated[
        str | None,
        typer.Option(
            "--not-before", metavar="WHEN", help="Not before this time.", rich_help_panel=LATER
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="WHEN",
            help="Fails if it still waits then: a time, or a span from now.",
            rich_help_panel=LATER,
        ),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", metavar="TIME", help="How long one attempt may run.", rich_help_panel=LATER
        ),
    ] = None,
    lease: Annotated[
        str | None,
        typer.Option(
            "--lease",
            metavar="TIME",
            help="How long its holder may be silent.",
            rich_help_panel=LATER,
        ),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(
            "--retries", metavar="N", help="Tries after the first.", rich_help_panel=LATER
        ),
    ] = RetryPolicy().max_retries,
    retry_base: Annotated[
        str,
        typer.Option(
            "--retry-base", metavar="TIME", help="Bound of the first wait.", rich_help_panel=LATER
        ),
    ] = f"{RetryPolicy().base:g}",
    retry_factor: Annotated[
        float,
        typer.Option(
            "--retry-factor",
            metavar="N",
            help="Each further failure multiplies it.",
            rich_help_panel=LATER,
        ),
    ] = RetryPolicy().factor,
    retry_cap: Annotated[
        str,
        typer.Option(
            "--retry-cap", metavar="TIME", help="No wait is longer.", rich_help_panel=LATER
        ),
    ] = f"{RetryPolicy().cap:g}",
    concurrency_key: Annotated[
        str | None,
        typer.Option(
            "--concurrency-key",
            metavar="KEY",
            help="Counts against what the key allows at once.",
            rich_help_panel=KEYS,
        ),
    ] = None,
    rate_key: Annotated[
        str | None,
        typer.Option(
            "--rate-key",
            metavar="KEY",
            help="Counts against the key's rate.",
            rich_help_panel=KEYS,
        ),
    ] = None,
    fairness_key: Annotated[
        str | None,
        typer.Option(
            "--fairness-key",
            metavar="KEY",
            help="Takes turns with tasks of other keys.",
            rich_help_panel=KEYS,
        ),
    ] = None,
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
    spec = TaskSpec(
        kind=kind,
        payload=parse.json_value("payload", payload),
        id=task_id,
        unique=unique,
        title=title,
        description=description,
        priority=parse.priority(priority),
        requirements=Requirements(
            agent_type=require_type,
            capabilities=parse.names(require_capability),
            services=parse.names(require_service),
            labels=parse.labels(require_label),
            min_health_score=require_health,
        ),
        depends_on=parse.names(depends_on),
        on_dependency_failure=on_dependency_failure,  # type: ignore[arg-type] # checked below
        suggested_worker=suggest,
        created_by=created_by,
        metadata=parse.json_object("metadata", metadata),
        trace_context=trace,
        not_before=parse.moment("not_before", not_before),
        delay=parse.seconds("delay", delay),
        deadline=parse.moment("deadline", deadline),
        timeout=parse.seconds("timeout", timeout),
        lease=parse.seconds("lease", lease),
        retry=_retry(retries, retry_base, retry_factor, retry_cap),
        concurrency_key=concurrency_key,
        rate_key=rate_key,
        fairness_key=fairness_key,
    )
    (handle,) = await cb.board(board).tasks.submit_many([spec], created_by=parse.operator())
    if wait:
        out.remark(f"Waiting for task {handle.id}. It goes on if you interrupt this.")
        return await _wait(cb, out, board, handle.id, None)
    word = "was there already, the same" if handle.existed else "added"
    out.emit(_added(handle, board), lambda: [f"Task {handle.id} {word}, on board {board!r}."])
    return None


def _retry(retries: int, base: str, factor: float, cap: str) -> RetryPolicy | None:
    policy = RetryPolicy(
        max_retries=retries,
        base=parse.seconds("retry-base", base) or 0.0,
        factor=factor,
        cap=parse.seconds("retry-cap", cap) or 0.0,
    )
    return None if policy == RetryPolicy() else policy


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
