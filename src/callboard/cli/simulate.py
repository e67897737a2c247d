"""``callboard simulate``: what a way of choosing agents costs, tried without an engine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from callboard.cli import options as shared
from callboard.cli.command import Options, command, group
from callboard.cli.failures import counted
from callboard.cli.output import Output, console
from callboard.exceptions import ConfigError, NotFound

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.domain.task import Task

app = group("simulate", "Try ways of choosing agents on made-up or recorded loads.")

RECORDED_MAX = 100_000


@command(app, "run", example="callboard simulate run --load heavy-tail --compare")
def run(
    options: Options,
    out: Output,
    load: Annotated[
        list[str] | None,
        typer.Option(
            "--load",
            "-l",
            metavar="NAME",
            help="A load that callboard simulate loads lists, or a recorded file; fresh unless "
            "given. May be repeated.",
        ),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            "-s",
            metavar="NAME",
            help="A strategy, or your own as module:attribute; best_idle unless given. May be "
            "repeated.",
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="All strategies of the engine side by side.")
    ] = False,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", help="How often each load is drawn anew.")
    ] = 3,
    tasks: Annotated[
        int, typer.Option("--tasks", metavar="N", help="Tasks of a made-up load.")
    ] = 8_000,
    agents: Annotated[
        int, typer.Option("--agents", metavar="N", help="Agents of a made-up load.")
    ] = 40,
    stealing: Annotated[
        bool,
        typer.Option("--stealing/--no-stealing", help="Whether idle agents take over from others."),
    ] = True,
    prefetch: Annotated[
        int | None,
        typer.Option(
            "--prefetch", metavar="N", help="Tasks an agent has ahead; as a worker's unless given."
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option("--processes", metavar="N", help="Processes to run in; one a core."),
    ] = None,
) -> None:
    """Simulate strategies under loads, and hold them against one that knows everything.

    No engine is asked. The same question has the same answer: all chance comes from the seeds.
    The strategies are the engine's own code, run here.
    """
    from callboard.cli import render_simulate
    from callboard.domain.strategy import BEST_IDLE, STRATEGIES
    from callboard.simulator import comparison

    if options.url is not None or options.namespace is not None:
        raise ConfigError("A simulation asks no engine: leave out --url and --namespace.")
    chosen = [*(STRATEGIES if compare else ()), *(strategy or ())]
    settings = comparison.Settings(
        seeds=seeds,
        agents=agents,
        tasks=tasks,
        steals=stealing,
        prefetch=prefetch,
        processes=processes,
    )
    with _progress(out) as advance:
        tables = comparison.compare(load or ["fresh"], chosen or [BEST_IDLE], settings, advance)
    out.emit({"settings": settings, "loads": tables}, render_simulate.comparison, tables, out.width)


@contextmanager
def _progress(out: Output) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr where a person looks at it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    shown = console(stderr=True)
    if out.as_json or not shown.is_terminal:
        yield None
        return
    columns = ("Simulating", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown, transient=True) as progress:
        bar = progress.add_task("Simulating", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


@command(app, "loads", example="callboard simulate loads")
def loads(options: Options, out: Output) -> None:
    """List the loads that can be made up."""
    from callboard.cli import render_simulate
    from callboard.simulator.loads import LOADS

    listed = [
        {"load": each.name, "summary": each.summary, "is_reference": each.is_reference}
        for each in LOADS.values()
    ]
    out.emit({"loads": listed}, render_simulate.loads, list(LOADS.values()), out.width)


@command(
    app,
    "record",
    example="""
        callboard simulate record monday.jsonl --board run-42
    """,
)
async def record(
    cb: "Callboard",
    out: Output,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Where it goes; else to standard output."),
    ] = None,
    board: shared.Board = "default",
    limit: Annotated[
        int,
        typer.Option(
            "--limit", "-n", metavar="N", min=1, max=RECORDED_MAX, help="At most so many tasks."
        ),
    ] = RECORDED_MAX,
) -> None:
    """Write the done tasks of a board as a load: when each came, how long it ran, what it needed.

    No payload, result or title is written. Tasks that are gone by the board's retention are not
    there any more.
    """
    from callboard.simulator.recording import record as lines_of

    found = await _done(cb, board, limit)
    if not found:
        raise NotFound(
            f"Board {board!r} has no done task to record. Which boards have: callboard boards list",
            board=board,
        )
    lines = b"".join(line + b"\n" for line in lines_of(found, await cb.agents.list()))
    if file is None:
        out.raw(lines.decode())
        return
    file.write_bytes(lines)
    said = [
        f"Wrote {counted(len(found), 'task')} to {file}.",
        f"Try: callboard simulate run --load {file} --compare",
    ]
    out.emit({"file": str(file), "tasks": len(found)}, lambda: said)


async def _done(cb: "Callboard", board: str, limit: int) -> list["Task"]:
    tasks = cb.board(board).tasks
    ids: list[str] = []
    async for summary in tasks.iterate(status="done"):
        ids.append(summary.id)
        if len(ids) >= limit:
            break
    return [task for task in await tasks.get_many(ids) if task is not None]
